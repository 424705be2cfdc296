"""A choice among settings of a head by how they do on validation, with the doubt that few samples leave."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.metrics.classification import score
from dvme.stats.influence import scored
from dvme.stats.units import Units

EQUAL = 1e-12
"""Scores this close are equal: they are sums in different orders."""


def last_near_best(
    metric: str,
    labels: NDArray[Any],
    settings: NDArray[Any],
    weights: NDArray[Any] | None = None,
    *,
    n_errors: float,
) -> int:
    """The last of several settings that is not worse than the best by more than so many standard errors.

    Args:
        metric: a name in METRICS; where it is not defined of any setting, accuracy.
        labels: (N,) class indices.
        settings: (K, N, C) probabilities.
        weights: (N,) how often a sample counts; None: once.
        n_errors: standard errors of the paired difference over samples. Where a class has fewer than 3 there is none,
            and the last of equal ones is taken.

    Returns:
        Its position.
    """
    values = np.array([score(labels, each, weights)[metric] for each in settings])
    if np.isnan(values).all():  # no AUC of a single class
        metric = "accuracy"
        values = np.array([score(labels, each, weights)[metric] for each in settings])
    best = int(np.nanargmax(values))
    rows = np.arange(len(labels))
    if weights is not None and (weights == np.rint(weights)).all():
        rows = np.repeat(rows, weights.astype(np.int64))
    units = Units(labels[rows])
    found = [scored(labels[rows], [each[rows]], units, [metric])[metric] for each in settings]
    for position in range(len(values) - 1, best, -1):
        variance = (found[best] - found[position]).test_variance
        allowed = 0.0 if math.isnan(variance) else n_errors * math.sqrt(variance)
        if values[position] >= values[best] - max(allowed, EQUAL):
            return position
    return best
