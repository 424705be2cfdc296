"""What all metrics of several labels keep, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from labelled_cases import Case, cases
from numpy.typing import NDArray

from dvme.errors import DataError
from dvme.metrics.calibration import calibration
from dvme.metrics.decisions import decide, decide_over, subset_accuracy
from dvme.metrics.labelled import Labelled, mean_over_labels
from dvme.metrics.probability_errors import brier, log_loss
from dvme.metrics.ranking import auc, average_precision
from dvme.metrics.referral import cumulative_oracle_auc, oracle_auc, risk_coverage_area

Metric = Callable[[NDArray[Any], NDArray[Any], NDArray[Any] | None], NDArray[Any]]
THRESHOLDS = np.array([0.2, 0.5])


def _lost(truth: NDArray[Any], p: NDArray[Any], weights: NDArray[Any] | None) -> NDArray[Any]:
    return risk_coverage_area(np.abs(truth - p), np.abs(p - 0.5), weights)


OF_A_LABEL: dict[str, Metric] = {
    "auc": auc,
    "average precision": average_precision,
    "brier": brier,
    "log loss": log_loss,
    "f1": lambda truth, p, weights: decide(truth, p, 0.5, weights).f1,
    "misses": lambda truth, p, weights: decide_over(truth, p, THRESHOLDS, weights).false_negative_rate,
    "specificity": lambda truth, p, weights: decide_over(truth, p, THRESHOLDS, weights).specificity,
    "ECE": lambda truth, p, weights: calibration(truth, p, weights).expected_error,
    "ECE, equal mass": lambda truth, p, weights: calibration(truth, p, weights, bins="mass").expected_error,
    "MCE": lambda truth, p, weights: calibration(truth, p, weights).largest_error,
    "risk": _lost,
}
METRICS = OF_A_LABEL | {
    "subset": lambda truth, p, weights: subset_accuracy(truth, p, 0.5, weights),
    "oracle": oracle_auc,
    "oracle, cumulative": cumulative_oracle_auc,
}


def _same(found: NDArray[Any], expected: NDArray[Any]) -> None:
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize("name", METRICS)
@settings(max_examples=12, deadline=None)
@given(case=cases())
def test_metrics__many_weightings_are_each_of_them(name: str, case: Case) -> None:
    many = METRICS[name](case.truth, case.p, case.weights)
    assert len(many) == 3
    for weight, found in zip(case.weights, many, strict=True):
        _same(found, METRICS[name](case.truth, case.p, weight))
    _same(METRICS[name](case.truth, case.p, None), METRICS[name](case.truth, case.p, np.ones(len(case.p))))


@pytest.mark.parametrize("name", METRICS)
@settings(max_examples=12, deadline=None)
@given(case=cases(are_whole=True))
def test_metrics__weight_two_is_as_if_it_were_there_twice(name: str, case: Case) -> None:
    rows = np.repeat(np.arange(len(case.p)), case.weights[0].astype(int))
    found = METRICS[name](case.truth, case.p, case.weights[0])
    _same(found, METRICS[name](case.truth[rows], case.p[rows], None))


@pytest.mark.parametrize("name", OF_A_LABEL)
@settings(max_examples=12, deadline=None)
@given(case=cases())
def test_metrics__unknown_cells_take_no_part_in_their_label_alone(name: str, case: Case) -> None:
    found = OF_A_LABEL[name](case.truth, case.p, case.weights)
    for label in range(case.truth.shape[1]):
        known = ~np.isnan(case.truth[:, label])
        alone = case.truth[known, label][:, None], case.p[known, label][:, None], case.weights[:, known]
        _same(found[..., label], OF_A_LABEL[name](*alone)[..., 0])


def test_mean_over_labels__says_how_many_entered() -> None:
    found = mean_over_labels(np.array([[0.5, np.nan, 1.0], [np.nan, np.nan, np.nan], [0.0, 0.3, 0.9]]))
    assert found.mean == pytest.approx([0.75, np.nan, 0.4], nan_ok=True)
    assert found.n_labels.tolist() == [2, 0, 3]
    one = mean_over_labels(np.array([0.5, np.nan]))
    assert (float(one.mean), int(one.n_labels)) == (0.5, 1)


@pytest.mark.parametrize(
    ("truth", "scores", "weights", "message"),
    [
        ([[0.0], [1]], [[0.1]], None, r"truth is \(2, 1\) and scores are \(1, 1\); pass \(N, L\)"),
        ([0.0, 1], [0.1, 0.2], None, r"truth is \(2,\)"),
        ([[0.0], [0.7]], [[0.1], [0.2]], None, "soft labels are for learning"),
        ([[0.0], [-1]], [[0.1], [0.2]], None, "truth of 0, 1 and nan"),
        ([[0.0], [np.nan]], [[0.1], [np.nan]], None, "a score is nan"),
        ([[0.0], [1]], [[0.1], [1.5]], None, r"probabilities lie in \[0\.1, 1\.5\]"),
        ([[0.0], [1]], [[-0.1], [1]], None, r"probabilities lie in \[-0\.1, 1\.0\]"),
        ([[0.0], [1]], [[0.1], [0.2]], [1.0, -1], "a weight is negative or not finite"),
        ([[0.0], [1]], [[0.1], [0.2]], [[1.0, 1], [np.nan, 1]], "a weight is negative or not finite"),
        ([[0.0], [1]], [[0.1], [0.2]], [[1.0, 1], [np.inf, 1]], "a weight is negative or not finite"),
        ([[0.0], [1]], [[0.1], [0.2]], [1.0], r"weights are \(1,\), and there are 2 images"),
        ([[0.0], [1]], [[0.1], [0.2]], [[[1.0, 1]]], r"weights are \(1, 1, 2\)"),
    ],
)
def test_labelled__refuses(truth: Any, scores: Any, weights: Any, message: str) -> None:
    given = None if weights is None else np.array(weights)
    with pytest.raises(DataError, match=message):
        Labelled.of(np.array(truth), np.array(scores), given, are_probabilities=True)
