"""Agreement of classes and grades by hand and by scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as scikit_learn

from dvme.errors import DataError
from dvme.metrics.agreement import (
    Disagreement,
    accuracy,
    count_tables,
    f1_of_classes,
    kappa,
    mean_absolute_error,
    recalls,
)
from dvme.metrics.labelled import mean_over_labels

CLOSE = 1e-9


def test_count_tables__by_hand() -> None:
    labels, predicted = np.array([0, 1, 1, -1]), np.array([0, 0, 1, 1])
    assert count_tables(labels, predicted, 2).tolist() == [[1, 0], [1, 1]]
    weights = np.array([[1, 1, 1, 1], [0, 2.5, 0, 7]])
    assert count_tables(labels, predicted, 2, weights)[1].tolist() == [[0, 0], [2.5, 0]]


def test_kappa__by_hand() -> None:
    """Six images, two of each of three grades; two are a grade off and one is two off."""
    table = count_tables(np.array([0, 0, 1, 1, 2, 2]), np.array([0, 2, 1, 0, 2, 1]), 3)
    # Predictions are two of each grade as well, so chance puts 2/3 into each of the nine cells.
    assert kappa(table, "none") == pytest.approx(1 - 3 / (6 * 2 / 3))
    assert kappa(table, "linear") == pytest.approx(1 - (1 + 1 + 2) / (8 * 2 / 3))
    assert kappa(table, "quadratic") == pytest.approx(1 - (1 + 1 + 4) / (12 * 2 / 3))
    assert mean_absolute_error(table) == pytest.approx(4 / 6)


def test_kappa__full_label_list_matters() -> None:
    labels, predicted = np.array([0, 0, 4, 4, 1, 3]), np.array([0, 1, 4, 3, 1, 4])  # grade 2 never occurs
    expected = scikit_learn.cohen_kappa_score(labels, predicted, labels=range(5), weights="quadratic")
    assert kappa(count_tables(labels, predicted, 5)) == pytest.approx(expected)
    assert kappa(count_tables(labels, predicted, 5)) != pytest.approx(
        scikit_learn.cohen_kappa_score(labels, predicted, weights="quadratic")
    )


@pytest.mark.parametrize("disagreement", ["none", "linear", "quadratic"])
def test_kappa__constant_is_undefined(disagreement: Disagreement) -> None:
    assert np.isnan(kappa(count_tables(np.zeros(5, int), np.zeros(5, int), 3, np.full(5, 0.1)), disagreement))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 100_000), n=st.integers(1, 30), n_classes=st.integers(2, 5), n_used=st.integers(1, 5))
def test_agreement__as_scikit_learn(seed: int, n: int, n_classes: int, n_used: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, min(n_used, n_classes), n)
    predicted = np.where(rng.random(n) < 0.5, labels, rng.integers(0, n_classes, n))
    weights = rng.exponential(size=(3, n)) * (rng.random((3, n)) < 0.8)
    tables = count_tables(labels, predicted, n_classes, weights)
    for weight, table in zip(weights, tables, strict=True):
        if not weight.any():
            assert np.isnan([accuracy(table), kappa(table), mean_absolute_error(table)]).all()
            continue
        rows = weight > 0
        _compare(table, labels[rows], predicted[rows], weight[rows])


def _compare(table: NDArray[Any], labels: NDArray[Any], predicted: NDArray[Any], weight: NDArray[Any]) -> None:
    n_classes = len(table)
    known: dict[str, Any] = {"sample_weight": weight}
    assert accuracy(table) == pytest.approx(scikit_learn.accuracy_score(labels, predicted, **known), abs=CLOSE)
    expected = scikit_learn.mean_absolute_error(labels, predicted, **known)
    assert mean_absolute_error(table) == pytest.approx(expected, abs=CLOSE)
    known["labels"] = range(n_classes)
    is_there = np.isin(np.arange(n_classes), labels)
    for found, metric in ((recalls, scikit_learn.recall_score), (f1_of_classes, scikit_learn.f1_score)):
        each = metric(labels, predicted, average=None, zero_division=0, **known)
        np.testing.assert_allclose(found(table), np.where(is_there, each, np.nan), atol=CLOSE)
    # Its own balanced accuracy warns of classes that are only predicted.
    balanced = scikit_learn.recall_score(labels, predicted, average="macro", **known | {"labels": np.unique(labels)})
    assert mean_over_labels(recalls(table)) == (pytest.approx(balanced, abs=CLOSE), is_there.sum())
    for disagreement in ("none", "linear", "quadratic"):
        if len(np.unique(np.r_[labels, predicted])) == 1:
            assert np.isnan(kappa(table, disagreement))
            continue
        name = None if disagreement == "none" else disagreement
        expected = scikit_learn.cohen_kappa_score(labels, predicted, weights=name, **known)
        assert kappa(table, disagreement) == pytest.approx(expected, abs=CLOSE)


def test_count_tables__refuses() -> None:
    with pytest.raises(DataError, match="classes are counted from 0 to 1; indices lie in 0 to 2"):
        count_tables(np.array([0, 1]), np.array([0, 2]), 2)
    with pytest.raises(DataError, match=r"labels are \(2,\) and predictions \(3,\)"):
        count_tables(np.zeros(2, int), np.zeros(3, int), 2)
