"""Deep grey to 8 bits: the stretch from minimum to maximum, and whether a handful of pixels set it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.errors import ImageError

FEW = 1e-3
"""The share of the pixels, half of it at either end of the range, that counts as a handful."""
LEAST_SHARE = 0.5
"""Of the range, that a handful must take up to be told."""
LEAST_PIXELS = 100
"""Of an image in which one pixel is a handful."""
PIXELS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Outliers:
    """A handful of pixels that take up most of an image's range of grey."""

    n_pixels: int
    """Outside of the central 99.9 %."""
    n_of: int
    """Pixels of the image."""
    share: float
    """Of the range from minimum to maximum, in 0.5..1, that only they use."""


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

    A handful lies outside of the central 99.9 % of the pixels, which span less than half of the range.
    """
    n = values.size
    few = max(1, int(n * FEW / 2))
    if n < LEAST_PIXELS or not (width := float(values.max()) - float(values.min())):
        return None
    ordered = np.partition(values, [few, n - 1 - few], axis=None)
    low, high = float(ordered[few]), float(ordered[n - 1 - few])
    share = 1.0 - (high - low) / width
    if share <= LEAST_SHARE:
        return None
    return Outliers(int(((values < low) | (values > high)).sum()), n, share)
