"""How far probabilities are from what came true: Brier score and log loss. Lower is better."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError
from dvme.metrics.labelled import Labelled
from dvme.metrics.weighting import ratio

SMALLEST = float(np.finfo(np.float64).eps)
"""Probabilities count as at least this far from 0 and 1 in a log loss, as scikit-learn has it."""


def brier(truth: NDArray[Any], probabilities: NDArray[Any], weights: NDArray[Any] | None = None) -> NDArray[np.float64]:
    """Mean squared difference of probability and truth of each label, from 0 to 1.

    Args:
        truth: (N, L) 1, 0, or nan for unknown.
        probabilities: (N, L) of having the label.
        weights: (N,), or (R, N) for many weightings at once; None: all 1.

    Returns:
        (L,), or (R, L) for many weightings; nan without known cells.

    Raises:
        DataError: as `Labelled.of`.

    Source: Brier 1950, halved as is usual for two outcomes.
    """
    given = Labelled.of(truth, probabilities, weights, are_probabilities=True)
    return _mean_of_known(given, (given.scores - given.is_positive) ** 2)


def log_loss(
    truth: NDArray[Any], probabilities: NDArray[Any], weights: NDArray[Any] | None = None
) -> NDArray[np.float64]:
    """Mean of minus the natural logarithm of the probability of what is true, for each label.

    Arguments, shape and errors as `brier`.
    """
    given = Labelled.of(truth, probabilities, weights, are_probabilities=True)
    right = np.where(given.is_positive, given.scores, 1.0 - given.scores)
    return _mean_of_known(given, -np.log(np.clip(right, SMALLEST, 1.0 - SMALLEST)))


def multiclass_brier(
    labels: NDArray[Any], probabilities: NDArray[Any], weights: NDArray[Any] | None = None
) -> NDArray[np.float64]:
    """Sum over classes of the squared differences, mean over images, from 0 to 2.

    Args:
        labels: (N,) class indices; below 0: none, and the image takes no part.
        probabilities: (N, C).
        weights: as `brier`.

    Returns:
        (), or (R,) for many weightings; nan without images.

    Raises:
        DataError: as `Labelled.of`, or if a label is not a class.

    Source: Brier 1950, equation 2.
    """
    given = _one_of_classes(labels, probabilities, weights)
    return _mean_of_rows(given, ((given.scores - given.is_positive) ** 2).sum(axis=1))


def multiclass_log_loss(
    labels: NDArray[Any], probabilities: NDArray[Any], weights: NDArray[Any] | None = None
) -> NDArray[np.float64]:
    """Mean of minus the natural logarithm of the probability of the true class.

    Arguments, shape and errors as `multiclass_brier`.
    """
    given = _one_of_classes(labels, probabilities, weights)
    right = np.where(given.is_positive, given.scores, 0.0).sum(axis=1)
    return _mean_of_rows(given, -np.log(np.clip(right, SMALLEST, 1.0 - SMALLEST)))


def _one_of_classes(labels: NDArray[Any], probabilities: NDArray[Any], weights: NDArray[Any] | None) -> Labelled:
    """Of each image one class is true and the others are not; of one without a class all are unknown."""
    indices, n_classes = np.asarray(labels), probabilities.shape[1]
    if indices.size and indices.max() >= n_classes:
        raise DataError(f"a label is {indices.max()}, and there are {n_classes} classes; count them from 0")
    truth = np.where(indices[:, None] < 0, np.nan, indices[:, None] == np.arange(n_classes))
    return Labelled.of(truth, probabilities, weights, are_probabilities=True)


def _mean_of_known(given: Labelled, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(L,) or (R, L) means of (N, L) values."""
    columns = np.concatenate([np.where(given.is_known, values, 0.0), given.is_known], axis=1)
    total, n = np.split(given.weighting.sums(columns.T), 2, axis=1)
    return np.asarray(given.weighting.as_given(ratio(total, n)))


def _mean_of_rows(given: Labelled, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """() or (R,) mean of (N,) values over the images with a class."""
    has_class = given.is_known.any(axis=1)
    total, n = given.weighting.sums(np.stack([np.where(has_class, values, 0.0), has_class])).T
    return np.asarray(given.weighting.as_given(ratio(total, n)))
