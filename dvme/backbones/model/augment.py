"""Augmented versions of an image, cropped for a backbone: mirrored, a little turned, another part of it.

What a view shows follows from the image's content id, the view's number and nothing else. So it is the same in every
process, order and batch; and for every backbone, whatever its input size: view 2 of one and view 2 of another see the
same part of the image at the same angle (without `crop`, each the part that its plain view sees). All numbers are drawn
whatever the recipe, which says only what of them is used: without flips the same angles and places come.

The usual recipe is the light augmentation of Truong et al. 2021, section 5.2: resized, then cropped at random, with
"further flipping or rotation". They state neither angle nor probability. `flip` mirrors left and right in every view of
odd number: of an even count, half. `rotate` turns by up to 7 degrees, as the code of Taher et al. 2021 does; Azizi et
al. 2021, section 4.2, turn by up to 45, for pretraining. `crop` shows a square of 70 to 100 per cent of the area of the
image's central square; Truong's crops of 224 of 256 pixels are of 77. Nothing changes colours or greys, and nothing is
blurred.

A mirror image of a chest X-ray has the heart on the right. Where the side matters, as in dextrocardia or for findings
that are named by their side, take the recipe `rotate+crop`.

Pixels: the image is resized so that one pixel of the view is one of it, antialiased as for the plain view. What is left
is a rigid motion, in which there is nothing to alias: by whole pixels if nothing is turned, else bicubic. The part that
is shown lies inside the image, so that no corner has to be made up; where a turned one would not, more is shown, in
smaller.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dvme.backbones.description.spec import Preprocess
from dvme.backbones.description.view import REVISION, View
from dvme.backbones.model.preprocess import crop_image, pixels_of, resized

LARGEST_ANGLE = 7.0
"""Degrees, to either side."""
LEAST_AREA = 0.7
"""Of the central square that is shown, at least."""
_UNIT = 2.0**-53


@dataclass(frozen=True)
class Motion:
    """What a view shows of an image's central square."""

    is_mirrored: bool
    angle: float
    """Degrees, counter-clockwise."""
    area: float
    """Of the central square, of what is shown before it is made to fit."""
    right: float
    """From -1 to 1: where it is between the left and the right end that it may be at."""
    down: float
    """From -1 to 1."""


def motion_of(view: View, content_id: bytes) -> Motion:
    """What a view draws for an image, whatever its recipe makes of it.

    By Philox, a counter-based generator: the key is the image, the counter the view. Its raw numbers are the same in
    every version of numpy, which those that are derived from them need not be.

    Args:
        view: not the plain one.
        content_id: 16 bytes.
    """
    key = int.from_bytes(content_id, "little")
    drawn = np.random.Philox(key=key, counter=[0, view.number, REVISION, 0]).random_raw(4)
    angle, area, right, down = ((int(each) >> 11) * _UNIT for each in drawn)
    return Motion(
        is_mirrored=view.number % 2 == 1,
        angle=LARGEST_ANGLE * (2.0 * angle - 1.0),
        area=LEAST_AREA + (1.0 - LEAST_AREA) * area,
        right=2.0 * right - 1.0,
        down=2.0 * down - 1.0,
    )


def view_image(image: Image.Image, preprocess: Preprocess, view: View, content_id: bytes) -> NDArray[np.uint8]:
    """A view of a grey or RGB image, as `crop_image` gives the plain one.

    Args:
        image: decoded.
        preprocess: of the backbone.
        view: which.
        content_id: of the image, 16 bytes.

    Returns:
        (H, W, C) uint8, see `crop_image`.

    Raises:
        ImageError: if one side is more than 50 times the other.
    """
    if view.is_plain:
        return crop_image(image, preprocess)
    motion, parts, crop = motion_of(view, content_id), view.recipe.split("+"), preprocess.crop
    angle = math.radians(motion.angle) if "rotate" in parts else 0.0
    extent = crop * (abs(math.cos(angle)) + abs(math.sin(angle)))  # of the upright square around what is shown
    side = crop / math.sqrt(motion.area) if "crop" in parts else float(preprocess.resize)
    size = max(round(side), math.ceil(extent))
    shown = resized(image, preprocess, size)
    right, down = (motion.right, motion.down) if "crop" in parts else (0.0, 0.0)
    slack = (size - extent) / 2.0
    centre = shown.width / 2.0 + right * slack, shown.height / 2.0 + down * slack
    if angle == 0.0:
        left, top = (round(each - crop / 2.0) for each in centre)
        part = shown.crop((left, top, left + crop, top + crop))
    else:
        part = shown.transform((crop, crop), Image.Transform.AFFINE, _affine(angle, centre, crop), _BICUBIC)
    if motion.is_mirrored and "flip" in parts:
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return pixels_of(part, preprocess)


_BICUBIC = Image.Resampling.BICUBIC


def _affine(angle: float, centre: tuple[float, float], crop: int) -> tuple[float, float, float, float, float, float]:
    """From where in the image each pixel of the crop comes: turned about the centre."""
    cos, sin, half = math.cos(angle), math.sin(angle), crop / 2.0
    right, down = centre
    return cos, -sin, right - half * cos + half * sin, sin, cos, down - half * sin - half * cos
