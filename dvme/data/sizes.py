"""How many pixels an image has once it is decoded, told by its header."""

from __future__ import annotations

from pathlib import Path

from dvme.data.dicom import is_dicom
from dvme.data.dicom.headers import picture_size
from dvme.data.images import UNREADABLE, in_words, opened, orientation_of
from dvme.data.sources import read_image
from dvme.data.tiff import HEIGHT, WIDTH, Tiff
from dvme.errors import ImageError

ON_THEIR_SIDE = frozenset({5, 6, 7, 8})
"""EXIF orientations in which rows are columns."""
SIGNS_OF_EXIF = (b"eXIf", b"Raw profile type", b"xmp")
"""Of a PNG file that may say how it is turned, which Pillow looks for behind the pixels, reading these."""


def image_size(address: Path) -> tuple[int, int]:
    """(H, W) of an image, upright as it is decoded.

    Raises:
        OSError: if nothing is there, or it cannot be read.
        ImageError: if it is no image.
    """
    data = read_image(address).data
    if is_dicom(data):
        return picture_size(data)
    try:
        with opened(data) as file:
            # Pillow has the size of a TIFF as it will be once it is turned.
            width, height = (file.tag_v2[WIDTH], file.tag_v2[HEIGHT]) if isinstance(file, Tiff) else file.size
            is_asked = file.format != "PNG" or any(sign in data for sign in SIGNS_OF_EXIF)
            is_turned = is_asked and orientation_of(file) in ON_THEIR_SIDE
    except (*UNREADABLE, ImageError, MemoryError) as error:
        raise in_words(error) from error
    return (width, height) if is_turned else (height, width)
