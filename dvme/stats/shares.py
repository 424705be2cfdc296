"""Intervals of shares of images, such as a sensitivity, and of what follows from two of them, such as an F1."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.stats.influence import Scored
from dvme.stats.intervals import LEVEL, Interval
from dvme.stats.t_comparison import wilson
from dvme.stats.units import Units
from dvme_cache.deferred import deferred

special = deferred("scipy.special")

MOST_GAINED = 2.0
"""By a mean over heads, as a factor on the number of images."""


def share(holds: NDArray[Any], groups: NDArray[Any] | None = None, *, level: float = LEVEL) -> Interval:
    """The part of the images of which something holds, mean over the heads, on other images of the kind.

    Wilson's interval with the number of images that has the same variance. A mean over heads varies less than one head,
    as if there were more images: MOST_GAINED times as many count at most. Without that bound, intervals of high shares
    with 30 images or patients covered 89 per cent; with a bound of 1, of most shares 98 to 100 per cent.

    Args:
        holds: (N, J) of 0 and 1, a column for each head.
        groups: (N,) patients; None: every image is a unit of its own.
        level: of the interval.

    Returns:
        nan ends with fewer than FEWEST units, and a nan estimate without images.

    Source: Wilson 1927; Korn and Graubard 1998 for the effective number.
    """
    nan = float("nan")
    if not len(holds):
        return Interval(nan, nan, nan)
    n_images, n_heads = holds.shape
    values = np.asarray(holds, dtype=np.float64).mean(axis=1, keepdims=True)
    mean = values.mean(axis=0)
    found = scored_share(mean, (values - mean) / n_images, groups)
    if math.isnan(found.test_variance):
        return Interval(found.estimate, nan, nan)
    quantile = float(special.stdtrit(found.test_df, (1.0 + level) / 2.0))
    most = (n_images * min(n_heads, MOST_GAINED), float(found.units.n))
    return Interval(found.estimate, *wilson(found.estimate, found.test_variance, most, quantile))


def scored_share(values: NDArray[Any], parts: NDArray[Any], groups: NDArray[Any] | None = None) -> Scored:
    """A score in [0, 1] of J heads, of images that are all of one kind.

    Args:
        values: (J,).
        parts: (N, J) what each image contributes, to first order; they sum to 0.
        groups: as of `share`.
    """
    units = Units(np.zeros(len(parts), dtype=np.int64), groups)
    return Scored("accuracy", values, units.sums(parts), units)


def share_left_out(one: Interval) -> Interval:
    """1 less a share, such as the part of the positives that is missed."""
    return Interval(1.0 - one.estimate, 1.0 - one.high, 1.0 - one.low)


def combined(value: Callable[[float, float], float], one: Interval, other: Interval) -> Interval:
    """What follows from two shares that rise and fall independently, and that itself rises with both.

    Each share moves it by itself, to the end of its own interval; the two distances are squared and added. Of patients
    with images on both sides the two shares depend on each other. A patient whose images all score high is good for
    the one and bad for the other, so that the interval is too wide there rather than too narrow.

    Args:
        value: of the two shares, within [0, 1]; nan where it is not defined.
        one: such as a sensitivity.
        other: such as a specificity.

    Returns:
        nan ends where a share has none, or the value is not defined.

    Source: Zou and Donner 2008; Newcombe 2011 for functions of two shares.
    """
    middle = value(one.estimate, other.estimate)
    lower = math.hypot(middle - value(one.low, other.estimate), middle - value(one.estimate, other.low))
    higher = math.hypot(value(one.high, other.estimate) - middle, value(one.estimate, other.high) - middle)
    if math.isnan(lower + higher):
        return Interval(middle, float("nan"), float("nan"))
    return Interval(middle, max(0.0, middle - lower), min(1.0, middle + higher))
