from dataclasses import replace

import pytest

from dvme.data import Task
from dvme.explanation.ablation import Ablation, LeftOut, Performance
from dvme.report import Difference, differences, gains, reliance
from dvme.stats.intervals import Comparison, Interval
from dvme.study.outcome import Gain, Rival, Score, StudyReport

NAN = float("nan")


def row(estimate: float, p: float, *, size: str = "", name: str = "dvme", against: str = "mlp") -> Difference:
    interval = Interval(estimate, estimate - 0.02, estimate + 0.03)
    return Difference(name, against, size, Comparison(interval, p, 2.0, 4.0), p)


def test_differences__points_bars_and_words() -> None:
    figure = differences([row(0.05, 0.01), row(-0.04, 0.04), row(0.06, 0.05)], metric="auc")
    gain, loss, none = figure.data
    assert [trace.name for trace in figure.data] == ["gain", "loss", "no gain shown"]
    assert list(gain.x) == [0.05]
    assert gain.error_x.array[0] == pytest.approx(0.03)
    assert gain.error_x.arrayminus[0] == pytest.approx(0.02)
    assert list(loss.x) == [-0.04]
    assert list(none.x) == [0.06]
    assert not gain.marker.symbol.endswith("open")
    assert none.marker.symbol.endswith("open")
    assert figure.layout.xaxis.zeroline
    low, high = figure.layout.xaxis.range
    assert low < -0.06
    assert high > 0.09
    assert "+0.0500 (95% interval +0.0300 to +0.0800)" in gain.hovertext[0]


def test_differences__grouped_by_size_from_top_to_bottom() -> None:
    rows = [row(0.1, 0.5, size="50"), row(0.2, 0.5, size="50"), row(0.3, 0.5, size="100")]
    figure = differences(rows)
    assert [note.text for note in figure.layout.annotations] == [
        "<b>size 50</b>", "minus mlp", "minus mlp", "<b>size 100</b>", "minus mlp",
    ]  # fmt: skip
    places = [note.y for note in figure.layout.annotations]
    assert places == sorted(places)
    assert list(figure.data[0].y) == sorted(figure.data[0].y)
    assert figure.layout.yaxis.range[0] > max(figure.data[0].y)
    assert differences(rows * 2).layout.height > figure.layout.height


def test_differences__undefined_numbers() -> None:
    empty = Difference("a", "b", "", Comparison(Interval(NAN, NAN, NAN), NAN, NAN, NAN), NAN)
    point = Difference("a", "b", "", Comparison(Interval(0.1, NAN, NAN), NAN, NAN, NAN), NAN)
    figure = differences([empty, point])
    assert figure.data[0].name == "no test"
    assert list(figure.data[0].error_x.array) == [0.0, 0.0]
    assert "undefined" in figure.data[0].hovertext[0]


def test_differences__nothing() -> None:
    assert differences([]).layout.title.subtitle.text == "Nothing to compare"


def test_differences__names_are_text() -> None:
    figure = differences([row(0.1, 0.5, name="<b>" + "x" * 300, against="%{x}"), row(0.1, 0.5)])
    assert figure.layout.annotations[0].text.startswith("&lt;b&gt;xxx")
    assert len(figure.layout.annotations[0].text) < 70
    assert "x" * 300 in figure.data[0].hovertext[0].replace("<br>", "")
    assert figure.data[0].hovertemplate is None


def test_gains__one_row_for_each_gain() -> None:
    comparison = Comparison(Interval(0.1, 0.05, 0.2), 0.01, 2.0, 4.0)
    role, rival = "single backbone", Rival("a + linear", comparison, 0.04)
    gain = Gain(
        "dvme of 3 backbones", rival.method, role, "50", "b + knn", comparison, 0.04, "gain", [rival], 1.0, None
    )
    both = [gain, replace(gain, size="full", p_adjusted=0.2, word="no gain shown")]
    task = Task(("x", "y"), (5, 5), 0)
    figure = gains(StudyReport("run", "cache", "0", task, "plan", "auc", [], [], both, [], [], 1, 0, {}))
    assert [trace.name for trace in figure.data] == ["gain", "no gain shown"]
    assert figure.layout.xaxis.title.text == "difference in test AUC"
    assert figure.layout.title.subtitle.text.startswith("dvme of 3 backbones minus its rival")


def ablation(shift: float = 0.0, *, is_retrained: bool = False) -> Ablation:
    score = Score.over([0.5, 0.6])
    performance = Performance(score, score, score)
    left_out = tuple(
        LeftOut(name, performance, score, Interval(loss, loss - 0.1, loss + 0.2), Interval(auc, auc - 0.02, auc + 0.01))
        for name, loss, auc in (("<a>", 0.3 + shift, -0.1), ("b", 0.0, NAN))
    )
    return Ablation(is_retrained, 100, performance, left_out)


def test_reliance__auc_above_and_log_loss_below() -> None:
    auc, loss = reliance(ablation()).data
    assert auc.x[0] == -0.1
    assert list(auc.error_x.arrayminus) == [pytest.approx(0.02), 0.0]
    assert list(loss.x) == [0.3, 0.0]
    assert loss.error_x.array[0] == pytest.approx(0.2)
    assert (auc.yaxis, loss.yaxis) == ("y", "y2")
    assert [auc.showlegend, loss.showlegend] == [True, False]


def test_reliance__retrained_beside_kept() -> None:
    figure = reliance(ablation(), ablation(0.1, is_retrained=True))
    assert [trace.x[0] for trace in figure.data] == [-0.1, 0.3, -0.1, pytest.approx(0.4)]
    assert figure.data[0].y[0] < 0 < figure.data[2].y[0]
    assert list(figure.layout.yaxis.ticktext) == ["&lt;a&gt;", "b"]
