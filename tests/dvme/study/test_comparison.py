from __future__ import annotations

import math

import pytest

from dvme.stats.intervals import Comparison, Interval
from dvme.study.cells import Score
from dvme.study.comparison import CompareReport, Pair


@pytest.fixture
def report() -> CompareReport:
    """One pair that differs, one that is the same, and one that the run lacks."""
    one, other = Score.over([0.875, 0.9375]), Score.over([0.75, 0.75])
    differs = Comparison(Interval(0.15625, 0.0625, 0.25), 0.005, 3.0, 4.0)
    same = Comparison(Interval(0.0, math.nan, math.nan), 1.0, 0.0, 4.0)
    pairs = [
        Pair("dino + linear", "50", one, other, differs, 0.01),
        Pair("dino + knn", "50", other, other, same, 1.0),
        Pair("swav", "200", None, Score(0.5, 0.25, []), None, math.nan, beside="swav + linear", doubt="a misprint"),
    ]
    return CompareReport("one", "truong2021:aptos", "auc", "crossed", pairs, [], is_published=True)


def test_to_frame__a_row_for_each_pair(report: CompareReport) -> None:
    frame = report.to_frame()
    assert list(frame.columns) == [
        *("method", "size", "one", "one_std", "other", "other_std", "difference", "low", "high", "p", "beside", "doubt")
    ]
    first, second, third = (row for _, row in frame.iterrows())
    assert (first["one"], first["other"], first["difference"]) == (0.90625, 0.75, 0.15625)
    assert (first["low"], first["high"], first["p"]) == (0.0625, 0.25, 0.01)
    assert (second["p"], math.isnan(second["low"])) == (1.0, True)
    assert (third["other"], third["other_std"], third["doubt"]) == (0.5, 0.25, "a misprint")
    assert third[["one", "one_std", "difference", "low", "high", "p"]].isna().all()


def test_to_markdown__by_hand(report: CompareReport) -> None:
    lines = report.to_markdown().splitlines()
    assert lines[:5] == [
        "| method | size | one | truong2021:aptos | difference (95% CI) | p |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
        "| dino + linear | 50 | 0.906 ± 0.044 | 0.750 ± 0.000 | +0.156 (+0.062 to +0.250) | 0.010 |",
        "| dino + knn | 50 | 0.750 ± 0.000 | 0.750 ± 0.000 | +0.000 | \\> 0.999 |",
        "| swav | 200 |  | 0.500 ± 0.250 |  |  |",
    ]


def test_repr__how_many_differ(report: CompareReport) -> None:
    assert repr(report).splitlines() == [
        "CompareReport: 1 of 2 pairs differ: one minus truong2021:aptos",
        "  test AUC; crossed test over heads and test images, Bonferroni over the pairs",
    ]
