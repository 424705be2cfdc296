"""Masks on a grid of tokens and back: shares of classes in cells, and what cells say of pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data.masks import VOID
from dvme.segmentation.maps import weights

HALF = 0.5
"""A pixel has a structure whose value is above it."""
LEAST_SHARE = 1e-6
"""What is left for the background below it is rounding."""


def shares(planes: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.float32]:
    """The share of every class among the known pixels of every cell of a grid.

    Cell (i, j) of an r x c grid is the mask's rectangle [i/r, (i+1)/r) x [j/c, (j+1)/c). A pixel that several cells
    divide counts in each by its area there.

    Args:
        planes: (L, H, W) uint8 of 1, 0 and VOID.
        shape: r rows and c columns.

    Returns:
        (r * c, L) from 0 to 1; nan where no pixel of the cell is known.
    """
    down, across = (areas(size, n_cells) for size, n_cells in zip(planes.shape[1:], shape, strict=True))
    known = _summed(planes != VOID, down, across)
    has = _summed(planes == 1, down, across)
    found = np.full(known.shape, np.nan)
    np.divide(has, known, out=found, where=known > 0)
    clipped: NDArray[np.float32] = np.clip(found, 0.0, 1.0).reshape(len(planes), -1).T.astype(np.float32)
    return clipped


def areas(size: int, n_cells: int) -> NDArray[np.float64]:
    """(n_cells, size) of how much of each of `size` pixels in a line lies in each cell; columns sum to 1."""
    ends = np.arange(n_cells + 1) * size / n_cells
    ends[-1] = size
    pixels = np.arange(size)
    inside = np.minimum(ends[1:, None], pixels + 1) - np.maximum(ends[:-1, None], pixels)
    found: NDArray[np.float64] = np.maximum(inside, 0.0)
    return found


def restored(values: NDArray[Any], shape: tuple[int, int], size: tuple[int, int]) -> NDArray[np.float32]:
    """Values of cells at the mask's own resolution.

    Bilinear between the middles of cells: `torch.nn.functional.interpolate` with align_corners=False.

    Args:
        values: (r * c, L') of any float type.
        shape: r and c.
        size: H and W.

    Returns:
        (L', H, W).
    """
    planes = np.ascontiguousarray(values.T, dtype=np.float32).reshape(-1, *shape)
    down, across = weights(shape[0], size[0]), weights(shape[1], size[1])
    found: NDArray[np.float32] = np.asarray(down @ planes @ across.T, dtype=np.float32)
    return found


def taken(values: NDArray[Any], is_exclusive: bool) -> NDArray[np.bool_]:
    """What pixels are taken for.

    Args:
        values: (L + 1, H, W) where a pixel has one class, the background's first: the largest counts, of equal ones the
            first. (L, H, W) probabilities or shares of structures that may overlap: those above a half.
        is_exclusive: whether a pixel has one class.

    Returns:
        (L, H, W).
    """
    if not is_exclusive:
        return np.asarray(values > HALF)
    return np.asarray(values.argmax(axis=0) == np.arange(1, len(values))[:, None, None])


def with_background(found: NDArray[Any]) -> NDArray[np.float32]:
    """(T, L + 1) shares of classes that exclude each other, the background's first; nan where nothing is known.

    Args:
        found: (T, L), see `shares`.
    """
    rest = np.clip(1.0 - found.sum(axis=1, keepdims=True), 0.0, 1.0)
    rest[rest < LEAST_SHARE] = 0.0
    return np.concatenate([rest, found], axis=1, dtype=np.float32)


def _summed(planes: NDArray[np.bool_], down: NDArray[Any], across: NDArray[Any]) -> NDArray[np.float64]:
    """(L, r, c) areas of the pixels that are True."""
    return np.stack([down @ plane.astype(np.float64) @ across.T for plane in planes])
