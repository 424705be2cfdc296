"""Which bits of a sample are its value, which are unused, and which mark padding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data.dicom.opened import numbers
from dvme.data.dicom.picture import Picture

RLE = "1.2.840.10008.1.2.5"
OVERLAY_GROUPS = range(0x6000, 0x6020, 2)
BIT_POSITION, OVERLAY_DATA = 0x0102, 0x3000


@dataclass(frozen=True)
class Bits:
    """Of samples that are integers, as the file's array has them."""

    n: int
    """Of the array's type."""
    stored: int
    high: int
    is_signed: bool
    overlays: int
    """A mask of the bits in which the file keeps overlays."""

    @classmethod
    def of(cls, header: Any, picture: Picture, dtype: np.dtype[Any]) -> Bits:
        """Of a file; what a codec has decoded lies in the lowest bits, wherever the header says."""
        lies_as_told = not picture.is_encapsulated or picture.transfer_syntax == RLE
        high = picture.high if lies_as_told else picture.stored - 1
        n = dtype.itemsize * 8
        return cls(n, picture.stored, high, picture.is_signed, _overlays(header) & ~_between(picture.stored, high))

    def values(self, samples: NDArray[Any]) -> NDArray[Any]:
        """The values of samples of any shape: their used bits."""
        return np.asarray((samples << (self.n - 1 - self.high)) >> (self.n - self.stored))

    def without_overlays(self, samples: NDArray[Any]) -> NDArray[Any]:
        """All bits of samples but those of overlays."""
        unsigned = samples.view(f"u{self.n // 8}")
        return np.asarray(unsigned & unsigned.dtype.type(_all(self.n) & ~self.overlays)).view(samples.dtype)

    def are_all_used(self, samples: NDArray[Any]) -> bool:
        """Whether no sample has more than its used bits, which least and largest tell of most files."""
        if self.stored == self.n:
            return True
        low = -(1 << self.stored - 1) if self.is_signed else 0
        lies_low = self.high == self.stored - 1
        return lies_low and int(samples.min()) >= low and int(samples.max()) < 1 << self.stored

    def are_foreign(self, samples: NDArray[Any]) -> NDArray[np.bool_]:
        """Which samples have bits beyond the used ones that neither repeat a sign nor are an overlay.

        A negative value may have zeros there, even in a file in which others repeat their sign.
        """
        unsigned = samples.view(f"u{self.n // 8}")
        word = unsigned.dtype.type
        unused = _all(self.n) & ~_between(self.stored, self.high) & ~self.overlays
        beyond = unsigned & word(unused)
        if not self.is_signed:
            return np.asarray(beyond != 0)
        above = unused & ~_all(self.high + 1)
        repeats = (unsigned >> word(self.high) & word(1) == 1) & (beyond == word(above))
        return np.asarray((beyond != 0) & ~repeats)


@dataclass(frozen=True)
class Padding:
    """The values of samples that are no part of the picture."""

    low: float
    high: float

    @classmethod
    def of(cls, header: Any, picture: Picture) -> Padding | None:
        """Of a file; None where it has none.

        Source: DICOM PS3.3, sections C.7.5.1.1.2 and C.7.6.16.
        """
        kind = picture.keyword.removesuffix("PixelData")
        value, limit = (header.get(f"{kind}PixelPadding{part}") for part in ("Value", "RangeLimit"))
        if picture.is_float:
            ends = [float(each) for each in (value, limit) if each is not None]  # nan is one that files use
            return cls(min(ends), max(ends)) if ends and value is not None else None
        found = numbers([header], "PixelPaddingValue")
        if not found:
            return None
        ends = [_in_sign(each, picture) for each in (found[0], *numbers([header], "PixelPaddingRangeLimit")[:1])]
        return cls(min(ends), max(ends))

    def has(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """Which values of any shape are padding."""
        if np.isnan(self.low):
            return np.asarray(np.isnan(values))
        return np.asarray((values >= self.low) & (values <= self.high))


def _in_sign(value: float, picture: Picture) -> float:
    """A padding value as the samples have it; headers write it signed or unsigned."""
    span = 1 << max(picture.allocated, 16)
    return (value + span // 2) % span - span // 2 if picture.is_signed else value % span


def _overlays(header: Any) -> int:
    """A mask of the bits of samples in which there are overlays."""
    mask = 0
    for group in OVERLAY_GROUPS:
        position = header.get((group, BIT_POSITION))
        if position is None or (group, OVERLAY_DATA) in header:
            continue
        if isinstance(position.value, int) and 0 < position.value < 64:
            mask |= 1 << position.value
    return mask


def _all(n: int) -> int:
    return (1 << n) - 1


def _between(stored: int, high: int) -> int:
    """The mask of the used bits."""
    return _all(stored) << (high - stored + 1)
