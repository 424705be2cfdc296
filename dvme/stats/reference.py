"""A difference and its variance, judged by Student's t, or by the normal distribution."""

from __future__ import annotations

import math

from scipy.special import ndtr, ndtri, stdtr, stdtrit

from dvme.stats.intervals import ROUNDING, Comparison, Interval


def judge(difference: float, variance: float, df: float, level: float) -> Comparison:
    """Two-sided test of no difference, and the interval.

    Args:
        difference: its estimate.
        variance: of the estimate.
        df: degrees of freedom of t; inf for the normal distribution.
        level: of the interval.

    Returns:
        Without variance p is 1 where the difference is 0 too, else nan: nothing says how sure it is. With an undefined
        variance, or df below 1, everything but the estimate is nan.
    """
    nan = float("nan")
    if math.isnan(variance) or math.isnan(difference) or not df >= 1.0:
        return Comparison(Interval(difference, nan, nan), nan, nan, df)
    error = math.sqrt(variance)
    if error <= ROUNDING:
        is_zero = abs(difference) <= ROUNDING
        end = 0.0 if is_zero else nan
        return Comparison(Interval(difference, end, end), 1.0 if is_zero else nan, end, df)
    statistic = difference / error
    tail = -abs(statistic)
    p = 2.0 * float(ndtr(tail) if math.isinf(df) else stdtr(df, tail))
    reach = (1.0 + level) / 2.0
    margin = error * float(ndtri(reach) if math.isinf(df) else stdtrit(df, reach))
    return Comparison(Interval(difference, difference - margin, difference + margin), p, statistic, df)
