"""Thresholds by trying every one."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled_cases import Case, cases

from dvme.errors import DataError, OptionError
from dvme.metrics.decisions import decide
from dvme.metrics.operating_points import thresholds_at_sensitivity, thresholds_at_specificity


def test_thresholds__by_hand() -> None:
    truth = np.array([[0.0], [0], [0], [0], [1], [1], [1]])
    p = np.array([[0.1], [0.2], [0.3], [0.6], [0.25], [0.5], [0.9]])
    # three of four negatives at or below 0.3; two of three positives above
    assert thresholds_at_specificity(truth, p, 0.75).tolist() == [0.3]
    assert thresholds_at_specificity(truth, p, 0.76).tolist() == [0.6]
    # all positives are above 0.2, two of three above 0.3
    assert thresholds_at_sensitivity(truth, p, 1.0).tolist() == [0.2]
    assert thresholds_at_sensitivity(truth, p, 0.6).tolist() == [0.3]
    # the negative at 0.6 counts six times: of nine, three are at or below 0.3
    assert thresholds_at_specificity(truth, p, 0.75, np.array([1, 1, 1, 6, 1, 1, 1])).tolist() == [0.6]


TARGETS = st.integers(1, 100).map(lambda percent: percent / 100)


def _exact(target: float, weights: np.ndarray) -> Fraction:  # type: ignore[type-arg]
    return Fraction(round(target * 100), 100) * Fraction(weights.sum())


@settings(max_examples=200, deadline=None)
@given(case=cases(are_whole=True), target=TARGETS)
def test_thresholds__are_the_best_of_all_that_reach_the_target(case: Case, target: float) -> None:
    weight = case.weights[0]
    specific = thresholds_at_specificity(case.truth, case.p, target, weight)
    sensitive = thresholds_at_sensitivity(case.truth, case.p, target, weight)
    for _, label, truth, p, counts in case.each()[: case.truth.shape[1]]:
        tried = np.r_[-1.0, np.unique(p), 2.0]
        yes, no = counts * (truth == 1), counts * (truth == 0)
        if no.any():
            reach = [t for t in tried if Fraction((no * (p <= t)).sum()) >= _exact(target, no)]
            t = specific[label]
            assert Fraction((no * (p <= t)).sum()) >= _exact(target, no)
            assert (yes * (p > t)).sum() == max((yes * (p > each)).sum() for each in reach)
            assert t in p
        else:
            assert np.isnan(specific[label])
        if yes.any():
            reach = [t for t in tried if Fraction((yes * (p > t)).sum()) >= _exact(target, yes)]
            t = sensitive[label]
            assert Fraction((yes * (p > t)).sum()) >= _exact(target, yes)
            assert (no * (p <= t)).sum() == max((no * (p <= each)).sum() for each in reach)
            assert t in p or t == np.nextafter(p.min(), -np.inf)
        else:
            assert np.isnan(sensitive[label])


def test_thresholds__every_share_of_a_hundred_is_reached_as_written() -> None:
    """0.55 of 100 images are 55, though no float is 0.55."""
    p = np.arange(100.0)[:, None] / 100
    for percent in range(1, 101):
        assert thresholds_at_specificity(np.zeros((100, 1)), p, percent / 100)[0] == p[percent - 1, 0]
        found = decide(np.ones((100, 1)), p, thresholds_at_sensitivity(np.ones((100, 1)), p, percent / 100))
        assert found.true_positives.tolist() == [percent]


def test_thresholds__chosen_here_and_used_elsewhere() -> None:
    rng = np.random.default_rng(0)
    truth = (rng.random((4_000, 2)) < 0.3).astype(float)
    p = 1 / (1 + np.exp(-(rng.normal(size=truth.shape) + 1.5 * truth)))
    half = slice(0, 2_000), slice(2_000, None)
    chosen = thresholds_at_specificity(truth[half[0]], p[half[0]], 0.9)
    assert (decide(truth[half[0]], p[half[0]], chosen).specificity >= 0.9).all()
    assert decide(truth[half[1]], p[half[1]], chosen).specificity == pytest.approx([0.9, 0.9], abs=0.03)


@pytest.mark.parametrize("target", [0.0, 1.1, np.nan])
def test_thresholds__refuse(target: float) -> None:
    truth, p = np.array([[0.0], [1.0]]), np.array([[0.2], [0.8]])
    with pytest.raises(OptionError, match="cannot be asked for"):
        thresholds_at_specificity(truth, p, target)
    with pytest.raises(DataError, match="under one weighting"):
        thresholds_at_sensitivity(truth, p, 0.5, np.ones((2, 2)))
