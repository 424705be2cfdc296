"""A choice among settings of a head by how they do on validation, with the doubt that few samples leave."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.metrics.classification import score
from dvme.stats.influence import FEWEST, scored
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
    rows = _counted_rows(len(labels), weights)
    units = Units(labels[rows])
    found = [scored(labels[rows], [each[rows]], units, [metric])[metric] for each in settings]
    return _last(values, lambda best, position: (found[best] - found[position]).test_variance, n_errors)


def last_near_best_of_labels(
    metric: str,
    truth: NDArray[Any],
    settings: NDArray[Any],
    weights: NDArray[Any] | None = None,
    *,
    n_errors: float,
) -> int:
    """The same by the mean over several labels: of those that truth has both values of, else of all that it knows.

    Args:
        metric: a name in METRICS, of two classes; where no label has both values, accuracy.
        truth: (N, L) 1, 0, or nan where it is not known.
        settings: (K, N, L) probabilities.
        weights: (N,) how often a sample counts; None: once.
        n_errors: standard errors of the paired difference over samples; an image varies with all of its labels. A label
            of which either value is there fewer than 3 times adds nothing to them.

    Returns:
        Its position; the middle one where nothing is known.
    """
    has_both = (truth == 1.0).any(axis=0) & (truth == 0.0).any(axis=0)
    judges = np.flatnonzero(has_both if has_both.any() else ~np.isnan(truth).all(axis=0))
    if not len(judges):
        return len(settings) // 2
    metric = metric if has_both.any() else "accuracy"
    counted = _counted_rows(len(truth), weights)
    values, parts = np.zeros(len(settings)), np.zeros((len(settings), len(counted)))
    for label in judges:
        known = np.flatnonzero(~np.isnan(truth[:, label]))
        own_weights = None if weights is None else weights[known]
        both = np.stack([1.0 - settings[..., label], settings[..., label]], axis=-1)
        values += [score(truth[known, label].astype(np.int64), each[known], own_weights)[metric] for each in both]
        places = np.flatnonzero(~np.isnan(truth[counted, label]))
        rows = counted[places]
        own = truth[rows, label].astype(np.int64)
        units = Units(own)
        if units.fewest >= FEWEST:
            widened = np.sqrt(units.counts / (units.counts - 1.0).clip(1.0))[own]
            for position, each in enumerate(both):
                parts[position, places] += scored(own, [each[rows]], units, [metric])[metric].parts[:, 0] * widened
    values, parts = values / len(judges), parts / len(judges)
    return _last(values, lambda best, position: float(np.square(parts[best] - parts[position]).sum()), n_errors)


def _last(values: NDArray[Any], variance: Callable[[int, int], float], n_errors: float) -> int:
    """The last of (K,) values, given the variances of differences of two."""
    best = int(np.nanargmax(values))
    for position in range(len(values) - 1, best, -1):
        own = variance(best, position)
        allowed = 0.0 if math.isnan(own) else n_errors * math.sqrt(own)
        if values[position] >= values[best] - max(allowed, EQUAL):
            return position
    return best


def _counted_rows(n_rows: int, weights: NDArray[Any] | None) -> NDArray[np.intp]:
    """Positions, as often as whole weights say; else once."""
    rows = np.arange(n_rows)
    if weights is not None and (weights == np.rint(weights)).all():
        rows = np.repeat(rows, weights.astype(np.int64))
    return rows
