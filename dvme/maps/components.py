"""Principal components of rows that come in blocks, from the matrix of their products."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 8192
"""Rows of an embedding that are held at once: 50 MB of 1,536 values in float32, and a few copies."""


@dataclass(frozen=True)
class Components:
    """Where rows are centred, and the directions of most variance."""

    mean: NDArray[np.float32]
    """(D,)."""
    axes: NDArray[np.float32]
    """(D, K) orthonormal; the largest entry of each is positive, as scikit-learn has it."""
    extremes: NDArray[np.float32]
    """(2, D) least and largest values: of rows that are all equal, the two are equal."""

    def scores(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """(B, K) places of (B, D) rows along the axes, at least two columns; an axis that does not exist gives 0."""
        found: NDArray[np.float32] = (rows - self.mean) @ self.axes
        return np.pad(found, ((0, 0), (0, max(0, 2 - found.shape[1]))))


def components_of(blocks: Iterator[NDArray[np.float32]], n_components: int) -> Components:
    """The first components of all rows of at least one block; each block is seen once and not kept.

    Products are taken in float32, as rows of length 1 allow, and added up in float64. The matrix is D x D, whatever the
    number of rows.

    Args:
        blocks: (B, D) each, B may differ.
        n_components: at most so many; D if that is fewer.
    """
    from scipy.linalg import eigh

    block = next(blocks)
    n_rows, total, products = len(block), block.sum(axis=0, dtype=np.float64), (block.T @ block).astype(np.float64)
    low, high = block.min(axis=0), block.max(axis=0)
    for block in blocks:
        n_rows += len(block)
        total += block.sum(axis=0, dtype=np.float64)
        products += block.T @ block
        low, high = np.minimum(low, block.min(axis=0)), np.maximum(high, block.max(axis=0))
    mean = total / n_rows
    covariance = products / n_rows - np.outer(mean, mean)
    dim = len(mean)
    _, axes = eigh(covariance, subset_by_index=(max(0, dim - n_components), dim - 1))  # ascending
    axes = axes[:, ::-1]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0)
    axes = axes * np.sign(largest)
    return Components(mean.astype(np.float32), axes.astype(np.float32), np.stack([low, high]))


def blocks_of(read: Callable[[NDArray[Any]], NDArray[np.float32]], n_rows: int) -> Iterator[NDArray[np.float32]]:
    """All of N rows in their order, BLOCK at once; `read` takes places (B,) and gives rows (B, D)."""
    return (read(np.arange(start, min(start + BLOCK, n_rows))) for start in range(0, n_rows, BLOCK))
