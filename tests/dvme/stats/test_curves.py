from __future__ import annotations

import numpy as np
import pytest
from sklearn.isotonic import isotonic_regression

from dvme.stats import Amount, crossing, labels_needed, labels_saved, monotone

SIZES = [10, 100, 1000]


def test_monotone__worked_by_hand() -> None:
    np.testing.assert_allclose(monotone([1.0, 3.0, 2.0, 4.0]), [1.0, 2.5, 2.5, 4.0])
    np.testing.assert_allclose(monotone([1.0, 3.0, 2.0], [1, 3, 1]), [1.0, 2.75, 2.75])


@pytest.mark.parametrize("seed", range(3))
def test_monotone__same_as_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, weights = rng.normal(size=(40, 8)) + 0.3 * np.arange(8), rng.uniform(0.1, 3.0, 8)
    peers = [isotonic_regression(row, sample_weight=weights) for row in scores]
    np.testing.assert_allclose(monotone(scores, weights), peers)
    np.testing.assert_allclose(monotone(scores[0]), isotonic_regression(scores[0]))


def test_monotone__an_undefined_score_leaves_no_curve() -> None:
    found = monotone([[1.0, np.nan], [2.0, 1.0]])
    assert np.isnan(found[0]).all()
    np.testing.assert_allclose(found[1], [1.5, 1.5])


def test_labels_needed__straight_in_the_logarithm() -> None:
    found = labels_needed(SIZES, [0.5, 0.6, 0.8], [0.7])
    np.testing.assert_allclose(found.n, [10**2.5])
    np.testing.assert_allclose(labels_needed(SIZES, [0.5, 0.6, 0.8], 0.525).n, [10**1.25])


def test_labels_needed__at_a_size_before_the_first_and_beyond_the_last() -> None:
    curves = np.tile([0.5, 0.6, 0.8], (5, 1))
    found = labels_needed(SIZES, curves, [0.6, 0.5, 0.4, 0.8, 0.81])
    np.testing.assert_allclose(found.n, [100, 10, 10, 1000, np.inf])
    assert found.is_at_most.tolist() == [False, True, True, False, False]


def test_labels_needed__on_the_monotone_curve() -> None:
    """0.7, 0.5 become 0.6, 0.6: the first size is not enough for 0.65."""
    np.testing.assert_allclose(labels_needed(SIZES, [0.7, 0.5, 0.7], 0.65).n, [10**2.5])
    np.testing.assert_allclose(labels_needed(SIZES, [0.5, 0.7, 0.7], 0.7).n, [100])  # a plateau: its beginning


def test_labels_needed__undefined() -> None:
    found = labels_needed(SIZES, [[0.5, np.nan, 0.7], [0.5, 0.6, 0.7]], [0.6, np.nan])
    assert np.isnan(found.n).all()


def test_labels_needed__refuses_what_is_no_curve() -> None:
    with pytest.raises(ValueError, match="must increase"):
        labels_needed([10, 10], [0.5, 0.6], 0.5)
    with pytest.raises(ValueError, match="curves have 2 scores, and there are 3 sizes"):
        labels_needed(SIZES, [0.5, 0.6], 0.5)


def test_labels_saved__worked_by_hand() -> None:
    """The fusion has at 10 labels what the baseline has at 100; resampled, at 100 again, never, or at once."""
    fusion, baseline = np.array([0.6, 0.7, 0.8]), np.array([0.5, 0.6, 0.7])
    ours = np.stack([fusion] * 4)
    theirs = np.stack([baseline, baseline - 0.2, baseline, baseline + 0.2])
    found = labels_saved(SIZES, fusion, baseline, size=10, resampled_fusion=ours, resampled_baseline=theirs)
    assert found.estimate.relation == "="
    assert found.estimate.value == pytest.approx(90)
    assert found.low == Amount(0.0, "<=")
    assert found.high == Amount(990.0, ">=")
    half = labels_saved(SIZES, fusion, baseline, size=10, resampled_fusion=ours, resampled_baseline=theirs, level=0.4)
    assert (half.low.value, half.high.value) == (pytest.approx(90), pytest.approx(90))


def test_labels_saved__beyond_the_sweep_is_a_bound() -> None:
    found = labels_saved(
        SIZES,
        [0.6, 0.7, 0.8],
        [0.5, 0.6, 0.7],
        size=1000,
        resampled_fusion=[[0.6, 0.7, 0.8]] * 9,
        resampled_baseline=[[0.5, 0.6, 0.7]] * 9,
    )
    assert found.estimate == found.low == found.high == Amount(0.0, ">=")


def test_labels_saved__of_the_same_method_is_nothing() -> None:
    curves = np.cumsum(np.random.default_rng(0).uniform(0.01, 0.1, (50, 3)), axis=1)
    found = labels_saved(SIZES, curves[0], curves[0], size=100, resampled_fusion=curves, resampled_baseline=curves)
    for amount in (found.estimate, found.low, found.high):
        assert amount.relation == "="
        assert amount.value == pytest.approx(0.0, abs=1e-9)


def test_labels_saved__undefined_resamples_are_passed_over() -> None:
    curve, gone = [0.5, 0.6, 0.7], [np.nan] * 3
    found = labels_saved(
        SIZES, curve, curve, size=100, resampled_fusion=[curve, gone], resampled_baseline=[curve, curve]
    )
    assert found.low.value == found.high.value == pytest.approx(0.0, abs=1e-9)
    none = labels_saved(SIZES, curve, curve, size=100, resampled_fusion=[gone], resampled_baseline=[curve])
    assert np.isnan(none.low.value)
    assert none.estimate.relation == "="


def test_labels_saved__a_size_of_the_sweep() -> None:
    with pytest.raises(ValueError, match=r"size is 50, and the sweep has \[10.0, 100.0, 1000.0\]"):
        labels_saved(SIZES, [1, 2, 3], [1, 2, 3], size=50, resampled_fusion=[[1, 2, 3]], resampled_baseline=[[1, 2, 3]])


def test_crossing__worked_by_hand() -> None:
    """Half way between 10 and 100 in logs; resampled, at once and never as well."""
    gaps = [-0.1, 0.1, 0.2]
    found = crossing(SIZES, gaps, resampled=[gaps, [0.0, 0.1, 0.2], [-0.3, -0.2, -0.1], gaps])
    assert (found.estimate.relation, found.estimate.value) == ("=", pytest.approx(10**1.5))
    assert found.low == Amount(10.0, "<=")
    assert found.high == Amount(1000.0, ">=")
    half = crossing(SIZES, gaps, resampled=[gaps] * 9 + [[np.nan] * 3])
    assert half.low.value == half.high.value == pytest.approx(10**1.5)
    assert np.isnan(crossing(SIZES, gaps, resampled=[[np.nan] * 3]).low.value)


def test_crossing__the_interval_covers() -> None:
    """Gaps that rise by 0.05 with each tenfold and are 0 at 60 labels; noise of which neighbours share a half."""
    true = 0.05 * (np.log10(SIZES) - np.log10(60.0))
    covariance = 0.02**2 * np.array([[1.0, 0.5, 0.25], [0.5, 1.0, 0.5], [0.25, 0.5, 1.0]])
    rng = np.random.default_rng(0)
    n_covered = 0
    for _ in range(400):
        own = rng.multivariate_normal(true, covariance)
        found = crossing(SIZES, own, resampled=rng.multivariate_normal(own, covariance, 500))
        low = -np.inf if found.low.relation == "<=" else found.low.value
        high = np.inf if found.high.relation == ">=" else found.high.value
        n_covered += low <= 60.0 <= high
    assert n_covered / 400 >= 0.93
