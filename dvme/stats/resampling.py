"""The shared test set, resampled for the paired bootstrap: every metric in many resamples, and with a unit left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.metrics.classification import METRICS, weighted_auc
from dvme.stats.draws import Draws
from dvme.stats.influence import Scored, scored
from dvme.stats.intervals import LEVEL, Interval, acceleration, bca_interval

BLOCK_VALUES = 1 << 20
"""Weights worked on at once, in float64: bounds the memory, as the test set may be large."""
PAIRS = 1 << 20
"""Most pairs of a positive and a negative whose comparisons are kept as a table; beyond, one sort is faster."""


@dataclass(frozen=True)
class Resampled(Scored):
    """One metric of one method, or the difference of two, with its resamples: for the paired bootstrap, when asked."""

    draws: Draws = field(kw_only=True)
    sources: tuple[tuple[str, tuple[NDArray[Any], ...], float], ...] = field(kw_only=True)
    """(metric, folds' scores, sign) of each method that this is a sum of."""

    @cached_property
    def resampled(self) -> NDArray[Any]:
        """(R,) mean over the heads in each resample; nan where the metric is undefined."""
        weights, labels = self.draws.weights, self.units.labels
        total: NDArray[Any] = sum(
            sign * resampled_scores(labels, folds, weights, [name])[name] for name, folds, sign in self.sources
        ) + np.zeros(len(weights))
        return total

    @cached_property
    def acceleration(self) -> float:
        """Of the mean over the heads, for BCa."""
        left_out, strata = self.draws.jackknife, self.draws.strata
        values = sum(
            sign * fold_scores(self.units.labels, folds, left_out, [name])[name].mean(axis=1)
            for name, folds, sign in self.sources
        )
        return acceleration(values + np.zeros(len(strata)), strata)

    def bca_interval(self, level: float = LEVEL) -> Interval:
        """BCa interval of the mean over these heads; `interval` is better where a class is rare or an AUC near 1."""
        return bca_interval(self.estimate, self.resampled, self.acceleration, level=level)

    def __sub__(self, other: Scored) -> Resampled:
        """The difference from another method on the same draws and folds, paired.

        Raises:
            ValueError: if the two are not of one metric, test set, number of folds and set of draws.
        """
        if not isinstance(other, Resampled) or other.draws.key != self.draws.key:
            raise ValueError("a paired difference needs the same draws: one seed, one number of resamples")
        gap = super().__sub__(other)
        turned = tuple((name, folds, -sign) for name, folds, sign in other.sources)
        return Resampled(
            gap.metric,
            gap.folds,
            gap.parts,
            gap.units,
            is_difference=True,
            draws=self.draws,
            sources=(*self.sources, *turned),
        )


def resample(
    labels: NDArray[Any], folds: Sequence[NDArray[Any]], draws: Draws, metrics: Sequence[str] = METRICS
) -> dict[str, Resampled]:
    """One method's metrics on the test set itself; they are resampled when that is asked for.

    Args:
        labels: (N,) class indices.
        folds: J of (N, C) probabilities, one of each fold's head.
        draws: of these labels.
        metrics: names in METRICS.
    """
    found = scored(labels, folds, draws.units, metrics)
    return {
        name: Resampled(
            name, one.folds, one.parts, one.units, one.recalls, draws=draws, sources=((name, tuple(folds), 1.0),)
        )
        for name, one in found.items()
    }


def resampled_scores(
    labels: NDArray[Any], folds: Sequence[NDArray[Any]], weights: NDArray[Any], metrics: Sequence[str] = METRICS
) -> dict[str, NDArray[Any]]:
    """Mean over the folds' heads of every metric, for many weightings of the same test samples.

    Where a class of the labels is gone from a weighting, AUC and balanced accuracy are nan: without that class they
    would estimate something else.

    Args:
        labels: (N,) class indices.
        folds: J of (N, C) probabilities.
        weights: (R, N), non-negative.
        metrics: names in METRICS.

    Returns:
        (R,) by metric.
    """
    others = [name for name in metrics if name != "auc"]
    scores = {name: values.mean(axis=1) for name, values in fold_scores(labels, folds, weights, others).items()}
    if "auc" in metrics:
        scores["auc"] = _aucs(labels, folds, weights, are_pooled=True)[:, 0]
    return {name: scores[name] for name in metrics}


def fold_scores(
    labels: NDArray[Any], folds: Sequence[NDArray[Any]], weights: NDArray[Any], metrics: Sequence[str] = METRICS
) -> dict[str, NDArray[Any]]:
    """`resampled_scores` before the mean: (R, J) by metric."""
    scores: dict[str, NDArray[Any]] = {}
    if set(metrics) - {"auc"}:
        each = [_counted(labels, fold.argmax(axis=1), weights) for fold in folds]
        scores = {name: np.stack([one[name] for one in each], axis=1) for name in METRICS if name != "auc"}
    if "auc" in metrics:
        scores["auc"] = _aucs(labels, folds, weights, are_pooled=False)
    return {name: scores[name] for name in metrics}


def _blocks(weights: NDArray[Any]) -> Iterator[tuple[slice, NDArray[Any]]]:
    size = max(1, BLOCK_VALUES // max(1, weights.shape[1]))
    for start in range(0, len(weights), size):
        yield slice(start, start + size), weights[start : start + size].astype(np.float64)


def _counted(labels: NDArray[Any], predicted: NDArray[Any], weights: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """(R,) accuracy, balanced accuracy and quadratic kappa, from one product of the weights with (N, 2 C + 5) columns.

    Kappa's tables need not be made: with quadratic weights it is 1 - E(i - j)^2 / (E i^2 + E j^2 - 2 E i E j).
    """
    classes = np.unique(labels)
    is_class = labels[:, None] == classes
    i, j = labels.astype(np.float64), predicted.astype(np.float64)
    moments = np.stack([i, i**2, j, j**2, (i - j) ** 2], axis=1)
    columns = np.concatenate([is_class, is_class & (labels == predicted)[:, None], moments], axis=1)
    sums = np.empty((len(weights), columns.shape[1]))
    for rows, block in _blocks(weights):
        sums[rows] = block @ columns
    n_of_class, n_right = sums[:, : len(classes)], sums[:, len(classes) : 2 * len(classes)]
    n = n_of_class.sum(axis=1)
    i1, i2, j1, j2, apart = sums[:, 2 * len(classes) :].T
    chance = n * (i2 + j2) - 2.0 * i1 * j1  # sums of whole numbers: exactly 0 where it is 0
    return {
        "accuracy": _ratio(n_right.sum(axis=1), n),
        "balanced_accuracy": _ratio(n_right, n_of_class).mean(axis=1),
        "kappa": 1.0 - _ratio(n * apart, chance),
    }


def _aucs(
    labels: NDArray[Any], folds: Sequence[NDArray[Any]], weights: NDArray[Any], *, are_pooled: bool
) -> NDArray[Any]:
    """(R, J) macro AUCs, or their mean (R, 1), over the one-versus-rest problems that the labels define."""
    n_classes = folds[0].shape[1]
    classes = [c for c in ([1] if n_classes == 2 else range(n_classes)) if 0 < (labels == c).sum() < len(labels)]
    areas = np.zeros((len(weights), 1 if are_pooled else len(folds)))
    for c in classes:
        is_positive, scores = labels == c, [fold[:, c] for fold in folds]
        if int(is_positive.sum()) * int((~is_positive).sum()) <= PAIRS:
            areas += _compared_areas(is_positive, scores, weights, are_pooled=are_pooled)
            continue
        for rows, block in _blocks(weights):
            each = np.stack([weighted_auc(is_positive, score, block) for score in scores], axis=1)
            areas[rows] += each.mean(axis=1, keepdims=True) if are_pooled else each
    return areas / len(classes) if classes else np.full_like(areas, np.nan)


def _compared_areas(
    is_positive: NDArray[Any], scores: Sequence[NDArray[Any]], weights: NDArray[Any], *, are_pooled: bool
) -> NDArray[Any]:
    """(R, J) areas, or (R, 1) their mean, from tables of who beats whom.

    The weights are the same for every head, so the heads' tables may be averaged before the one product.
    """
    tables = (0.5 + 0.5 * np.sign(np.subtract.outer(score[is_positive], score[~is_positive])) for score in scores)
    some = [sum(tables) / len(scores)] if are_pooled else list(tables)
    areas = np.empty((len(weights), len(some)))
    for rows, block in _blocks(weights):
        positive, negative = block[:, is_positive], block[:, ~is_positive]
        wins = np.stack([np.einsum("rn,rn->r", positive @ table, negative) for table in some], axis=1)
        areas[rows] = _ratio(wins, (positive.sum(axis=1) * negative.sum(axis=1))[:, None])
    return areas


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[Any]:
    """The quotient; nan where there is nothing to divide by."""
    result: NDArray[Any] = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return result
