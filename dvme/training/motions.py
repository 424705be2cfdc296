"""Light augmentation of a minibatch: mirrored, a little turned, another part of the image, all in one resampling.

Meant as in `backbones/model/augment.py`, whose views are of single images: a motion shows a part of an image's central
square that lies inside it, so that no corner is made up; nothing changes colours. A part that would not fit when turned
is shown larger. Resampling is bilinear and not antialiased, for what is shown has about the size of the crop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme.training.recipe import Recipe
from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = deferred("torch")


@dataclass(frozen=True)
class Motions:
    """What is shown of B images."""

    is_mirrored: NDArray[np.bool_]
    """(B,) left and right."""
    is_upturned: NDArray[np.bool_]
    """(B,) mirrored top and bottom."""
    angles: NDArray[np.float64]
    """(B,) degrees, counter-clockwise."""
    areas: NDArray[np.float64]
    """(B,) of the central square that is shown, above 0, 1 at most; less where a turned part would not fit."""
    stretches: NDArray[np.float64]
    """(B,) of its width to its height, before it is turned."""
    right: NDArray[np.float64]
    """(B,) from -1 to 1: where the part is between the left and the right end that it may be at."""
    down: NDArray[np.float64]
    """(B,) from -1 to 1."""


def drawn(n: int, recipe: Recipe, rng: np.random.Generator) -> Motions:
    """Motions of n images. All numbers are drawn whatever the recipe, which says what of them is used."""
    numbers = rng.random((n, 7))
    return Motions(
        is_mirrored=(numbers[:, 0] < 0.5) & (recipe.flips != "none"),
        is_upturned=(numbers[:, 1] < 0.5) & (recipe.flips == "both"),
        angles=recipe.degrees * (2.0 * numbers[:, 2] - 1.0),
        areas=recipe.least_scale + (recipe.most_scale - recipe.least_scale) * numbers[:, 3],
        stretches=recipe.most_aspect ** (2.0 * numbers[:, 6] - 1.0),
        right=2.0 * numbers[:, 4] - 1.0,
        down=2.0 * numbers[:, 5] - 1.0,
    )


def moved(squares: Tensor, motions: Motions, crop: int) -> Tensor:
    """What the motions show.

    Args:
        squares: (B, C, S, S) float.
        motions: of the B images.
        crop: pixels of a side of what is returned.

    Returns:
        (B, C, crop, crop), within the range of each image.
    """
    theta = torch.from_numpy(_affine(motions)).to(squares.device, squares.dtype)
    grid = torch.nn.functional.affine_grid(theta, [*squares.shape[:2], crop, crop], align_corners=False)
    # The border is for the outer half of a pixel that is shown enlarged.
    return torch.nn.functional.grid_sample(squares, grid, padding_mode="border", align_corners=False)


def _affine(motions: Motions) -> NDArray[Any]:
    """(B, 2, 3): from where in the square, whose sides are at -1 and 1, each place of the crop comes."""
    angles = np.radians(motions.angles)
    cos, sin = np.cos(angles), np.sin(angles)
    width, height = np.sqrt(motions.areas * motions.stretches), np.sqrt(motions.areas / motions.stretches)
    # Of the upright rectangle around the turned one.
    extents = np.abs([width * cos, width * sin]) + np.abs([height * sin, height * cos])
    fit = 1.0 / np.maximum(extents.max(axis=0), 1.0)
    right, down = np.array([motions.right, motions.down]) * (1.0 - fit * extents)
    across, along = (
        fit * width * np.where(motions.is_mirrored, -1.0, 1.0),
        fit * height * np.where(motions.is_upturned, -1.0, 1.0),
    )
    rows = [across * cos, -along * sin, right, across * sin, along * cos, down]
    return np.stack(rows, axis=1).reshape(-1, 2, 3)
