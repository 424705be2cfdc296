"""How far one class, or grade, given to each image agrees with the true one, from tables of true by predicted class."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError
from dvme.metrics.weighting import Weighting, gathering, ratio

Disagreement = Literal["none", "linear", "quadratic"]
"""How much worse it is to be off by more classes: not at all, in proportion, by the square."""


def count_tables(
    labels: NDArray[Any], predicted: NDArray[Any], n_classes: int, weights: NDArray[Any] | None = None
) -> NDArray[np.float64]:
    """Weighted counts of true by predicted class; all metrics here take them.

    Args:
        labels: (N,) class indices; below 0: none, and the image takes no part.
        predicted: (N,) class indices.
        n_classes: C.
        weights: (N,), or (R, N) for many weightings at once; None: all 1.

    Returns:
        (C, C), or (R, C, C) for many weightings, all in memory at once: true classes, by predicted ones.

    Raises:
        DataError: if shapes do not fit, or an index is not of a class.
    """
    true, taken_for = np.asarray(labels), np.asarray(predicted)
    if true.ndim != 1 or true.shape != taken_for.shape:
        raise DataError(f"labels are {true.shape} and predictions {taken_for.shape}; pass (N,) of both")
    images = np.flatnonzero(true >= 0)
    pairs = np.stack([true[images], taken_for[images]])
    if pairs.size and (pairs.min() < 0 or pairs.max() >= n_classes):
        raise DataError(f"classes are counted from 0 to {n_classes - 1}; indices lie in {pairs.min()} to {pairs.max()}")
    weighting = Weighting.of(weights, len(true))
    sums = weighting.sums(gathering(pairs[0] * n_classes + pairs[1], images, n_classes**2, len(true)))
    return weighting.as_given(sums.reshape(-1, n_classes, n_classes))


def accuracy(tables: NDArray[Any]) -> NDArray[np.float64]:
    """Share of images whose predicted class is the true one: of the most probable class, top-1. (...)."""
    return ratio(np.trace(tables, axis1=-2, axis2=-1), tables.sum(axis=(-2, -1)))


def recalls(tables: NDArray[Any]) -> NDArray[np.float64]:
    """(..., C) share of each class's images that are found; nan for a class without images."""
    return ratio(np.diagonal(tables, axis1=-2, axis2=-1), tables.sum(axis=-1))


def f1_of_classes(tables: NDArray[Any]) -> NDArray[np.float64]:
    """(..., C) harmonic mean of precision and recall; nan for a class without images, 0 where none is found."""
    is_there = tables.sum(axis=-1) > 0
    both = tables.sum(axis=-1) + tables.sum(axis=-2)
    return np.where(is_there, ratio(2.0 * np.diagonal(tables, axis1=-2, axis2=-1), both), np.nan)


def kappa(tables: NDArray[Any], disagreement: Disagreement = "quadratic") -> NDArray[np.float64]:
    """Cohen's kappa over the full list of classes, whichever of them occur. (...).

    Linear and quadratic disagreement mean something only where classes are in order. nan where labels and predictions
    are the same single class, so that chance agreement is certain.

    Source: Cohen 1960, 1968; with quadratic disagreement the metric of the Kaggle diabetic retinopathy and APTOS 2019
        challenges.
    """
    apart = _apart(tables.shape[-1])
    costs = {"none": (apart > 0).astype(np.float64), "linear": apart, "quadratic": apart**2}[disagreement]
    rows, columns = tables.sum(axis=-1), tables.sum(axis=-2)
    expected = ratio(rows[..., :, None] * columns[..., None, :], tables.sum(axis=(-2, -1))[..., None, None])
    found: NDArray[np.float64] = 1.0 - ratio((costs * tables).sum(axis=(-2, -1)), (costs * expected).sum(axis=(-2, -1)))
    return found


def mean_absolute_error(tables: NDArray[Any]) -> NDArray[np.float64]:
    """By how many grades predictions are off, in the mean; for classes in order. (...)."""
    return ratio((_apart(tables.shape[-1]) * tables).sum(axis=(-2, -1)), tables.sum(axis=(-2, -1)))


def _apart(n_classes: int) -> NDArray[np.float64]:
    grades = np.arange(n_classes, dtype=np.float64)
    return np.abs(grades[:, None] - grades)
