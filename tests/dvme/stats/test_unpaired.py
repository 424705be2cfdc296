from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri
from scipy.stats import t

from dvme.stats.influence import Scored, scored
from dvme.stats.intervals import Interval
from dvme.stats.units import Units
from dvme.stats.unpaired import LEAST_P, Unpaired, drop, weighted_sum


def _answers(labels: np.ndarray, is_right: np.ndarray) -> np.ndarray:
    return np.eye(2)[np.where(is_right, labels, 1 - labels)]


def _accuracy(n_right: int, n: int) -> Scored:
    labels = np.arange(n) % 2
    return scored(labels, [_answers(labels, np.arange(n) < n_right)], Units(labels), ["accuracy"])["accuracy"]


def _auc(
    rng: np.random.Generator, counts: tuple[int, int], area: float, patients: np.ndarray | None = None, n_heads: int = 1
) -> Scored:
    labels = np.repeat([0, 1], counts)
    noise = rng.normal(size=len(labels))
    if patients is not None:
        noise = np.sqrt(0.5) * (noise + rng.normal(size=int(patients.max()) + 1)[patients])
    values = noise + np.sqrt(2) * ndtri(area) * labels
    heads = [values + 0.3 * rng.normal(size=len(labels)) for _ in range(n_heads)] if n_heads > 1 else [values]
    return scored(labels, [np.stack([-v, v], axis=1) for v in heads], Units(labels, patients), ["auc"])["auc"]


def test_drop__of_two_shares_is_newcombes() -> None:
    """His example of method 10: 56 of 70 less 48 of 80 is 0.2, from 0.0524 to 0.3339; here quantiles are of t."""
    found = drop(_accuracy(56, 70), _accuracy(48, 80)).difference
    assert found.estimate == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=0.006)


def test_drop__of_large_test_sets_is_z() -> None:
    rng = np.random.default_rng(0)
    one, other = _auc(rng, (3000, 3000), 0.75), _auc(rng, (3000, 3000), 0.74)
    found = drop(one, other)
    error = np.sqrt(one.test_covariance[0, 0] + other.test_covariance[0, 0])
    assert found.p == pytest.approx(2 * ndtr(-abs(found.difference.estimate) / error), rel=0.02)
    assert found.difference.high - found.difference.low == pytest.approx(2 * 1.96 * error, rel=0.01)


@pytest.mark.parametrize("shared_rows", [0.0, 0.5])
def test_drop__the_luck_of_heads_is_added_with_few_degrees_of_freedom(shared_rows: float) -> None:
    """Differences 0.1 off their mean: S^2 is 0.01, and S^2 / J + S^2 o / (1 - o) is added; parts are all but 0."""
    units = Units(np.repeat([0, 1], 40))
    parts = np.repeat(np.tile([[1e-9], [-1e-9]], (40, 1)), 3, axis=1)
    one = Scored("auc", np.array([0.7, 0.8, 0.9]), parts, units)
    other = Scored("auc", np.array([0.5, 0.5, 0.5]), parts, units)
    plain, wider = drop(one, other).difference, drop(one, other, shared_rows=shared_rows).difference
    added = t.ppf(0.975, 2) ** 2 * (0.01 / 3 + 0.01 * shared_rows / (1 - shared_rows))
    assert (wider.estimate - max(wider.low, -1.0)) ** 2 == pytest.approx((plain.estimate - plain.low) ** 2 + added)


def test_drop__luck_that_both_sites_share_cancels() -> None:
    units, parts = Units(np.repeat([0, 1], 40)), np.zeros((80, 3))
    one, other = (Scored("auc", np.array([0.7, 0.8, 0.9]) - less, parts, units) for less in (0.0, 0.2))
    assert drop(one, other, shared_rows=0.5).difference == drop(one, other).difference


def test_drop__without_any_error_has_an_interval() -> None:
    found = drop(_accuracy(30, 30), _accuracy(40, 40))
    assert found.p == 1.0
    assert -0.2 < found.difference.low < -0.05
    assert 0.05 < found.difference.high < 0.2


@pytest.mark.parametrize("side", [0, 1])
def test_drop__needs_a_few_units_of_every_class_at_both_sites(side: int) -> None:
    rng = np.random.default_rng(0)
    both = [_auc(rng, (20, 20), 0.8), _auc(rng, (20, 20), 0.8)]
    both[side] = _auc(rng, (20, 2), 0.8)
    for found in (drop(*both), drop(*both, shared_rows=0.2)):
        assert np.isnan([found.difference.low, found.difference.high, found.p]).all()
        assert np.isfinite(found.difference.estimate)


def test_drop__is_of_one_metric_and_the_same_heads() -> None:
    rng = np.random.default_rng(0)
    one, two = _auc(rng, (20, 20), 0.8), _auc(rng, (20, 20), 0.8, n_heads=2)
    with pytest.raises(ValueError, match="one is auc, the other accuracy"):
        drop(one, _accuracy(5, 9))
    with pytest.raises(ValueError, match="one has 1 heads, the other 2; pass the same heads"):
        drop(one, two)
    with pytest.raises(ValueError, match="it must be from 0 to below 1"):
        drop(two, two, shared_rows=1.0)


@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(3, 12), st.integers(3, 12)),
    st.integers(1, 3),
    st.sampled_from(["auc", "accuracy", "balanced_accuracy", "kappa"]),
    st.sampled_from([None, 0.0, 0.7]),
)
def test_drop__interval_and_p_agree(
    seed: int, counts: tuple[int, int], n_heads: int, metric: str, shared_rows: float | None
) -> None:
    rng = np.random.default_rng(seed)
    both = []
    for signal in (2.0, 0.5):
        labels = np.repeat([0, 1], counts)
        heads = [
            np.round(signal * np.eye(2)[labels] + rng.normal(size=(len(labels), 2)), int(rng.integers(0, 3)))
            for _ in range(n_heads)
        ]
        both.append(scored(labels, heads, Units(labels), [metric])[metric])
    if np.isnan([both[0].estimate, both[1].estimate]).any():
        return
    reach = 2.0 if metric == "kappa" else 1.0
    found, reverse = (Unpaired(*pair, shared_rows) for pair in (both, both[::-1]))
    before = found.interval(0.5)
    for level in (0.8, 0.95, 0.999):
        interval, turned = found.interval(level), reverse.interval(level)
        assert -reach <= interval.low <= before.low <= found.estimate <= before.high <= interval.high <= reach
        assert (interval.low, interval.high) == pytest.approx((-turned.high, -turned.low))
        if abs(found.p - (1 - level)) > 1e-6:
            assert (found.p < 1 - level) == (not interval.includes_zero)
        before = interval
    assert LEAST_P <= found.p == pytest.approx(reverse.p)


@pytest.mark.parametrize(
    ("counts", "areas", "is_grouped"),
    [(((60, 60), (60, 60)), (0.85, 0.75), False), (((80, 40), (200, 60)), (0.92, 0.85), False),
     (((120, 60), (120, 60)), (0.85, 0.8), True)],
)  # fmt: skip
def test_drop__covers(counts: tuple[tuple[int, int], ...], areas: tuple[float, float], is_grouped: bool) -> None:
    """Two normal distributions have the AUC that was asked for; patients have three images of one class."""
    rng, n_covered, n = np.random.default_rng(1), 0, 400
    for _ in range(n):
        sides = [
            _auc(rng, some, area, np.arange(sum(some)) // 3 if is_grouped else None)
            for some, area in zip(counts, areas, strict=True)
        ]
        interval = drop(*sides).difference
        n_covered += interval.low <= areas[0] - areas[1] <= interval.high
    error = np.sqrt(0.95 * 0.05 / n)
    assert 0.93 - error <= n_covered / n <= 0.97 + error


def test_weighted_sum__by_hand() -> None:
    """3 and 4 hundredths below, weighted alike, are 5 halves below; above they are 6 and 8."""
    found = weighted_sum([Interval(0.8, 0.77, 0.86), Interval(0.6, 0.56, 0.68)], [0.5, 0.5])
    assert (found.estimate, found.low, found.high) == pytest.approx((0.7, 0.675, 0.75))
    alone = weighted_sum([Interval(0.8, 0.77, 0.86)], [1.0])
    assert (alone.estimate, alone.low, alone.high) == pytest.approx((0.8, 0.77, 0.86))
    nothing = weighted_sum([Interval(0.8, 0.77, 0.86), Interval(0.6, float("nan"), float("nan"))], [0.5, 0.5])
    assert nothing.estimate == pytest.approx(0.7)
    assert np.isnan([nothing.low, nothing.high]).all()
    with pytest.raises(ValueError, match="there are 1 scores and 2 weights"):
        weighted_sum([Interval(0.8, 0.77, 0.86)], [0.5, 0.5])


def test_weighted_sum__covers() -> None:
    """0.7 of an accuracy of 0.95 on 60 images, and 0.3 of one of 0.6 on 40."""
    rng, n_covered, n = np.random.default_rng(2), 0, 400
    for _ in range(n):
        one, other = (_accuracy(int(rng.binomial(m, p)), m).interval() for m, p in ((60, 0.95), (40, 0.6)))
        found = weighted_sum([one, other], [0.7, 0.3])
        n_covered += found.low <= 0.7 * 0.95 + 0.3 * 0.6 <= found.high
    assert abs(n_covered / n - 0.95) <= 0.02 + np.sqrt(0.95 * 0.05 / n)
