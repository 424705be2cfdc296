"""Deep grey to 8 bits: the stretch from minimum to maximum, and whether a handful of pixels set it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.errors import ImageError

FEW = 1e-3
"""The share of the pixels that counts as a handful."""
LEAST_SHARE = 0.5
"""Of the range, that a handful must take up to be told."""
LEAST_END = 0.1
"""Of the range, that an end of it must take up for its pixels to be counted."""
LEAST_PIXELS = 100
"""Of an image in which one pixel is a handful."""
SAMPLE = 1 << 16
"""Pixels by which an image is found to be spread over its range without ordering all of them."""
PIXELS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Outliers:
    """A handful of pixels that take up most of an image's range of grey."""

    n_pixels: int
    """The handful."""
    n_of: int
    """Pixels of the image."""
    share: float
    """Of the range from minimum to maximum, in 0.5..1, that only they take up."""


def stretched(values: NDArray[Any]) -> NDArray[np.uint8]:
    """(H, W) grey of 8 bits: the range of these values, of any type, mapped linearly to 0..255.

    Raises:
        ImageError: if one of them is not finite.
    """
    if not np.isfinite(values).all():
        raise ImageError("has pixels that are not finite")
    low, high = float(values.min()), float(values.max())
    span = high - low or 1.0
    result = np.empty(values.shape, dtype=np.uint8)
    rows = max(1, PIXELS_AT_ONCE // values.shape[1])
    for top in range(0, len(values), rows):  # a copy of 8 bytes a pixel would not fit for the largest images
        pixels = values[top : top + rows].astype(np.float64)
        result[top : top + rows] = np.round((pixels - low) * 255.0 / span)
    return result


def find_outliers(values: NDArray[Any]) -> Outliers | None:
    """Which handful of pixels sets the range of these values (H, W), all finite; None where they are spread over it.

    It does where the other 99.9 % of the pixels, chosen as close together as can be, span less than half of the range.
    """
    n = values.size
    width = float(values.max()) - float(values.min())
    if n < LEAST_PIXELS or not width:
        return None
    sample = values.ravel()[:: n // SAMPLE | 1]  # ordering all of a large image takes as long as decoding it
    low, high = _shortest(sample, len(sample) // 50)
    if high - low > LEAST_SHARE * width:
        return None
    low, high = _shortest(values, max(1, int(n * FEW)))
    if high - low >= LEAST_SHARE * width:
        return None
    above = np.sort(values[values > high].astype(np.float64)) - high
    below = low - np.sort(values[values < low].astype(np.float64))[::-1]
    told = [_beyond_gap(end) for end in (above, below) if len(end) and end[-1] > LEAST_END * width]
    n_far, span = sum(count for count, _ in told), sum(span for _, span in told)
    if span <= LEAST_SHARE * width:  # they thin out without a gap, so that all of them are told
        n_far, span = len(above) + len(below), width - (high - low)
    return Outliers(n_far, n, span / width)


def _shortest(values: NDArray[Any], few: int) -> tuple[float, float]:
    """The shortest range that holds all values but `few`."""
    ordered = np.partition(values, [few, values.size - 1 - few], axis=None)
    smallest = np.sort(ordered[: few + 1]).astype(np.float64)
    largest = np.sort(ordered[values.size - 1 - few :]).astype(np.float64)
    best = int(np.argmin(largest - smallest))  # without the `best` smallest, and the `few - best` largest
    return float(smallest[best]), float(largest[best])


def _beyond_gap(distances: NDArray[np.float64]) -> tuple[int, float]:
    """How many distances from the other pixels, ascending, lie beyond the widest gap of them, and what these span."""
    from_others = np.concatenate([[0.0], distances])
    gap = int(np.argmax(np.diff(from_others)))
    return len(distances) - gap, float(distances[-1] - from_others[gap])
