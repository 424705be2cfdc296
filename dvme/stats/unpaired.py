"""Scores of the same heads on different images: drops, weighted sums, and what `subgroups` needs.

A difference on the same images is of each image with itself, see `influence`; here every side has images of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.stats.crossed import crossed_variance
from dvme.stats.influence import Scored
from dvme.stats.intervals import LEVEL, ROUNDING, Comparison, Interval
from dvme_cache.deferred import deferred

special, optimize = deferred("scipy.special"), deferred("scipy.optimize")

LEAST_P = 1e-12
"""No p value is given as smaller."""


@dataclass(frozen=True)
class Unpaired:
    """A score less another one, of the same J heads on other images.

    The interval is put together from those of the two scores, square and add, so that it is good where a score is near
    1, and is given where a score has no variance. Each side keeps the quantile of its own degrees of freedom: with one
    of the sum's, subgroups of which the smallest has 10 images of a class are told apart too often. The heads' luck,
    where it is asked for, is paired: it is in the spread of the J differences, with J - 1 degrees of freedom.

    Source: Newcombe 1998, method 10; Zou and Donner 2008 for other scores than shares, and for correlated ones.
    """

    one: Scored
    other: Scored
    shared_rows: float | None = None
    """Of two heads' training rows, see `crossed`: heads of other training rows are meant; None: these very heads."""
    cross: NDArray[Any] | None = None
    """(J, J) covariance over test sets of the one's heads with the other's; None: nothing in common."""

    def __post_init__(self) -> None:
        """Refuse what is no difference.

        Raises:
            ValueError: if the two are not of one metric and the same number of heads, or shared_rows is outside [0, 1).
        """
        if self.one.metric != self.other.metric:
            raise ValueError(f"one is {self.one.metric}, the other {self.other.metric}; a difference is of one metric")
        n_one, n_other = len(self.one.folds), len(self.other.folds)
        if n_one != n_other:
            raise ValueError(f"one has {n_one} heads, the other {n_other}; pass the same heads on both sides")
        if self.shared_rows is not None and not 0.0 <= self.shared_rows < 1.0:
            raise ValueError(f"folds share {self.shared_rows:.3g} of their training rows; it must be from 0 to below 1")

    @cached_property
    def estimate(self) -> float:
        """Mean over the heads."""
        return self.one.estimate - self.other.estimate

    @cached_property
    def training_variance(self) -> float:
        """What other training rows add to the variance of the mean; 0 for these very heads, and where it is one."""
        differences = self.one.folds - self.other.folds
        if self.shared_rows is None or len(differences) < 2:
            return 0.0
        both = self.one.test_covariance + self.other.test_covariance
        if self.cross is not None:
            both = both - self.cross - self.cross.T
        variance, *_ = crossed_variance(differences, both, self.shared_rows)
        return max(variance - float(both.mean()), 0.0)

    @cached_property
    def correlation(self) -> float:
        """Of the two scores over test sets."""
        if self.cross is None:
            return 0.0
        scale = math.sqrt(self.one.test_variance * self.other.test_variance)
        return float(np.clip(float(self.cross.mean()) / scale, -1.0, 1.0)) if scale > ROUNDING**2 else 0.0

    def interval(self, level: float = LEVEL) -> Interval:
        """Within the differences that are possible; nan where a score has no interval."""
        one, other = self.one.interval(level), self.other.interval(level)
        luck = 0.0
        if self.training_variance > 0.0:
            quantile = float(special.stdtrit(len(self.one.folds) - 1.0, (1.0 + level) / 2.0))
            luck = quantile**2 * self.training_variance
        most = 1.0
        if self.one.metric == "kappa" or self.one.is_difference:
            most = self.one.most + self.other.most

        def margin(first: float, second: float) -> float:
            return math.sqrt(max(first**2 + second**2 - 2.0 * self.correlation * first * second, 0.0) + luck)

        low = self.estimate - margin(one.estimate - one.low, other.high - other.estimate)
        high = self.estimate + margin(one.high - one.estimate, other.estimate - other.low)
        if math.isnan(low) or math.isnan(high):
            return Interval(self.estimate, float("nan"), float("nan"))
        return Interval(self.estimate, max(low, -most), min(high, most))

    @cached_property
    def p(self) -> float:
        """Two-sided, of no difference: one less the level at which the interval comes to touch 0; nan without one."""
        ends = self.interval()
        if math.isnan(ends.low):
            return float("nan")
        if abs(self.estimate) <= ROUNDING:
            return 1.0

        def beyond(log_p: float) -> float:
            found = self.interval(-math.expm1(log_p))
            return found.low if self.estimate > 0 else -found.high

        least, most = math.log(LEAST_P), -ROUNDING
        if beyond(least) > 0.0:
            return LEAST_P
        return math.exp(float(optimize.brentq(beyond, least, most, xtol=1e-10))) if beyond(most) > 0.0 else 1.0

    def comparison(self, level: float = LEVEL) -> Comparison:
        """With the interval and p; statistic and degrees of freedom are nan, as there are two of them."""
        return Comparison(self.interval(level), self.p, float("nan"), float("nan"))


def drop(internal: Scored, external: Scored, *, shared_rows: float | None = None, level: float = LEVEL) -> Comparison:
    """How much lower the same heads score on another test set, of which no image or patient is in the first.

    Args:
        internal: J heads on the one test set.
        external: the same heads, in the same order, on the other.
        shared_rows: of two heads' training rows, from `overlap`: the drop is that of the method, on average over
            training sets; None: that of these very heads.
        level: of the interval.

    Returns:
        Internal less external: above 0 the other test set is harder. nan where a class of either has too few units.
        With one head there is no telling the luck of training, and the drop is that of this head.

    Raises:
        ValueError: see `Unpaired`.

    Source: Newcombe 1998; Zou and Donner 2008; see `crossed` for the luck of training.
    """
    return Unpaired(internal, external, shared_rows).comparison(level)


def weighted_sum(scores: Sequence[Interval], weights: Sequence[float]) -> Interval:
    """A weighted sum of scores on test sets that have no image or patient in common.

    Put together from their intervals, square and add; nan where one of them has none.

    Args:
        scores: of the same heads, each with its interval.
        weights: one for each, above 0.

    Raises:
        ValueError: if there are not as many of both.

    Source: Zou and Donner 2008 for two; Zou, Huang and Zhang 2009 for linear functions of several.
    """
    if len(scores) != len(weights):
        raise ValueError(f"there are {len(scores)} scores and {len(weights)} weights; pass one for each")
    total = math.fsum(weight * each.estimate for each, weight in zip(scores, weights, strict=True))
    low, high = (
        math.hypot(*(weight * (end - each.estimate) for each, weight, end in zip(scores, weights, ends, strict=True)))
        for ends in ([each.low for each in scores], [each.high for each in scores])
    )
    return Interval(total, total - low, total + high)
