from __future__ import annotations

from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score

from dvme.errors import DataError
from dvme.metrics.grades import _rising, expected_grades, kappa_cuts, mean_cuts, predicted_classes


def _kappa(labels: NDArray[Any], taken: NDArray[Any], weights: NDArray[Any]) -> float:
    """From all pairs of a label and a prediction."""
    apart = weights @ (labels - taken) ** 2 / weights.sum()
    chance = weights @ (labels[:, None] - taken) ** 2 @ weights / weights.sum() ** 2
    return float(1.0 - apart / chance) if chance > 0 else -np.inf


@given(st.integers(0, 10_000), st.integers(2, 4), st.integers(2, 8), st.booleans(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_kappa_cuts__no_other_cuts_have_a_larger_kappa(
    seed: int, n_classes: int, n_rows: int, is_tied: bool, is_weighted: bool
) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, n_rows)
    labels[:2] = 0, n_classes - 1
    grades = np.clip(0.5 * labels + rng.normal(size=n_rows), 0.0, n_classes - 1.0)
    grades = np.round(grades) if is_tied else grades
    weights = rng.integers(1, 4, n_rows).astype(float) if is_weighted else np.ones(n_rows)
    cuts = kappa_cuts(labels, grades, n_classes, weights if is_weighted else None)
    assert cuts is not None
    assert cuts == sorted(cuts)
    values = np.unique(grades)
    places = [values[0] - 1.0, *(values[1:] + values[:-1]) / 2.0, values[-1] + 1.0]
    every = combinations_with_replacement(places, n_classes - 1)
    best = max(_kappa(labels, (grades[:, None] > np.array(own)).sum(axis=1), weights) for own in every)
    taken = (grades[:, None] > np.array(cuts)).sum(axis=1)
    assert _kappa(labels, taken, weights) == pytest.approx(best, abs=1e-12)
    if best > -np.inf:
        given_to = {"labels": np.arange(n_classes), "weights": "quadratic", "sample_weight": weights}
        assert cohen_kappa_score(labels, taken, **given_to) == pytest.approx(best, abs=1e-12)


def test_kappa_cuts__by_hand() -> None:
    """Grades that are right but low: the cuts move down, into the middle of the gaps."""
    labels, grades = np.array([0, 0, 1, 1, 2, 2]), np.array([0.0, 0.1, 0.5, 0.6, 0.9, 1.2])
    assert kappa_cuts(labels, grades, 3) == pytest.approx([0.3, 0.75])


def test_kappa_cuts__a_class_that_no_image_is_taken_for() -> None:
    cuts = kappa_cuts(np.array([0, 0, 2, 2]), np.array([0.2, 0.4, 1.5, 1.9]), 4)
    assert cuts == pytest.approx([0.95, 0.95, 3.5])


@pytest.mark.parametrize("labels", [[], [1, 1, 1]])
def test_kappa_cuts__are_not_defined_with_fewer_than_two_classes(labels: list[int]) -> None:
    assert kappa_cuts(np.array(labels, dtype=np.int64), np.linspace(0, 1, len(labels)), 3) is None


def test_kappa_cuts__of_grades_that_are_no_numbers() -> None:
    with pytest.raises(DataError, match="not finite"):
        kappa_cuts(np.array([0, 1]), np.array([0.5, np.nan]), 2)


def test_predicted_classes__by_hand() -> None:
    p = np.array([[0.6, 0.0, 0.4], [0.1, 0.8, 0.1], [0.0, 0.1, 0.9]])
    np.testing.assert_allclose(expected_grades(p), [0.8, 1.0, 1.9])
    assert predicted_classes(p).tolist() == [0, 1, 2]
    assert predicted_classes(p, [0.5, 1.0]).tolist() == [1, 1, 2]  # at a cut is not above it
    assert predicted_classes(p, [0.9, 3.0]).tolist() == [0, 1, 1]


def test_mean_cuts__of_heads_that_predict_together() -> None:
    assert mean_cuts([[0.5, 1.0], [1.0, 2.0]]) == [0.75, 1.5]
    assert mean_cuts([[0.5], None]) is None


@pytest.mark.parametrize("n_classes", [2, 5])
def test_rising__as_one_value_after_another(n_classes: int) -> None:
    costs = np.random.default_rng(n_classes).normal(size=(300, n_classes))
    least = costs.copy()
    for row in range(1, len(costs)):
        least[row] += np.minimum.accumulate(least[row - 1])
    expected, last = [], n_classes - 1
    for row in range(len(costs) - 1, -1, -1):
        last = int(least[row, : last + 1].argmin())
        expected.append(last)
    assert _rising(costs).tolist() == expected[::-1]
