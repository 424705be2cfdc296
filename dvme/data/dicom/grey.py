"""Grey of a DICOM file to 8 bits: modality LUT, window or VOI LUT, range, MONOCHROME1, in this order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data.dicom.bits import Bits, Padding
from dvme.data.dicom.lut import Lut, lut_of
from dvme.data.dicom.opened import numbers
from dvme.data.dicom.picture import Picture
from dvme.data.dicom.window import Window, voi_of
from dvme.data.reading import PERCENTILES, Reading
from dvme.data.stretch import (
    FEW_GREYS,
    FEWER_THAN,
    SAMPLE,
    FewGreys,
    Outliers,
    extremes,
    find_outliers,
    looked_up,
    percentiles,
)
from dvme.errors import ImageError

Limits = tuple[float, float]
"""What becomes black, and what white."""
Seen = tuple[NDArray[np.uint8], Outliers | FewGreys | None]
"""(H, W) grey of 8 bits, and what there is to say about it."""
FITS = "percentile:0.5:99.5"
"""The range for a picture that uses a small part of what its header declares."""
BY_TABLE = 2
"""Bytes of a sample up to which every value there can be is computed once."""
AT_ONCE = 1 << 16
CLOSE = 9
"""Decimals by which a grey is known, so that halves are rounded alike whichever way they were computed."""


@dataclass(frozen=True)
class Chain:
    """What becomes of a sample, whatever the others are."""

    bits: Bits | None
    """None for floating point numbers."""
    padding: Padding | None
    modality: Lut | tuple[float, float]
    """A table, or slope and intercept."""
    voi: Window | Lut | None
    is_inverted: bool
    all_bits: bool
    """Also those that the header calls unused."""

    def stored(self, samples: NDArray[Any]) -> NDArray[Any]:
        """Samples to the values they stand for."""
        if self.bits is None:
            return samples
        return self.bits.without_overlays(samples) if self.all_bits else self.bits.values(samples)

    def is_padding(self, samples: NDArray[Any]) -> NDArray[np.bool_]:
        """Which samples are no part of the picture."""
        if self.padding is None:
            return np.zeros(samples.shape, dtype=bool)
        return self.padding.has(samples) | self.padding.has(self.stored(samples))

    def seen(self, samples: NDArray[Any]) -> NDArray[np.float64]:
        """Samples to what is seen of them: shares of the window, entries of the VOI LUT, or what they measure."""
        stored = self.stored(samples)
        if isinstance(self.modality, Lut):
            measured = self.modality.look_up(stored).astype(np.float64)
        else:
            slope, intercept = self.modality
            measured = stored * np.float64(slope) + intercept
        if isinstance(self.voi, Window):
            return self.voi.shares(measured)
        return self.voi.look_up(measured).astype(np.float64) if self.voi else measured

    def greys(self, seen: NDArray[np.float64], limits: Limits, is_padding: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """What is seen as grey, black at the lower limit, or the other way round if inverted; padding is black."""
        low, high = limits
        shares = np.clip((seen - low) / (high - low or 1.0), 0, 1)
        shares = 1 - shares if self.is_inverted else shares
        return np.where(is_padding, 0, np.round(np.round(shares * 255, CLOSE))).astype(np.uint8)


def grey_of(samples: NDArray[Any], header: Any, places: list[Any], picture: Picture, reading: Reading) -> Seen:
    """(H, W) grey of 8 bits, and what there is to say about it.

    Args:
        samples: (H, W) as decoded, in native byte order.
        header: of the file.
        places: where what holds for the frame stands, the nearest first.
        picture: of the file.
        reading: its range and window.

    Raises:
        ImageError: if the header is damaged, or does not fit the samples.
    """
    bits = None if picture.is_float else Bits.of(header, picture, samples.dtype)
    padding = Padding.of(header, picture)
    own = _is_own(reading.range)
    beyond = bits is not None and not bits.are_all_used(samples) and _are_foreign(samples, bits, padding)
    if beyond and not own and reading.range != "declared":
        raise ImageError(
            f"has values beyond the {picture.stored} bits that its header says are stored; @range=image reads all "
            "bits, @range=declared the stored ones alone"
        )
    modality, bounds = _modality(places, picture)
    voi = voi_of(places, picture, reading.voi, is_signed=bounds is None or bounds[0] < 0)
    chain = Chain(bits, padding, modality, voi, picture.photometric == "MONOCHROME1", all_bits=beyond and own)
    limits = None if own else _limits(voi, bounds)
    is_short = samples.dtype.kind in "iu" and samples.dtype.itemsize <= BY_TABLE
    if is_short and samples.size >= 1 << 8 * samples.dtype.itemsize:
        return _by_table(samples, chain, limits, reading.range)
    return _by_value(samples, chain, limits, reading.range)


def _is_own(asked: str) -> bool:
    """Whether the range is measured in each picture."""
    return asked == "image" or PERCENTILES.fullmatch(asked) is not None


def _are_foreign(samples: NDArray[Any], bits: Bits, padding: Padding | None) -> bool:
    picture = samples.ravel() if padding is None else samples[~padding.has(samples)]
    return bool(bits.are_foreign(picture).any())


def _modality(places: list[Any], picture: Picture) -> tuple[Lut | tuple[float, float], tuple[float, float] | None]:
    """What turns stored values into measured ones, and the bounds of these; no bounds for floating point numbers."""
    if places[-1].get("ModalityLUTSequence"):
        item = places[-1].get("ModalityLUTSequence")[0]
        instead = "the table is damaged"
        lut = lut_of(item, picture, "modality LUT", is_signed=picture.is_signed, instead=instead)
        return lut, (0, (1 << lut.depth) - 1)
    slope = next(iter(numbers(places, "RescaleSlope")), 1.0)
    intercept = next(iter(numbers(places, "RescaleIntercept")), 0.0)
    if not slope:
        raise ImageError("has RescaleSlope 0, which makes all of its pixels equal")
    if picture.is_float:
        return (slope, intercept), None
    ends = [bound * slope + intercept for bound in picture.bounds]
    return (slope, intercept), (min(ends), max(ends))


def _limits(voi: Window | Lut | None, bounds: tuple[float, float] | None) -> Limits | None:
    """What becomes black and white by the header; None where it does not bound the values."""
    if isinstance(voi, Window):
        return 0.0, 1.0
    return (0.0, float((1 << voi.depth) - 1)) if voi else bounds


def _by_table(samples: NDArray[Any], chain: Chain, limits: Limits | None, asked: str) -> Seen:
    """Every sample that there can be is computed once, and looked up for each pixel."""
    patterns = samples.view(f"u{samples.dtype.itemsize}")
    every = np.arange(1 << 8 * samples.dtype.itemsize).astype(patterns.dtype).view(samples.dtype)
    seen, is_padding = chain.seen(every), chain.is_padding(every)
    if limits is None:
        values = seen[patterns]
        limits, told = _measured(values[~is_padding[patterns]] if is_padding.any() else values.ravel(), asked)
        return looked_up(chain.greys(seen, limits, is_padding), samples), told
    table = chain.greys(seen, limits, is_padding)
    greys = looked_up(table, samples)
    if not _are_few(greys):
        return greys, None
    there = np.zeros(len(every), dtype=bool)
    there[patterns] = True
    there &= ~is_padding
    return greys, _told(table[there], chain.stored(every)[there], chain)


def _by_value(samples: NDArray[Any], chain: Chain, limits: Limits | None, asked: str) -> Seen:
    """Each pixel is computed: of integers of 32 bits, floating point numbers and small pictures."""
    seen, is_padding = np.empty(samples.shape), np.empty(samples.shape, dtype=bool)
    greys = np.empty(samples.shape, dtype=np.uint8)
    n_rows = max(1, AT_ONCE // samples.shape[1])
    parts = [slice(top, top + n_rows) for top in range(0, len(samples), n_rows)]
    for part in parts:
        seen[part], is_padding[part] = chain.seen(samples[part]), chain.is_padding(samples[part])
    if not np.isfinite(seen[~is_padding]).all():
        raise ImageError("has pixels that are not finite")
    told: Outliers | FewGreys | None = None
    if limits is None:
        limits, told = _measured(seen[~is_padding], asked)
    seen[is_padding] = limits[0]  # which may be nan
    for part in parts:
        greys[part] = chain.greys(seen[part], limits, is_padding[part])
    if told is None and not _is_own(asked) and _are_few(greys):
        told = _told(greys[~is_padding], samples[~is_padding], chain)
    return greys, told


def _measured(values: NDArray[np.float64], asked: str) -> tuple[Limits, Outliers | None]:
    """What becomes black and white by the picture itself, from what is seen of its pixels; (n,)."""
    if not values.size:
        return (0.0, 1.0), None
    if (found := PERCENTILES.fullmatch(asked)) is None:
        return extremes(values), find_outliers(values)
    low, high = percentiles(values, float(found[1]), float(found[2]))
    if low == high and values.min() < values.max():
        raise ImageError(f"has the value {low:,g} from end to end of @range={asked}; pass wider percentiles")
    return (low, high), None


def _are_few(greys: NDArray[np.uint8]) -> bool:
    return len(np.unique(greys.ravel()[:: greys.size // SAMPLE | 1])) < FEW_GREYS


def _told(greys: NDArray[np.uint8], values: NDArray[Any], chain: Chain) -> FewGreys | None:
    """That few greys are left of values, if so."""
    n_greys, n_values = len(np.unique(greys)), len(np.unique(values))
    if n_greys >= FEW_GREYS or n_values < FEWER_THAN * max(1, n_greys):
        return None
    return FewGreys(n_greys, n_values, by_window=chain.voi is not None, fits="" if chain.voi else FITS)
