"""Thresholds chosen on validation scores; `decisions.decide` says what they do on others.

A threshold lies at a validation score, as only scores above it are a yes, or just below the lowest of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError, OptionError
from dvme.metrics.labelled import Labelled

ROUNDING = 1e-12
"""By so much a share may fall short: 55 of 100 reach 0.55, which no float equals."""


def thresholds_at_specificity(
    truth: NDArray[Any], scores: NDArray[Any], specificity: float, weights: NDArray[Any] | None = None
) -> NDArray[np.float64]:
    """The lowest threshold of each label at which the specificity is at least so high: the most sensitive of them.

    Args:
        truth: (N, L) of validation images: 1, 0, or nan for unknown.
        scores: (N, L).
        specificity: in (0, 1].
        weights: (N,); None: all 1.

    Returns:
        (L,); nan for a label without negatives.

    Raises:
        OptionError: if the specificity is not in (0, 1].
        DataError: as `Labelled.of`, or of several weightings.
    """
    given = _checked(truth, scores, weights, specificity, "specificity")
    found = np.full(given.scores.shape[1], np.nan)
    for label in range(len(found)):
        rows = given.is_negative[:, label]
        values, shares = _shares(given.scores[rows, label], given.weighting.rows[0][rows])
        if len(values):
            found[label] = values[np.argmax(shares >= specificity - ROUNDING)]
    return found


def thresholds_at_sensitivity(
    truth: NDArray[Any], scores: NDArray[Any], sensitivity: float, weights: NDArray[Any] | None = None
) -> NDArray[np.float64]:
    """The highest threshold of each label at which the sensitivity is at least so high: the most specific of them.

    Args:
        truth: (N, L) of validation images: 1, 0, or nan for unknown.
        scores: (N, L).
        sensitivity: in (0, 1].
        weights: (N,); None: all 1.

    Returns:
        (L,); nan for a label without positives.

    Raises:
        OptionError: if the sensitivity is not in (0, 1].
        DataError: as `Labelled.of`, or of several weightings.
    """
    given = _checked(truth, scores, weights, sensitivity, "sensitivity")
    counts = given.weighting.rows[0] > 0
    found = np.full(given.scores.shape[1], np.nan)
    for label in range(len(found)):
        rows = given.is_positive[:, label]
        values, shares = _shares(-given.scores[rows, label], given.weighting.rows[0][rows])
        if len(values):
            lowest_yes = -values[np.argmax(shares >= sensitivity - ROUNDING)]
            known = given.scores[given.is_known[:, label] & counts, label]
            lower = known[known < lowest_yes]
            found[label] = lower.max() if len(lower) else np.nextafter(lowest_yes, -np.inf)
    return found


def _checked(
    truth: NDArray[Any], scores: NDArray[Any], weights: NDArray[Any] | None, target: float, name: str
) -> Labelled:
    if not 0 < target <= 1:
        raise OptionError(f"{name} {target} cannot be asked for; choose a share above 0 and up to 1")
    given = Labelled.of(truth, scores, weights)
    if not given.weighting.is_one:
        raise DataError("an operating point is chosen under one weighting; pass weights (N,)")
    return given


def _shares(values: NDArray[Any], weights: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Distinct values, rising, and the share of the weight that is at or below each; none without weight."""
    distinct, place = np.unique(values[weights > 0], return_inverse=True)
    cumulated = np.cumsum(np.bincount(place, weights[weights > 0], minlength=len(distinct)), dtype=np.float64)
    return distinct, cumulated / cumulated[-1:]
