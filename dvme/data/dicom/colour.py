"""Colour of a DICOM file to 8 bits: as RGB, or through its palette."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data.dicom.bits import Bits
from dvme.data.dicom.lut import palette_of
from dvme.data.dicom.picture import PALETTE, Picture
from dvme.errors import ImageError

AT_ONCE = 1 << 16


def colour_of(samples: NDArray[Any], photometric: str, header: Any, picture: Picture) -> NDArray[np.uint8]:
    """(H, W, 3) of 8 bits.

    Args:
        samples: (H, W, 3), or (H, W) of a palette.
        photometric: what they are now.
        header: of the file.
        picture: of the file.

    Raises:
        ImageError: if the samples do not fit the header.
    """
    bits = Bits.of(header, picture, samples.dtype)
    if not bits.are_all_used(samples) and bits.are_foreign(samples).any():
        raise ImageError(f"has values beyond the {picture.stored} bits that its header says are stored")
    if picture.photometric == PALETTE:
        first, colours = palette_of(header, picture)
        values = bits.values(samples).astype(np.int64) - first
        return np.asarray(colours[np.clip(values, 0, len(colours) - 1)])
    if photometric != "RGB":
        raise ImageError(f"has {photometric} pixels, which pydicom does not turn into RGB")
    unsigned = samples.view(f"u{samples.dtype.itemsize}")
    if bits.stored == bits.n == 8:
        return np.ascontiguousarray(unsigned)
    return _scaled(bits.values(unsigned), (1 << bits.stored) - 1)


def _scaled(values: NDArray[Any], most: int) -> NDArray[np.uint8]:
    result = np.empty(values.shape, dtype=np.uint8)
    rows = max(1, AT_ONCE // values.shape[1])
    for top in range(0, len(values), rows):
        result[top : top + rows] = np.round(values[top : top + rows] * (255 / most))
    return result
