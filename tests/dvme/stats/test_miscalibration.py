from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from dvme.metrics.calibration import bin_places, calibration
from dvme.stats import miscalibration
from dvme.stats.miscalibration import Gaps, mean_loss

N = 240


def _drawn(rng: np.random.Generator, n: int, shift: float = 0.0) -> tuple[NDArray[Any], list[NDArray[Any]]]:
    """Truth, and probabilities of two heads that are off by so much."""
    p = rng.choice([0.05, 0.25, 0.45, 0.75], size=(2, n))
    truth = (rng.random(n) < p[0] - shift).astype(float)
    return truth, [p[0], p[0]]


@pytest.mark.parametrize("bins", ["width", "mass"])
def test_gaps__errors_are_the_metrics_mean_over_heads(bins: Literal["width", "mass"]) -> None:
    rng = np.random.default_rng(0)
    truth = (rng.random(N) < 0.3).astype(float)
    folds = [rng.random(N), np.round(rng.random(N), 1), np.full(N, 0.2)]
    gaps = Gaps.of(truth, folds, bins=bins)
    each = [calibration(truth[:, None], p[:, None], bins=bins) for p in folds]
    expected, largest = gaps.errors()
    assert expected == pytest.approx(np.mean([one.expected_error for one in each]), abs=1e-12)
    assert largest == pytest.approx(np.mean([one.largest_error for one in each]), abs=1e-12)
    np.testing.assert_allclose(gaps.weight, [one.weight[0] / N for one in each], atol=1e-12)
    np.testing.assert_allclose(gaps.confidence, [one.confidence[0] for one in each], atol=1e-12)
    assert [interval.estimate for interval in gaps.intervals()] == pytest.approx([expected, largest])


def test_gaps__one_bin_is_a_mean_with_its_normal_interval() -> None:
    """All probabilities alike: the expected error is the distance of one share, up to the side that chance adds."""
    truth = (np.arange(400) < 240).astype(float)
    (found, largest) = Gaps.of(truth, [np.full(400, 0.32)]).intervals()
    error = stats.norm.ppf(0.975) * math.sqrt(0.6 * 0.4 / 399)
    assert found.estimate == largest.estimate == pytest.approx(0.28)
    assert found.high == pytest.approx(0.28 + error, abs=0.005)  # of 1,000 draws
    folded = stats.foldnorm.ppf(0.975, 0) * math.sqrt(0.6 * 0.4 / 399)
    assert found.low == pytest.approx(0.28 - folded, abs=0.005)


def test_gaps__an_image_alone_in_its_bin_says_little() -> None:
    truth, p = np.r_[np.zeros(50), np.ones(1)], np.r_[np.full(50, 0.02), 0.55]
    _, largest = Gaps.of(truth, [p]).intervals()
    assert largest.estimate == pytest.approx(0.45)
    assert largest.low == 0.0
    assert largest.high == 1.0


def test_gaps__patients_that_agree_count_once() -> None:
    rng = np.random.default_rng(1)
    truth, folds = _drawn(rng, 200, 0.04)
    alone = Gaps.of(truth, folds).intervals()[0]
    patients = np.repeat(np.arange(200), 4)
    together = Gaps.of(np.repeat(truth, 4), [np.repeat(p, 4) for p in folds], patients).intervals()[0]
    assert (together.low, together.high) == pytest.approx((alone.low, alone.high), abs=0.004)
    apart = Gaps.of(np.repeat(truth, 4), [np.repeat(p, 4) for p in folds]).intervals()[0]
    assert apart.high - apart.low < 0.7 * (together.high - together.low)


def test_gaps__too_few_units() -> None:
    one, other = Gaps.of(np.array([1.0, 0.0]), [np.array([0.4, 0.6])]).intervals()
    assert all(map(math.isnan, (one.low, one.high, other.low, other.high)))


@pytest.mark.parametrize("shift", [0.0, 0.04])
def test_gaps__intervals_cover_also_where_nothing_is_wrong(shift: float) -> None:
    rng, hits = np.random.default_rng(2), []
    for _ in range(150):
        found = Gaps.of(*_drawn(rng, 300, shift)).intervals()
        hits.append([each.low <= shift <= each.high for each in found])
    assert (np.mean(hits, axis=0) >= 0.92).all()


def test_mean_loss__is_a_t_interval() -> None:
    losses = np.random.default_rng(0).gamma(2.0, size=(60, 1))
    found = mean_loss(losses)
    low, high = stats.t.interval(0.95, 59, losses.mean(), stats.sem(losses[:, 0]))
    assert (found.estimate, found.low, found.high) == pytest.approx((losses.mean(), low, high))
    assert mean_loss(np.r_[np.zeros((30, 1)), np.ones((1, 1))]).low == 0.0
    assert mean_loss(np.repeat(losses, 3, axis=1)) == pytest.approx(found)  # type: ignore[arg-type]


def test_mean_loss__patients_that_agree_count_once() -> None:
    losses = np.random.default_rng(0).random((40, 2))
    alone, together = mean_loss(losses), mean_loss(np.repeat(losses, 2, axis=0), np.repeat(np.arange(40), 2))
    assert (together.low, together.high) == pytest.approx((alone.low, alone.high))


@pytest.mark.parametrize("is_grouped", [False, True])
def test_gaps__products_some_units_at_a_time(monkeypatch: pytest.MonkeyPatch, is_grouped: bool) -> None:
    """Against a table of units by bins."""
    rng = np.random.default_rng(2)
    truth, folds = (rng.random(N) < 0.4).astype(float), [rng.random(N), rng.random(N)]
    groups = rng.integers(0, 50, N) if is_grouped else None
    unit = np.arange(N) if groups is None else np.unique(groups, return_inverse=True)[1]
    table = np.zeros((unit.max() + 1, 20))
    gaps = Gaps.of(truth, folds, groups)
    for head, p in enumerate(folds):
        place = bin_places(p)
        own = (truth - p - gaps.gap[head, place]) / np.bincount(place, minlength=10)[place]
        np.add.at(table, (unit, 10 * head + place), own)
    whole = gaps.intervals()
    np.testing.assert_allclose(gaps._products(), table.T @ table, atol=1e-15)
    monkeypatch.setattr(miscalibration, "VALUES_AT_ONCE", 140)
    np.testing.assert_allclose(gaps._products(), table.T @ table, atol=1e-15)
    for some, all_of_them in zip(gaps.intervals(), whole, strict=True):
        assert (some.low, some.high) == pytest.approx((all_of_them.low, all_of_them.high), abs=1e-9)
