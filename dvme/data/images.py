"""Decoding: bytes of an image file to an 8-bit grey or RGB image, by one policy for every backbone."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError, features

from dvme.errors import ImageError


def _is_built_in(library: str) -> bool:
    """Whether this Pillow can read a format; a Pillow that is too old to know the library has no entry for it."""
    return (library in features.modules or library in features.codecs) and bool(features.check(library))


DECODING = "first frame; EXIF orientation applied; grey of more than 8 bits stretched from min to max; RGB"
"""The policy in words. It is part of every fingerprint: change it when the pixels change."""

ALWAYS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF")
BUILT_IN = {"AVIF": "avif", "JPEG2000": "jpg_2000", "WEBP": "webp"}
"""Formats that a Pillow may have been built without, and what it calls their library."""
FORMATS = (*ALWAYS, *(name for name, library in BUILT_IN.items() if _is_built_in(library)))
"""What is read. TGA is left out: it has no signature, so that other files pass for pictures of it."""

SUFFIXES = {
    suffix: name
    for name, suffixes in {
        "AVIF": (".avif",),
        "BMP": (".bmp",),
        "GIF": (".gif",),
        "JPEG": (".jfif", ".jpe", ".jpeg", ".jpg"),
        "JPEG2000": (".j2c", ".j2k", ".jp2", ".jpc", ".jpf", ".jpx"),
        "PNG": (".apng", ".png"),
        "PPM": (".pbm", ".pfm", ".pgm", ".pnm", ".ppm"),
        "TIFF": (".tif", ".tiff"),
        "WEBP": (".webp",),
    }.items()
    if name in FORMATS
    for suffix in suffixes
}
"""Lower-case suffix of a file to its format: what a folder is searched for. The content decides how a file is read."""

DEEP_MODES = frozenset({"I", "F", "I;16", "I;16B", "I;16L", "I;16N"})


def decode_image(data: bytes) -> Image.Image:
    """Decode an image file to 8 bits.

    A grey image stays in mode `L`, for its channels are made equal only after the crop, at a third of the
    cost and with the same result; every other image comes in mode `RGB`. Grey images of more than 8 bits
    (16-bit X-rays, say) are stretched linearly from their own minimum and maximum, because the
    used range is rarely the full one.

    Raises:
        ImageError: if the bytes are not an image, are truncated, or hold no finite pixel.
    """
    if not data:
        raise ImageError("the file is empty")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as file:
            _refuse_deep_colour(file)
            file.load()
            ImageOps.exif_transpose(file, in_place=True)
            image = _stretched(file) if file.mode in DEEP_MODES else file
            return image.copy() if image.mode == "L" else image.convert("RGB")
    except UnidentifiedImageError as error:
        raise ImageError("not an image that Pillow can read") from error
    except MemoryError as error:
        raise ImageError("too large for the memory of this machine") from error
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ImageError(f"cannot be decoded: {error}") from error
    except (struct.error, zlib.error, LookupError, TypeError, ArithmeticError, RuntimeError, AttributeError) as error:
        raise ImageError(f"cannot be decoded: {type(error).__name__}: {error}") from error


def _refuse_deep_colour(file: Image.Image) -> None:
    """Pillow silently keeps only the high byte of 16-bit colour, which leaves a dark image black."""
    if file.mode not in DEEP_MODES and any(";16" in str(tile) for tile in getattr(file, "tile", ())):
        raise ImageError("has 16 bits per colour channel; convert it to 8 bits, or to 16-bit grey")


def _stretched(image: Image.Image) -> Image.Image:
    """An 8-bit version of a deep grey image, its range mapped to 0..255."""
    pixels = np.asarray(image).astype(np.float64)
    if not np.isfinite(pixels).all():
        raise ImageError("has pixels that are not finite")
    low, high = float(pixels.min()), float(pixels.max())
    scale = 255.0 / (high - low) if high > low else 0.0
    return Image.fromarray(np.round((pixels - low) * scale).astype(np.uint8))
