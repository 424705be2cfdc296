"""How the leading methods err, against scikit-learn on the run's own predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from light import light
from sklearn.metrics import accuracy_score, average_precision_score, roc_auc_score

import dvme
from dvme.study.diagnosis import confident_mistakes
from dvme.study.loaded import Study
from dvme.study.run import read_summary

CLASSES = ["0", "1", "2"]
LATER = {"findings", "diagnoses", "asides"}
"""What the summary of an older dvme lacks."""


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("diagnosis") / "run"
    options = dvme.SubsetOptions(sizes=("40", "full"), n_folds=3)
    return dvme.sweep(cache, folder, heads=light("linear", "concat"), controls=False, options=options), folder


def _plain(report: Any) -> dict[str, Any]:
    """Without the clock, which runs on after the summary is written; nan, which no nan is equal to, as a text."""
    plain = json.loads(json.dumps(report.to_json(), default=str), parse_constant=str)
    return {key: value for key, value in plain.items() if key != "seconds"}


def test_diagnoses__as_scikit_learn_has_it_of_the_written_predictions(swept: tuple[Any, Path]) -> None:
    report, folder = swept
    table = pd.read_parquet(folder / "predictions.parquet")
    best = max((cell for cell in report.cells if cell.size == "full"), key=lambda cell: cell.validation)
    assert report.diagnoses[0].method == best.method
    assert len(report.diagnoses) == 2  # a single backbone, and a fusion that is a control
    for each in report.diagnoses:
        own = table[(table["head"] == each.head) & (table["backbones"] == "+".join(each.backbones))]
        mean = own[own["size"] == each.size].groupby("content", sort=False, observed=True)[[f"p({c})" for c in CLASSES]]
        p = mean.mean()
        labels = own.drop_duplicates("content").set_index("content")["label"].loc[p.index].astype(str).to_numpy()
        predicted = p.to_numpy().argmax(axis=1).astype(str)
        assert each.confusion.accuracy == accuracy_score(labels, predicted)
        assert each.n_mistakes == len(each.mistakes) == (labels != predicted).sum()
        for c, (rising, falling) in enumerate(zip(each.roc.curves, each.precision_recall.curves, strict=True)):
            assert rising.area == pytest.approx(roc_auc_score(labels == str(c), p.iloc[:, c]), abs=1e-6)
            assert falling.area == pytest.approx(average_precision_score(labels == str(c), p.iloc[:, c]), abs=1e-6)
        assert sum(each.calibration.n) == len(labels)
        for mistake in each.mistakes:
            assert mistake.p_predicted == pytest.approx(p.loc[mistake.content, f"p({mistake.predicted})"], abs=1e-6)
            assert mistake.p_label == pytest.approx(p.loc[mistake.content, f"p({mistake.label})"], abs=1e-6)
        told = dict(zip(own["content"], own["image"], strict=True))
        assert [mistake.image for mistake in each.mistakes] == [told[mistake.content] for mistake in each.mistakes]
        assert [m.p_predicted for m in each.mistakes] == sorted((m.p_predicted for m in each.mistakes), reverse=True)


def test_summary__says_what_the_report_says(swept: tuple[Any, Path]) -> None:
    """The sweep's own answers and diagnoses, those that are read back, and those that a report finds anew."""
    report, folder = swept
    read, study = read_summary(folder), Study.load(folder)
    assert _plain(read) == _plain(report)
    assert report.findings == read.findings == study.findings
    for one, other in zip(read.diagnoses, study.diagnoses, strict=True):
        assert (one.method, one.roc, one.precision_recall) == (other.method, other.roc, other.precision_recall)
        assert [each.content for each in one.mistakes] == [each.content for each in other.mistakes]
    assert [each.content for each in read.suspects] == [each.content for each in study.suspects]


def test_summary__of_an_older_dvme_has_neither(swept: tuple[Any, Path]) -> None:
    values = json.loads((swept[1] / "summary.json").read_text())
    older = type(swept[0]).from_json({k: v for k, v in values.items() if k not in LATER})
    assert (older.findings, older.diagnoses, older.asides) == (None, (), ())
    ours = _plain(swept[0])
    assert {k: v for k, v in _plain(older).items() if k not in LATER} == {
        k: v for k, v in ours.items() if k not in LATER
    }


def test_confident_mistakes__by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.99, 0.01], [0.7, 0.3]])
    labels = np.array([0, 0, 0, 1, 1])
    assert confident_mistakes(labels, probabilities).tolist() == [3, 1, 4, 2]
