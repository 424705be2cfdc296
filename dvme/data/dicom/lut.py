"""Lookup tables of DICOM files: modality, VOI and palette."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data.dicom.opened import numbers
from dvme.data.dicom.picture import Picture
from dvme.errors import ImageError

WORD = 1 << 16
COLOURS = ("Red", "Green", "Blue")


@dataclass(frozen=True)
class Lut:
    """A table of integers, and for which value its first entry is."""

    first: int
    entries: NDArray[np.int64]
    """(n,)"""
    depth: int
    """Bits of an entry, 1 to 16."""

    def look_up(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """The entries of values of any shape, which are rounded; beyond its ends a table goes on as it ends."""
        at = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1).astype(np.intp)
        return np.asarray(self.entries[at])


def lut_of(item: Any, picture: Picture, name: str, *, is_signed: bool, instead: str) -> Lut:
    """The table of an item of a sequence.

    Args:
        item: with a LUTDescriptor and LUTData.
        picture: of the file.
        name: of the table, for messages.
        is_signed: whether the values that are looked up can be negative.
        instead: the variation that does without it, for messages.

    Raises:
        ImageError: if it is damaged, or its entries are larger than it says.

    Source: DICOM PS3.3, sections C.11.1.1 and C.11.2.1.1.
    """
    n, first, depth = _descriptor(item, "LUTDescriptor", name, is_signed=is_signed)
    value = item.get("LUTData")
    entries = _words(value, n, name, is_little_endian=picture.is_little_endian)
    if entries.max() >= 1 << depth:
        raise ImageError(f"has a {name} of {depth} bits with larger entries, up to {entries.max():,}; {instead}")
    return Lut(first, entries, depth)


def palette_of(header: Any, picture: Picture) -> tuple[int, NDArray[np.uint8]]:
    """The value of the first colour, and (n, 3) colours.

    Colours of 16 bits whose lower bytes are all 0 are ones of 8 bits; others are scaled from 0..65535.

    Raises:
        ImageError: if it is damaged or missing.

    Source: DICOM PS3.3, sections C.7.6.3.1.5, C.7.6.3.1.6 and C.7.9.2.
    """
    described = f"{COLOURS[0]}PaletteColorLookupTableDescriptor"
    n, first, depth = _descriptor(header, described, "palette", is_signed=picture.is_signed)
    if header.get(f"{COLOURS[0]}PaletteColorLookupTableData") is not None:
        parts = [
            _words(
                header.get(f"{each}PaletteColorLookupTableData"),
                n,
                "palette",
                is_little_endian=picture.is_little_endian,
            )
            for each in COLOURS
        ]
        colours = np.stack(parts, axis=1)
    else:
        colours = _segmented(header, n, first, depth, is_signed=picture.is_signed)
    if colours.max() < 1 << 8 and depth <= 8:
        return first, colours.astype(np.uint8)
    if not (colours & 0xFF).any():
        return first, (colours >> 8).astype(np.uint8)
    return first, np.round(colours * (255 / (WORD - 1))).astype(np.uint8)


def _segmented(header: Any, n: int, first: int, depth: int, *, is_signed: bool) -> NDArray[np.int64]:
    from pydicom.pixels.processing import apply_color_lut

    if not header.get("SegmentedRedPaletteColorLookupTableData"):
        raise ImageError("has PALETTE COLOR pixels and no palette")
    if depth == 8 and n > 1 << 8:
        raise ImageError("has a segmented palette of 8 bits with more than 256 colours, which dvme cannot read")
    values = first + np.arange(n, dtype=np.int32 if is_signed else np.int64)
    return np.asarray(apply_color_lut(values, header)[:, :3], dtype=np.int64)


def _descriptor(item: Any, keyword: str, name: str, *, is_signed: bool) -> tuple[int, int, int]:
    """Number of entries, value of the first, bits."""
    found = numbers([item], keyword)
    if len(found) != 3:
        raise ImageError(f"has a {name} whose {keyword} is not three numbers")
    n, first, depth = (int(each) for each in found)
    if not 0 < depth <= 16:
        raise ImageError(f"has a {name} of {depth} bits, not 1 to 16")
    n = n % WORD or WORD
    first = (first + WORD // 2) % WORD - WORD // 2 if is_signed else first % WORD
    return n, first, depth


def _words(value: Any, n: int, name: str, *, is_little_endian: bool) -> NDArray[np.int64]:
    """(n,) entries: of bytes, or of words, of which there may be one more byte to come to an even number."""
    if isinstance(value, (bytes, bytearray)):
        order = "<" if is_little_endian else ">"
        if len(value) >= 2 * n:
            return np.frombuffer(value, f"{order}u2", n).astype(np.int64)
        if len(value) in (n, n + 1):
            data = np.frombuffer(value[: n + n % 2] + b"\0" * (n + n % 2 - len(value)), np.uint8)
            return (data if is_little_endian else data.reshape(-1, 2)[:, ::-1].ravel())[:n].astype(np.int64)
    else:
        listed: Sequence[int] = [value] if isinstance(value, int) else list(value or ())
        if len(listed) >= n:
            return np.asarray(listed[:n], dtype=np.int64) % WORD
    raise ImageError(f"has a {name} of {n:,} entries that ends early")
