import math
from dataclasses import replace
from typing import Any

import pytest

from dvme.data import Task
from dvme.errors import OptionError
from dvme.report import learning_curve
from dvme.stats.intervals import Interval
from dvme.study.outcome import Cell, Column, Score, StudyReport
from dvme.study.published import PublishedCell, published_cells

NAN = float("nan")
THREE = ("a", "b", "c")
METHODS = [("linear", ("a",)), ("linear", ("b",)), ("knn", ("c",)), ("dvme", THREE), ("mlp", THREE), ("concat", THREE)]


def cell(head: str, backbones: tuple[str, ...], size: str, mean: float, **changed: Any) -> Cell:
    scores = {"auc": Score(mean, 0.02, [mean] * 5), "kappa": Score(mean / 2, 0.03, [mean / 2] * 5)}
    interval = Interval(mean, mean - 0.1, mean + 0.05)
    own = Cell(head, backbones, size, mean, scores, interval, "=", False, Interval(0, -0.1, 0.1), 0.5, None, 1.0, 10)
    return replace(own, **changed)


def sweep(methods: Any = METHODS, sizes: tuple[str, ...] = ("50", "full"), **changed: Any) -> StudyReport:
    columns = [Column(name, 1679.2 if name == "full" else float(name), 10.0) for name in sizes]
    cells = [
        cell(head, backbones, name, 0.5 + 0.1 * place + 0.01 * index)
        for place, name in enumerate(sizes)
        for index, (head, backbones) in enumerate(methods)
    ]
    task = Task(("x", "y"), (5, 5), 0)
    report = StudyReport("run", "cache", "0", task, "plan", "auc", columns, cells, [], [], [], 1, 0, {})
    return replace(report, **changed)


def named(figure: Any) -> dict[str, Any]:
    return {trace.name: trace for trace in figure.data if trace.name}


def test_learning_curve__means_over_counts() -> None:
    line = named(learning_curve(sweep()))["dvme of 3 backbones"]
    assert list(line.x) == [50.0, 1679.2]
    assert list(line.y) == pytest.approx([0.53, 0.63])


def test_learning_curve__leaders_are_thick_with_the_interval_as_ribbon() -> None:
    figure = learning_curve(sweep())
    lines = named(figure)
    thick = [name for name, line in lines.items() if line.line.width == 3]
    assert thick == ["dvme of 3 backbones", "c + knn", "concat of 3 backbones"]
    ribbons = [trace for trace in figure.data if trace.fill == "toself"]
    assert len(ribbons) == 3
    assert list(ribbons[0].x) == [50.0, 1679.2, 1679.2, 50.0]
    assert list(ribbons[0].y) == pytest.approx([0.58, 0.68, 0.53, 0.43])
    assert ribbons[0].legendgroup == lines["dvme of 3 backbones"].legendgroup


def test_learning_curve__another_metric_has_std_as_ribbon() -> None:
    figure = learning_curve(sweep(), metric="kappa")
    ribbon = next(trace for trace in figure.data if trace.fill == "toself")
    assert list(ribbon.y) == pytest.approx([0.295, 0.345, 0.285, 0.235])
    assert figure.layout.yaxis.title.text == "test quadratic kappa"


def test_learning_curve__of_many_methods_the_others_wait() -> None:
    assert all(trace.visible is True for trace in learning_curve(sweep()).data)
    figure = learning_curve(sweep([*METHODS, ("knn", ("d",))]))  # leads, as it comes last
    waiting = [trace.name for trace in figure.data if trace.visible == "legendonly"]
    assert waiting == ["a + linear", "b + linear", "c + knn", "mlp of 3 backbones"]


def test_learning_curve__validation_decides_who_leads() -> None:
    report = sweep()
    cells = [replace(each, validation=NAN if each.head == "knn" else 1.0 - each.validation) for each in report.cells]
    lines = named(learning_curve(replace(report, cells=cells)))
    assert lines["a + linear"].line.width == 3
    assert lines["mlp of 3 backbones"].line.width == 3
    assert lines["c + knn"].line.width < 3


def test_learning_curve__ticks_name_sizes_and_counts() -> None:
    axis = learning_curve(sweep(sizes=("50", "full"))).layout.xaxis
    assert axis.type == "log"
    assert list(axis.tickvals) == [50.0, 1679.2]
    assert list(axis.ticktext) == ["50", "1,679<br>full"]


def test_learning_curve__one_size_has_bars() -> None:
    figure = learning_curve(sweep(sizes=("50",)))
    line = named(figure)["dvme of 3 backbones"]
    assert line.error_y.array[0] == pytest.approx(0.05)
    assert line.error_y.arrayminus[0] == pytest.approx(0.1)
    places = {trace.x[0] for trace in figure.data}
    assert len(places) == len(figure.data)
    assert max(places) < 10 ** figure.layout.xaxis.range[1]


def test_learning_curve__one_draw_and_undefined_intervals() -> None:
    report = sweep()
    cells = [
        replace(each, interval=Interval(each.interval.estimate, NAN, NAN), test={"auc": Score(0.5, NAN, [0.5])})
        for each in report.cells
    ]
    figure = learning_curve(replace(report, cells=cells))
    assert not [trace for trace in figure.data if trace.fill == "toself"]
    assert "undefined" in figure.data[0].hovertext[0]


def test_learning_curve__names_are_text() -> None:
    evil = "<script>" + "x" * 300
    figure = learning_curve(sweep([("linear", (evil,)), ("dvme", (evil, "b"))]))
    text = figure.to_json().replace("\\u003c", "<")
    assert "<script>" not in text
    line = named(figure)[next(name for name in named(figure) if name.endswith(" + linear"))]
    assert len(line.name.replace("&lt;", "<").replace("&gt;", ">")) == 40
    assert "x" * 300 in line.hovertext[0].replace("<br>", "")


def test_learning_curve__published_beside() -> None:
    cells = [
        PublishedCell("B1", "linear", "swav", 200, "", "auc", 0.8, 0.02, "misprint"),
        PublishedCell("B1", "linear", "swav", 50, "", "auc", 0.7, NAN, ""),
    ]
    line = named(learning_curve(sweep(), published=cells))["published: swav, linear"]
    assert list(line.x) == [50, 200]
    assert list(line.y) == [0.7, 0.8]
    assert list(line.error_y.array) == [0.0, 0.02]
    assert line.marker.symbol.endswith("-open")
    assert "misprint" in line.hovertext[1]
    assert "doubtful" not in line.hovertext[0]


def test_learning_curve__a_published_table_draws_few_lines() -> None:
    figure = learning_curve(sweep(), published=published_cells("truong2021:patchcam"))
    drawn = [t.name for t in figure.data if t.name and t.name.startswith("published") and t.visible is True]
    assert "published: dvme" in drawn
    assert len(drawn) == 4


def test_learning_curve__refuses_another_metric_than_published() -> None:
    with pytest.raises(OptionError, match="published as kappa"):
        learning_curve(sweep(), published=published_cells("truong2021:aptos"))
    with pytest.raises(OptionError, match="none of this study"):
        learning_curve(sweep(), metric="f1")


def test_learning_curve__nothing_measured() -> None:
    report = sweep()
    cells = [replace(each, validation=NAN, test={"auc": Score(NAN, NAN, [])}) for each in report.cells]
    assert all(math.isnan(value) for value in learning_curve(replace(report, cells=cells)).data[-1].y)
