"""How large a difference is, in standard deviations."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike


def paired_effect(differences: ArrayLike) -> float:
    """Cohen's d_z of paired differences, corrected for few of them.

    Its unit is the standard deviation of the differences, so it grows with their correlation: two methods on the same
    folds may have a huge d_z and a tiny difference.

    Args:
        differences: (J,), J >= 3.

    Returns:
        0 where all differences are 0; nan where they are all equal otherwise, or fewer than three.

    Source: Cohen 1988, section 2.3.5; correction of Hedges 1981, equation 6e; Lakens 2013, equations 6 and 4.
    """
    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2:
        return float("nan")
    return _standardised(float(values.mean()), float(values.std(ddof=1)), len(values) - 1)


def independent_effect(one: ArrayLike, other: ArrayLike) -> float:
    """Hedges' g: the difference of two means by their pooled standard deviation, corrected for few values.

    Args:
        one: (J,).
        other: (K,), J + K >= 4.

    Returns:
        0 where all values are equal; nan where the values of either side do not vary otherwise, or are too few.

    Source: Hedges 1981, with the correction of equation 6e.
    """
    a, b = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    df = len(a) + len(b) - 2
    if df < 1 or not len(a) or not len(b):
        return float("nan")
    squares = float(((a - a.mean()) ** 2).sum() + ((b - b.mean()) ** 2).sum())
    return _standardised(float(a.mean() - b.mean()), math.sqrt(squares / df), df)


def _standardised(mean: float, deviation: float, df: int) -> float:
    if deviation <= 1e-12:
        return 0.0 if abs(mean) <= 1e-12 else float("nan")
    if df < 2:  # the exact correction exists from two degrees of freedom on; below, its limit is 0
        return float("nan")
    correction = math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2)
    return mean / deviation * correction
