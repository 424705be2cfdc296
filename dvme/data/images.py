"""Decoding: bytes of an image file to an 8-bit grey or RGB image, by one policy for every backbone."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, features
from PIL.Image import Transpose
from PIL.JpegImagePlugin import JpegImageFile

from dvme.data.ancillary import has_pages, with_pixels_only, without_ancillary
from dvme.data.declared import declared_scale
from dvme.data.decoded import Decoded
from dvme.data.depth import DEEP_MODES, deep_colours, grey_values, maxval_of, refuse_deep
from dvme.data.dicom import is_dicom
from dvme.data.dicom.names import SUFFIXES as DICOM_SUFFIXES
from dvme.data.encoded import Encoded
from dvme.data.grey import Grey, eight_bits, is_fixed_range
from dvme.data.reading import USUAL, Reading
from dvme.data.tiff import Tiff
from dvme.defaults import MAX_PIXELS
from dvme.errors import ImageError


def _is_built_in(library: str) -> bool:
    """Whether this Pillow can read a format; a Pillow that is too old to know the library has no entry for it."""
    return (library in features.modules or library in features.codecs) and bool(features.check(library))


DECODING = (
    "first frame; EXIF orientation applied; alpha dropped; grey of more than 8 bits stretched "
    "from each image's own minimum to its maximum; RGB"
)
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
} | dict.fromkeys(DICOM_SUFFIXES, "DICOM")
"""Lower-case suffix of a file to its format: what a folder is searched for. The content decides how a file is read."""

TOLD = (OSError, ValueError, SyntaxError, EOFError)
UNTOLD = (struct.error, zlib.error, LookupError, TypeError, ArithmeticError, RuntimeError, AttributeError)
UNREADABLE = (*TOLD, *UNTOLD, Image.DecompressionBombError)
"""What Pillow raises on damaged files: with a reason that one can read, or without."""
ORIENTATION = 274
UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
"""EXIF orientation to what sets the image upright."""


DRAFT_SCALES = (8, 4, 2)

USUALLY = Reading()


def decode_image(data: bytes | Encoded, max_pixels: int | None = None) -> Image.Image:
    """The image of `decode`."""
    return decode(data, max_pixels).image


def decode(image: bytes | Encoded, max_pixels: int | None = None, reading: Reading = USUALLY) -> Decoded:
    """Decode an image file to 8 bits.

    A grey image stays in mode `L`, for its channels are made equal only after the crop, at a third of the
    cost and with the same result; every other image comes in mode `RGB`. Grey images of more than 8 bits
    (16-bit X-rays, say) are mapped linearly by the range of the reading, by default from their own minimum to their
    maximum, because the used range is rarely the full one. What lies beside the pixels, such as a damaged EXIF, is
    passed over.

    Args:
        image: the file.
        max_pixels: the largest image to decode; None: 178,956,970.
        reading: what of it is read, and by which range of grey.

    Raises:
        ImageError: if the bytes are not an image, are truncated, hold too many pixels or one that is not finite, or
            are of a kind that Pillow does not read right; or if a grey is beyond the range of the reading.
    """
    data = image.data if isinstance(image, Encoded) else image
    if not data:
        raise ImageError("the file is empty")
    if is_dicom(data):
        from dvme.data.dicom.pixels import decode_dicom

        frame = image.frame if isinstance(image, Encoded) else None
        return decode_dicom(data, frame, max_pixels or MAX_PIXELS, reading)
    try:
        return _decode(data, data, max_pixels or MAX_PIXELS, reading)
    except (ImageError, MemoryError) as error:
        raise in_words(error) from error
    except UNREADABLE as error:
        for lean in without_ancillary(data):
            try:
                return _decode(lean, data, max_pixels or MAX_PIXELS, reading)
            except (ImageError, MemoryError) as other:
                raise in_words(other) from other
            except UNREADABLE:  # the first reason is the one of the file as it is
                continue
        raise in_words(error) from error


def in_words(error: BaseException) -> ImageError:
    """One line for the user."""
    text = " ".join(str(error).split())
    if isinstance(error, ImageError):
        return error
    if isinstance(error, MemoryError):
        return ImageError("too large for the memory of this machine")
    if isinstance(error, Image.DecompressionBombError):  # WebP, and films, which Pillow judges by its own setting
        return ImageError("has more pixels than Pillow opens of this format; save it as PNG, JPEG or TIFF")
    return ImageError(f"cannot be decoded: {text if isinstance(error, TOLD) else f'{type(error).__name__}: {text}'}")


def _decode(data: bytes, whole: bytes, max_pixels: int, reading: Reading) -> Decoded:
    """Decode a file; what lies beside the pixels and says how many bits they have is taken from `whole`."""
    with opened(data) as file:
        _check(file, whole, max_pixels, reading)
        if reading.draft != USUAL and isinstance(file, JpegImageFile):
            _shrink(file, int(reading.draft))
        is_tiff = isinstance(file, Tiff)
        image: Image.Image = file
        orientation = orientation_of(file) if is_tiff else None  # with its pixels read, a TIFF lets go of its tags
        grey = Grey(np.empty((0, 0), np.uint8))
        colours = deep_colours(file, data) if is_fixed_range(reading.range) else None
        if colours is None:
            refuse_deep(file, data)
        if colours is not None or file.mode in DEEP_MODES or (is_tiff and file.mode == "L"):
            grey = _grey(file, data, whole, reading.range, colours)
            image = Image.fromarray(255 - grey.pixels if getattr(file, "is_inverted", False) else grey.pixels)
        else:
            file.load()
            file.info.pop("transparency", None)  # of no use without alpha, and Pillow warns of some
        turn = UPRIGHT.get(orientation or orientation_of(file))
        image = image if turn is None else image.transpose(turn)
        image = image.convert("LA") if image.mode == "La" else image  # Pillow divides by alpha in two steps only
        if image.mode != "L":
            image = image.convert("RGB")
        return Decoded(image.copy() if image is file else image, grey.outliers)


def _shrink(file: JpegImageFile, least: int) -> None:
    """Have a JPEG file decoded to the fewest pixels whose short side has so many, of those that its blocks can give.

    A side of n pixels becomes one of n / 8, n / 4 or n / 2, rounded up.
    """
    for scale in DRAFT_SCALES:
        if -(-min(file.size) // scale) >= least:
            # Asked for sides that are rounded down, Pillow takes this scale, and rounds up by itself.
            file.draft(None, (file.width // scale, file.height // scale))
            return


def _check(file: ImageFile.ImageFile, whole: bytes, max_pixels: int, reading: Reading) -> None:
    """Refuse what is too large, or has another image that is asked for, or inks of either sense."""
    n_pixels = file.width * file.height
    if n_pixels > max_pixels:
        allowed = f"more than {max_pixels:,}; dvme extract --max-pixels {n_pixels} reads it"
        raise ImageError(f"has {n_pixels:,} pixels, {allowed}")
    has_several = has_pages(whole) if isinstance(file, Tiff) else getattr(file, "is_animated", False)
    if reading.frame not in {USUAL, "0"} and has_several:
        raise ImageError(f"has several images, of which the first is read; @frame={reading.frame} is for DICOM files")
    if file.format == "JPEG" and file.mode == "CMYK" and "adobe" not in file.info:
        raise ImageError("has four inks, and no Adobe marker that says whether 0 or 255 is full ink; save it as RGB")


def _grey(file: ImageFile.ImageFile, data: bytes, whole: bytes, by: str, values: NDArray[Any] | None) -> Grey:
    """What a file has as 8 bits: its grey, of 8 bits or more, or these colours of more."""
    maxval = maxval_of(file)  # which is forgotten once it is loaded
    is_deep = values is not None or file.mode in DEEP_MODES
    if values is None:
        values = file.grey() if isinstance(file, Tiff) else grey_values(file, data)
    return eight_bits(values, by, lambda: declared_scale(file, whole, values, maxval)) if is_deep else Grey(values)


def opened(data: bytes) -> ImageFile.ImageFile:
    """The image of a file, its pixels not read yet.

    `Image.open` is passed by for two things it does: it judges the size by a setting of the whole process, with a
    warning that no thread can keep for itself, and it gives no reason where a file of a known kind cannot be opened.

    Raises:
        ImageError: if the signature is of no known format.
        Any of `UNREADABLE`: if the file cannot be opened.
    """
    Image.preinit()
    reason: BaseException | None = None
    for name in FORMATS:
        if name not in Image.OPEN:
            Image.init()  # every format, which takes a tenth of a second
        factory, accepts = Image.OPEN[name]
        if accepts is None or accepts(data[:16]) is True:
            try:
                return Tiff(io.BytesIO(with_pixels_only(data))) if name == "TIFF" else factory(io.BytesIO(data), "")
            except (SyntaxError, LookupError, TypeError, struct.error) as error:
                reason = reason or error
    if reason is not None:
        raise reason
    raise ImageError("not an image that Pillow can read")


def orientation_of(file: Image.Image) -> int:
    """The orientation of a loaded image; 1, upright, where it cannot be read."""
    try:
        value = file.getexif().get(ORIENTATION, 1)
        return int(value)
    except UNREADABLE:
        return 1
