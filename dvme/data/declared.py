"""The scale of grey that a file declares: the significant bits of PNG, the depth of JPEG 2000, the tags of TIFF."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFile

from dvme.data.ancillary import PNG, tiff_numbers
from dvme.data.depth import depth_of_jpeg_2000
from dvme.data.grey import Scale
from dvme.data.tiff import Tiff
from dvme.errors import ImageError

LEAST, LARGEST, SIGNED_LEAST, SIGNED_LARGEST = 280, 281, 340, 341
"""The tags MinSampleValue, MaxSampleValue, SMinSampleValue and SMaxSampleValue."""
PNG_BITS = 16


def declared_scale(file: ImageFile.ImageFile, data: bytes, values: NDArray[Any], maxval: int | None) -> Scale | None:
    """The scale of a deep image; None for floating point without tags that say it.

    Args:
        file: opened, or loaded.
        data: the whole file, from which nothing beside the pixels was taken.
        values: (H, W) or (H, W, 3), as the file has them.
        maxval: of a PGM or PPM.

    Raises:
        ImageError: if the significant bits of a PNG can be meant in two ways.
    """
    if isinstance(file, Tiff):
        return _of_tiff(file.n_bits, data, values)
    if values.dtype.kind == "f":
        return None
    if file.format == "PNG":
        return _of_png(data, values)
    if file.format == "JPEG2000":
        n_bits, is_signed = depth_of_jpeg_2000(data)
        return _of_bits(n_bits, is_signed=is_signed)
    return Scale(0, maxval or np.iinfo(values.dtype).max)


def _of_bits(n_bits: int, *, is_signed: bool) -> Scale:
    return Scale(-(2 ** (n_bits - 1)), 2 ** (n_bits - 1) - 1) if is_signed else Scale(0, 2**n_bits - 1)


def _of_tiff(n_bits: int, data: bytes, values: NDArray[Any]) -> Scale | None:
    """By the tags for samples of any type, else by those for unsigned ones, else by the bits of a sample.

    Source: TIFF 6.0, MinSampleValue (p. 36), MaxSampleValue (p. 35), SMinSampleValue and SMaxSampleValue (p. 80).
    """
    kind = values.dtype.kind
    whole = None if kind == "f" else _of_bits(n_bits, is_signed=kind == "i")
    tags = tiff_numbers(data, (LEAST, LARGEST, SIGNED_LEAST, SIGNED_LARGEST))
    for least, largest in ((SIGNED_LEAST, SIGNED_LARGEST), (LEAST, LARGEST)):
        if least == LEAST and kind != "u":
            continue
        low = tags.get(least, None if whole is None else whole.low)
        high = tags.get(largest, None if whole is None else whole.high)
        is_said = least in tags or largest in tags
        if (
            is_said
            and low is not None
            and high is not None
            and low < high
            and (whole is None or whole.holds(low, high))
        ):
            return Scale(low, high)
    return whole


def _of_png(data: bytes, values: NDArray[Any]) -> Scale:
    """By the number of significant bits, if it is given.

    Encoders are to scale fewer bits up to all 16, and some leave the numbers as they are. Greys above what the bits
    hold tell the first, provided that all are scaled up; greys that are not scaled up tell the second.

    Source: PNG (third edition), 11.3.2.7 (sBIT), 12.4 (scaling of samples).
    """
    whole = _of_bits(PNG_BITS, is_signed=False)
    n_bits = _significant_bits(data)
    if n_bits is None or n_bits == PNG_BITS:
        return whole
    fewer = _of_bits(n_bits, is_signed=False)
    is_within, is_scaled_up = bool(values.max() <= fewer.high), _are_scaled_up(values, n_bits)
    if is_within and is_scaled_up and values.any():
        raise ImageError(
            f"says that {n_bits} of its 16 bits count, but not whether these are the upper or the lower ones; "
            f"@range={n_bits}bit means the lower, @range=16bit the upper"
        )
    return whole if is_scaled_up and not is_within else fewer


def _are_scaled_up(values: NDArray[Any], n_bits: int) -> bool:
    """Whether 16-bit values are numbers of fewer bits times a power of two, with their bits repeated, or rounded."""
    levels = np.unique(values).astype(np.int64)
    shift = PNG_BITS - n_bits
    numbers = levels >> shift
    repeated = numbers << shift
    for n_filled in range(n_bits, PNG_BITS, n_bits):
        repeated = repeated | ((numbers << shift) >> n_filled)
    rounded = np.floor(numbers * ((2**PNG_BITS - 1) / (2**n_bits - 1)) + 0.5)
    return any(np.array_equal(levels, upper) for upper in (numbers << shift, repeated, rounded))


def _significant_bits(data: bytes) -> int | None:
    """The one number of the chunk sBIT, if it is intact and can be."""
    place = len(PNG)
    while place + 13 <= len(data):
        size, kind = int.from_bytes(data[place : place + 4]), data[place + 4 : place + 8]
        if kind == b"IDAT":
            return None
        if kind == b"sBIT":
            n_bits = data[place + 8]
            is_intact = zlib.crc32(data[place + 4 : place + 9]) == int.from_bytes(data[place + 9 : place + 13])
            return n_bits if size == 1 and is_intact and 1 <= n_bits <= PNG_BITS else None
        place += size + 12
    return None
