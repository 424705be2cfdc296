"""Brier score and log loss by hand and by scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled_cases import Case, cases
from sklearn import metrics as scikit_learn

from dvme.errors import DataError
from dvme.metrics.probability_errors import brier, log_loss, multiclass_brier, multiclass_log_loss

CLOSE = 1e-9


def test_brier_and_log_loss__by_hand() -> None:
    truth, p = np.array([[1.0], [0], [np.nan]]), np.array([[0.5], [0.25], [0.9]])
    assert brier(truth, p) == pytest.approx([(0.25 + 0.0625) / 2])
    assert log_loss(truth, p) == pytest.approx([(np.log(2) - np.log(0.75)) / 2])
    assert brier(truth, p, np.array([3, 1, 1])) == pytest.approx([(3 * 0.25 + 0.0625) / 4])


@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_brier_and_log_loss__as_scikit_learn(case: Case) -> None:
    squares, logs = brier(case.truth, case.p, case.weights), log_loss(case.truth, case.p, case.weights)
    for r, label, truth, p, weight in case.each():
        if not len(truth):
            assert np.isnan([squares[r, label], logs[r, label]]).all()
            continue
        expected = scikit_learn.brier_score_loss(truth, p, sample_weight=weight, labels=[0, 1])
        assert squares[r, label] == pytest.approx(expected, abs=CLOSE)
        expected = scikit_learn.log_loss(truth, p, sample_weight=weight, labels=[0, 1])
        assert logs[r, label] == pytest.approx(expected, abs=CLOSE)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 100_000), n=st.integers(1, 30), n_classes=st.integers(2, 5))
def test_multiclass__as_scikit_learn(seed: int, n: int, n_classes: int) -> None:
    rng = np.random.default_rng(seed)
    labels, p = rng.integers(-1, n_classes, n), rng.dirichlet(np.full(n_classes, 0.3), n)
    weights = rng.exponential(size=(2, n))
    squares, logs = multiclass_brier(labels, p, weights), multiclass_log_loss(labels, p, weights)
    has_class = labels >= 0
    if not has_class.any():
        assert np.isnan(squares).all()
        assert np.isnan(logs).all()
        return
    for r, weight in enumerate(weights):
        known = {"sample_weight": weight[has_class], "labels": range(n_classes)}
        expected = scikit_learn.log_loss(labels[has_class], p[has_class], **known)
        assert logs[r] == pytest.approx(expected, abs=CLOSE)
        expected = scikit_learn.brier_score_loss(labels[has_class], p[has_class], scale_by_half=False, **known)
        assert squares[r] == pytest.approx(expected, abs=CLOSE)


def test_multiclass__brier_of_two_classes_is_twice_that_of_one_label() -> None:
    labels, p = np.array([0, 1, 1]), np.array([0.2, 0.6, 0.9])
    both = multiclass_brier(labels, np.stack([1 - p, p], axis=1))
    assert both == pytest.approx(2 * brier(labels[:, None], p[:, None])[0])


def test_probability_errors__refuse() -> None:
    with pytest.raises(DataError, match=r"probabilities lie in \[0\.5, 2\.0\]"):
        brier(np.ones((2, 1)), np.array([[0.5], [2.0]]))
    with pytest.raises(DataError, match="a label is 2, and there are 2 classes"):
        multiclass_log_loss(np.array([0, 2]), np.full((2, 2), 0.5))
