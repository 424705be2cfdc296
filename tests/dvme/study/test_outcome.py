from __future__ import annotations

import math

import pytest

from dvme.data import Task
from dvme.stats.intervals import Interval
from dvme.study.outcome import Cell, Column, Score, StudyReport


def test_score__over_folds() -> None:
    score = Score.over([1.0, 2.0, 6.0])
    assert (score.mean, score.folds) == (3.0, [1.0, 2.0, 6.0])
    assert score.std == pytest.approx(math.sqrt((4 + 1 + 9) / 2))
    assert math.isnan(Score.over([1.0]).std)


def _cell(head: str, backbones: str, size: str, validation: float) -> Cell:
    scores = {"auc": Score(0.9, 0.0, [0.9])}
    between, nan = Interval(0.9, 0.8, 0.95), math.nan
    return Cell(head, tuple(backbones), size, validation, scores, between, "=", False, None, nan, None, 1.0, 3, [{}])


def test_study_report__rows_are_those_of_the_largest_size_and_json_is_plain() -> None:
    task = Task.from_labels(["x", "y"])
    lines = [("dvme", "ab", 0.7), ("knn", "a", math.nan), ("linear", "b", 0.8)]
    cells = [_cell(head, names, size, each) for size in ("full", "10") for head, names, each in lines]
    columns = [Column("full", 40.0, 10.0), Column("10", 10.0, 3.0)]  # the largest is no matter of the order
    report = StudyReport(
        *(None, "c.zarr", "hash", task, "plan", "auc", columns, cells, [], [], [], 12, 0, {}), saved=["heads/dvme--a+b"]
    )
    assert [(row.method, row.size) for row in report.rows] == [
        *(("b + linear", "full"), ("dvme of 2 backbones", "full"), ("a + knn", "full"))
    ]
    assert report.methods == [("dvme", ("a", "b")), ("knn", ("a",)), ("linear", ("b",))]
    plain = report.to_json()
    found = plain["cells"][0]
    assert (found["method"], found["head"], found["mark"]) == ("dvme of 2 backbones", "dvme", "=")
    assert (list(found["backbones"]), found["chosen"]) == (["a", "b"], [{}])
    assert plain["task"] == task.to_json()
    assert (plain["saved"], plain["findings"], plain["run"]) == (["heads/dvme--a+b"], None, None)
    assert report.verdict == ""  # an older dvme said none
