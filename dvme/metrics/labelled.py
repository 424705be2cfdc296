"""What all metrics of several labels take and give: truth with unknown cells, scores, weights, means over labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError
from dvme.metrics.weighting import Weighting


@dataclass(frozen=True)
class Labelled:
    """Scores of N images for L labels beside the truth, checked."""

    is_known: NDArray[np.bool_]
    """(N, L)."""
    is_positive: NDArray[np.bool_]
    """(N, L); False where unknown."""
    scores: NDArray[np.float64]
    """(N, L)."""
    weighting: Weighting

    @classmethod
    def of(
        cls,
        truth: NDArray[Any],
        scores: NDArray[Any],
        weights: NDArray[Any] | None = None,
        *,
        are_probabilities: bool = False,
    ) -> Labelled:
        """From what callers give.

        Args:
            truth: (N, L) 1 has it, 0 has it not, nan unknown: that cell takes no part, the others of its row do.
            scores: (N, L), higher for a positive; infinite ones are ranked. Those of unknown cells must be numbers too.
            weights: (N,), or (R, N) for many weightings at once, non-negative; None: all 1.
            are_probabilities: refuse what lies outside [0, 1].

        Raises:
            DataError: if shapes do not fit, or something is outside of its range.
        """
        values, numbers = np.asarray(truth, dtype=np.float64), np.asarray(scores, dtype=np.float64)
        if values.ndim != 2 or values.shape != numbers.shape:
            raise DataError(f"truth is {values.shape} and scores are {numbers.shape}; pass (N, L) of both")
        is_known, is_positive = ~np.isnan(values), values == 1
        if (is_known & ~is_positive & (values != 0)).any():
            raise DataError("a metric takes truth of 0, 1 and nan for unknown; soft labels are for learning")
        if np.isnan(numbers).any():
            raise DataError("a score is nan; leave the image out, or mark its truth as unknown and give it any number")
        if are_probabilities and numbers.size and not (numbers.min() >= 0 and numbers.max() <= 1):
            raise DataError(f"probabilities lie in [{numbers.min()}, {numbers.max()}]; pass values from 0 to 1")
        return cls(is_known, is_positive, numbers, Weighting.of(weights, len(values)))

    @property
    def is_negative(self) -> NDArray[np.bool_]:
        """(N, L) known not to have the label."""
        return self.is_known & ~self.is_positive


class LabelMean(NamedTuple):
    """A mean over labels, of those that have a value."""

    mean: NDArray[np.float64]
    """(...); nan where no label has a value."""
    n_labels: NDArray[np.intp]
    """(...) how many labels entered."""


def mean_over_labels(values: NDArray[Any]) -> LabelMean:
    """Mean of (..., L) values over the labels for which they are not nan, each label counted once."""
    is_there = ~np.isnan(values)
    n_labels = is_there.sum(axis=-1)
    total = np.where(is_there, values, 0.0).sum(axis=-1)
    mean = np.divide(total, n_labels, out=np.full(np.shape(total), np.nan), where=n_labels > 0)
    return LabelMean(mean, n_labels)
