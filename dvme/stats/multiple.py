"""Many comparisons at once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dvme.stats.intervals import Comparison

ALPHA = 0.05
"""Below it an adjusted p value is called a difference."""


def holm(p_values: ArrayLike) -> NDArray[Any]:
    """Adjusted p values: those below 0.05 are together wrong at most once in twenty families, however they depend.

    Args:
        p_values: (K,) of one family; nan, where no test could be made, stays nan and does not count.

    Returns:
        (K,) in the same order.

    Source: Holm 1979, in the adjusted form of Wright 1992.
    """
    values = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(values.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    steps = values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def times(p: float, n: int) -> float:
    """A p value adjusted for n comparisons by Bonferroni's inequality; nan stays nan."""
    return p if math.isnan(p) else min(1.0, n * p)


def gain_word(comparison: Comparison, p_adjusted: float) -> str:
    """What may be said of the first less the second: `gain`, `loss`, `no gain shown`, or `no test`."""
    if math.isnan(p_adjusted):
        return "no test"
    if p_adjusted >= ALPHA:
        return "no gain shown"
    return "gain" if comparison.difference.estimate > 0 else "loss"
