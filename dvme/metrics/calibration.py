"""How far confidence can be trusted: reliability, expected calibration error, and intervals of shares."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.metrics.classification import countable

N_BINS = 10
Z = 1.959963984540054
"""97.5th percentile of the normal distribution."""


@dataclass(frozen=True)
class Reliability:
    """How often the predicted class is right, by the confidence in it, in 10 equal bins; nan where one is empty."""

    n_images: int
    n_left_out: int
    """Images without a label or a finite probability."""
    error: float
    """Expected calibration error: the bins' gaps between confidence and accuracy, weighted by their images."""
    n: tuple[int, ...]
    """Images of each bin; a confidence on the border of two belongs to the lower one."""
    confidence: tuple[float, ...]
    """Mean of each bin."""
    accuracy: tuple[float, ...]
    low: tuple[float, ...]
    """Of the accuracy: Wilson's 95 per cent interval, which takes images for independent."""
    high: tuple[float, ...]


def reliability(labels: NDArray[Any], probabilities: NDArray[Any], n_classes: int) -> Reliability:
    """The bins, and the expected calibration error.

    Args:
        labels: (N,) class indices; below 0: none.
        probabilities: (N, C).
        n_classes: C.

    Raises:
        DataError: if the shapes do not fit, or a label is not a class.

    Source: Guo et al. 2017, section 2, equations 2 and 3.
    """
    y, p, n_left_out = countable(labels, probabilities, n_classes)
    top, is_right = p.max(axis=1, initial=0.0), p.argmax(axis=1) == y
    place = np.clip(np.ceil(top * N_BINS).astype(int) - 1, 0, N_BINS - 1)
    n = np.bincount(place, minlength=N_BINS)
    sums = [np.bincount(place, weights=values, minlength=N_BINS) for values in (top, is_right)]
    confidence, accuracy = (np.divide(each, n, out=np.full(N_BINS, np.nan), where=n > 0) for each in sums)
    error = float(np.nansum(n * np.abs(accuracy - confidence)) / len(y)) if len(y) else math.nan
    columns = (confidence, accuracy, *wilson(accuracy, n))
    return Reliability(len(y), n_left_out, error, tuple(n.tolist()), *(tuple(each.tolist()) for each in columns))


def wilson(shares: NDArray[Any], n: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Ends of the 95 per cent intervals of shares of n each; nan where n is 0.

    Source: Wilson 1927.
    """
    size = np.where(n > 0, n, np.nan)
    middle = (shares + Z**2 / (2 * size)) / (1 + Z**2 / size)
    half = Z * np.sqrt(shares * (1 - shares) / size + Z**2 / (4 * size**2)) / (1 + Z**2 / size)
    return np.maximum(0.0, middle - half), np.minimum(1.0, middle + half)
