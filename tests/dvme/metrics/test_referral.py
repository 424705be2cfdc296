"""Referral by hand, and by loops that replace probabilities and repeat images."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled_cases import Case, cases
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from dvme.errors import DataError, OptionError
from dvme.metrics.ranking import auc, average_precision
from dvme.metrics.referral import (
    FRACTIONS,
    collaborative_auc,
    cumulative_oracle_auc,
    image_confidence,
    oracle_auc,
    referred,
    risk_coverage,
    risk_coverage_area,
)

CLOSE = 1e-9
TRUTH = np.array([[1.0], [0], [1], [0]])
P = np.array([[0.9], [0.6], [0.45], [0.2]])
"""Least sure are the third, at 0.05 from a half, and the second, at 0.1."""


def test_image_confidence__by_hand() -> None:
    assert image_confidence(np.array([[0.9, 0.5], [0.1, 0.2]])) == pytest.approx([0.2, 0.35])


def test_oracle_auc__by_hand() -> None:
    """Without help the third of the positives loses one of four pairs; with its truth, 1, all are won."""
    found = oracle_auc(TRUTH, P, fractions=(0.0, 0.24, 0.25, 1.0))
    assert found[:, 0].tolist() == [3 / 4, 3 / 4, 1.0, 1.0]
    # The image that is least sure counts three times. Of six, a third is referred: two of its three copies.
    found = oracle_auc(TRUTH, P, np.array([1, 1, 3, 1]), fractions=(0.0, 1 / 3))
    assert found[:, 0] == pytest.approx([1 - 3 / 8, 1 - 1 / 8])


def test_oracle_auc__an_image_is_referred_whole_and_by_all_its_labels() -> None:
    """The first image is unsure of one label, but sure of it on average: the second is referred, and wrong in both."""
    truth = np.array([[1.0, 1], [1, 0], [0, 1], [0, 0]])
    p = np.array([[0.5, 0.99], [0.4, 0.4], [0.45, 0.0], [0.01, 0.3]])
    before, after = oracle_auc(truth, p, fractions=(0.0, 0.25))
    replaced = p.copy()
    replaced[1] = truth[1]  # confidences are 0.245, 0.1, 0.275, 0.345
    assert before == pytest.approx(auc(truth, p))
    assert after == pytest.approx(auc(truth, replaced))
    assert (after != before).all()


def _replaced(truth: NDArray[np.float64], p: NDArray[np.float64], *, is_cumulative: bool) -> list[NDArray[np.float64]]:
    """Probabilities at every fraction, by the published loop or by the definition."""
    found, current, is_referred = [], p.copy(), np.zeros(len(p), dtype=bool)
    for fraction in FRACTIONS:
        if not is_cumulative:
            current, is_referred = p.copy(), np.zeros(len(p), dtype=bool)
        order = np.lexsort((is_referred, np.abs(current - 0.5).mean(axis=1)))  # of equals those not yet referred
        lowest = order[: math.floor(round(len(p) * fraction, 6))]
        current[lowest] = np.nan_to_num(truth[lowest])
        is_referred[lowest] = True
        found.append(current.copy())
    return found


@pytest.mark.parametrize("is_cumulative", [False, True])
@settings(max_examples=30, deadline=None)
@given(case=cases(are_whole=True))
def test_oracle_auc__as_replacing_in_repeated_images(case: Case, is_cumulative: bool) -> None:
    function = cumulative_oracle_auc if is_cumulative else oracle_auc
    found = function(case.truth, case.p, case.weights)
    for r, weight in enumerate(case.weights):
        rows = np.repeat(np.arange(len(weight)), weight.astype(int))
        truth, p = case.truth[rows], case.p[rows]
        for place, replaced in enumerate(_replaced(truth, p, is_cumulative=is_cumulative)):
            for label in range(truth.shape[1]):
                known = ~np.isnan(truth[:, label])
                expected = np.nan
                if len(np.unique(truth[known, label])) == 2:
                    expected = roc_auc_score(truth[known, label], replaced[known, label])
                assert found[r, place, label] == pytest.approx(expected, abs=CLOSE, nan_ok=True)


def test_cumulative_oracle_auc__refers_as_much_as_the_published_tables() -> None:
    """Of their 202 images 0, 10, 30, 60, 100 and 150: 0, 5, 15, 30, 49.5 and 74.3 per cent."""
    rng = np.random.default_rng(0)
    truth = (rng.random((202, 5)) < 0.3).astype(float)
    p = rng.uniform(0.01, 0.99, truth.shape)
    referred = tuple(count / 202 + 1e-6 for count in (0, 10, 30, 60, 100, 150))
    np.testing.assert_array_equal(cumulative_oracle_auc(truth, p), oracle_auc(truth, p, fractions=referred))


def test_oracle_auc__a_share_that_no_float_is() -> None:
    """0.29 of 100 images are 29."""
    rng = np.random.default_rng(0)
    truth, p = rng.integers(0, 2, (100, 1)), rng.random((100, 1))
    few, enough = oracle_auc(truth, p, fractions=(0.28, 0.29))
    assert enough != few
    assert enough == oracle_auc(truth, p, fractions=(0.295,))[0]


def test_collaborative_auc__by_hand() -> None:
    """Thresholds 0, 0.25, 0.5, 0.75, 1; one image of four is decided rightly at each of the inner three.

    At 0.25 it is the one at 0.2, which is right already: 2 of 2 and 1 of 2. At 0.5 it is the one at 0.45: 2 of 2
    and 1 of 2. At 0.75 the nearest, 0.9 and 0.6, are 0.15 away, and right already: 1 of 2 and 0 of 2.
    """
    # From (1, 1) to (0.5, 1), there again, (0, 0.5), (0, 0).
    expected = 0.5 * 1 + 0.5 * (1 + 0.5) / 2
    assert collaborative_auc(TRUTH, P, 0.25, n_thresholds=5) == pytest.approx([expected])
    # Nothing referred: (1, 1), (0.5, 1), (0.5, 0.5), (0, 0.5), (0, 0).
    assert collaborative_auc(TRUTH, P, 0.0, n_thresholds=5) == pytest.approx([0.5 * 1 + 0.5 * 0.5])
    assert collaborative_auc(TRUTH, P, 1.0, n_thresholds=5) == pytest.approx([1.0])


@settings(max_examples=25, deadline=None)
@given(case=cases(are_whole=True), fraction=st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_collaborative_auc__as_counting_in_bins(case: Case, fraction: float) -> None:
    found = collaborative_auc(case.truth, case.p, fraction, case.weights[0], n_thresholds=9, n_bins=20)
    for _, label, truth, p, weight in case.each()[: case.truth.shape[1]]:
        if len(np.unique(truth)) < 2:
            assert np.isnan(found[label])
            continue
        images = [(t, q) for t, q, w in zip(truth, p, weight, strict=True) for _ in range(int(w))]
        points = [(1.0, 1.0)]
        for threshold in [k / 8 for k in range(1, 8)]:
            left, true, false = math.floor(len(images) * fraction), 0.0, 0.0
            for place in range(20):
                inside = [(t, q) for t, q in images if min(int(abs(q - threshold) * 20), 19) == place]
                asked = min(left, len(inside)) / max(len(inside), 1)
                left -= min(left, len(inside))
                for t, q in inside:
                    yes = asked * t + (1 - asked) * (q > threshold)
                    true, false = true + yes * t, false + yes * (1 - t)
            points.append((false / sum(1 - t for t, _ in images), true / sum(t for t, _ in images)))
        points.append((0.0, 0.0))
        area = sum((a[0] - b[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(points))
        assert found[label] == pytest.approx(area, abs=CLOSE)


def test_three_oracle_aucs__differ() -> None:
    rng = np.random.default_rng(0)
    truth = (rng.random((400, 3)) < 0.3).astype(float)
    p = 1 / (1 + np.exp(-(rng.normal(size=truth.shape) + truth - 0.5)))
    stated, published = oracle_auc(truth, p)[-1].mean(), cumulative_oracle_auc(truth, p)[-1].mean()
    nearest = collaborative_auc(truth, p, 0.25).mean()
    assert auc(truth, p).mean() < stated < min(published, nearest)
    assert abs(published - nearest) > 0.001


def test_risk_coverage__by_hand() -> None:
    """The surest is right; of the two that are next one is wrong; the last is wrong."""
    losses, confidences = np.array([1.0, 0, 0, 1, np.nan]), np.array([0.1, 0.9, 0.5, 0.5, 1.0])
    found = risk_coverage(losses, confidences)
    assert found.coverage == pytest.approx([1 / 4, 3 / 4, 1])
    assert found.risk == pytest.approx([0, 1 / 3, 2 / 4])
    assert found.area == pytest.approx(1 / 4 * 0 + 2 / 4 * 1 / 3 + 1 / 4 * 2 / 4)
    weighted = risk_coverage(losses, confidences, np.array([2, 0, 1, 0, 1]))
    assert weighted.coverage == pytest.approx([1 / 3, 1])
    assert weighted.risk == pytest.approx([0, 2 / 3])


def test_risk_coverage_area__without_ties_is_the_mean_of_risks() -> None:
    rng = np.random.default_rng(0)
    losses, confidences = rng.random(50), rng.permutation(50).astype(float)
    ordered = losses[np.argsort(-confidences)]
    expected = np.mean([ordered[: k + 1].mean() for k in range(50)])
    assert risk_coverage_area(losses, confidences) == pytest.approx(expected, abs=CLOSE)


@settings(max_examples=40, deadline=None)
@given(case=cases())
def test_risk_coverage_area__as_average_precision_of_mistakes(case: Case) -> None:
    """The risk at a mistake is the precision of mistakes there; at a right decision 1 - the precision of those."""
    losses = np.where(np.isnan(case.truth), np.nan, (case.truth == 1) != (case.p > 0.5))
    confidences = np.abs(case.p - 0.5)
    found = risk_coverage_area(losses, confidences, case.weights)
    of_mistakes = average_precision(losses, confidences, case.weights)
    of_right = average_precision(1.0 - losses, confidences, case.weights)
    for r, label, _, _, weight in case.each():
        rows = ~np.isnan(losses[:, label]) & (case.weights[r] > 0)
        wrong, total = (weight * losses[rows, label]).sum(), weight.sum()
        if not rows.any():
            assert np.isnan(found[r, label])
            continue
        expected = wrong * np.nan_to_num(of_mistakes[r, label])
        expected += (total - wrong) * (1.0 - np.nan_to_num(of_right[r, label], nan=1.0))
        assert found[r, label] == pytest.approx(expected / total, abs=CLOSE)
        curve = risk_coverage(losses[:, label], confidences[:, label], case.weights[r])
        steps = np.diff(curve.coverage, prepend=0.0)
        assert curve.area == pytest.approx((steps * curve.risk).sum(), abs=CLOSE)
        assert curve.coverage[-1] == 1.0


def test_risk_coverage__of_no_image() -> None:
    found = risk_coverage(np.array([np.nan, 1.0]), np.array([0.5, 0.5]), np.array([1, 0]))
    assert found.coverage.tolist() == []
    assert np.isnan(found.area)


def test_referral__refuses() -> None:
    with pytest.raises(OptionError, match=r"fractions of referred images lie from 0 to 1, not 0\.1, 1\.5"):
        oracle_auc(TRUTH, P, fractions=(0.1, 1.5))
    with pytest.raises(OptionError, match=r"not -0\.1"):
        collaborative_auc(TRUTH, P, -0.1)
    with pytest.raises(DataError, match="of one weighting"):
        collaborative_auc(TRUTH, P, 0.1, np.ones((2, 4)))
    with pytest.raises(DataError, match="of one weighting"):
        risk_coverage(np.ones(3), np.ones(3), np.ones((2, 3)))
    with pytest.raises(DataError, match=r"losses are \(3,\) and confidences \(2,\)"):
        risk_coverage_area(np.ones(3), np.ones(2))
    with pytest.raises(DataError, match="a confidence is nan"):
        risk_coverage_area(np.ones(2), np.array([0.5, np.nan]))


def test_referred__are_those_whose_truth_the_oracle_told() -> None:
    """Told by hand they give the metric, and rounding leaves them as many as it does there."""
    rng = np.random.default_rng(0)
    truth, p = (rng.random((37, 3)) < 0.4).astype(float), rng.random((37, 3)).round(1)
    for is_cumulative, metric in ((False, oracle_auc), (True, cumulative_oracle_auc)):
        masks = referred(p, is_cumulative=is_cumulative)
        told = [auc(truth, np.where(mask[:, None], truth, p)) for mask in masks]
        np.testing.assert_allclose(metric(truth, p), told, atol=1e-12)
        assert masks.sum(axis=1).tolist() == ([0, 1, 4, 9, 16, 25] if is_cumulative else [0, 1, 3, 5, 7, 9])
    with pytest.raises(OptionError, match=r"fractions of referred images lie from 0 to 1, not 1\.2"):
        referred(p, (1.2,))
