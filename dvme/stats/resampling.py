"""The shared test set, resampled: every metric in many resamples, and with every image or group left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.evaluation.metrics import METRICS, weighted_auc
from dvme.stats.intervals import LEVEL, Interval, acceleration, bca_interval, jackknife_covariance

N_RESAMPLES = 2000
MIN_UNITS = 10
"""Fewest images or groups that a test set can be resampled by; with fewer, an interval would be fiction."""
N_BLOCKS = 500
"""Units of the jackknife: images or groups, or blocks of them where there are more."""
BLOCK_VALUES = 1 << 20
"""Weights worked on at once, in float64: bounds the memory, as the test set may be large."""
PAIRS = 1 << 20
"""Most pairs of a positive and a negative whose comparisons are kept as a table; beyond, one sort is faster."""


@dataclass(frozen=True)
class Draws:
    """How often each of the N test samples counts: in every resample, and with every unit left out."""

    weights: NDArray[Any]
    """(R, N) uint16."""
    jackknife: NDArray[Any]
    """(U, N) uint16, 0 or 1."""
    strata: NDArray[Any]
    """(U,) stratum that each left-out unit belongs to."""


@dataclass(frozen=True)
class Resampled:
    """One metric of one method, or the difference of two: over J folds' heads, on one shared test set."""

    folds: NDArray[Any]
    """(J,) each head's value on the test set."""
    resampled: NDArray[Any]
    """(R,) mean over the heads in each resample; nan where the metric is undefined."""
    jackknife: NDArray[Any]
    """(U, J) each head's value with each unit left out."""
    strata: NDArray[Any]
    """(U,) stratum of each unit."""

    @property
    def estimate(self) -> float:
        """Mean over the heads."""
        return float(self.folds.mean())

    @property
    def acceleration(self) -> float:
        """Of the mean over the heads."""
        return acceleration(self.jackknife.mean(axis=1), self.strata)

    @property
    def test_covariance(self) -> NDArray[Any]:
        """(J, J) of the heads' values over test sets, given these heads."""
        return jackknife_covariance(self.jackknife, self.strata)

    def interval(self, level: float = LEVEL) -> Interval:
        """BCa interval of the mean over these heads on other test sets."""
        return bca_interval(self.estimate, self.resampled, self.acceleration, level=level)

    def __sub__(self, other: Resampled) -> Resampled:
        """The difference from another method on the same draws and folds, paired.

        Raises:
            ValueError: if the two differ in their numbers of folds, resamples or units.
        """
        mine, theirs = ((*x.jackknife.shape, len(x.resampled)) for x in (self, other))
        if mine != theirs:
            raise ValueError(
                f"(units, folds, resamples) are {mine} and {theirs}; a paired difference needs the same draws"
            )
        gaps = (self.folds - other.folds, self.resampled - other.resampled, self.jackknife - other.jackknife)
        return Resampled(*gaps, self.strata)


def draw(
    labels: NDArray[Any], groups: NDArray[Any] | None = None, *, seed: int, n_resamples: int = N_RESAMPLES
) -> Draws:
    """Everything that intervals and tests on a shared test set need, the same for every method.

    Args:
        labels: (N,) class indices.
        groups: (N,) group (patient) of each sample, or None.
        seed: of the draws.
        n_resamples: R; 0 where the test set is too small (MIN_UNITS): then no unit is left out either, and every
            interval is nan.
    """
    weights = resample_weights(labels, groups, seed=seed, n_resamples=n_resamples)
    left_out, strata = jackknife_weights(labels, groups, seed=seed)
    n_left_out = len(left_out) if n_resamples else 0
    return Draws(weights, left_out[:n_left_out], strata[:n_left_out])


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


def jackknife_weights(
    labels: NDArray[Any], groups: NDArray[Any] | None, *, seed: int, n_blocks: int = N_BLOCKS
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Weights that leave out one unit each, in the design of `resample_weights`.

    A unit is a sample within its class, or a whole group. Where there are more than `n_blocks` of them, random blocks
    of units are left out instead, each class in proportion. The only sample of a class is never left out.

    Args:
        labels: (N,) class indices.
        groups: (N,) group of each sample, or None.
        seed: of the blocks.
        n_blocks: most units, but for the two that every class has at least.

    Returns:
        (U, N) uint16 weights, 0 or 1; (U,) stratum of each unit: its class, or 0 for groups.

    Source: Efron and Tibshirani 1993, chapter 11; Shao and Tu 1995, section 2.3, for blocks.
    """
    rng = np.random.default_rng(seed)
    units = np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1]
    n_units = int(units.max()) + 1
    strata = np.zeros(n_units, dtype=np.intp)
    if groups is None:
        strata[:] = labels
    block_of = np.empty(n_units, dtype=np.intp)
    stratum_of_block: list[int] = []
    for stratum in np.unique(strata):
        members = rng.permutation(np.flatnonzero(strata == stratum))
        n_parts = len(members)
        if n_units > n_blocks:
            n_parts = min(len(members), max(2, round(n_blocks * len(members) / n_units)))
        block_of[members] = len(stratum_of_block) + np.arange(len(members)) % n_parts
        stratum_of_block += [int(stratum)] * n_parts
    stratum_of = np.array(stratum_of_block)
    is_kept = block_of[units][None, :] != np.arange(len(stratum_of))[:, None]  # (U, N)
    is_alone = np.bincount(stratum_of)[stratum_of] == 1
    return is_kept[~is_alone].astype(np.uint16), stratum_of[~is_alone]


def resample(
    labels: NDArray[Any], folds: Sequence[NDArray[Any]], draws: Draws, metrics: Sequence[str] = METRICS
) -> dict[str, Resampled]:
    """One method's metrics on the test set itself, in every resample, and with every unit left out.

    Args:
        labels: (N,) class indices.
        folds: J of (N, C) probabilities, one of each fold's head.
        draws: of these labels.
        metrics: names in METRICS.
    """
    whole = fold_scores(labels, folds, np.ones((1, len(labels))), metrics)
    resampled = resampled_scores(labels, folds, draws.weights, metrics)
    jackknife = fold_scores(labels, folds, draws.jackknife, metrics)
    return {name: Resampled(whole[name][0], resampled[name], jackknife[name], draws.strata) for name in metrics}


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
