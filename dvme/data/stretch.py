"""Deep grey to 8 bits: values between two ends, extremes and percentiles, and whether a handful of pixels set these."""

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
FEW_GREYS = 32
"""Of 256: a picture that is left with fewer is told; grey of 12 bits in a range of 16 has 17."""
FEWER_THAN = 2
"""Values of the file for each grey that is left, from where something was lost."""
PIXELS_AT_ONCE = 1 << 20
LOOKED_UP_AT_ONCE = 1 << 16
"""Pixels whose indices fit the processor's cache."""
N_OF_16_BITS = 1 << 16


@dataclass(frozen=True)
class Outliers:
    """A handful of pixels that take up most of an image's range of grey."""

    n_pixels: int
    """The handful."""
    n_of: int
    """Pixels of the image."""
    share: float
    """Of the range from minimum to maximum, in 0.5..1, that only they take up."""


@dataclass(frozen=True)
class FewGreys:
    """A picture that has few of the 256 greys, though its file tells more values apart."""

    n_greys: int
    n_values: int
    """That the file has."""
    by_window: bool = False
    """A window or VOI LUT left so few; else the range, of which the picture uses a small part."""
    fits: str = ""
    """The range that fits the picture, such as `12bit`; "" where it is not known."""


def stretched(values: NDArray[Any]) -> NDArray[np.uint8]:
    """(H, W) grey of 8 bits: the range of these values, of any type, mapped linearly to 0..255.

    Raises:
        ImageError: if one of them is not finite.
    """
    return scaled(values, *extremes(values))


def extremes(values: NDArray[Any]) -> tuple[float, float]:
    """The least and the largest of these values.

    Raises:
        ImageError: if one of them is not finite.
    """
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ImageError("has pixels that are not finite")
    return float(values.min()), float(values.max())


def percentiles(values: NDArray[Any], *percents: float) -> tuple[float, ...]:
    """Percentiles of these values, all finite, interpolated linearly between the two that are nearest in order.

    Args:
        values: of any shape and type.
        percents: each in 0..100.

    Source: definition 7 of Hyndman and Fan 1996.
    """
    places = [percent / 100 * (values.size - 1) for percent in percents]
    wanted = sorted({index for place in places for index in (int(place), min(int(place) + 1, values.size - 1))})
    if _is_16_bit(values):
        levels, counts = _histogram(values)
        found = levels[np.searchsorted(np.cumsum(counts), wanted, side="right")]
    else:
        found = np.partition(values, wanted, axis=None)[wanted]
    in_order = dict(zip(wanted, found.astype(np.float64).tolist(), strict=True))
    below = [in_order[int(place)] for place in places]
    above = [in_order[min(int(place) + 1, values.size - 1)] for place in places]
    return tuple(
        low + (high - low) * (place - int(place)) for place, low, high in zip(places, below, above, strict=True)
    )


def scaled(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """(H, W) grey of 8 bits: `low` becomes 0, `high` 255, linearly; values beyond are as these; all are finite."""
    if values.size > N_OF_16_BITS and _is_16_bit(values):
        every = np.arange(N_OF_16_BITS, dtype=np.uint16).view(values.dtype)
        return looked_up(_computed(every, low, high), values)
    result = np.empty(values.shape, dtype=np.uint8)
    rows = max(1, PIXELS_AT_ONCE // values.shape[1])
    for top in range(0, len(values), rows):  # a copy of 8 bytes a pixel would not fit for the largest images
        result[top : top + rows] = _computed(values[top : top + rows], low, high)
    return result


def _computed(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    return np.round((values.astype(np.float64).clip(low, high) - low) * 255.0 / (high - low or 1.0)).astype(np.uint8)


def looked_up(table: NDArray[np.uint8], values: NDArray[Any]) -> NDArray[np.uint8]:
    """What a table has for each value, of 8 or 16 bits; it is ordered by these bits, taken as unsigned numbers."""
    bits = np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}").ravel()
    result = np.empty(bits.shape, dtype=np.uint8)
    for start in range(0, len(bits), LOOKED_UP_AT_ONCE):
        part = slice(start, start + LOOKED_UP_AT_ONCE)
        np.take(table, bits[part], out=result[part], mode="clip")  # no index is beyond; without `out` there is a copy
    return result.reshape(values.shape)


def _is_16_bit(values: NDArray[Any]) -> bool:
    return values.dtype in (np.uint16, np.int16)


def _histogram(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The 65,536 numbers of 16 bits, ascending, and how often each occurs."""
    bits = np.ascontiguousarray(values).view(np.uint16).ravel()
    counts = np.zeros(N_OF_16_BITS, dtype=np.int64)
    for start in range(0, len(bits), LOOKED_UP_AT_ONCE):
        counts += np.bincount(bits[start : start + LOOKED_UP_AT_ONCE], minlength=N_OF_16_BITS)
    levels = np.arange(N_OF_16_BITS, dtype=np.uint16).view(values.dtype)
    order = np.argsort(levels)
    return levels[order], counts[order]


def find_outliers(values: NDArray[Any], span: float | None = None) -> Outliers | None:
    """Which handful of pixels sets the range of these values (H, W), all finite; None where they are spread over it.

    It does where the other 99.9 % of the pixels, chosen as close together as can be, span less than half of the range,
    which is `span` where that is known.
    """
    n = values.size
    width = float(values.max()) - float(values.min()) if span is None else span
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


def find_few_greys(pixels: NDArray[np.uint8], values: NDArray[Any], fits: str) -> FewGreys | None:
    """That few greys are left of values, of any shape, if so.

    Args:
        pixels: greys of 8 bits.
        values: what they were made of.
        fits: the range that fits these.
    """
    if len(np.unique(pixels.ravel()[:: pixels.size // SAMPLE | 1])) >= FEW_GREYS:
        return None
    n_greys = int(np.count_nonzero(np.bincount(pixels.ravel(), minlength=256)))
    n_values = int(np.count_nonzero(_histogram(values)[1])) if _is_16_bit(values) else len(np.unique(values))
    is_few = n_greys < FEW_GREYS and n_values >= FEWER_THAN * n_greys
    return FewGreys(n_greys, n_values, fits=fits) if is_few else None


def _shortest(values: NDArray[Any], few: int) -> tuple[float, float]:
    """The shortest range that holds all values but `few`."""
    smallest, largest = _ends(values, few + 1)
    best = int(np.argmin(largest - smallest))  # without the `best` smallest, and the `few - best` largest
    return float(smallest[best]), float(largest[best])


def _ends(values: NDArray[Any], n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The `n` smallest and the `n` largest values, ascending."""
    if values.size > N_OF_16_BITS and _is_16_bit(values):
        levels, counts = _histogram(values)
        last = int(np.searchsorted(np.cumsum(counts), n)) + 1
        first = len(counts) - 1 - int(np.searchsorted(np.cumsum(counts[::-1]), n))
        smallest = np.repeat(levels[:last], counts[:last])[:n]
        largest = np.repeat(levels[first:], counts[first:])[-n:]
    else:
        ordered = np.partition(values, [n - 1, values.size - n], axis=None)
        smallest, largest = np.sort(ordered[:n]), np.sort(ordered[values.size - n :])
    return smallest.astype(np.float64), largest.astype(np.float64)


def _beyond_gap(distances: NDArray[np.float64]) -> tuple[int, float]:
    """How many distances from the other pixels, ascending, lie beyond the widest gap of them, and what these span."""
    from_others = np.concatenate([[0.0], distances])
    gap = int(np.argmax(np.diff(from_others)))
    return len(distances) - gap, float(distances[-1] - from_others[gap])
