"""Intervals from resampled values: percentile, and bias-corrected and accelerated (BCa)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme_cache.deferred import deferred

special = deferred("scipy.special")

LEVEL = 0.95
ROUNDING = 1e-12
"""Scores closer than this are equal: they lie in [-1, 1] and are sums in different orders."""


@dataclass(frozen=True)
class Interval:
    """An estimate and its interval."""

    estimate: float
    low: float
    """nan where the data allow no interval."""
    high: float

    @property
    def includes_zero(self) -> bool:
        """Whether no difference is among the plausible ones."""
        return self.low <= 0.0 <= self.high


@dataclass(frozen=True)
class Comparison:
    """Two methods compared: the first less the second."""

    difference: Interval
    p: float
    """Two-sided, of no difference; nan where the data allow no test."""
    statistic: float
    """t or z; nan for a bootstrap, which has none."""
    df: float
    """Degrees of freedom of t; inf for z and for a bootstrap."""


def percentile_interval(estimate: float, resampled: NDArray[Any], *, level: float = LEVEL) -> Interval:
    """The central part of the resampled values, 95 per cent of them by default; undefined ones are passed over.

    Where the resamples are all equal the ends are nan: they say nothing of other samples.

    Args:
        estimate: the value on the data themselves.
        resampled: (R,).
        level: 0 < level < 1.

    Source: Efron and Tibshirani 1993, section 13.3.
    """
    values = _defined(resampled)
    if not len(values) or np.ptp(values) <= ROUNDING:
        return Interval(estimate, float("nan"), float("nan"))
    low, high = np.quantile(values, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Interval(estimate, float(low), float(high))


def bca_interval(
    estimate: float, resampled: NDArray[Any], acceleration: float = 0.0, *, level: float = LEVEL
) -> Interval:
    """The percentile interval, moved for the resamples' median bias and for a spread that changes with the value.

    Resamples that are all equal, as of a perfect AUC, give none. Where all lie on one side of the estimate the
    bias has no estimate, and the percentile interval is returned.

    Args:
        estimate: the value on the data themselves.
        resampled: (R,); undefined ones (nan) are passed over, and without any other the ends are nan.
        acceleration: see `acceleration`; 0: bias correction only.
        level: 0 < level < 1.

    Source: Efron 1987; Davison and Hinkley 1997, section 5.3.2.
    """
    values = _defined(resampled)
    share = _share_below(values, estimate)
    if not len(values) or not 0.0 < share < 1.0 or np.ptp(values) <= ROUNDING:
        return percentile_interval(estimate, values, level=level)
    bias = float(special.ndtri(share))
    shares = []
    for tail in ((1.0 - level) / 2.0, (1.0 + level) / 2.0):
        shifted = bias + float(special.ndtri(tail))
        slope = 1.0 - acceleration * shifted
        # Past the pole the share has reached its limit, on the side of `shifted`.
        shares.append(float(special.ndtr(bias + shifted / slope)) if slope > 0 else float(shifted > 0))
    low, high = np.quantile(values, shares)
    return Interval(estimate, float(low), float(high))


def bca_p_value(estimate: float, resampled: NDArray[Any], acceleration: float = 0.0) -> float:
    """Two-sided p value of no difference: one less the level at which the BCa interval comes to touch 0.

    So p < 1 - level where, and only where, the interval leaves out 0. It is no smaller than the resamples can tell,
    2 / (R + 1); 1 where all of them are 0; nan where none is defined.

    Args:
        estimate: the difference on the data themselves.
        resampled: (R,) resampled differences; undefined ones (nan) are passed over.
        acceleration: see `acceleration`.

    Source: Davison and Hinkley 1997, section 5.3.2, solved for the level.
    """
    values = np.sort(_defined(resampled))
    if not len(values):
        return float("nan")
    share = _share_below(values, estimate)
    bias = float(special.ndtri(share)) if 0.0 < share < 1.0 else 0.0
    speed = acceleration if 0.0 < share < 1.0 else 0.0
    first, last = _ranks_of_zero(values)
    finest = 1.0 / (len(values) + 1.0)
    tails = []
    for rank in (last, first):  # the low end passes the last value of 0, the high end the first
        point = min(max(rank / max(1, len(values) - 1), finest), 1.0 - finest)
        distance = float(special.ndtri(point)) - bias
        slope = 1.0 + speed * distance
        # Past the pole no level, however high, brings that end to 0.
        tails.append(float(special.ndtr(distance / slope - bias)) if slope > 0 else float(distance > 0))
    return min(1.0, max(2.0 * finest, 2.0 * min(tails[0], 1.0 - tails[1])))


def acceleration(jackknife: NDArray[Any], strata: NDArray[Any]) -> float:
    """How fast the standard error changes with the value, from values with one unit left out at a time.

    Args:
        jackknife: (U,) value without each unit; undefined ones (nan) are passed over.
        strata: (U,) stratum that each unit is drawn within; all equal for whole clusters.

    Returns:
        0 where no unit matters.

    Source: Davison and Hinkley 1997, section 5.3.2, the form for several samples, with jackknife influence values.
    """
    third = second = 0.0
    for stratum in np.unique(strata):
        values = jackknife[(strata == stratum) & ~np.isnan(jackknife)]
        n = len(values)
        if n > 1:
            influence = (n - 1) * (values.mean() - values)
            third += float((influence**3).sum()) / n**3
            second += float((influence**2).sum()) / n**2
    return third / (6.0 * second**1.5) if second > ROUNDING**2 else 0.0


def jackknife_covariance(jackknife: NDArray[Any], strata: NDArray[Any]) -> NDArray[Any]:
    """Covariance over test sets of J values, from all of them with one unit left out at a time.

    Of AUCs of two classes, with samples as units, it is DeLong's covariance exactly.

    Args:
        jackknife: (U, J); units without which a value is undefined (nan) are passed over.
        strata: (U,) stratum that each unit is drawn within.

    Returns:
        (J, J); nan without units.

    Source: Davison and Hinkley 1997, section 3.2.1; Arvesen 1969 for U statistics.
    """
    n_values = jackknife.shape[1]
    total = np.zeros((n_values, n_values))
    is_defined = ~np.isnan(jackknife).any(axis=1)
    if not is_defined.any():
        return np.full((n_values, n_values), np.nan)
    for stratum in np.unique(strata):
        values = jackknife[(strata == stratum) & is_defined]
        if len(values) > 1:
            centred = values - values.mean(axis=0)
            total += (len(values) - 1) / len(values) * centred.T @ centred
    return total


def _defined(resampled: NDArray[Any]) -> NDArray[Any]:
    """Without nan, and with 0 where only rounding tells a difference from it."""
    values = resampled[~np.isnan(resampled)]
    return np.where(np.abs(values) <= ROUNDING, 0.0, values)


def _ranks_of_zero(values: NDArray[Any]) -> tuple[float, float]:
    """Ranks of the first and the last 0 among sorted values; without one, the rank that `np.quantile` gives it."""
    first, end = (int(np.searchsorted(values, 0.0, side)) for side in ("left", "right"))
    if first < end:
        return float(first), float(end - 1)
    if 0 < first < len(values):
        below, above = values[first - 1], values[first]
        rank = first - 1 + float(below / (below - above))
    else:
        rank = float(first)
    return rank, rank


def _share_below(values: NDArray[Any], point: float) -> float:
    """Share of the values below the point, equal ones counted half."""
    if not len(values):
        return float("nan")
    return float((values < point - ROUNDING).mean() + (np.abs(values - point) <= ROUNDING).mean() / 2.0)
