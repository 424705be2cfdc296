from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dvme.stats import crossed, overlap
from dvme.stats.crossed import compared
from dvme.stats.influence import Scored, scored
from dvme.stats.units import Units

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
    """Obuchowski and Rockette: F = J mean^2 / (S^2 + J k); k = 4e-4, S^2 = 5.3e-4. Hillis squares the shares in df."""
    found = crossed(GAPS, np.full((5, 5), 4e-4) + 1e-4 * np.eye(5), 0.0)
    statistic = 5 * 0.026**2 / (5.3e-4 + 5 * 4e-4)
    df = (5.3e-4 + 5 * 4e-4) / (5.3e-4 / 4)
    assert 4 < df < (5.3e-4 + 5 * 4e-4) ** 2 / (5.3e-4**2 / 4)
    assert (found.statistic**2, found.df) == pytest.approx((statistic, df))
    assert found.p == pytest.approx(stats.f.sf(statistic, 1, df))


def test_crossed__overlap_raises_the_part_of_training() -> None:
    """k = 4e-4, v - k = 1e-4, S^2 = 5.3e-4, c = 0.75 / 0.25 = 3: 4e-4 + 5.3e-4 / 5 + 3 (5.3e-4 - 1e-4)."""
    found = crossed(GAPS, np.full((5, 5), 4e-4) + 1e-4 * np.eye(5), 0.75)
    variance = 4e-4 + 1.06e-4 + 3 * 4.3e-4
    assert found.statistic == pytest.approx(0.026 / np.sqrt(variance))
    assert found.df == pytest.approx(4 * variance / (5.3e-4 * 3.2))
    margin = stats.t.ppf(0.975, found.df) * np.sqrt(variance)
    assert (found.difference.low, found.difference.high) == pytest.approx((0.026 - margin, 0.026 + margin))


def test_crossed__a_spread_of_test_noise_alone_is_not_raised() -> None:
    found = crossed(GAPS, np.full((5, 5), 4e-4) + 9e-4 * np.eye(5), 0.75)
    assert found.statistic == pytest.approx(0.026 / np.sqrt(4e-4 + 1.06e-4))
    assert found.df == pytest.approx(4 * 5.06e-4 / 1.06e-4)


def test_crossed__equal_folds_leave_the_test_images() -> None:
    found = crossed([0.02] * 3, np.full((3, 3), 1e-4), 0.5)
    assert found.p == pytest.approx(2 * stats.norm.sf(2.0))
    assert found.df == np.inf


def test_crossed__few_images_of_a_rare_class_cost_degrees_of_freedom() -> None:
    """As above, and k = 4e-4 of 9 degrees of freedom: V / (3.2 S^2 / 4 + k / 9)."""
    covariance = np.full((5, 5), 4e-4) + 1e-4 * np.eye(5)
    found = crossed(GAPS, covariance, 0.75, test_df=9.0)
    variance = 4e-4 + 1.06e-4 + 3 * 4.3e-4
    assert found.statistic == pytest.approx(0.026 / np.sqrt(variance))
    assert found.df == pytest.approx(variance / (3.2 * 5.3e-4 / 4 + 4e-4 / 9))
    assert found.p == pytest.approx(2 * stats.t.sf(found.statistic, found.df))
    still = crossed([0.02] * 3, np.full((3, 3), 1e-4), 0.5, test_df=9.0)
    assert (still.df, still.p) == pytest.approx((9, 2 * stats.t.sf(2.0, 9)))


def test_compared__of_one_fold_is_the_t_test_of_these_heads() -> None:
    """Both are right about every negative, so the positives decide."""
    labels = np.repeat([0, 1], [8, 12])
    is_right = np.ones((2, 20), dtype=bool)
    is_right[0, 8:10] = is_right[1, 9:15] = False
    heads = [np.eye(2)[np.where(right, labels, 1 - labels)] for right in is_right]
    one, other = (scored(labels, [head], Units(labels), ["balanced_accuracy"])["balanced_accuracy"] for head in heads)
    found, peer = compared(one - other, 0.5), stats.ttest_rel(*(1.0 * is_right[:, 8:]))
    assert (found.statistic, found.p, found.df) == pytest.approx((peer.statistic, peer.pvalue, 11))
    interval = peer.confidence_interval()  # of the recall, half of which is the balanced accuracy
    assert (found.difference.low, found.difference.high) == pytest.approx((interval.low / 2, interval.high / 2))
    assert compared(one - one, 0.5).p == 1.0


def test_compared__of_several_folds_is_the_crossed_test() -> None:
    parts = np.repeat([[0.01], [-0.01], [0.0], [0.02], [-0.02], [0.0]], 5, axis=1)
    gap = Scored("auc", GAPS, parts, Units(np.repeat([0, 1], 3)), is_difference=True)
    # Sums of squares 2e-4 and 8e-4, each by 3 / 2; of 2 degrees of freedom each.
    df = 2 * (2 + 8) ** 2 / (2**2 + 8**2)
    expected = crossed(GAPS, np.full((5, 5), 1.5e-3), 0.25, test_df=df)
    found = compared(gap, 0.25)
    assert (found.p, found.df) == pytest.approx((expected.p, expected.df))
    assert found.difference.low == pytest.approx(expected.difference.low)


@pytest.mark.parametrize(("metric", "most"), [("auc", 1.0), ("kappa", 2.0)])
@pytest.mark.parametrize("folds", [[0.9], [0.9, 0.1]])
def test_compared__ends_where_no_difference_can_be(metric: str, most: float, folds: list[float]) -> None:
    parts = np.repeat([[0.9], [-0.9], [0.0], [0.9], [-0.9], [0.0]], len(folds), axis=1)
    one, other = (Scored(metric, np.array(folds) * s, parts * s, Units(np.repeat([0, 1], 3))) for s in (1.0, -0.1))
    for found in (compared(one - other, 0.5).difference, (one - other).interval()):
        assert (found.low, found.high) == (-most, most)


def test_compared__equal_methods_with_a_rare_class_keep_the_level() -> None:
    """10 positives of 2,500, three folds. Leaving out blocks of images rejected in 21 per cent of such studies."""
    rng = np.random.default_rng(0)
    labels = (np.arange(2500) < 10).astype(int)
    units, n_studies = Units(labels), 150
    found, gaps, variances = [], [], []
    for _ in range(n_studies):
        signal, own = 1.5 * labels + rng.normal(size=2500), rng.normal(size=(2, 2500))
        skill = 1.0 + 0.3 * rng.normal(size=(2, 3, 1))  # the luck of a fold's training rows
        one, other = (
            scored(labels, [np.stack([-x, x], 1) for x in signal + skill[m] * own[m]], units, ["auc"])["auc"]
            for m in range(2)
        )
        gap = one - other
        found.append(compared(gap, 0.0).p)
        gaps.append(gap.estimate)
        variances.append(gap.test_covariance.mean())
    assert np.mean(np.array(found) < 0.05) <= 0.12
    assert np.mean(variances) == pytest.approx(np.var(gaps), rel=0.25)


def test_crossed__without_variance() -> None:
    same = crossed([0.0] * 3, np.zeros((3, 3)), 0.5)
    assert same.p == 1.0
    assert np.isnan([same.difference.low, same.difference.high]).all()
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


def test_crossed__small_p_values_are_no_more_frequent_than_they_should_be() -> None:
    """Half of the variance is training luck, of five folds without overlap. Squares of the shares gave 0.0021."""
    rng = np.random.default_rng(0)
    n_studies, n_tested = 20_000, 0
    test = rng.normal(size=n_studies)
    folds = np.sqrt(5) * rng.normal(size=(n_studies, 5)) + test[:, None]
    for gaps in folds:
        n_tested += crossed(gaps, np.ones((5, 5)), 0.0).p < 0.001
    assert n_tested <= (0.001 + 2 * np.sqrt(0.001 / n_studies)) * n_studies
