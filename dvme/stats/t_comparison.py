"""An estimate and its variance, judged by Student's t, by the normal distribution, or as a share."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.stats.intervals import ROUNDING, Comparison, Interval
from dvme_cache.deferred import deferred

special = deferred("scipy.special")


def compared_by_t(difference: float, variance: float, df: float, level: float) -> Comparison:
    """Two-sided test of no difference, and the interval.

    Args:
        difference: its estimate.
        variance: of the estimate.
        df: degrees of freedom of t; inf for the normal distribution.
        level: of the interval.

    Returns:
        Without variance there is no interval, for nothing says how sure it is; p is 1 where the difference is 0 too,
        else nan. With an undefined variance, or df below 1, everything but the estimate is nan.
    """
    nan = float("nan")
    if math.isnan(variance) or math.isnan(difference) or not df >= 1.0:
        return Comparison(Interval(difference, nan, nan), nan, nan, df)
    error = math.sqrt(variance)
    if error <= ROUNDING:
        is_zero = abs(difference) <= ROUNDING
        return Comparison(Interval(difference, nan, nan), 1.0 if is_zero else nan, 0.0 if is_zero else nan, df)
    statistic = difference / error
    tail = -abs(statistic)
    p = 2.0 * float(special.ndtr(tail) if math.isinf(df) else special.stdtr(df, tail))
    reach = (1.0 + level) / 2.0
    margin = error * float(special.ndtri(reach) if math.isinf(df) else special.stdtrit(df, reach))
    return Comparison(Interval(difference, difference - margin, difference + margin), p, statistic, df)


def satterthwaite(variances: NDArray[Any], counts: NDArray[Any]) -> float:
    """Degrees of freedom of a sum of variances, each of a mean of so many units.

    Args:
        variances: (C,), not all 0.
        counts: (C,) units.

    Source: Satterthwaite 1946.
    """
    return float(variances.sum()) ** 2 / float((variances**2 / np.maximum(counts - 1.0, 1.0)).sum())


def wilson(share: float, variance: float, most: tuple[float, float], quantile: float) -> tuple[float, float]:
    """Interval of a share whose variance is that of so many observations.

    Args:
        share: in [0, 1].
        variance: of the share.
        most: observations at most, and where there is no variance.
        quantile: of the reference distribution, above 0.

    Returns:
        Its ends, within [0, 1].

    Source: Wilson 1927; Korn and Graubard 1998 for the effective number.
    """
    own = share * (1.0 - share)
    n = min(own / variance, most[0]) if variance > ROUNDING**2 else most[1]
    squared = quantile**2 / n
    centre = (share + squared / 2.0) / (1.0 + squared)
    margin = float(np.sqrt(max(0.0, squared * (own + squared / 4.0)))) / (1.0 + squared)
    return max(0.0, centre - margin), min(1.0, centre + margin)
