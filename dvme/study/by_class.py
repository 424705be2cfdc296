"""A segmentation class by class: its scores with intervals, and what the grid allows."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dvme.data.masks import Masks
from dvme.metrics.segmentation import UNKNOWN, dice, iou, known_mean, pooled
from dvme.runtime import Progress, silent
from dvme.segmentation.ceiling import ceiling
from dvme.stats.influence import mean_of_images
from dvme.stats.intervals import Interval
from dvme.stats.units import Units

NOTHING = Interval(math.nan, math.nan, math.nan)
STAGE = "ceilings"
HAUSDORFF, BOUNDARY = "hausdorff95", "boundary_dice"


@dataclass(frozen=True)
class OutlineScores:
    """How well the outlines of one class are met, means over the heads.

    Images in which the class is neither there nor predicted take no part in either score.
    """

    hausdorff95: Interval
    """In pixels, mean over the images where the class is there and predicted; a head without such an image is left
    out. Lower is better."""
    boundary_dice: Interval
    """Mean over images; 0 where the class is missed or invented."""
    n_missed: float
    """Images in which the class is missed or invented, which have no `hausdorff95`."""
    n_empty: float
    """Images in which it is neither there nor predicted."""


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
    outlines: OutlineScores | None = None
    """Where a study asked for them and the class is known of an image."""


def class_scores(
    heads: Sequence[NDArray[np.int64]],
    names: Sequence[str],
    units: Units,
    reached: NDArray[np.int64] | None = None,
    outlines: Sequence[NDArray[np.float64]] = (),
) -> list[ClassScores]:
    """The scores of L classes.

    Args:
        heads: of each head of a method, (N, L, 3) pixels of the test images, see `overlaps`.
        names: of the classes.
        units: of the test images.
        reached: (N, L, 3) of the masks by way of the method's grid, see `ceiling_counts`.
        outlines: of each head (N, L, 2), see `outline_scores`; none where a study did not ask for them.
    """
    counts, found = np.stack(heads), []
    most = np.full(len(names), np.nan) if reached is None else known_mean(dice(reached), axis=0)
    for c, name in enumerate(names):
        own = counts[:, :, c]
        if (own[..., 2] == UNKNOWN).all():
            found.append(ClassScores(name, 0, NOTHING, NOTHING, math.nan))
            continue
        own_dice, own_iou = (_over_images(score(own), units, what) for score, what in ((dice, "dice"), (iou, "iou")))
        over_all = float(np.mean([dice(pooled(each[:, None]))[0] for each in own]))
        n_images = int((own[0, :, 2] > 0).sum())
        met = _outlined(np.stack(outlines)[:, :, c], own, units) if outlines else None
        found.append(ClassScores(name, n_images, own_dice, own_iou, over_all, float(most[c]), met))
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


def _outlined(scores: NDArray[np.float64], counts: NDArray[np.int64], units: Units) -> OutlineScores:
    """Of one class, by (J, N, 2) scores and (J, N, 3) pixels of each head."""
    far, near = scores[..., 0], scores[..., 1]
    is_missed, is_empty = np.isinf(far), (counts[..., 1:] == 0).all(axis=-1)
    return OutlineScores(
        _over_images(np.where(is_missed, np.nan, far), units, HAUSDORFF),
        _over_images(near, units, BOUNDARY),
        float(is_missed.sum(axis=1).mean()),
        float(is_empty.sum(axis=1).mean()),
    )


def _over_images(scores: NDArray[np.float64], units: Units, what: str) -> Interval:
    """Mean over heads, those without any score left out, of means over images.

    Only images of which a head has a score are units: the others tell nothing of how much such scores vary.

    Args:
        scores: (J, N) of heads and images; nan where an image tells nothing.
        units: of the N images.
        what: in [0, 1], or HAUSDORFF, whose interval is t's: a distance has no end that Wilson's could keep to.
    """
    own = scores[~np.isnan(scores).all(axis=1)]
    is_told = ~np.isnan(own).all(axis=0)
    if not len(own):
        return NOTHING
    some = Units(units.labels[is_told], None if units.groups is None else units.groups[is_told])
    mean = mean_of_images(own[:, is_told].T, some, what)
    if what != HAUSDORFF:
        return mean.interval()
    found = replace(mean, most=math.inf, is_difference=True).interval()
    return replace(found, low=float(np.maximum(found.low, 0.0)))  # nan stays nan
