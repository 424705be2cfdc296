"""What a grid of tokens can reach: the mask itself in the place of a prediction."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dvme.metrics.segmentation import overlaps
from dvme.segmentation.shares import restored, shares, taken, with_background


def ceiling(planes: NDArray[np.uint8], shape: tuple[int, int], *, is_exclusive: bool) -> NDArray[np.int64]:
    """Pixels that a head would count which knows the share of every class in every cell.

    The mask goes down to the grid as it does for training, up again and to a decision as predictions do, and is scored
    at its own resolution. Where cells divide the mask evenly, an edge along cells is kept to the pixel, and a corner
    of cells is rounded by the interpolation. What is smaller than a cell is mostly lost.

    A head may do a little better by chance, for it is not held to shares; none is to be expected to.

    Args:
        planes: (L, H, W) uint8 of 1, 0 and VOID.
        shape: r rows and c columns of the grid.
        is_exclusive: whether a pixel has one class.

    Returns:
        (L, 3): intersection, predicted and true pixels, see `overlaps`.
    """
    return overlaps(regained(planes, shape, is_exclusive=is_exclusive), planes)


def regained(planes: NDArray[np.uint8], shape: tuple[int, int], *, is_exclusive: bool) -> NDArray[np.bool_]:
    """(L, H, W) the mask after its way down to the grid and up again. Cells of which nothing is known have nothing."""
    known = np.nan_to_num(shares(planes, shape))
    values = with_background(known) if is_exclusive else known
    return taken(restored(values, shape, (planes.shape[1], planes.shape[2])), is_exclusive)
