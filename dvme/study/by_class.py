"""A segmentation class by class: its scores with intervals, and what the grid allows."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dvme.data.masks import Masks
from dvme.metrics.segmentation import UNKNOWN, dice, iou, per_image, pooled
from dvme.runtime import Progress, silent
from dvme.segmentation.ceiling import ceiling
from dvme.stats.influence import mean_of_images
from dvme.stats.intervals import Interval
from dvme.stats.units import Units

NOTHING = Interval(math.nan, math.nan, math.nan)
STAGE = "ceilings"


@dataclass(frozen=True)
class ClassScores:
    """Of one class, means over the heads."""

    name: str
    n_images: int
    """Test images in whose mask it occurs."""
    dice: Interval
    """Mean over the images of which the class is known, on other test images, given these heads."""
    iou: Interval
    global_dice: float
    """Over the pixels of all images."""
    ceiling: float = math.nan
    """Dice that the method's grid could reach at best, mean over images; nan where nobody looked."""


def class_scores(
    heads: Sequence[NDArray[np.int64]], names: Sequence[str], units: Units, reached: NDArray[np.int64] | None = None
) -> list[ClassScores]:
    """The scores of L classes.

    Args:
        heads: of each head of a method, (N, L, 3) pixels of the test images, see `overlaps`.
        names: of the classes.
        units: of the test images.
        reached: (N, L, 3) of the masks by way of the method's grid, see `ceiling_counts`.
    """
    counts, found = np.stack(heads), []
    most = np.full(len(names), np.nan) if reached is None else per_image(reached)
    for c, name in enumerate(names):
        own = counts[:, :, c]
        if (own[..., 2] == UNKNOWN).all():
            found.append(ClassScores(name, 0, NOTHING, NOTHING, math.nan))
            continue
        own_dice, own_iou = (
            mean_of_images(score(own).T, units, what).interval() for score, what in ((dice, "dice"), (iou, "iou"))
        )
        over_all = float(np.mean([dice(pooled(each[:, None]))[0] for each in own]))
        n_images = int((own[0, :, 2] > 0).sum())
        found.append(ClassScores(name, n_images, own_dice, own_iou, over_all, float(most[c])))
    return found


def ceiling_counts(
    masks: Masks, positions: NDArray[np.int64], shapes: Collection[tuple[int, int]], progress: Progress = silent
) -> dict[tuple[int, int], NDArray[np.int64]]:
    """Pixels of some masks by way of grids, see `ceiling`; each mask is read once.

    Args:
        masks: of the images.
        positions: (n,) of those that are looked at.
        shapes: rows and columns of the grids.
        progress: told (stage, done, total).

    Returns:
        By shape (n, L, 3).

    Raises:
        DataError: if a mask is gone or is not what it was.
    """
    found: dict[tuple[int, int], list[NDArray[np.int64]]] = {shape: [] for shape in shapes}
    for done, position in enumerate(positions.tolist(), start=1):
        planes = masks.read(position)
        for shape, own in found.items():
            own.append(ceiling(planes, shape, is_exclusive=masks.is_exclusive))
        progress(STAGE, done, len(positions))
    return {shape: np.stack(own) for shape, own in found.items() if own}
