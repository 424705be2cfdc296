"""Resize and crop on the CPU, in 8 bits; normalisation happens on the device, in floating point."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dvme.backbones.description.spec import Preprocess
from dvme.errors import ImageError

MAX_ASPECT_RATIO = 50
"""Beyond it the resized image would be huge, and its central crop would show next to nothing of it."""


def crop_image(image: Image.Image, preprocess: Preprocess) -> NDArray[np.uint8]:
    """Resize and centre-crop a grey or RGB image.

    Returns:
        (H, W, C) uint8 with H = W = preprocess.crop; C is 3 (grey is repeated), or 1 for a grey input (colours
        are weighted by their luminance).

    Raises:
        ImageError: if one side is more than 50 times the other.

    Source: the arithmetic of torchvision's Resize (the long side is truncated) and CenterCrop (rounded).
    """
    image = resized(image, preprocess, preprocess.resize)
    left = round((image.width - preprocess.crop) / 2.0)
    top = round((image.height - preprocess.crop) / 2.0)
    return pixels_of(image.crop((left, top, left + preprocess.crop, top + preprocess.crop)), preprocess)


def resized(image: Image.Image, preprocess: Preprocess, size: int) -> Image.Image:
    """An image of so many pixels on its short side, or of both where it is squashed; antialiased.

    Raises:
        ImageError: if one side is more than 50 times the other.
    """
    width, height = image.size
    if preprocess.mode == "squash":
        target = (size, size)
    elif width <= height:
        target = (size, int(size * height / width))
    else:
        target = (int(size * width / height), size)
    if max(target) > MAX_ASPECT_RATIO * size:
        raise ImageError(f"is {width} x {height} pixels, longer than {MAX_ASPECT_RATIO} to 1")
    return image if target == image.size else image.resize(target, Image.Resampling[preprocess.interpolation.upper()])


def pixels_of(crop: Image.Image, preprocess: Preprocess) -> NDArray[np.uint8]:
    """(H, W, C) uint8 of a grey or RGB crop, with the channels of a backbone's input."""
    if preprocess.channels == 1:
        return np.asarray(crop.convert("L"))[:, :, None]
    return np.asarray(crop.convert("RGB"))
