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
from dvme.vectors import spans

N_DRAWS = 1000
"""Of the bins' gaps."""
VALUES_AT_ONCE = 1 << 20
"""Units times bins: bounds the memory, as images may be many."""


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
    place: NDArray[np.intp]
    """(N, J) the bin that each head puts an image into; the images of a patient are beside each other."""
    parts: NDArray[np.float64]
    """(N, J) what the image contributes to the gap of that bin."""
    first: NDArray[np.intp]
    """(U + 1,) where the images of each unit, image or patient, begin; and N."""

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
        weight, confidence, gap = (np.zeros((n_heads, n_bins)) for _ in range(3))
        places, parts = np.empty((n, n_heads), dtype=np.intp), np.empty((n, n_heads))
        for head, p in enumerate(folds):
            place = bin_places(p, n_bins, bins)
            counts = np.bincount(place, minlength=n_bins)
            filled = np.maximum(counts, 1)
            weight[head] = counts / n
            confidence[head] = np.where(counts, np.bincount(place, p, n_bins) / filled, np.nan)
            gap[head] = np.bincount(place, is_positive - p, n_bins) / filled
            places[:, head], parts[:, head] = place, (is_positive - p - gap[head, place]) / filled[place]
        first = np.arange(n + 1)
        if groups is not None:
            _, unit, sizes = np.unique(groups, return_inverse=True, return_counts=True)
            order, first = np.argsort(unit, kind="stable"), np.append(0, np.cumsum(sizes))
            places, parts = places[order], parts[order]
        return cls(weight, confidence, gap, n, places, parts, first)

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
        n_units, nan = len(self.first) - 1, float("nan")
        if n_units < FEWEST:
            return Interval(expected, nan, nan), Interval(largest, nan, nan)
        covariance = self._products() * (n_units / (n_units - 1.0))
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

    def _products(self) -> NDArray[np.float64]:
        """(J B, J B) sums over the units of products of what each contributes to the gaps, some units at a time."""
        n_heads, n_bins = self.gap.shape
        width, n_units = n_heads * n_bins, len(self.first) - 1
        total = np.zeros((width, width))
        for units in spans(n_units, width, VALUES_AT_ONCE):
            ends = self.first[units.start : units.stop + 1]
            own = slice(ends[0], ends[-1])
            unit = np.repeat(np.arange(len(ends) - 1), np.diff(ends))[:, None]
            cells = (unit * n_heads + np.arange(n_heads)) * n_bins + self.place[own]
            parts = np.bincount(cells.ravel(), self.parts[own].ravel(), (len(ends) - 1) * width).reshape(-1, width)
            total += parts.T @ parts
        return total

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
