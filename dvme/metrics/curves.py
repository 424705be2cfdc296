"""ROC and precision-recall curves of every class against the others, and the same with fewer points."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.metrics.classification import countable, log_odds

MOST_THRESHOLDS, FEWEST_THRESHOLDS, OF_ALL_CLASSES = 500, 50, 5_000
"""Of one curve that are kept: of many classes fewer, as together they would be more than a figure shows."""
GRID = np.linspace(0.0, 1.0, 101)
"""Where curves are averaged."""
Points = tuple[NDArray[Any], NDArray[Any]]
"""x, which does not fall, and y."""


@dataclass(frozen=True)
class Curve:
    """One class against the others."""

    index: int
    """Of the class."""
    name: str
    area: float
    """Under the curve: AUC, or the average precision. It is of all thresholds."""
    x: tuple[float, ...]
    """False positive rates, or recalls; not falling."""
    y: tuple[float, ...]
    """True positive rates, or precisions."""


@dataclass(frozen=True)
class Curves:
    """Of all classes; of two that of the second."""

    n_images: int
    n_left_out: int
    """Images without a label or a finite probability."""
    n_undefined: int
    """Classes without a curve, as all or none of the images have them."""
    curves: tuple[Curve, ...]
    mean_area: float
    """Over the curves, each counted once."""
    mean: tuple[float, ...]
    """Mean height of the curves over GRID; where a curve rises or falls at once, the height that it arrives at
    counts."""


def roc(labels: NDArray[Any], probabilities: NDArray[Any], classes: Sequence[str]) -> Curves:
    """True over false positive rates, with the area under each curve.

    Args:
        labels: (N,) class indices; below 0: none.
        probabilities: (N, C).
        classes: C names.

    Raises:
        DataError: if the shapes do not fit, or a label is not a class.
    """
    return _curves(labels, probabilities, classes, _roc)


def precision_recall(labels: NDArray[Any], probabilities: NDArray[Any], classes: Sequence[str]) -> Curves:
    """Precisions over recalls as steps, with the average precision of each class.

    Arguments and errors as `roc`. Between two thresholds there is no straight line: precision falls at once where
    recall goes on.

    Source: Davis and Goadrich 2006, on interpolation.
    """
    return _curves(labels, probabilities, classes, _precision_recall)


def _curves(
    labels: NDArray[Any],
    probabilities: NDArray[Any],
    classes: Sequence[str],
    curve: Callable[[NDArray[Any], NDArray[Any], int], tuple[float, Points, Points] | None],
) -> Curves:
    y, p, n_left_out = countable(labels, probabilities, len(classes))
    ranked = p
    if np.allclose(p.sum(axis=1), 1.0):  # else these are scores of another kind
        with np.errstate(divide="ignore"):
            ranked = log_odds(np.log(p))
    positions = [1] if len(classes) == 2 else range(len(classes))
    at_most = min(MOST_THRESHOLDS, max(FEWEST_THRESHOLDS, OF_ALL_CLASSES // max(1, len(positions))))
    found, heights = [], []
    for c in positions:
        drawn = curve(y == c, np.unique(ranked[:, c], return_inverse=True)[1], at_most)
        if drawn is None:
            continue
        area, whole, fewer = drawn
        heights.append(np.interp(GRID, *whole))
        found.append(Curve(c, classes[c], area, *(tuple(each.tolist()) for each in fewer)))
    return Curves(
        n_images=len(y),
        n_left_out=n_left_out,
        n_undefined=len(positions) - len(found),
        curves=tuple(found),
        mean_area=float(np.mean([each.area for each in found])) if found else math.nan,
        mean=tuple(np.mean(heights, axis=0).tolist()) if found else (),
    )


def _roc(is_positive: NDArray[Any], ranks: NDArray[Any], at_most: int) -> tuple[float, Points, Points] | None:
    """The area, the curve, and the curve with so many points at most; None without positives or negatives."""
    if is_positive.all() or not is_positive.any():
        return None
    found = _found(is_positive, ranks)
    is_corner = np.r_[True, np.diff(found, n=2).any(axis=0), True]  # the others lie on a line between two of these
    y, x = found[:, is_corner] / found[:, -1:]
    return float(np.trapezoid(y, x)), (x, y), _thinned(x, y, at_most)


def _precision_recall(
    is_positive: NDArray[Any], ranks: NDArray[Any], at_most: int
) -> tuple[float, Points, Points] | None:
    """As `_roc`; None without positives."""
    if not is_positive.any():
        return None
    true, false = _found(is_positive, ranks)[:, 1:]
    is_step = np.diff(true, prepend=0.0) > 0  # where only negatives are added, the precision counts for no recall
    x, y = true[is_step] / true[-1], true[is_step] / (true + false)[is_step]
    area = float(np.diff(x, prepend=0.0) @ y)
    return area, _steps(x, y), _steps(*_thinned(x, y, at_most))


def _found(is_positive: NDArray[Any], ranks: NDArray[Any]) -> NDArray[np.float64]:
    """(2, K + 1) positives and negatives at or above each threshold, from none of them to all."""
    counts = [np.bincount(ranks, weights=side) for side in (is_positive, ~is_positive)]
    return np.pad(np.cumsum(np.flip(counts, axis=1), axis=1), ((0, 0), (1, 0)))


def _steps(x: NDArray[Any], y: NDArray[Any]) -> Points:
    """A height holds from the point before to its own."""
    return np.r_[0.0, np.repeat(x, 2)[:-1]], np.repeat(y, 2)


def _thinned(x: NDArray[Any], y: NDArray[Any], at_most: int) -> Points:
    """At most so many of the points, evenly along the way that the curve takes across and up; its ends among them."""
    if len(x) <= at_most:
        return x, y
    way = np.r_[0.0, np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))]
    kept = np.unique(np.searchsorted(way, np.linspace(0.0, way[-1], at_most)))
    return x[kept], y[kept]
