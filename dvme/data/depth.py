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
HIGH_DEPTH, TWELVE_BIT, MONOCHROME = 0x40, 0x20, 0x10
"""Flags of AV1, in the third byte of its configuration."""
PPM_SCALE = 65_535


def refuse_deep(file: ImageFile.ImageFile, data: bytes) -> None:
    """Refuse an image of which only the upper 8 bits would be left, which makes a dark one black.

    AVIF in colour is the exception: its 10 or 12 bits are used in full, and are rounded to 8.

    Raises:
        ImageError: if it has more than 8 bits per colour channel, or is deep grey that comes as 8 bits.

    Source: ITU-T T.800, A.5.1 (SIZ); AV1 Codec ISO Media File Format Binding, section 2.3.
    """
    if file.mode in DEEP_MODES:
        return
    bits = _bits(file, data)
    if bits > 8:
        kind = "of grey" if file.format == "AVIF" else "per colour channel"
        raise ImageError(
            f"has {bits} bits {kind}; convert it to 8 bits, or to 16-bit grey without alpha, as PNG or TIFF"
        )


def grey_values(file: ImageFile.ImageFile) -> NDArray[Any]:
    """(H, W) values of a deep grey image that is no TIFF, which is loaded by this."""
    codec, arguments = codec_of(file)
    pixels = np.asarray(file)
    if codec.startswith("ppm") and file.mode == "I":  # Pillow has rounded values to 16 bits, which tears a narrow range
        return np.asarray(np.round(pixels * (int(arguments[1]) / PPM_SCALE)))
    return pixels


def codec_of(file: ImageFile.ImageFile) -> tuple[str, tuple[Any, ...]]:
    """By what Pillow is to read the pixels, and with which arguments; nothing where it is done or has its own way."""
    if not file.tile:
        return "", ()
    codec, _, _, arguments = file.tile[0]
    return codec, arguments if isinstance(arguments, tuple) else (arguments,)


def _bits(file: ImageFile.ImageFile, data: bytes) -> int:
    """Bits per channel as the file has them; 8 where nothing says that they are more."""
    codec, arguments = codec_of(file)
    if file.format == "JPEG2000":
        return _bits_of_jpeg_2000(data)
    if file.format == "AVIF":
        return _bits_of_grey_avif(data)
    if codec.startswith("ppm") and file.mode == "RGB":
        return int(arguments[1]).bit_length()
    return 16 if file.format == "PNG" and ";16" in str(arguments) else 8


def _bits_of_jpeg_2000(data: bytes) -> int:
    start = data.find(CODESTREAM)
    n = int.from_bytes(data[start + COMPONENTS : start + FIRST_DEPTH])
    depths = data[start + FIRST_DEPTH : start + FIRST_DEPTH + n * BYTES_EACH : BYTES_EACH]
    return max(((depth & LESS_ONE) + 1 for depth in depths), default=8) if start >= 0 else 8


def _bits_of_grey_avif(data: bytes) -> int:
    """8 for colours, which have one configuration, beside which there may be one of their alpha."""
    flags = [part[2] for part in data.split(b"av1C")[1:] if len(part) > 2]
    if not flags or not all(flag & MONOCHROME for flag in flags) or not flags[0] & HIGH_DEPTH:
        return 8
    return 12 if flags[0] & TWELVE_BIT else 10
