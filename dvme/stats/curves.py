"""Learning curves in labels: how many it takes to reach a score, and how many a better method saves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dvme.stats.intervals import LEVEL, ROUNDING


@dataclass(frozen=True)
class LabelsNeeded:
    """Labels at which each of R curves reaches its target."""

    n: NDArray[Any]
    """(R,); inf where the sweep ends before."""
    is_at_most: NDArray[Any]
    """(R,) bool: the smallest size is enough already, and fewer may be."""


@dataclass(frozen=True)
class Amount:
    """A number of labels, or a bound of it where the sweep goes no further."""

    value: float
    relation: Literal["=", ">=", "<="]
    """`>=`: at least `value`; `<=`: at most."""


@dataclass(frozen=True)
class LabelsSaved:
    """How many more labels the baseline needs; below zero: how many fewer."""

    estimate: Amount
    low: Amount
    high: Amount


def monotone(scores: ArrayLike, weights: ArrayLike | None = None) -> NDArray[Any]:
    """The non-decreasing curves nearest to the scores, by weighted least squares.

    Args:
        scores: (S,) or (R, S), in the order of the sizes.
        weights: (S,), positive; None: all equal.

    Returns:
        In the shape of the scores; a curve with a nan is nan.

    Source: Robertson, Wright and Dykstra 1988, theorem 1.4.4: the largest, over starts, of the smallest mean over ends.
    """
    values = np.asarray(scores, dtype=np.float64)
    n_sizes = values.shape[-1]
    shares = np.ones(n_sizes) if weights is None else np.asarray(weights, dtype=np.float64)
    zero = np.zeros((*values.shape[:-1], 1))
    sums = np.concatenate([zero, np.cumsum(values * shares, axis=-1)], axis=-1)
    totals = np.concatenate([[0.0], np.cumsum(shares)])
    best = np.full(values.shape, -np.inf)
    for start in range(n_sizes):
        means = (sums[..., start + 1 :] - sums[..., start : start + 1]) / (totals[start + 1 :] - totals[start])
        smallest = np.minimum.accumulate(means[..., ::-1], axis=-1)[..., ::-1]  # over ends at or after each size
        best[..., start:] = np.maximum(best[..., start:], smallest)
    best[np.isnan(values).any(axis=-1)] = np.nan
    return best


def labels_needed(sizes: ArrayLike, curves: ArrayLike, target: ArrayLike) -> LabelsNeeded:
    """Fewest labels at which a curve reaches a score.

    Curves are made monotone first, and are straight between sizes in log n.

    Args:
        sizes: (S,) labels, increasing and positive.
        curves: (S,) or (R, S) scores, higher is better.
        target: one score, or (R,) one for each curve.

    Returns:
        (R,), or (1,) of a single curve; nan where curve or target is.

    Raises:
        ValueError: if the sizes do not increase from above 0, or are not as many as the curves' scores.
    """
    n = np.asarray(sizes, dtype=np.float64)
    values = np.atleast_2d(np.asarray(curves, dtype=np.float64))
    if n.ndim != 1 or not len(n) or n[0] <= 0 or (np.diff(n) <= 0).any():
        raise ValueError(f"sizes are {n.tolist()}; they must increase, from above 0")
    if values.shape[1] != len(n):
        raise ValueError(f"curves have {values.shape[1]} scores, and there are {len(n)} sizes; pass one for each")
    fitted = monotone(values)
    goal = np.broadcast_to(np.asarray(target, dtype=np.float64), len(fitted))
    is_reached = fitted >= goal[:, None] - ROUNDING  # (R, S)
    first = is_reached.argmax(axis=1)
    rows, before = np.arange(len(fitted)), np.maximum(first - 1, 0)
    low, high = fitted[rows, before], fitted[rows, first]
    part = np.divide(goal - low, high - low, out=np.ones(len(fitted)), where=high - low > ROUNDING)
    logs = np.log(n)
    needed = np.exp(logs[before] + np.clip(part, 0.0, 1.0) * (logs[first] - logs[before]))
    needed[~is_reached.any(axis=1)] = np.inf
    needed[np.isnan(goal) | np.isnan(fitted).any(axis=1)] = np.nan
    return LabelsNeeded(needed, is_reached[:, 0])


def labels_saved(
    sizes: ArrayLike,
    fusion: ArrayLike,
    baseline: ArrayLike,
    *,
    size: float,
    resampled_fusion: ArrayLike,
    resampled_baseline: ArrayLike,
    level: float = LEVEL,
) -> LabelsSaved:
    """How many more labels the baseline needs to score what the fusion scores at one size.

    An end of the interval that lies beyond the sweep is a bound: the baseline that never gets there within the sweep
    needs at least that many more, and one that is there at the smallest size at most that many.

    Args:
        sizes: (S,) labels, increasing.
        fusion: (S,) scores.
        baseline: (S,) scores.
        size: one of the sizes.
        resampled_fusion: (R, S) in each resample; those with a nan are passed over.
        resampled_baseline: (R, S) in the same resamples.
        level: of the interval, a percentile interval.

    Returns:
        All nan if every resample is undefined, but for the estimate.

    Raises:
        ValueError: if `size` is not among the sizes; see also `labels_needed`.
    """
    n = np.asarray(sizes, dtype=np.float64)
    position = np.flatnonzero(n == size)
    if not len(position):
        raise ValueError(f"size is {size}, and the sweep has {n.tolist()}; take one of these")

    def saved(ours: NDArray[Any], theirs: NDArray[Any]) -> NDArray[Any]:
        needed = labels_needed(n, theirs, monotone(ours)[:, position[0]])
        return np.where(needed.is_at_most & ~np.isnan(needed.n), -np.inf, needed.n - size)

    estimate = saved(np.atleast_2d(np.asarray(fusion)), np.atleast_2d(np.asarray(baseline)))[0]
    many = saved(np.atleast_2d(np.asarray(resampled_fusion)), np.atleast_2d(np.asarray(resampled_baseline)))
    many = np.sort(many[~np.isnan(many)])
    ends = [float("nan")] * 2
    if len(many):  # order statistics: between a number and a bound there is nothing to interpolate
        ends = [float(np.quantile(many, (1.0 + side * level) / 2.0, method="inverted_cdf")) for side in (-1, 1)]
    low, high = (_amount(end, n, size) for end in ends)
    return LabelsSaved(_amount(float(estimate), n, size), low, high)


@dataclass(frozen=True)
class Crossing:
    """Labels from which one method scores as much as another, or more."""

    estimate: Amount
    low: Amount
    high: Amount


def crossing(sizes: ArrayLike, gaps: ArrayLike, *, resampled: ArrayLike, level: float = LEVEL) -> Crossing:
    """From how many labels on a method is not below another, where it gains on it with every label.

    Gaps are made monotone first, and are straight between sizes in log n.

    Args:
        sizes: (S,) labels, increasing.
        gaps: (S,) scores of the one less those of the other.
        resampled: (R, S) the same in each resample; those with a nan are passed over.
        level: of the interval, a percentile interval.

    Returns:
        `<=` the smallest size where the gap is not below 0 anywhere, `>=` the largest where it is everywhere. All nan
        if every resample is undefined, but for the estimate.

    Raises:
        ValueError: see `labels_needed`.
    """
    n = np.asarray(sizes, dtype=np.float64)

    def reached(values: ArrayLike) -> NDArray[Any]:
        needed = labels_needed(n, values, 0.0)
        return np.where(needed.is_at_most & ~np.isnan(needed.n), -np.inf, needed.n)

    many = reached(resampled)
    many = np.sort(many[~np.isnan(many)])
    ends = [float("nan")] * 2
    if len(many):
        ends = [float(np.quantile(many, (1.0 + side * level) / 2.0, method="inverted_cdf")) for side in (-1, 1)]
    return Crossing(*(_amount(float(value), n, 0.0) for value in (reached(gaps)[0], *ends)))


def _amount(value: float, sizes: NDArray[Any], size: float) -> Amount:
    if value == float("inf"):
        return Amount(float(sizes[-1]) - size, ">=")
    if value == float("-inf"):
        return Amount(float(sizes[0]) - size, "<=")
    return Amount(value, "=")
