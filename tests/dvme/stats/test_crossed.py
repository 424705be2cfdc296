from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dvme.stats import crossed, overlap

GAPS = np.array([0.02, 0.05, -0.01, 0.03, 0.04])


def test_overlap__worked_by_hand() -> None:
    folds = [np.setdiff1d(np.arange(50), np.arange(50)[j::5]) for j in range(5)]
    assert overlap(folds) == pytest.approx(0.75)
    assert overlap([np.arange(4), np.arange(4, 8)]) == 0.0
    assert overlap([np.arange(4), np.arange(4)]) == 1.0
    # Pairs: 2 / sqrt(4 x 4), 0, 1 / sqrt(4 x 4).
    assert overlap([np.arange(4), np.arange(2, 6), np.arange(5, 9)]) == pytest.approx((2 / 4 + 0 + 1 / 4) / 3)


def test_overlap__needs_two_folds() -> None:
    with pytest.raises(ValueError, match="there are 1"):
        overlap([np.arange(3)])


def test_crossed__without_overlap_and_test_noise_is_the_paired_t_test() -> None:
    peer = stats.ttest_rel(GAPS, np.zeros(5))
    found = crossed(GAPS, np.zeros((5, 5)), 0.0)
    assert (found.statistic, found.p, found.df) == pytest.approx((peer.statistic, peer.pvalue, 4))
    interval = peer.confidence_interval()
    assert (found.difference.low, found.difference.high) == pytest.approx((interval.low, interval.high))


def test_crossed__without_overlap_is_the_test_of_readers_and_cases() -> None:
    """Obuchowski and Rockette: F = J mean^2 / (S^2 + J k) with Hillis' degrees of freedom; k = 4e-4, S^2 = 5.3e-4."""
    found = crossed(GAPS, np.full((5, 5), 4e-4) + 1e-4 * np.eye(5), 0.0)
    statistic = 5 * 0.026**2 / (5.3e-4 + 5 * 4e-4)
    df = (5.3e-4 + 5 * 4e-4) ** 2 / (5.3e-4**2 / 4)
    assert (found.statistic**2, found.df) == pytest.approx((statistic, df))
    assert found.p == pytest.approx(stats.f.sf(statistic, 1, df))


def test_crossed__overlap_raises_the_part_of_training() -> None:
    """k = 4e-4, v - k = 1e-4, S^2 = 5.3e-4, c = 0.75 / 0.25 = 3: 4e-4 + 5.3e-4 / 5 + 3 (5.3e-4 - 1e-4)."""
    found = crossed(GAPS, np.full((5, 5), 4e-4) + 1e-4 * np.eye(5), 0.75)
    variance = 4e-4 + 1.06e-4 + 3 * 4.3e-4
    assert found.statistic == pytest.approx(0.026 / np.sqrt(variance))
    assert found.df == pytest.approx(4 * (variance / (5.3e-4 * 3.2)) ** 2)
    margin = stats.t.ppf(0.975, found.df) * np.sqrt(variance)
    assert (found.difference.low, found.difference.high) == pytest.approx((0.026 - margin, 0.026 + margin))


def test_crossed__a_spread_of_test_noise_alone_is_not_raised() -> None:
    found = crossed(GAPS, np.full((5, 5), 4e-4) + 9e-4 * np.eye(5), 0.75)
    assert found.statistic == pytest.approx(0.026 / np.sqrt(4e-4 + 1.06e-4))
    assert found.df == pytest.approx(4 * (5.06e-4 / 1.06e-4) ** 2)


def test_crossed__equal_folds_leave_the_test_images() -> None:
    found = crossed([0.02] * 3, np.full((3, 3), 1e-4), 0.5)
    assert found.p == pytest.approx(2 * stats.norm.sf(2.0))
    assert found.df == np.inf


def test_crossed__without_variance() -> None:
    assert crossed([0.0] * 3, np.zeros((3, 3)), 0.5).p == 1.0
    assert np.isnan(crossed([0.1] * 3, np.zeros((3, 3)), 0.5).p)
    assert np.isnan(crossed(GAPS, np.full((5, 5), np.nan), 0.5).p)


def test_crossed__shapes_agree() -> None:
    with pytest.raises(ValueError, match=r"is \(3, 3\), and there are 5 differences"):
        crossed(GAPS, np.zeros((3, 3)), 0.5)


def test_crossed__one_fold_tells_nothing() -> None:
    found = crossed([0.1], np.ones((1, 1)), 0.0)
    assert np.isnan([found.p, found.difference.low]).all()


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_crossed__folds_of_the_same_rows_tell_nothing(share: float) -> None:
    with pytest.raises(ValueError, match="of their training rows"):
        crossed(GAPS, np.zeros((5, 5)), share)
