from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap, norm

from dvme.stats.intervals import (
    Interval,
    acceleration,
    bca_interval,
    bca_p_value,
    jackknife_covariance,
    percentile_interval,
)

STEPS = np.arange(1001) / 1000
"""The quantile at p is p."""


def test_interval__includes_zero() -> None:
    assert Interval(0.1, -0.1, 0.3).includes_zero
    assert not Interval(0.2, 0.1, 0.3).includes_zero


def test_percentile_interval__hand_worked_and_undefined() -> None:
    interval = percentile_interval(0.5, np.r_[np.linspace(0, 1, 101), np.nan])
    assert (interval.low, interval.high) == (pytest.approx(0.025), pytest.approx(0.975))
    assert np.isnan(percentile_interval(0.5, np.array([np.nan])).low)


def test_bca_interval__worked_by_hand() -> None:
    """Bias z0 = Phi^-1(0.6); ends at Phi(z0 + (z0 + z) / (1 - a (z0 + z)))."""
    a, z0 = 0.1, norm.ppf(0.6)
    expected = [norm.cdf(z0 + (z0 + z) / (1 - a * (z0 + z))) for z in norm.ppf([0.05, 0.95])]
    interval = bca_interval(0.6, STEPS, a, level=0.9)
    assert (interval.low, interval.high) == pytest.approx(expected, abs=1e-3)
    plain = bca_interval(0.5, STEPS, level=0.9)
    assert (plain.low, plain.high) == pytest.approx((0.05, 0.95))


def test_bca_interval__same_as_scipy_in_one_sample_and_in_two() -> None:
    rng = np.random.default_rng(0)
    one, two = rng.exponential(size=40), rng.exponential(size=25) + 0.5
    draws = [rng.integers(0, len(x), (30_000, len(x))) for x in (one, two)]

    def skewed(x: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.log((x**2).mean(axis))

    for samples, indices in (((one,), draws[:1]), ((one, two), draws)):
        sign = [1.0, -1.0]
        resampled = sum(s * skewed(x[i]) for s, x, i in zip(sign, samples, indices, strict=False))
        full = [skewed(x) for x in samples]
        left_out, strata = [], []
        for k, x in enumerate(samples):
            for i in range(len(x)):
                parts = [skewed(np.delete(x, i)) if m == k else full[m] for m in range(len(samples))]
                left_out.append(sum(s * part for s, part in zip(sign, parts, strict=False)))
                strata.append(k)
        estimate = sum(s * part for s, part in zip(sign, full, strict=False))
        ours = bca_interval(float(estimate), resampled, acceleration(np.array(left_out), np.array(strata)))

        def gap(*arrays: np.ndarray, axis: int = -1) -> np.ndarray:
            return sum(s * skewed(x, axis) for s, x in zip([1.0, -1.0], arrays, strict=False))

        peer = bootstrap(samples, gap, method="BCa", n_resamples=30_000, rng=1, vectorized=True)
        spread = resampled.std()
        assert ours.low == pytest.approx(peer.confidence_interval.low, abs=0.12 * spread)
        assert ours.high == pytest.approx(peer.confidence_interval.high, abs=0.12 * spread)
        # The corrections matter here: the percentile interval is further off than that noise.
        assert abs(percentile_interval(0.0, resampled).low - peer.confidence_interval.low) > 0.12 * spread


@pytest.mark.parametrize("resampled", [np.ones(50), np.full(50, 1.0 - 1e-16), np.r_[np.ones(49), 1.0 - 1e-16]])
def test_intervals__equal_resamples_say_nothing_of_other_samples(resampled: np.ndarray) -> None:
    for interval in (bca_interval(1.0, resampled, 3.0), percentile_interval(1.0, resampled)):
        assert interval.estimate == 1.0
        assert np.isnan([interval.low, interval.high]).all()


def test_bca_interval__undefined_resamples_are_passed_over() -> None:
    gappy = np.r_[STEPS, [np.nan] * 100]
    assert bca_interval(0.4, gappy, 0.1) == bca_interval(0.4, STEPS, 0.1)
    assert np.isnan(bca_interval(0.4, np.array([np.nan]), 0.1).low)
    assert np.isnan(bca_interval(0.4, np.empty(0), 0.1).high)


@pytest.mark.parametrize("estimate", [-0.1, 1.1])
def test_bca_interval__no_bias_can_be_told_from_one_side(estimate: float) -> None:
    assert bca_interval(estimate, STEPS, 0.1) == percentile_interval(estimate, STEPS)


@pytest.mark.parametrize("speed", [-3.0, 3.0])
def test_bca_interval__past_the_pole_an_end_is_the_last_resample(speed: float) -> None:
    interval = bca_interval(0.5, STEPS, speed)
    assert (interval.high == 1.0) if speed > 0 else (interval.low == 0.0)
    assert interval.low <= interval.high


@pytest.mark.parametrize("speed", [-0.2, 0.0, 0.2])
@pytest.mark.parametrize("estimate", [0.35, 0.5, 0.65])
def test_bca_p_value__is_where_the_interval_comes_to_touch_zero(speed: float, estimate: float) -> None:
    values = STEPS - 0.15
    p = bca_p_value(estimate - 0.15, values, speed)
    wide, narrow = (bca_interval(estimate - 0.15, values, speed, level=1 - p * factor) for factor in (0.999, 1.001))
    assert wide.includes_zero
    assert not narrow.includes_zero


@settings(max_examples=200, deadline=None)
@given(
    counts=st.lists(st.integers(-4, 8), min_size=40, max_size=60),
    speed=st.floats(-0.3, 0.3),
    estimate=st.integers(-4, 8),
    level=st.sampled_from([0.5, 0.8, 0.9]),
)
def test_bca_p_value__never_contradicts_the_interval(
    counts: list[int], speed: float, estimate: int, level: float
) -> None:
    """Also with many equal values, 0 among them, and with an estimate beyond all of them."""
    values = np.array(counts) / 8
    interval = bca_interval(estimate / 8, values, speed, level=level)
    p = bca_p_value(estimate / 8, values, speed)
    if np.ptp(values) > 0 and abs(p - (1 - level)) > 1e-9:
        assert (p < 1 - level) == (not interval.includes_zero)


def test_bca_p_value__extremes() -> None:
    assert bca_p_value(0.0, np.zeros(99)) == 1.0
    assert bca_p_value(0.5, np.full(99, 0.5)) == pytest.approx(2 / 100)  # no finer than the resamples
    assert bca_p_value(0.6, STEPS + 0.1) == pytest.approx(2 / 1002)
    assert bca_p_value(0.0, STEPS - 0.5) == pytest.approx(1.0)
    assert np.isnan(bca_p_value(0.1, np.array([np.nan])))
    assert bca_p_value(0.9, STEPS - 0.05, -9.0) <= 1.0


def test_acceleration__of_a_mean_is_its_skewness() -> None:
    """a = skewness / (6 sqrt(n)) for the mean of one sample; Efron 1987."""
    values = np.array([0.0, 0.0, 0.0, 0.0, 10.0])
    left_out = (values.sum() - values) / 4
    centred = values - 2.0
    expected = (centred**3).sum() / (6 * (centred**2).sum() ** 1.5)
    assert acceleration(left_out, np.zeros(5)) == pytest.approx(expected)
    assert acceleration(np.r_[left_out, np.nan], np.zeros(6)) == pytest.approx(expected)
    assert acceleration(np.ones(5), np.zeros(5)) == 0.0
    assert acceleration(np.empty(0), np.empty(0)) == 0.0


def test_jackknife_covariance__of_means_is_the_sample_covariance_by_n() -> None:
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(20, 3)), rng.normal(size=(30, 3)) * 2
    left_out = [np.r_[(x.sum(0) - x) / (len(x) - 1)] for x in (one, two)]
    strata = np.repeat([0, 1], [20, 30])
    expected = np.cov(one.T) / 20 + np.cov(two.T) / 30
    np.testing.assert_allclose(jackknife_covariance(np.concatenate(left_out), strata), expected)
    assert np.isnan(jackknife_covariance(np.empty((0, 2)), np.empty(0))).all()
