"""Bins by a slow loop, intervals by SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve

from dvme.metrics.calibration import reliability, wilson


def test_reliability__by_hand() -> None:
    top = np.array([0.55, 0.6, 0.95, 0.95])
    found = reliability(np.array([0, 1, 0, 0]), np.stack([top, 1 - top], axis=1), 2)
    assert found.n == (0, 0, 0, 0, 0, 2, 0, 0, 0, 2)  # 0.6 is in (0.5, 0.6]
    assert found.confidence[5] == pytest.approx(0.575)
    assert (found.accuracy[5], found.accuracy[9]) == (0.5, 1.0)
    assert found.error == pytest.approx(0.5 * 0.075 + 0.5 * 0.05)
    assert np.isnan([found.confidence[0], found.accuracy[0], found.low[0], found.high[0]]).all()


def test_reliability__as_scikit_learn_and_a_slow_loop() -> None:
    rng = np.random.default_rng(0)
    labels, p = rng.integers(0, 3, 500), rng.dirichlet(np.ones(3), 500).round(2)
    found = reliability(labels, p, 3)
    top, is_right = p.max(axis=1), p.argmax(axis=1) == labels
    expected = 0.0
    for place in range(10):
        inside = [i for i in range(500) if place / 10 < round(top[i], 2) <= (place + 1) / 10]
        assert found.n[place] == len(inside)
        if inside:
            gap = np.mean([is_right[i] for i in inside]) - np.mean([top[i] for i in inside])
            expected += abs(gap) * len(inside) / 500
    assert found.error == pytest.approx(expected)
    # Off the borders, which scikit-learn gives to the upper bin.
    inner = np.abs(top * 10 - np.round(top * 10)) > 1e-6
    accuracy, confidence = calibration_curve(is_right[inner], top[inner], n_bins=10)
    own = reliability(labels[inner], p[inner], 3)
    np.testing.assert_allclose([each for each in own.accuracy if not math.isnan(each)], accuracy)
    np.testing.assert_allclose([each for each in own.confidence if not math.isnan(each)], confidence)


def test_reliability__images_that_cannot_count() -> None:
    p = np.array([[0.9, 0.1], [np.nan, 0.5], [0.3, 0.7]])
    found = reliability(np.array([0, 0, -1]), p, 2)
    assert (found.n_images, found.n_left_out, sum(found.n)) == (1, 2, 1)
    assert math.isnan(reliability(np.empty(0, dtype=int), np.empty((0, 2)), 2).error)


def test_wilson__as_scipy() -> None:
    for right, n in ((5, 10), (0, 10), (10, 10), (1, 1), (997, 1_000)):
        low, high = wilson(np.array([right / n]), np.array([n]))
        expected = binomtest(right, n).proportion_ci(method="wilson")
        assert (low[0], high[0]) == (pytest.approx(expected.low, abs=1e-9), pytest.approx(expected.high, abs=1e-9))
    assert np.isnan(wilson(np.array([np.nan]), np.array([0]))).all()
