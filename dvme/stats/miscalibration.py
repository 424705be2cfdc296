"""Intervals of how far probabilities are from the truth of one label: calibration errors, Brier score, log loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dvme.metrics.calibration import N_BINS, bin_places
from dvme.seeds import checked_seed
from dvme.stats.influence import FEWEST, mean_scored
from dvme.stats.intervals import LEVEL, Interval
from dvme.stats.units import Units

N_DRAWS = 1000
"""Of the bins' gaps."""


@dataclass(frozen=True)
class Gaps:
    """The bins of J heads on N images of one label: how many there are, and by how much each is off."""

    weight: NDArray[np.float64]
    """(J, B) share of the images."""
    confidence: NDArray[np.float64]
    """(J, B) mean probability; nan in an empty bin."""
    gap: NDArray[np.float64]
    """(J, B) share that has the label less mean probability; 0 in an empty bin."""
    n_images: int
    """N."""
    parts: NDArray[np.float64]
    """(U, J B) what each image or patient contributes to a gap."""

    @classmethod
    def of(
        cls,
        is_positive: NDArray[Any],
        folds: Sequence[NDArray[Any]],
        groups: NDArray[Any] | None = None,
        bins: Literal["width", "mass"] = "width",
        n_bins: int = N_BINS,
    ) -> Gaps:
        """From probabilities.

        Args:
            is_positive: (N,) truth of 0 and 1, N at least 1.
            folds: J of (N,) probabilities.
            groups: (N,) patients; None: every image is a unit of its own.
            bins: as of `dvme.metrics.calibration.calibration`.
            n_bins: B.
        """
        n, n_heads = len(is_positive), len(folds)
        unit = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
        weight, confidence, gap = (np.zeros((n_heads, n_bins)) for _ in range(3))
        parts = np.zeros((int(unit.max()) + 1, n_heads * n_bins))
        for head, p in enumerate(folds):
            place = bin_places(p, n_bins, bins)
            counts = np.bincount(place, minlength=n_bins)
            filled = np.maximum(counts, 1)
            weight[head] = counts / n
            confidence[head] = np.where(counts, np.bincount(place, p, n_bins) / filled, np.nan)
            gap[head] = np.bincount(place, is_positive - p, n_bins) / filled
            np.add.at(parts, (unit, head * n_bins + place), (is_positive - p - gap[head, place]) / filled[place])
        return cls(weight, confidence, gap, n, parts)

    def errors(self, gap: NDArray[Any] | None = None) -> tuple[NDArray[Any], NDArray[Any]]:
        """Expected and largest calibration error, mean over the heads, for (..., J, B) gaps."""
        absolute = np.abs(self.gap if gap is None else gap)
        largest = np.where(self.weight > 0, absolute, 0.0).max(axis=-1)
        return (absolute * self.weight).sum(axis=-1).mean(axis=-1), largest.mean(axis=-1)

    def intervals(self, *, level: float = LEVEL, seed: int = 0) -> tuple[Interval, Interval]:
        """Expected and largest calibration error on other images, with the same bins: these cover at least so often.

        Chance makes the errors larger than they are, as gaps of either sign count: resampling cannot undo that near 0.
        But no error exceeds the true one by more than the error of the gaps' noise alone (triangle inequality), whose
        distribution is known. The other way, an expected error falls short by no more than the noise in the direction
        of the gaps. So the intervals are wide rather than wrong. The noise is normal, with the covariance that images
        or patients give the gaps, and at least the variance of a share of which two more images of either kind were
        seen.

        Returns:
            Ends within [0, 1]; nan with fewer than FEWEST units.

        Source: Agresti and Coull 1998 for the two more images; Bröcker 2012 and Kumar et al. 2019 for the bias.
        """
        expected, largest = (float(each) for each in self.errors())
        n_units, nan = len(self.parts), float("nan")
        if n_units < FEWEST:
            return Interval(expected, nan, nan), Interval(largest, nan, nan)
        covariance = self.parts.T @ self.parts * (n_units / (n_units - 1.0))
        short = np.maximum(self._least_variance().ravel() - np.diag(covariance), 0.0)
        values, vectors = np.linalg.eigh(covariance + np.diag(short))
        noise = np.random.default_rng(checked_seed(seed)).standard_normal((N_DRAWS, len(values)))
        drawn = (noise * np.sqrt(np.maximum(values, 0.0)) @ vectors.T).reshape(N_DRAWS, *self.gap.shape)
        over, over_largest = (float(np.quantile(each, (1.0 + level) / 2.0)) for each in self.errors(drawn))
        along = (drawn * np.sign(self.gap) * self.weight).sum(axis=-1).mean(axis=-1)
        under = float(np.quantile(along, (1.0 + level) / 2.0))
        return (
            Interval(expected, max(0.0, expected - over), min(1.0, expected + under)),
            Interval(largest, max(0.0, largest - over_largest), min(1.0, largest + over_largest)),
        )

    def _least_variance(self) -> NDArray[np.float64]:
        """(J, B) of a gap; 0 in an empty bin."""
        n = self.weight * self.n_images
        share = (np.nan_to_num(self.confidence + self.gap) * n + 2.0) / (n + 4.0)
        return np.where(n > 0, share * (1.0 - share) / np.maximum(n, 1.0), 0.0)


def mean_loss(losses: NDArray[Any], groups: NDArray[Any] | None = None) -> Interval:
    """The mean of losses that are not negative, on other images.

    Args:
        losses: (N, J), a column for each head, N at least 1.
        groups: (N,) patients; None: every image is a unit of its own.

    Returns:
        nan ends with fewer than FEWEST units, and where all losses are equal.
    """
    units = Units(np.zeros(len(losses), dtype=np.int64), groups)
    found = mean_scored(losses.mean(axis=1), units).interval()
    return Interval(found.estimate, float(np.maximum(0.0, found.low)), found.high)
