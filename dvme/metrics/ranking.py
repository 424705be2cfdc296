"""How well scores rank positives before negatives, label by label: AUC and average precision."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvme.metrics.labelled import Labelled
from dvme.metrics.weighting import ratio
from dvme.vectors import spans

RANKED_CELLS = 1 << 22
"""Cells whose order is kept at once: bounds the memory, as labels may be many."""
WEIGHTS_AT_ONCE = 1 << 18
"""Put in order and summed at once: as float64 they stay in the processor's cache, where images are not too many."""
LARGEST_COUNT = 1 << 32


class Areas(NamedTuple):
    """Both from one pass over the weights."""

    auc: NDArray[np.float64]
    """(L,), or (R, L) for many weightings; nan without positives or without negatives."""
    average_precision: NDArray[np.float64]
    """The same; nan without positives."""


def auc(truth: NDArray[Any], scores: NDArray[Any], weights: NDArray[Any] | None = None) -> NDArray[np.float64]:
    """Area under the ROC curve of each label.

    P(score of a positive > score of a negative) + P(equal) / 2: the Mann-Whitney statistic. Arguments, shape and errors
    as `areas`.
    """
    return areas(truth, scores, weights).auc


def average_precision(
    truth: NDArray[Any], scores: NDArray[Any], weights: NDArray[Any] | None = None
) -> NDArray[np.float64]:
    """Precision at each distinct score of a positive, each counted by the recall that it adds.

    Nothing is interpolated between thresholds. Arguments, shape and errors as `areas`.
    """
    return areas(truth, scores, weights).average_precision


def areas(truth: NDArray[Any], scores: NDArray[Any], weights: NDArray[Any] | None = None) -> Areas:
    """AUC and average precision, for all weightings from one sort of each label.

    Args:
        truth: (N, L) 1, 0, or nan for unknown.
        scores: (N, L), infinite ones too.
        weights: (N,), or (R, N) for many weightings at once; None: all 1.

    Raises:
        DataError: as `Labelled.of`.

    Source: Hanley and McNeil 1982; Davis and Goadrich 2006 against interpolation.
    """
    given = Labelled.of(truth, scores, weights)
    n_images, n_labels = given.scores.shape
    found = np.empty((2, len(given.weighting.rows), n_labels))
    at_once = max(1, RANKED_CELLS // max(1, n_images))
    for first in range(0, n_labels, at_once):
        labels = range(first, min(n_labels, first + at_once))
        rankings = [Ranking.of(given, label) for label in labels]
        for label, ranking in zip(labels, rankings, strict=True):
            found[..., label] = ranking.areas(given.weighting.rows)
    return Areas(*(given.weighting.as_given(each) for each in found))


@dataclass(frozen=True)
class Ranking:
    """The known images of one label by falling score. Only the Q distinct scores of positives can change an area."""

    order: NDArray[np.int64]
    """(n,) known images."""
    positives: NDArray[np.int64]
    """(P,) those that have the label, in the same order."""
    higher: NDArray[np.int64]
    """(Q,) how many images score higher than each score of a positive."""
    reached: NDArray[np.int64]
    """(Q,) how many score as high or higher."""
    found: NDArray[np.int64]
    """(Q,) how many of these are positives."""

    @classmethod
    def of(cls, given: Labelled, label: int) -> Ranking:
        """Of one label, in n log n time."""
        images = np.flatnonzero(given.is_known[:, label])
        falling = -given.scores[images, label]
        by_score = np.argsort(falling)
        order, in_order = images[by_score], falling[by_score]
        is_positive = given.is_positive[order, label]
        n_reached = np.append(np.flatnonzero(in_order[1:] != in_order[:-1]) + 1, len(order))  # by distinct score
        n_found = np.cumsum(is_positive)[n_reached - 1] if len(order) else np.zeros(1, dtype=np.intp)
        has_positives = np.diff(n_found, prepend=0) > 0
        n_higher = np.append(0, n_reached[:-1])
        return cls(order, order[is_positive], *(each[has_positives] for each in (n_higher, n_reached, n_found)))

    def areas(self, weights: NDArray[Any]) -> NDArray[np.float64]:
        """(2, R) AUC and average precision, for (R, N) weights, some at a time."""
        found = np.empty((2, len(weights)))
        for rows in _at_once(weights):
            above, true = self._weighed(weights[rows])
            found[:, rows] = self._auc(above, true), self._average_precision(above, true)
        return found

    def average_precision(self, weights: NDArray[Any]) -> NDArray[np.float64]:
        """(R,) the latter alone."""
        found = np.empty(len(weights))
        for rows in _at_once(weights):
            found[rows] = self._average_precision(*self._weighed(weights[rows]))
        return found

    def _weighed(self, weights: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """(R, n + 1) what the first 0 to n images weigh together, and (R, P + 1) the first positives."""
        return _sums_before(weights, self.order), _sums_before(weights, self.positives)

    def _auc(self, above: NDArray[Any], true: NDArray[Any]) -> NDArray[np.float64]:
        n_positive, n_negative = 1.0 * true[:, -1], 1.0 * above[:, -1] - true[:, -1]
        reached, found = 1.0 * above[:, self.reached], 1.0 * true[:, self.found]  # (R, Q) float64
        positive = np.diff(found, axis=1, prepend=0.0)
        tied = reached - above[:, self.higher] - positive  # negatives that score just as high
        false, pairs = reached - found, n_positive * n_negative
        lost = np.einsum("rq,rq->r", positive, false - 0.5 * tied)
        return ratio(pairs - lost, pairs)

    def _average_precision(self, above: NDArray[Any], true: NDArray[Any]) -> NDArray[np.float64]:
        reached, found = 1.0 * above[:, self.reached], 1.0 * true[:, self.found]  # (R, Q) float64
        precision = np.divide(found, reached, out=np.zeros_like(found), where=reached > 0)
        positive = np.diff(found, axis=1, prepend=0.0)
        return ratio(np.einsum("rq,rq->r", positive, precision), true[:, -1])


def _at_once(weights: NDArray[Any]) -> Iterator[slice]:
    """Rows of (R, N) weights."""
    return spans(len(weights), weights.shape[1], WEIGHTS_AT_ONCE)


def _sums_before(weights: NDArray[Any], order: NDArray[np.int64]) -> NDArray[Any]:
    """(R, n + 1) what the first 0 to n of some images weigh together, of (R, N) weights.

    Whole numbers are summed as such, which takes a fifth of the time.
    """
    are_counts = weights.dtype.kind in "ui" and int(weights.max(initial=0)) * len(order) < LARGEST_COUNT
    sums = np.zeros((len(weights), len(order) + 1), dtype=np.uint32 if are_counts else np.float64)
    np.cumsum(weights.take(order, axis=1), axis=1, dtype=sums.dtype, out=sums[:, 1:])
    return sums
