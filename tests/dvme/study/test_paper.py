"""A study as a frame and as a paper's table: against what the run keeps, and against tables written by hand."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import dvme
from dvme.data import Task
from dvme.errors import OptionError, UnknownNameError
from dvme.stats.intervals import Interval
from dvme.study.answers import Findings
from dvme.study.outcome import Cell, Column, PartDone, Score, StudyReport
from dvme.study.paper import COLUMNS, MOST_METHODS
from dvme.study.run import read_summary

NAN = math.nan
NOTHING = Interval(NAN, NAN, NAN)
LINEAR, FUSION = ("linear", ("dino@size=448",)), ("dvme", ("dino@size=448", "swav_b"))


def _cell(
    method: tuple[str, tuple[str, ...]], size: str, folds: list[float], interval: Interval, mark: str, p: float
) -> Cell:
    scores = {"auc": Score.over(folds), "accuracy": Score.over([fold - 0.25 for fold in folds])}
    difference = None if mark == "*" else Interval(-0.1, -0.2, 0.05)
    is_highest, validation = mark == "*", float(np.mean(folds)) - 0.125
    return Cell(*method, size, validation, scores, interval, mark, is_highest, difference, p, None, 1.5, 9, [{}])


@pytest.fixture
def report() -> StudyReport:
    """Two methods at two sizes; of the smaller one there is no interval of the linear head."""
    cells = [
        _cell(LINEAR, "8", [0.5, 0.75], NOTHING, "?", NAN),
        _cell(FUSION, "8", [0.75, 0.75], Interval(0.75, 0.625, 0.875), "*", NAN),
        _cell(LINEAR, "full", [0.75, 0.875], Interval(0.8125, 0.75, 0.875), "", 0.004),
        _cell(FUSION, "full", [0.875, 1.0], Interval(0.9375, 0.875, 1.0), "*", NAN),
    ]
    columns, task = [Column("8", 8.0, 4.0), Column("full", 1384.0, 96.0)], Task.from_labels(["x", "y"])
    findings = Findings("dvme is better than dino@size=448 & <all>, by 12%.", (), ())
    return StudyReport(
        *(None, "my_cache.zarr", "hash", task, "plan", "auc", columns, cells, [], [], [], 8, 0, {}), findings=findings
    )


def test_to_frame__a_row_for_each_method_size_and_metric(report: StudyReport) -> None:
    frame = report.to_frame()
    assert list(frame.columns) == list(COLUMNS)
    assert len(frame) == 2 * 2 * 2
    found = frame[(frame["method"] == "dino@size=448 + linear") & (frame["size"] == "full")].set_index("metric")
    auc, accuracy = found.loc["auc"], found.loc["accuracy"]
    assert (auc["head"], auc["backbones"]) == ("linear", "dino@size=448")
    assert (auc["n_train"], auc["n_validation"]) == (1384.0, 96.0)
    assert (auc["mean"], auc["std"]) == (0.8125, pytest.approx(0.125 / math.sqrt(2)))
    assert (auc["low"], auc["high"], auc["p"], auc["mark"], auc["validation"]) == (0.75, 0.875, 0.004, "", 0.6875)
    assert (auc["difference"], auc["difference_low"], auc["difference_high"]) == (-0.1, -0.2, 0.05)
    assert (accuracy["mean"], accuracy["mark"], accuracy["is_highest"]) == (0.5625, "", False)
    assert accuracy[["low", "high", "p", "difference", "validation"]].isna().all()
    assert (accuracy["seconds"], accuracy["n_parameters"], accuracy["n_draws"]) == (1.5, 9, 2)
    fusion = frame[frame["head"] == "dvme"].iloc[0]
    assert (fusion["method"], fusion["backbones"]) == ("dvme of 2 backbones", "dino@size=448+swav_b")


def test_to_frame__through_csv(report: StudyReport) -> None:
    frame = report.to_frame()
    texts = dict.fromkeys(("method", "head", "backbones", "size", "metric", "mark"), str)
    text = frame.to_csv(index=False)
    numbers = {name: [""] for name in COLUMNS if name not in texts}
    back = pd.read_csv(io.StringIO(text), dtype=texts, keep_default_na=False, na_values=numbers)
    pd.testing.assert_frame_equal(back, frame, check_dtype=False)


def test_to_frame__is_what_the_run_measured(clear: Path) -> None:
    """By pandas, from the run's table of single measurements; the means are over the draws."""
    report = read_summary(clear / "run")
    keys = ["head", "backbones", "size", "metric"]
    measured = dvme.Run.load(clear / "run").to_frame()
    expected = measured[measured["part"] == "test"].groupby(keys)["value"].agg(["mean", "std", "count"])
    found = report.to_frame().set_index(keys)
    assert len(found) == len(report.methods) * 2 * len(report.cells[0].test)
    both = found.join(expected.add_suffix("_measured"))
    np.testing.assert_allclose(both["mean"], both["mean_measured"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(both["std"], both["std_measured"], rtol=0, atol=1e-12)
    assert (both["n_draws"] == both["count_measured"]).all()
    seconds = measured[(measured["part"] == "fit") & (measured["metric"] == "seconds")]
    assert report.to_frame().query("metric == 'auc'")["seconds"].sum() == pytest.approx(seconds["value"].sum())
    own = found.reset_index().query("metric == 'auc'")
    assert own["low"].notna().any()
    assert own.groupby("size")["is_highest"].sum().ge(1).all()
    for _, row in own.dropna(subset=["low"]).iterrows():
        assert row["low"] <= row["mean"] <= row["high"]


def test_to_latex__by_hand(report: StudyReport) -> None:
    assert report.to_latex(label="tab:auc") == "\n".join(
        [
            "% \\usepackage{booktabs}",
            "\\begin{table}[t]",
            "\\centering",
            "\\caption{Test AUC, mean $\\pm$ std over 2 draws; the best of a size is bold, which claims nothing. * "
            "leads on validation; = not told apart from it; + better; no mark: worse; ? no test could be made. Crossed "
            "test over heads and test images, 5\\% over the whole table. 2 together: dino@size=448, swav\\_b. dvme is "
            "better than dino@size=448 \\& \\textless{}all\\textgreater{}, by 12\\%.}",
            "\\label{tab:auc}",
            "\\begin{tabular}{llrr}",
            "\\toprule",
            "backbone & head & 8 & full (1,384) \\\\",
            "\\midrule",
            "dino@size=448 & linear & 0.625 $\\pm$ 0.177$^{?}$ & 0.812 $\\pm$ 0.088 \\\\",
            "2 together & dvme & \\textbf{0.750 $\\pm$ 0.000}$^{*}$ & \\textbf{0.938 $\\pm$ 0.088}$^{*}$ \\\\",
            "\\bottomrule",
            "\\end{tabular}",
            "\\end{table}",
            "",
        ]
    )


def test_to_markdown__with_intervals(report: StudyReport) -> None:
    lines = report.to_markdown(spread="interval").splitlines()
    assert lines[2:4] == [
        "| dino@size=448 | linear | 0.625 ? | 0.812 (0.750 to 0.875) |",
        "| 2 together | dvme | **0.750 (0.625 to 0.875)** \\* | **0.938 (0.875 to 1.000)** \\* |",
    ]
    assert lines[5].startswith("Test AUC, mean and 95% interval on other test images; the best")


def test_to_markdown__another_metric_has_no_marks(report: StudyReport) -> None:
    lines = report.to_markdown(metric="accuracy").splitlines()
    assert lines[2:4] == [
        "| dino@size=448 | linear | 0.375 ± 0.177 | 0.562 ± 0.088 |",
        "| 2 together | dvme | **0.500 ± 0.000** | **0.688 ± 0.088** |",
    ]
    assert "leads on validation" not in lines[5]


def test_tables__what_cannot_be_shown(report: StudyReport) -> None:
    with pytest.raises(UnknownNameError, match=r"no metric 'acuracy'; did you mean 'accuracy'\? choose from auc, acc"):
        report.to_latex(metric="acuracy")
    with pytest.raises(OptionError, match="spread 'ci' is not known; choose from std, interval"):
        report.to_markdown(spread="ci")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r"no intervals of accuracy; intervals are of auc: choose spread 'std'"):
        report.to_latex(metric="accuracy", spread="interval")


def test_repr__the_verdict_and_the_best(report: StudyReport) -> None:
    assert repr(report).splitlines() == [
        "StudyReport: 2 methods at 2 sizes on my_cache.zarr",
        "  dvme is better than dino@size=448 & <all>, by 12%.",
        "  test AUC at size full, the best on validation first:",
        "    0.938 ± 0.088 * dvme of 2 backbones",
        "    0.812 ± 0.088   dino@size=448 + linear",
        "  to_frame(), to_markdown() and to_latex() have all",
    ]


def test_repr__many_methods_are_cut(report: StudyReport) -> None:
    many = [replace(report.cells[2], head=f"knn@k={k}") for k in range(1, 9)]
    lines = repr(replace(report, cells=many, columns=report.columns[1:])).splitlines()
    assert len(lines) == 4 + MOST_METHODS
    assert lines[-1].startswith(f"  and {8 - MOST_METHODS} more; to_frame()")


def test_html__bold_intervals_and_verdict_and_no_markup_of_names(report: StudyReport) -> None:
    shown = report._repr_html_()
    assert "<b>dvme is better than dino@size=448 &amp; &lt;all&gt;, by 12%.</b>" in shown
    assert "<b>0.938 ± 0.088</b> *<br><small>0.875 to 1.000</small>" in shown
    assert shown.count("<tr>") == 3
    assert len(shown) < 4000


def test_part__nothing_is_judged(report: StudyReport) -> None:
    part = replace(report, run="run", cells=[], columns=[], findings=None, n_reused=3, part=PartDone("3/16", 20))
    assert repr(part) == "StudyReport: part 3/16 of a study: 5 jobs fitted into run\n  20 jobs left to other parts"
    assert list(part.to_frame().columns) == list(COLUMNS)
    assert "<b>part 3/16" in part._repr_html_()
    assert part.to_latex().count("\\\\\n") == 1  # the headings


def test_ceiling__is_of_the_judged_metric_alone(report: StudyReport) -> None:
    """A ceiling of Dice says nothing of IoU."""
    cells = [
        replace(cell, ceiling=0.96875, grid=(16, 16), test={"dice": cell.test["auc"], "iou": cell.test["accuracy"]})
        for cell in report.cells
    ]
    masks = replace(report, metric="dice", cells=cells)
    ceilings = masks.to_frame().groupby("metric")["ceiling"].agg(["min", "max", "count"])
    assert ceilings.loc["dice"].tolist() == [0.96875, 0.96875, 4]
    assert ceilings.loc["iou", "count"] == 0
    assert masks.to_markdown().splitlines()[0] == "| backbone | head | 8 | full (1,384) | ceiling |"
    assert masks.to_markdown().splitlines()[2].endswith("| 0.969 |")
    assert masks.to_markdown(metric="iou").splitlines()[0] == "| backbone | head | 8 | full (1,384) |"


def test_to_markdown__a_size_that_a_paper_names(report: StudyReport) -> None:
    named = replace(report, columns=[Column("8 (S)", 8.0, 4.0), Column("full (F)", 1384.0, 96.0)], cells=[])
    assert named.to_markdown().splitlines()[0] == "| backbone | head | 8 (S) | full (F) (1,384) |"
