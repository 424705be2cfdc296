"""One grade for each image where classes are in order: by cuts of the expected grade, tuned for quadratic kappa."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError

MAX_STEPS = 100


def expected_grades(probabilities: NDArray[Any]) -> NDArray[np.float64]:
    """(N,) mean grade, from 0 to C - 1, by (N, C) probabilities of classes in order."""
    grades: NDArray[np.float64] = probabilities.astype(np.float64) @ np.arange(probabilities.shape[1])
    return grades


def predicted_classes(probabilities: NDArray[Any], cuts: Sequence[float] | None = None) -> NDArray[np.int64]:
    """(N,) the class that each image is taken for.

    Args:
        probabilities: (N, C), or without cuts any scores.
        cuts: (C - 1,) ascending; the class is how many of them the expected grade lies above. None: the most probable.
    """
    if cuts is None:
        likely: NDArray[np.int64] = probabilities.argmax(axis=1)
        return likely
    taken: NDArray[np.int64] = np.searchsorted(np.asarray(cuts, dtype=np.float64), expected_grades(probabilities))
    return taken


def mean_cuts(cuts: Sequence[Sequence[float] | None]) -> list[float] | None:
    """The cuts of heads that predict together by their mean probability: the mean of theirs; None if one has none."""
    tuned = [own for own in cuts if own is not None]
    if len(tuned) < len(cuts):
        return None
    mean: list[float] = np.mean(tuned, axis=0).tolist()
    return mean


def kappa_cuts(
    labels: NDArray[Any], grades: NDArray[Any], n_classes: int, weights: NDArray[Any] | None = None
) -> list[float] | None:
    """The cuts with the largest quadratic kappa of all there are.

    Kappa is 1 - A / B, with A the mean squared distance of class and label and B what it is by chance. Given the
    labels, both are sums over images. So for a number q a pass over the images in the order of their grades finds the
    cuts that minimise A - q B, and q is the least A / B once that is 0.

    Args:
        labels: (N,) class indices.
        grades: (N,) what is cut, from 0 to C - 1; images of equal grades are never parted.
        n_classes: C.
        weights: (N,) above 0; None: 1.

    Returns:
        (C - 1,) ascending, each in the middle between two grades; -0.5 or C - 0.5 where all lie on one side. None where
        kappa is not defined: fewer than two classes have labels.

    Raises:
        DataError: if a grade is not finite.

    Source: Dinkelbach 1967 for the least of a ratio.
    """
    if len(np.unique(labels)) < 2:
        return None
    if not np.isfinite(grades).all():
        raise DataError("a grade to cut is not finite; leave the image out")
    counts = np.ones(len(labels)) if weights is None else np.asarray(weights, dtype=np.float64)
    values, place = np.unique(grades, return_inverse=True)
    classes = np.arange(n_classes, dtype=np.float64)
    apart, chance = np.zeros((len(values), n_classes)), np.zeros((len(values), n_classes))
    shares = np.bincount(labels, counts, minlength=n_classes) / counts.sum()
    far = ((classes[:, None] - classes) ** 2) @ shares
    for c in range(n_classes):
        apart[:, c] = np.bincount(place, counts * (c - labels) ** 2, len(values))
        chance[:, c] = np.bincount(place, counts * far[c], len(values))
    ratio, best = np.inf, np.zeros(len(values), dtype=np.int64)
    for _ in range(MAX_STEPS):
        chosen = _rising(apart - min(ratio, 1.0) * chance)
        rows = np.arange(len(values))
        found = float(apart[rows, chosen].sum() / chance[rows, chosen].sum())
        if found >= ratio:
            break
        ratio, best = found, chosen
    ends = np.array([-0.5, n_classes - 0.5])
    padded = np.concatenate([ends[:1], values, ends[1:]])
    first = np.searchsorted(best, np.arange(1, n_classes))  # values below each cut
    middles = (padded[first] + padded[first + 1]) / 2.0
    cuts: list[float] = np.where(first == 0, ends[0], np.where(first == len(values), ends[1], middles)).tolist()
    return cuts


def _rising(costs: NDArray[np.float64]) -> NDArray[np.int64]:
    """(V,) classes that never fall, with the least sum of (V, C) costs.

    Of the first v values with classes up to c, class c begins at the value before which classes up to c - 1 cost least
    beside its own sum: a running minimum for each class. Where several are as good, it begins as late as it can.
    """
    n_values, n_classes = costs.shape
    sums = np.zeros((n_classes, n_values + 1))
    np.cumsum(costs.T, axis=1, out=sums[:, 1:])
    least, starts = sums[0], np.zeros((n_classes, n_values + 1), dtype=np.int64)
    for c in range(1, n_classes):
        gap = least - sums[c]
        lowest = np.minimum.accumulate(gap)
        starts[c] = np.maximum.accumulate(np.where(gap == lowest, np.arange(n_values + 1), 0))
        least = lowest + sums[c]
    chosen, end = np.empty(n_values, dtype=np.int64), n_values
    for c in range(n_classes - 1, -1, -1):
        start = int(starts[c, end])
        chosen[start:end] = c
        end = start
    return chosen
