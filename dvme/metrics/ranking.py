"""How well scores rank positives before negatives, label by label: AUC and average precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvme.metrics.labelled import Labelled
from dvme.metrics.weighting import blocks, gathering, ratio

RANKED_CELLS = 1 << 22
"""Cells whose order is kept at once: bounds the memory, as labels may be many."""


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
        for rows, block in blocks(given.weighting.rows):
            columns = np.ascontiguousarray(block.T)
            for label, ranking in zip(labels, rankings, strict=True):
                found[:, rows, label] = ranking.areas(columns)
    return Areas(*(given.weighting.as_given(each) for each in found))


@dataclass(frozen=True)
class Ranking:
    """The known images of one label by falling score, in stretches that matter together.

    Only scores that a positive has can change either area. Q of them make 3 Q + 1 stretches: the negatives between a
    score and the one before, its tied negatives, its positives; and the negatives below the last.
    """

    stretches: Any
    """(3 Q + 1, N) sparse: which images are in each."""

    @classmethod
    def of(cls, given: Labelled, label: int) -> Ranking:
        """Of one label."""
        images = np.flatnonzero(given.is_known[:, label])
        scores, is_positive = given.scores[images, label], given.is_positive[images, label]
        distinct, group = np.unique(scores, return_inverse=True)
        has_positives = np.zeros(len(distinct), dtype=bool)
        has_positives[group[is_positive]] = True
        n_above = np.cumsum(has_positives[::-1])[::-1] - has_positives  # scores of positives above each
        stretch = 3 * n_above[group] + has_positives[group] + is_positive
        n_stretches = 3 * int(has_positives.sum()) + 1
        return cls(gathering(stretch, images, n_stretches, len(given.scores)))

    def areas(self, weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(R,) AUC and (R,) average precision, for (N, R) weights."""
        sums = self.stretches @ weights  # (3 Q + 1, R)
        between, tied, positive = sums[0:-1:3], sums[1::3], sums[2::3]
        false = np.cumsum(between + tied, axis=0)  # (Q, R) negatives that score as high or higher
        true = np.cumsum(positive, axis=0)
        n_positive, n_negative = positive.sum(axis=0), sums[-1] + between.sum(axis=0) + tied.sum(axis=0)
        pairs = n_positive * n_negative
        lost = np.einsum("qr,qr->r", positive, false - 0.5 * tied)
        chosen = true + false
        precision = np.divide(true, chosen, out=np.zeros_like(true), where=chosen > 0)
        return ratio(pairs - lost, pairs), ratio(np.einsum("qr,qr->r", positive, precision), n_positive)
