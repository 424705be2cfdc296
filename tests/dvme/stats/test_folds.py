from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dvme.stats import nadeau_bengio, two_sample_t, welch

GAPS = np.array([0.02, 0.05, -0.01, 0.03, 0.04])
ONE, OTHER = np.array([0.81, 0.84, 0.79, 0.86]), np.array([0.78, 0.70, 0.83, 0.74, 0.69, 0.80])


def test_nadeau_bengio__worked_by_hand() -> None:
    """Variance S^2 (1/5 + 1/4) for five folds, t of 4 degrees of freedom."""
    found = nadeau_bengio(GAPS, 80, 20)
    error = np.sqrt(GAPS.var(ddof=1) * (0.2 + 0.25))
    assert found.statistic == pytest.approx(GAPS.mean() / error)
    assert found.p == pytest.approx(2 * stats.t.sf(GAPS.mean() / error, 4))
    assert found.df == 4
    assert found.difference.high - GAPS.mean() == pytest.approx(stats.t.ppf(0.975, 4) * error)


def test_nadeau_bengio__tends_to_the_paired_t_test() -> None:
    peer = stats.ttest_rel(GAPS, np.zeros(5))
    found = nadeau_bengio(GAPS, 1e12, 1)
    assert (found.statistic, found.p) == pytest.approx((peer.statistic, peer.pvalue))
    interval = peer.confidence_interval(0.9)
    narrow = nadeau_bengio(GAPS, 1e12, 1, level=0.9).difference
    assert (narrow.low, narrow.high) == pytest.approx((interval.low, interval.high))


def test_nadeau_bengio__sizes_are_positive() -> None:
    with pytest.raises(ValueError, match="n_train is 0 and n_test 5"):
        nadeau_bengio(GAPS, 0, 5)


@pytest.mark.parametrize(("ours", "has_equal_variances"), [(welch, False), (two_sample_t, True)])
def test_independent_tests__same_as_scipy(ours: object, has_equal_variances: bool) -> None:
    assert callable(ours)
    peer = stats.ttest_ind(ONE, OTHER, equal_var=has_equal_variances)
    found = ours(ONE, OTHER)
    assert (found.statistic, found.p, found.df) == pytest.approx((peer.statistic, peer.pvalue, peer.df))
    interval = peer.confidence_interval()
    assert (found.difference.low, found.difference.high) == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_fold_tests__without_spread(value: float) -> None:
    """No difference at all: p is 1. There is no interval, for nothing tells how sure it is."""
    gaps, high, low = np.full(3, value), np.full(3, 0.5 + value), np.full(3, 0.5)
    for found in (nadeau_bengio(gaps, 4, 1), welch(high, low), two_sample_t(high, low)):
        assert found.difference.estimate == pytest.approx(value)
        assert found.p == 1.0 if value == 0.0 else np.isnan(found.p)
        assert np.isnan([found.difference.low, found.difference.high]).all()


def test_fold_tests__one_fold_tells_nothing() -> None:
    for found in (nadeau_bengio([0.1], 4, 1), welch([0.6], [0.5, 0.4]), two_sample_t([0.6], [0.5])):
        assert found.difference.estimate > 0.05
        assert np.isnan([found.p, found.statistic, found.difference.low, found.difference.high]).all()
    assert two_sample_t([0.6], [0.5, 0.4]).p == pytest.approx(stats.ttest_ind([0.6], [0.5, 0.4]).pvalue)
