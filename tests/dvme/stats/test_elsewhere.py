from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau, t

from dvme.stats.elsewhere import N_DRAWS, elsewhere
from dvme.stats.influence import Scored
from dvme.stats.units import Units


def _scores(n: int, folds: tuple[list[float], list[float]]) -> list[Scored]:
    """Two methods on n images of each of two classes. Two images of the first class decide, one of them for both."""
    units = Units(np.repeat([0, 1], n))
    parts = np.zeros((2, 2 * n))
    parts[0, :2], parts[1, [0, 2]] = [0.1, -0.1], [0.1, -0.1]
    return [
        Scored("auc", np.array(values), np.tile(part[:, None], (1, len(values))), units)
        for values, part in zip(folds, parts, strict=True)
    ]


def _drawn(cells: list[Scored], shared_rows: list[float]) -> np.ndarray:
    return np.concatenate([elsewhere(cells, shared_rows, seed=seed) for seed in range(20)])


TEST = 41 / 40 * np.array([[0.02, 0.01], [0.01, 0.02]])
"""Sums of the products of the parts, by n / (n - 1)."""
TAILS = 40 / 38
"""Variance of t with 40 degrees of freedom."""


def test_elsewhere__of_one_fold_is_the_luck_of_the_test_images() -> None:
    drawn = _drawn(_scores(41, ([0.8], [0.7])), [0.5, 0.5])
    assert drawn.shape == (20 * N_DRAWS, 2)
    np.testing.assert_allclose(drawn.mean(axis=0), [0.8, 0.7], atol=0.003)
    np.testing.assert_allclose(np.cov(drawn.T), TAILS * TEST, rtol=0.04)


def test_elsewhere__folds_add_the_luck_of_training() -> None:
    """Folds 0.1 and 0.2 off their mean: S is [1, 2; 2, 4] / 100, S / J of it counts, and o / (1 - o) more: 1 and 0."""
    cells = _scores(41, ([0.7, 0.8, 0.9], [0.5, 0.7, 0.9]))
    drawn = _drawn(cells, [0.5, 0.0])
    training = np.array([[0.01, 0.02], [0.02, 0.04]]) / 3 + np.array([[0.01, 0.0], [0.0, 0.0]])
    total = TEST + training
    # Degrees of freedom by shares, 2 of the folds' spread and 40 of the test images: the first score has the fewer.
    shares = np.diag(training) / np.diag(total)
    df = (1 / (shares / 2 + (1 - shares) / 40)).min()
    for each, mean, variance in zip(drawn.T, (0.8, 0.7), np.diag(total), strict=True):
        expected = mean + np.sqrt(variance) * t.ppf([0.1, 0.5, 0.9], df)
        np.testing.assert_allclose(np.quantile(each, [0.1, 0.5, 0.9]), expected, atol=0.012)
    # Of elliptical draws Kendall's tau is 2 / pi arcsin(r), whatever their tails.
    r = total[0, 1] / np.sqrt(total[0, 0] * total[1, 1])
    assert kendalltau(*drawn[:5000].T).statistic == pytest.approx(2 / np.pi * np.arcsin(r), abs=0.03)


def test_elsewhere__same_seed_same_draws() -> None:
    cells = _scores(41, ([0.7, 0.9], [0.5, 0.9]))
    one, same, other = (elsewhere(cells, [0.5, 0.5], seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_elsewhere__too_few_images_of_a_class_or_no_score_leave_nothing_to_draw() -> None:
    units = Units(np.array([0, 0, 0, 1, 1]))
    few = [Scored("auc", np.array([0.8]), np.zeros((5, 1)), units)]
    assert np.isnan(elsewhere(few, [0.0])).all()
    drawn = elsewhere(_scores(41, ([0.7, np.nan], [0.5, 0.9])), [0.5, 0.5])
    assert drawn.shape == (N_DRAWS, 2)
    assert np.isnan(drawn).all()
