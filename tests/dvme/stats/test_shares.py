from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import stdtrit

from dvme.metrics.calibration import wilson
from dvme.metrics.decisions import decide
from dvme.stats.intervals import Interval
from dvme.stats.shares import combined, share, share_left_out


def _by_inversion(holds: int, n: int) -> tuple[float, float]:
    """Wilson's interval as what it is: the shares that the score test, here with t, does not refuse."""
    seen, quantile = holds / n, stdtrit(n - 1, 0.975)
    variance_of_one = n / (n - 1)  # the unbiased variance, as of a study's other scores
    beyond = lambda p: (seen - p) ** 2 - quantile**2 * p * (1 - p) / n * variance_of_one  # noqa: E731
    return brentq(beyond, 1e-12, seen), brentq(beyond, seen, 1 - 1e-12)


@pytest.mark.parametrize(("holds", "n"), [(3, 10), (17, 40), (99, 120)])
def test_share__of_one_head_is_wilsons(holds: int, n: int) -> None:
    found = share((np.arange(n) < holds)[:, None])
    assert found.estimate == pytest.approx(holds / n)
    assert (found.low, found.high) == pytest.approx(_by_inversion(holds, n), abs=1e-9)


def test_share__patients_that_agree_count_once() -> None:
    """Every image three times, as of patients with three: the interval is that of the patients."""
    once = np.arange(30) < 9
    alone, together = share(once[:, None]), share(np.repeat(once, 3)[:, None], np.repeat(np.arange(30), 3))
    assert (together.low, together.high) == pytest.approx((alone.low, alone.high), abs=1e-9)
    apart = share(np.repeat(once, 3)[:, None])
    assert apart.high - apart.low < 0.7 * (together.high - together.low)


def test_share__heads_that_are_one_are_one() -> None:
    holds = (np.arange(25) % 3 == 0)[:, None]
    assert share(np.repeat(holds, 4, axis=1)) == share(holds)


def test_share__of_nothing_and_of_too_few() -> None:
    nothing = share(np.zeros((0, 2), dtype=bool))
    assert all(map(math.isnan, (nothing.estimate, nothing.low, nothing.high)))
    two = share(np.array([[True], [False]]))
    assert (two.estimate, math.isnan(two.low), math.isnan(two.high)) == (0.5, True, True)
    grouped = share(np.array([[True]] * 4), np.array([0, 0, 1, 1]))
    assert (grouped.estimate, math.isnan(grouped.low)) == (1.0, True)


def test_share__where_nobody_differs_it_is_no_point() -> None:
    all_of_them = share(np.ones((20, 3), dtype=bool))
    assert (all_of_them.estimate, all_of_them.high) == (1.0, 1.0)
    assert all_of_them.low == pytest.approx(1 / (1 + stdtrit(19, 0.975) ** 2 / 20))  # Wilson's, of 20 of 20


def test_share_left_out__turns_the_ends() -> None:
    found = share_left_out(Interval(0.7, 0.5, 0.8))
    assert (found.estimate, found.low, found.high) == pytest.approx((0.3, 0.2, 0.5))


def test_combined__is_newcombes_difference_of_two_shares() -> None:
    """56/70 less 48/80, by method 10 of Newcombe 1998, table II: 0.0524 to 0.3339. The other share is 1 less 48/80."""
    (low, other_low), (high, other_high) = wilson(np.array([0.8, 0.6]), np.array([70.0, 80.0]))
    one, other = Interval(0.8, low, high), Interval(0.4, 1.0 - other_high, 1.0 - other_low)
    found = combined(lambda a, b: (a + b) / 2.0, one, other)
    assert (2 * found.low - 1, 2 * found.high - 1) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_combined__without_ends_there_are_none() -> None:
    nan = float("nan")
    found = combined(lambda a, b: a * b, Interval(0.5, nan, nan), Interval(0.5, 0.4, 0.6))
    assert (found.estimate, math.isnan(found.low), math.isnan(found.high)) == (0.25, True, True)


def _gaussian(rng: np.random.Generator, patients: NDArray[Any] | None, n: int, n_heads: int) -> NDArray[np.float64]:
    """(n, J) scores of images, of which half of the noise is the patient's and part of the rest the heads' own."""
    image = rng.normal(size=n)
    if patients is not None:
        image = np.sqrt(0.5) * image + np.sqrt(0.5) * rng.normal(size=patients.max() + 1)[patients]
    return np.sqrt(0.8) * image[:, None] + np.sqrt(0.2) * rng.normal(size=(n, n_heads))


@pytest.mark.parametrize("are_grouped", [False, True])
def test_share__covers(are_grouped: bool) -> None:
    """A sensitivity of 0.69 on 80 positives; the long form is in the benchmarks."""
    rng, hits = np.random.default_rng(3), []
    for _ in range(600):
        patients = np.repeat(np.arange(80), rng.integers(1, 5, 80))[:80] if are_grouped else None
        found = share(_gaussian(rng, patients, 80, 4) < 0.5, patients)
        hits.append(found.low <= 0.6914624612740131 <= found.high)
    assert 0.925 <= np.mean(hits) <= 0.98


def test_share__agrees_with_the_metrics() -> None:
    rng = np.random.default_rng(0)
    truth, scores = (rng.random((50, 1)) < 0.4).astype(float), rng.normal(size=(50, 1))
    counted = decide(truth, scores, 0.2)
    yes = scores > 0.2
    assert share(yes[truth[:, 0] == 1]).estimate == pytest.approx(counted.sensitivity[0])
    assert share(~yes[truth[:, 0] == 0]).estimate == pytest.approx(counted.specificity[0])
