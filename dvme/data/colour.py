"""Colour, and grey with alpha, of more than 8 bits: of this Pillow gives the upper 8 bits only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFile

from dvme.data.depth import bits_per_channel, codec_of, maxval_of, samples_of_ppm

RGB = 3


def deep_colours(file: ImageFile.ImageFile, data: bytes) -> NDArray[np.uint16] | None:
    """(H, W, 3) or, of grey with alpha, (H, W) values of a PNG or binary PPM of 9 to 16 bits; None of any other file.

    Alpha is dropped. torchvision reads the PNG, by libpng.

    Raises:
        ImageError: if a value is above what the file says is the largest.
        OSError, RuntimeError: if the file is damaged.
    """
    if file.format == "PNG" and file.mode in {"RGB", "RGBA", "LA"} and bits_per_channel(file, data) > 8:
        return _of_png(data)
    is_deep_ppm = file.mode == "RGB" and codec_of(file)[0] == "ppm" and maxval_of(file)
    return samples_of_ppm(file, data, RGB) if is_deep_ppm else None


def _of_png(data: bytes) -> NDArray[np.uint16]:
    import torch
    from torchvision.io import decode_png  # type: ignore[import-untyped,unused-ignore]

    channels: NDArray[Any] = decode_png(torch.frombuffer(bytearray(data), dtype=torch.uint8)).numpy()
    return channels[0] if len(channels) < RGB else np.ascontiguousarray(np.moveaxis(channels[:RGB], 0, -1))
