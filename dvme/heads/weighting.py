"""Metrics of samples that count by weight, 2 as if a sample were there twice; and a choice among settings by them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.evaluation.metrics import check_metric, score, weighted_auc
from dvme.stats.influence import scored
from dvme.stats.units import Units

EQUAL = 1e-12
"""Scores this close are equal: they are sums in different orders."""


def weighted_score(metric: str, labels: NDArray[Any], probabilities: NDArray[Any], weights: NDArray[Any]) -> float:
    """One metric of METRICS.

    Args:
        metric: its name.
        labels: (N,) class indices.
        probabilities: (N, C).
        weights: (N,) above 0.

    Raises:
        OptionError: if there is no such metric.
    """
    check_metric(metric)
    n_classes = probabilities.shape[1]
    if metric == "auc":
        classes = [1] if n_classes == 2 else range(n_classes)
        areas = [weighted_auc(labels == c, probabilities[:, c], weights[None])[0] for c in classes]
        defined = [area for area in areas if not np.isnan(area)]
        return float(np.mean(defined)) if defined else float("nan")
    table = np.zeros((n_classes, n_classes))  # of labels and predictions
    np.add.at(table, (labels, probabilities.argmax(axis=1)), weights)
    if metric == "accuracy":
        return float(table.trace() / table.sum())
    if metric == "balanced_accuracy":
        is_there = table.sum(axis=1) > 0
        return float((table.diagonal()[is_there] / table.sum(axis=1)[is_there]).mean())
    apart = np.subtract.outer(np.arange(n_classes), np.arange(n_classes)) ** 2.0
    chance = float((apart * np.outer(table.sum(axis=1), table.sum(axis=0))).sum() / table.sum())
    return 1.0 - float((apart * table).sum()) / chance if chance > 0 else float("nan")


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
    values = np.array([_value(metric, labels, each, weights) for each in settings])
    if np.isnan(values).all():  # no AUC of a single class
        metric = "accuracy"
        values = np.array([_value(metric, labels, each, weights) for each in settings])
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


def _value(metric: str, labels: NDArray[Any], probabilities: NDArray[Any], weights: NDArray[Any] | None) -> float:
    if weights is None:
        return score(labels, probabilities)[metric]
    return weighted_score(metric, labels, probabilities, weights)
