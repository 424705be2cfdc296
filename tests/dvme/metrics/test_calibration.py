"""Bins by a slow loop, intervals by SciPy."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled_cases import Case, cases
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve

from dvme.metrics.calibration import bin_places, calibration, reliability, wilson


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


def test_calibration__equal_width_by_hand() -> None:
    """Of two bins the lower one has 0.5, on the border; an image counts twice."""
    truth, p = np.array([[1.0], [0], [1], [np.nan]]), np.array([[0.1], [0.5], [0.9], [0.9]])
    found = calibration(truth, p, np.array([1, 2, 1, 1]), n_bins=2)
    assert found.weight.tolist() == [[3, 1]]
    assert found.confidence == pytest.approx(np.array([[1.1 / 3, 0.9]]))
    assert found.share == pytest.approx(np.array([[1 / 3, 1.0]]))
    assert found.expected_error == pytest.approx([(0.1 + 0.1) / 4])
    assert found.largest_error == pytest.approx([0.1])


def test_calibration__equal_mass_by_hand() -> None:
    """Six images in three bins; of seven the odd one goes where the middle of its weight lies; ties stay together."""
    p = np.array([0.1, 0.2, 0.3, 0.4, 0.8, 0.9])[:, None]
    truth = np.array([0.0, 1, 0, 0, 1, 1])[:, None]
    found = calibration(truth, p, n_bins=3, bins="mass")
    assert found.weight.tolist() == [[2, 2, 2]]
    assert found.expected_error == pytest.approx([(0.35 + 0.35 + 0.15) / 3])
    assert found.largest_error == pytest.approx([0.35])
    seven = calibration(np.r_[truth, [[1.0]]], np.r_[p, [[1.0]]], n_bins=3, bins="mass")
    assert seven.weight.tolist() == [[2, 3, 2]]
    tied = calibration(truth, np.full((6, 1), 0.5), n_bins=3, bins="mass")
    assert tied.weight.tolist() == [[0, 6, 0]]
    assert tied.expected_error.tolist() == [0.0]


@settings(max_examples=100, deadline=None)
@given(case=cases(are_whole=True), n_bins=st.integers(1, 6), bins=st.sampled_from(["width", "mass"]))
def test_calibration__as_a_slow_loop_in_fractions(case: Case, n_bins: int, bins: Literal["width", "mass"]) -> None:
    found = calibration(case.truth, case.p, case.weights, n_bins=n_bins, bins=bins)
    for r, label, truth, p, weight in case.each():
        whole = [Fraction(w) for w in weight]
        inside: dict[int, list[int]] = {}
        for i in range(len(p)):
            if bins == "width":
                place = next(k for k in range(n_bins) if p[i] <= (k + 1) / n_bins)
            else:
                lower = sum(w for w, q in zip(whole, p, strict=True) if q < p[i])
                same = sum(w for w, q in zip(whole, p, strict=True) if q == p[i])
                place = int((lower + same / 2) / sum(whole) * n_bins)
            inside.setdefault(place, []).append(i)
        gaps = {k: abs(np.average((truth - p)[rows], weights=weight[rows])) for k, rows in inside.items()}
        masses = {k: weight[rows].sum() for k, rows in inside.items()}
        assert {k: w for k, w in enumerate(found.weight[r, label]) if w} == masses
        expected = sum(gaps[k] * masses[k] for k in gaps) / weight.sum() if len(p) else math.nan
        assert found.expected_error[r, label] == pytest.approx(expected, abs=1e-9, nan_ok=True)
        expected = max(gaps.values(), default=math.nan)
        assert found.largest_error[r, label] == pytest.approx(expected, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("bins", ["width", "mass"])
def test_calibration__as_scikit_learn(bins: Literal["width", "mass"]) -> None:
    rng = np.random.default_rng(0)
    p = rng.permutation(np.linspace(0.001, 0.9987, 480))  # none on a border of twelve bins
    truth = (rng.random(480) < p**2).astype(float)
    strategy = {"width": "uniform", "mass": "quantile"}[bins]
    share, confidence = calibration_curve(truth, p, n_bins=12, strategy=strategy)
    found = calibration(truth[:, None], p[:, None], n_bins=12, bins=bins)
    np.testing.assert_allclose(found.share[0], share, atol=1e-9)
    np.testing.assert_allclose(found.confidence[0], confidence, atol=1e-9)


def test_calibration__of_a_calibrated_method_is_small() -> None:
    rng = np.random.default_rng(0)
    p = rng.random((200_000, 1))
    truth = (rng.random(p.shape) < p).astype(float)
    assert calibration(truth, p).expected_error[0] < 0.005
    assert calibration(truth, p**2).expected_error[0] > 0.1


@pytest.mark.parametrize("bins", ["width", "mass"])
def test_bin_places__are_those_of_calibration(bins: Literal["width", "mass"]) -> None:
    rng = np.random.default_rng(0)
    for p in (rng.random(57), rng.random(200).round(1), np.full(5, 0.3), np.array([0.0, 1.0])):
        truth = (rng.random(len(p)) < 0.5).astype(float)
        found = calibration(truth[:, None], p[:, None], bins=bins, n_bins=7)
        place = bin_places(p, 7, bins)
        np.testing.assert_array_equal(np.bincount(place, minlength=7), found.weight[0])
        for own in np.unique(place):
            assert p[place == own].mean() == pytest.approx(found.confidence[0, own])
    assert len(bin_places(np.zeros(0), 7, bins)) == 0
