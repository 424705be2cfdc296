"""Yes or no for each label by a threshold: sensitivity, specificity, predictive values, F1, underdiagnosis.

A score above its threshold is a yes; one that equals it is a no.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError, OptionError
from dvme.metrics.labelled import Labelled
from dvme.metrics.weighting import gathering, ratio


@dataclass(frozen=True)
class Decisions:
    """Weighted counts of right and wrong decisions, all of one shape, and what follows from them.

    nan stands for what is not defined: shares of positives without positives, of negatives without negatives.
    """

    true_positives: NDArray[np.float64]
    false_negatives: NDArray[np.float64]
    false_positives: NDArray[np.float64]
    true_negatives: NDArray[np.float64]

    @property
    def sensitivity(self) -> NDArray[np.float64]:
        """Share of the positives that are found: recall."""
        return ratio(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def specificity(self) -> NDArray[np.float64]:
        """Share of the negatives that are left alone."""
        return ratio(self.true_negatives, self.true_negatives + self.false_positives)

    @property
    def false_negative_rate(self) -> NDArray[np.float64]:
        """Share of the positives that are missed: underdiagnosis.

        Source: Seyyed-Kalantari et al. 2021.
        """
        return ratio(self.false_negatives, self.true_positives + self.false_negatives)

    @property
    def balanced_accuracy(self) -> NDArray[np.float64]:
        """Mean of sensitivity and specificity; nan where one of them is."""
        return (self.sensitivity + self.specificity) / 2.0

    @property
    def f1(self) -> NDArray[np.float64]:
        """Harmonic mean of precision and recall; nan without positives, 0 where none is found."""
        found, wrong = self.true_positives, self.false_positives + self.false_negatives
        has_positives = self.true_positives + self.false_negatives > 0
        return np.where(has_positives, ratio(2.0 * found, 2.0 * found + wrong), np.nan)

    @property
    def precision(self) -> NDArray[np.float64]:
        """Share of the yeses that are right, at the prevalence of these images; nan without a yes."""
        return ratio(self.true_positives, self.true_positives + self.false_positives)

    def positive_predictive_value(self, prevalence: float | NDArray[Any]) -> NDArray[np.float64]:
        """Share of the yeses that would be right where so many have the label; nan where there would be no yes.

        Args:
            prevalence: in [0, 1]; one, or one for each label.

        Raises:
            OptionError: if it is not within [0, 1].

        Source: Altman and Bland 1994.
        """
        has = _checked_prevalence(prevalence)
        right = self.sensitivity * has
        return ratio(right, right + (1.0 - self.specificity) * (1.0 - has))

    def negative_predictive_value(self, prevalence: float | NDArray[Any]) -> NDArray[np.float64]:
        """Share of the noes that would be right; arguments, errors and source as `positive_predictive_value`."""
        has = _checked_prevalence(prevalence)
        right = self.specificity * (1.0 - has)
        return ratio(right, right + (1.0 - self.sensitivity) * has)


def decide(
    truth: NDArray[Any],
    scores: NDArray[Any],
    thresholds: float | NDArray[Any] = 0.5,
    weights: NDArray[Any] | None = None,
) -> Decisions:
    """Decisions at one threshold for each label.

    Args:
        truth: (N, L) 1, 0, or nan for unknown.
        scores: (N, L).
        thresholds: one for all labels, or (L,); a label whose threshold is nan gets nan counts.
        weights: (N,), or (R, N) for many weightings at once; None: all 1.

    Returns:
        counts of shape (L,), or (R, L) for many weightings.

    Raises:
        DataError: as `Labelled.of`, or if the thresholds do not fit.
    """
    given = Labelled.of(truth, scores, weights)
    each = _of_labels(thresholds, given.scores.shape[1])
    return Decisions(*(given.weighting.as_given(counts[:, 0]) for counts in _counted(given, each[None])))


def decide_over(
    truth: NDArray[Any], scores: NDArray[Any], thresholds: NDArray[Any], weights: NDArray[Any] | None = None
) -> Decisions:
    """Decisions of every label at each of T thresholds, as for the curve of underdiagnosis.

    Args:
        truth: (N, L) 1, 0, or nan for unknown.
        scores: (N, L).
        thresholds: (T,) in any order, for all labels.
        weights: (N,), or (R, N) for many weightings at once; None: all 1.

    Returns:
        counts of shape (T, L), or (R, T, L) for many weightings.

    Raises:
        DataError: as `Labelled.of`.
    """
    given = Labelled.of(truth, scores, weights)
    grid = np.atleast_1d(np.asarray(thresholds, dtype=np.float64))
    each = np.broadcast_to(grid[:, None], (len(grid), given.scores.shape[1]))
    return Decisions(*(given.weighting.as_given(counts) for counts in _counted(given, each)))


def subset_accuracy(
    truth: NDArray[Any],
    scores: NDArray[Any],
    thresholds: float | NDArray[Any] = 0.5,
    weights: NDArray[Any] | None = None,
) -> NDArray[np.float64]:
    """Share of the images of which every known label is decided rightly.

    Images without a known label take no part, nor do labels whose threshold is nan. Arguments and errors as `decide`.

    Returns:
        (), or (R,) for many weightings; nan without images.
    """
    given = Labelled.of(truth, scores, weights)
    each = _of_labels(thresholds, given.scores.shape[1])
    is_judged = given.is_known & ~np.isnan(each)
    is_right = ((given.scores > each) == given.is_positive) | ~is_judged
    counts = is_judged.any(axis=1)
    right, n = given.weighting.sums(np.stack([counts & is_right.all(axis=1), counts]).astype(np.float64)).T
    return np.asarray(given.weighting.as_given(ratio(right, n)))


def _counted(given: Labelled, thresholds: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Four (R, T, L): true positives, false negatives, false positives, true negatives; thresholds are (T, L)."""
    n_thresholds, n_labels = thresholds.shape
    order = np.argsort(thresholds, axis=0)  # nan last
    rising = np.take_along_axis(thresholds, order, axis=0)
    n_below = np.stack(
        [np.searchsorted(rising[:, c], given.scores[:, c], side="left") for c in range(n_labels)], axis=1
    )
    images, labels = np.nonzero(given.is_known)
    place = (n_below[images, labels] * n_labels + labels) * 2 + given.is_positive[images, labels]
    shape = (n_thresholds + 1, n_labels, 2)
    gathered = gathering(place, images, int(np.prod(shape)), len(given.scores))
    sums = given.weighting.sums(gathered).reshape(-1, *shape)
    noes = np.cumsum(sums, axis=1)[:, :-1]  # at each threshold, all that score as low or lower
    yeses = np.cumsum(sums[:, ::-1], axis=1)[:, -2::-1]
    found = []
    for counts in (yeses[..., 1], noes[..., 1], yeses[..., 0], noes[..., 0]):
        in_order = np.empty_like(counts)
        in_order[:, order, np.arange(n_labels)] = np.where(np.isnan(rising), np.nan, counts)
        found.append(in_order)
    return found


def _of_labels(thresholds: float | NDArray[Any], n_labels: int) -> NDArray[np.float64]:
    """(L,) one for each."""
    if np.shape(thresholds) not in {(), (n_labels,)}:
        raise DataError(f"thresholds are {np.shape(thresholds)}, and there are {n_labels} labels; pass one for each")
    return np.broadcast_to(np.asarray(thresholds, dtype=np.float64), n_labels)


def _checked_prevalence(prevalence: float | NDArray[Any]) -> NDArray[np.float64]:
    has = np.asarray(prevalence, dtype=np.float64)
    if not ((has >= 0) & (has <= 1)).all():
        raise OptionError(f"a prevalence is a share from 0 to 1, not {prevalence}; 2 per cent is 0.02")
    return has
