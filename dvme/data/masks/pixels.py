"""A mask's file as the values that its pixels have: no grey is stretched, and no colour is made grey."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from dvme.data.ancillary import has_pages
from dvme.data.depth import DEEP_MODES, grey_values, refuse_deep
from dvme.data.dicom import is_dicom
from dvme.data.images import UNREADABLE, UPRIGHT, in_words, opened, orientation_of
from dvme.data.mask_options import LARGEST
from dvme.data.tiff import Tiff
from dvme.defaults import MAX_PIXELS
from dvme.errors import ImageError

ADVICE = "save it as a PNG of grey or of a palette"
ON = 255
"""What a set pixel of one bit is, as PNG and image viewers have it."""
GREY_AND_ALPHA, COLOURS = {"LA", "PA"}, {"RGB", "RGBA", "RGBX"}


@dataclass(frozen=True)
class LabelImage:
    """The values of a mask's file."""

    values: NDArray[Any]
    """(H, W) uint8 or uint16; of a palette the indices."""
    is_jpeg: bool = False
    """Whether the file's format changes values."""


def label_values(data: bytes) -> LabelImage:
    """Decode a mask, upright as the image that it belongs to.

    Raises:
        ImageError: if it is no image, has colours that are neither a palette nor grey, or values of more than 16 bits.
    """
    if not data:
        raise ImageError("is an empty file")
    if is_dicom(data):
        raise ImageError(f"is a DICOM file; {ADVICE}")
    try:
        with opened(data) as file:
            is_jpeg, orientation = file.format == "JPEG", orientation_of(file) if isinstance(file, Tiff) else None
            values = _whole(_values(file, data))
            turn = UPRIGHT.get(orientation or orientation_of(file))
    except (*UNREADABLE, ImageError, MemoryError) as error:
        raise in_words(error) from error
    if turn is not None:
        values = np.asarray(Image.fromarray(values).transpose(turn))
    return LabelImage(values, is_jpeg)


def _values(file: ImageFile.ImageFile, data: bytes) -> NDArray[Any]:
    if file.width * file.height > MAX_PIXELS:
        raise ImageError(f"has {file.width * file.height:,} pixels, more than {MAX_PIXELS:,}")
    if has_pages(data) if isinstance(file, Tiff) else getattr(file, "is_animated", False):
        raise ImageError("holds several images; save each as a file of its own")
    if isinstance(file, Tiff) and (file.mode in DEEP_MODES or file.mode == "L"):
        values = file.grey()
        return np.iinfo(values.dtype).max - values if file.is_inverted else values
    refuse_deep(file, data)
    if file.mode in DEEP_MODES:
        return grey_values(file, data)
    file.load()
    if file.mode == "1":
        return np.asarray(file, dtype=np.uint8) * np.uint8(ON)
    if file.mode in {"L", "P"}:
        return np.asarray(file)
    channels = np.asarray(file)
    if file.mode in GREY_AND_ALPHA:
        return channels[..., 0]
    if file.mode in COLOURS and (channels[..., 1:3] == channels[..., :1]).all():
        return channels[..., 0]
    raise ImageError(f"is a colour image, and no palette says which class a colour is; {ADVICE}")


def _whole(values: NDArray[Any]) -> NDArray[Any]:
    """As uint8 or uint16."""
    if values.dtype == np.uint8:
        return values
    if values.size and not (values.min() >= 0 and values.max() <= LARGEST and (np.floor(values) == values).all()):
        low, high = values.min(), values.max()
        raise ImageError(f"has values from {low} to {high}; the values of a mask are whole, from 0 to {LARGEST:,}")
    return values.astype(np.uint16, copy=False)
