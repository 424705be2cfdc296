"""Intervals by resampling the test set: stratified by class, or by whole groups where there are any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.evaluation.metrics import weighted_auc

N_RESAMPLES = 2000
BLOCK = 64
MIN_UNITS = 10
"""Fewest images or groups that a test set can be resampled by; with fewer, an interval would be fiction."""
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """An estimate and its percentile interval."""

    estimate: float
    low: float
    high: float

    @property
    def includes_zero(self) -> bool:
        """Whether no difference is among the plausible ones."""
        return self.low <= 0.0 <= self.high


def resample_weights(
    labels: NDArray[Any], groups: NDArray[Any] | None, *, seed: int, n_resamples: int = N_RESAMPLES
) -> NDArray[Any]:
    """How often each test sample is drawn in each resample.

    Without groups, samples are drawn within their class, so that no class can vanish. With groups
    (patients), whole groups are drawn, because the samples of a patient are not independent.

    Args:
        labels: (N,) class indices.
        groups: (N,) group of each sample, or None.
        seed: of the draws.
        n_resamples: R.

    Returns:
        (R, N) uint16 counts.

    Source: Efron and Tibshirani 1993, chapters 8 and 13; Field and Welsh 2007 for whole clusters.
    """
    rng = np.random.default_rng(seed)
    if groups is None:
        weights = np.empty((n_resamples, len(labels)), dtype=np.uint16)
        for c in np.unique(labels):
            members = np.flatnonzero(labels == c)
            uniform = np.full(len(members), 1.0 / len(members))
            weights[:, members] = rng.multinomial(len(members), uniform, size=n_resamples)
        return weights
    _, group_of = np.unique(groups, return_inverse=True)
    n_groups = int(group_of.max()) + 1
    drawn = rng.multinomial(n_groups, np.full(n_groups, 1.0 / n_groups), size=n_resamples)
    return drawn.astype(np.uint16)[:, group_of]


def resampled_auc(labels: NDArray[Any], folds: Sequence[NDArray[Any]], weights: NDArray[Any]) -> NDArray[Any]:
    """(R,) macro AUC of each resample, averaged over the folds' predictions of the same test set.

    A resample in which some class is gone is nan: without that class it would estimate something else.

    Args:
        labels: (N,) class indices.
        folds: (N, C) probabilities of each fold's head.
        weights: (R, N).
    """
    n_classes = folds[0].shape[1]
    classes = [1] if n_classes == 2 else range(n_classes)
    blocks = []
    for start in range(0, len(weights), BLOCK):  # bounds the memory: N may be large
        block = weights[start : start + BLOCK].astype(np.float64)
        areas = [weighted_auc(labels == c, fold[:, c], block) for fold in folds for c in classes]
        blocks.append(np.mean(areas, axis=0))
    return np.concatenate([np.empty(0), *blocks])


def percentile_interval(estimate: float, resampled: NDArray[Any], *, level: float = LEVEL) -> Interval:
    """The central part of the resampled values, 95 per cent of them by default; undefined ones are passed over."""
    values = resampled[~np.isnan(resampled)]
    if not len(values):
        return Interval(estimate, float("nan"), float("nan"))
    tail = 100.0 * (1.0 - level) / 2.0
    low, high = np.percentile(values, [tail, 100.0 - tail])
    return Interval(estimate, float(low), float(high))
