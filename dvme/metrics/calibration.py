"""How far confidence can be trusted: reliability, calibration errors, and intervals of shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dvme.metrics.classification import countable
from dvme.metrics.labelled import Labelled
from dvme.metrics.weighting import blocks, gathering, ratio

N_BINS = 10
Z = 1.959963984540054
"""97.5th percentile of the normal distribution."""


@dataclass(frozen=True)
class Reliability:
    """How often the predicted class is right, by the confidence in it, in 10 equal bins; nan where one is empty."""

    n_images: int
    n_left_out: int
    """Images without a label or a finite probability."""
    error: float
    """Expected calibration error: the bins' gaps between confidence and accuracy, weighted by their images."""
    n: tuple[int, ...]
    """Images of each bin; a confidence on the border of two belongs to the lower one."""
    confidence: tuple[float, ...]
    """Mean of each bin."""
    accuracy: tuple[float, ...]
    low: tuple[float, ...]
    """Of the accuracy: Wilson's 95 per cent interval, which takes images for independent."""
    high: tuple[float, ...]


def reliability(labels: NDArray[Any], probabilities: NDArray[Any], n_classes: int) -> Reliability:
    """The bins, and the expected calibration error.

    Args:
        labels: (N,) class indices; below 0: none.
        probabilities: (N, C).
        n_classes: C.

    Raises:
        DataError: if the shapes do not fit, or a label is not a class.

    Source: Guo et al. 2017, section 2, equations 2 and 3.
    """
    y, p, n_left_out = countable(labels, probabilities, n_classes)
    bins = calibration((p.argmax(axis=1) == y)[:, None], p.max(axis=1, initial=0.0)[:, None])
    n, confidence, accuracy = (each[0] for each in (bins.weight, bins.confidence, bins.share))
    error = float(bins.expected_error[0])
    columns = (confidence, accuracy, *wilson(accuracy, n))
    return Reliability(
        len(y), n_left_out, error, tuple(n.astype(int).tolist()), *(tuple(each.tolist()) for each in columns)
    )


@dataclass(frozen=True)
class Calibration:
    """Probabilities of having a label against how often it is there, in B bins of each label."""

    weight: NDArray[np.float64]
    """(L, B), or (R, L, B) for many weightings: images of each bin."""
    confidence: NDArray[np.float64]
    """Of the same shape: mean probability; nan in an empty bin."""
    share: NDArray[np.float64]
    """Of the same shape: share that has the label; nan in an empty bin."""

    @property
    def expected_error(self) -> NDArray[np.float64]:
        """ECE: mean gap between probability and share, bins weighted by their images; (L,) or (R, L).

        Source: Naeini et al. 2015; Guo et al. 2017, equation 3.
        """
        return ratio(np.nansum(self.weight * self._gap, axis=-1), self.weight.sum(axis=-1))

    @property
    def largest_error(self) -> NDArray[np.float64]:
        """MCE: largest gap of a bin that is not empty; (L,) or (R, L).

        Source: Naeini et al. 2015; Guo et al. 2017, equation 5.
        """
        largest = np.max(np.where(np.isnan(self._gap), -1.0, self._gap), axis=-1)
        return np.where(largest >= 0, largest, np.nan)

    @property
    def _gap(self) -> NDArray[np.float64]:
        gap: NDArray[np.float64] = np.abs(self.share - self.confidence)
        return gap


def calibration(
    truth: NDArray[Any],
    probabilities: NDArray[Any],
    weights: NDArray[Any] | None = None,
    *,
    n_bins: int = N_BINS,
    bins: Literal["width", "mass"] = "width",
) -> Calibration:
    """Bins of probability of each label.

    Of the predicted class of a multi-class problem: pass whether it is right as truth (N, 1), and its probability.

    Args:
        truth: (N, L) 1, 0, or nan for unknown.
        probabilities: (N, L) of having the label.
        weights: (N,), or (R, N) for many weightings at once; None: all 1.
        n_bins: B.
        bins: "width" for bins of equal width, to the lower of which a probability on a border belongs; "mass" for bins
            of equally many images, as near as that can be: equal probabilities share the bin in which the middle of
            their weight lies, and of N different ones bins differ by at most one image.

    Raises:
        DataError: as `Labelled.of`.

    Source: Guo et al. 2017, section 2; Nguyen and O'Connor 2015 for equal mass.
    """
    given = Labelled.of(truth, probabilities, weights, are_probabilities=True)
    sums = (_equal_width if bins == "width" else _equal_mass)(given, n_bins)  # (3, R, L, B)
    weight, total, n_positive = (given.weighting.as_given(each) for each in sums)
    return Calibration(weight, ratio(total, weight), ratio(n_positive, weight))


def bin_places(
    probabilities: NDArray[Any], n_bins: int = N_BINS, bins: Literal["width", "mass"] = "width"
) -> NDArray[np.intp]:
    """(N,) the bin, from 0, that `calibration` puts each of N probabilities into where all weigh the same."""
    if bins == "width":
        return np.searchsorted(np.arange(1, n_bins) / n_bins, probabilities, side="left")
    values, place, counts = np.unique(probabilities, return_inverse=True, return_counts=True)
    twice_middle = 2 * np.cumsum(counts) - counts
    inside: NDArray[np.intp] = np.minimum(twice_middle * n_bins // max(2 * len(place), 1), n_bins - 1)
    return inside[place] if len(values) else place


def _equal_width(given: Labelled, n_bins: int) -> NDArray[np.float64]:
    """(3, R, L, B) sums of weights, of probabilities and of positives."""
    images, labels = np.nonzero(given.is_known)
    p, is_positive = given.scores[images, labels], given.is_positive[images, labels]
    place = labels * n_bins + bin_places(p, n_bins)
    shape = (given.scores.shape[1], n_bins)
    matrices = (gathering(place, images, shape[0] * n_bins, len(given.scores), each) for each in (None, p, is_positive))
    return np.stack([given.weighting.sums(each).reshape(-1, *shape) for each in matrices])


def _equal_mass(given: Labelled, n_bins: int) -> NDArray[np.float64]:
    """As `_equal_width`; where a bin begins depends on the weighting."""
    n_labels, n_weightings = given.scores.shape[1], len(given.weighting.rows)
    found = np.zeros((3, n_weightings, n_labels, n_bins))
    for label in range(n_labels):
        images = np.flatnonzero(given.is_known[:, label])
        values, place = np.unique(given.scores[images, label], return_inverse=True)
        of = [
            gathering(place, images, len(values), len(given.scores), each)
            for each in (None, given.is_positive[images, label])
        ]
        for rows, block in blocks(given.weighting.rows, 2):
            weight, n_positive = (each @ np.ascontiguousarray(block.T) for each in of)  # (V, R)
            twice_middle = 2.0 * np.cumsum(weight, axis=0) - weight
            twice_total = 2.0 * np.maximum(weight.sum(axis=0), np.finfo(float).tiny)
            inside = np.minimum((twice_middle * n_bins / twice_total).astype(np.intp), n_bins - 1)
            at = (np.arange(len(block)) * n_bins + inside).ravel()
            for into, each in zip(found, (weight, weight * values[:, None], n_positive), strict=True):
                into[rows, label] = np.bincount(at, each.ravel(), len(block) * n_bins).reshape(-1, n_bins)
    return found


def wilson(shares: NDArray[Any], n: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Ends of the 95 per cent intervals of shares of n each; nan where n is 0.

    Source: Wilson 1927.
    """
    size = np.where(n > 0, n, np.nan)
    middle = (shares + Z**2 / (2 * size)) / (1 + Z**2 / size)
    half = Z * np.sqrt(shares * (1 - shares) / size + Z**2 / (4 * size**2)) / (1 + Z**2 / size)
    return np.maximum(0.0, middle - half), np.minimum(1.0, middle + half)
