"""Bits per channel: refusing images of which Pillow would keep only the upper 8 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFile

from dvme.errors import ImageError

DEEP_MODES = frozenset({"I", "F", "I;16", "I;16B", "I;16L", "I;16N"})
"""Pillow's modes of grey with more than 8 bits."""
CODESTREAM = b"\xff\x4f\xff\x51"
"""SOC and SIZ, with which JPEG 2000 begins."""
COMPONENTS, FIRST_DEPTH, BYTES_EACH = 40, 42, 3
"""Where SIZ has the number of components and the bits of the first, from SOC on."""
LESS_ONE = 0x7F
"""Of a component's depth: the bits but one; what is left says that it is signed."""
MOST_BITS = 16
"""That Pillow gives of a format beside TIFF."""
HIGH_DEPTH, TWELVE_BIT, MONOCHROME = 0x40, 0x20, 0x10
"""Flags of AV1, in the third byte of its configuration."""
PPM_SCALE = 65_535


def refuse_deep(file: ImageFile.ImageFile, data: bytes) -> None:
    """Refuse an image of which only the upper 8 bits would be left, which makes a dark one black.

    AVIF in colour is the exception: its 10 or 12 bits are used in full, and are rounded to 8.

    Raises:
        ImageError: if it has more than 8 bits per colour channel, is deep grey that comes as 8 bits, or has more than
            16 bits of grey of which Pillow gives 16.

    Source: ITU-T T.800, A.5.1 (SIZ); AV1 Codec ISO Media File Format Binding, section 2.3.
    """
    if file.mode in DEEP_MODES:
        bits = depth_of_jpeg_2000(data)[0] if file.format == "JPEG2000" else MOST_BITS
        if bits > MOST_BITS:
            raise ImageError(f"has {bits} bits of grey, of which Pillow would drop the lowest; save it as TIFF")
        return
    bits = bits_per_channel(file, data)
    if bits > 8:
        kind = "of grey" if file.format == "AVIF" else "per colour channel"
        way = "; @range=dtype reads it as it is" if codec_of(file)[0] == "ppm" else ""
        raise ImageError(
            f"has {bits} bits {kind}; convert it to 8 bits, or to 16-bit grey without alpha, as PNG or TIFF{way}"
        )


def grey_values(file: ImageFile.ImageFile, data: bytes) -> NDArray[Any]:
    """(H, W) values of a deep grey image that is no TIFF, which is loaded by this: uint16, int16 or float32.

    Raises:
        ImageError: if one is above what the file says is the largest.
        OSError: if pixels are missing.
    """
    if file.mode == "F":
        return np.asarray(file)
    maxval = maxval_of(file)
    if maxval is None:
        pixels = np.asarray(file).astype(np.uint16, copy=False)
        return _unscaled(pixels, *depth_of_jpeg_2000(data)) if file.format == "JPEG2000" else pixels
    if codec_of(file)[0] == "ppm_plain":  # Pillow has rounded values to 16 bits, which tears a narrow range
        return np.round(np.asarray(file) * (maxval / PPM_SCALE)).astype(np.uint16)
    return _samples_of_ppm(file, data, 1)[..., 0]


def deep_colours(file: ImageFile.ImageFile, data: bytes) -> NDArray[np.uint16] | None:
    """(H, W, 3) values of a binary PPM of more than 8 bits; None of any other file.

    Raises:
        As `grey_values`.
    """
    is_deep = file.mode == "RGB" and codec_of(file)[0] == "ppm" and maxval_of(file)
    return _samples_of_ppm(file, data, 3) if is_deep else None


def _samples_of_ppm(file: ImageFile.ImageFile, data: bytes, n_channels: int) -> NDArray[np.uint16]:
    """(H, W, C) values of a binary PGM or PPM of 16 bits, which Pillow takes one by one.

    Raises:
        ImageError: if one is above what the file says is the largest.
        OSError: if pixels are missing.
    """
    n, start = file.width * file.height * n_channels, file.tile[0][2]
    if len(data) < start + 2 * n:
        raise OSError("image file is truncated")
    values = np.frombuffer(data, ">u2", n, start).astype(np.uint16)
    if values.max() > (maxval := maxval_of(file) or PPM_SCALE):
        raise ImageError(f"has the value {values.max():,}, and its header says that {maxval:,} is the largest")
    return values.reshape(file.height, file.width, n_channels)


def _unscaled(pixels: NDArray[np.uint16], n_bits: int, is_signed: bool) -> NDArray[Any]:
    """Values as JPEG 2000 has them: Pillow lifts signed ones by half of their range, and all to 16 bits."""
    values = pixels >> (MOST_BITS - n_bits)
    return (values - np.uint16(1 << (n_bits - 1))).view(np.int16) if is_signed else values


def codec_of(file: ImageFile.ImageFile) -> tuple[str, tuple[Any, ...]]:
    """By what Pillow is to read the pixels, and with which arguments; nothing where it is done or has its own way."""
    if not file.tile:
        return "", ()
    codec, _, _, arguments = file.tile[0]
    return codec, arguments if isinstance(arguments, tuple) else (arguments,)


def maxval_of(file: ImageFile.ImageFile) -> int | None:
    """The largest value that a PGM or PPM of 16 bits may have; None of other files, and of one that is loaded."""
    codec, arguments = codec_of(file)
    if file.format != "PPM" or file.mode not in {"I", "RGB"}:
        return None
    maxval = int(arguments[1]) if codec.startswith("ppm") else PPM_SCALE if file.mode == "I" else 0
    return maxval if maxval > 255 else None


def depth_of_jpeg_2000(data: bytes) -> tuple[int, bool]:
    """The most bits that a component of a JPEG 2000 has, and whether it is signed; (8, False) where none is told."""
    start = data.find(CODESTREAM)
    n = int.from_bytes(data[start + COMPONENTS : start + FIRST_DEPTH])
    depths = data[start + FIRST_DEPTH : start + FIRST_DEPTH + n * BYTES_EACH : BYTES_EACH] if start >= 0 else b""
    deepest = max(depths, key=lambda depth: depth & LESS_ONE, default=7)
    return (deepest & LESS_ONE) + 1, deepest > LESS_ONE


def bits_per_channel(file: ImageFile.ImageFile, data: bytes) -> int:
    """Bits per channel as the file has them; 8 where nothing says that they are more."""
    if file.format == "JPEG2000":
        return depth_of_jpeg_2000(data)[0]
    if file.format == "AVIF":
        return _bits_of_grey_avif(data)
    if maxval := maxval_of(file):
        return maxval.bit_length()
    return 16 if file.format == "PNG" and ";16" in str(codec_of(file)[1]) else 8


def _bits_of_grey_avif(data: bytes) -> int:
    """8 for colours, which have one configuration, beside which there may be one of their alpha."""
    flags = [part[2] for part in data.split(b"av1C")[1:] if len(part) > 2]
    if not flags or not all(flag & MONOCHROME for flag in flags) or not flags[0] & HIGH_DEPTH:
        return 8
    return 12 if flags[0] & TWELVE_BIT else 10
