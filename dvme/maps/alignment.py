"""One map turned onto another."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def aligned(positions: NDArray[Any], reference: NDArray[Any]) -> NDArray[Any]:
    """Shift, scale and rotate or mirror a map so that it lies on another of the same points as well as it can.

    Where a map lies, how large it is and which way it is turned mean nothing in t-SNE, UMAP and PCA. With them taken
    out, a point can be followed by eye from map to map, and what still differs is the embeddings' doing. Distances
    within the map keep their ratios.

    Args:
        positions: (N, 2).
        reference: (N, 2) positions of the same points in another map.

    Returns:
        (N, 2) float32, centred, of root-mean-square radius 1; zeros where all positions are equal.

    Source: Schoenemann 1966, the orthogonal Procrustes problem.
    """
    own, other = _standardised(positions), _standardised(reference)
    left, _, right = np.linalg.svd(own.T @ other)  # (2, 2) each
    turned: NDArray[Any] = own @ (left @ right)
    return turned.astype(np.float32)


def _standardised(positions: NDArray[Any]) -> NDArray[Any]:
    """(N, 2) float64, centred, of root-mean-square radius 1; equal positions give zeros."""
    positions = np.asarray(positions, dtype=np.float64)
    if not np.ptp(positions, axis=0).any():  # their mean may be off by a rounding, which would be blown up
        return np.zeros_like(positions)
    centred = positions - positions.mean(axis=0)
    unit: NDArray[Any] = centred / np.sqrt(np.square(centred).sum(axis=1).mean())
    return unit
