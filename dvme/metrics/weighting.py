"""Images counted as often as weights say: under one weighting, or under many at once in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError
from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    from scipy import sparse
else:
    sparse = deferred("scipy.sparse")

BLOCK_VALUES = 1 << 21
"""Weights worked on at once, in float64: bounds the memory, as images and weightings may be many."""


def ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[Any]:
    """The quotient; nan where there is nothing to divide by."""
    shape = np.broadcast_shapes(np.shape(part), np.shape(whole))
    result: NDArray[Any] = np.divide(part, whole, out=np.full(shape, np.nan), where=whole > 0)
    return result


def blocks(weights: NDArray[Any], n_values: int = 1) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Some weightings at a time.

    Args:
        weights: (R, N).
        n_values: that a weight becomes on the way.

    Yields:
        the positions of the weightings, and the weightings themselves in float64.
    """
    size = max(1, BLOCK_VALUES // max(1, weights.shape[1] * n_values))
    for start in range(0, len(weights), size):
        yield slice(start, start + size), weights[start : start + size].astype(np.float64)


def gathering(
    places: NDArray[Any], images: NDArray[Any], n_places: int, n_images: int, values: NDArray[Any] | None = None
) -> Any:
    """A sparse matrix that sums by places.

    Args:
        places: (M,) where each summand goes.
        images: (M,) whose weight it has.
        n_places: K.
        n_images: N.
        values: (M,) of the summands; None: 1.

    Returns:
        (K, N), to be multiplied by (N, R) weights.
    """
    short = places.astype(np.int16) if n_places <= np.iinfo(np.int16).max else places  # few places sort in linear time
    order = np.argsort(short, kind="stable")
    starts = np.zeros(n_places + 1, dtype=np.intp)
    np.cumsum(np.bincount(places, minlength=n_places), out=starts[1:])
    ordered = np.ones(len(places)) if values is None else values[order].astype(np.float64)
    return sparse.csr_array((ordered, images[order], starts), shape=(n_places, n_images))


@dataclass(frozen=True)
class Weighting:
    """One weighting of N images, or R of them."""

    rows: NDArray[Any]
    """(R, N), non-negative; R is 1 for one."""
    is_one: bool

    @classmethod
    def of(cls, weights: NDArray[Any] | None, n: int) -> Weighting:
        """From what callers give.

        Args:
            weights: (N,), or (R, N) for many at once; 2 is as if the image were there twice; None: all 1.
            n: N.

        Raises:
            DataError: if the shape does not fit, or a weight is negative or not finite.
        """
        if weights is None:
            return cls(np.ones((1, n)), is_one=True)
        rows = np.atleast_2d(weights)
        if rows.ndim != 2 or rows.shape[1] != n:
            raise DataError(f"weights are {np.shape(weights)}, and there are {n} images; pass (N,) or (R, N)")
        if rows.size and not (rows.min() >= 0 and np.isfinite(rows.max())):
            raise DataError("a weight is negative or not finite; 0 leaves an image out, 2 counts it twice")
        return cls(rows, is_one=np.ndim(weights) == 1)

    def sums(self, columns: Any) -> NDArray[np.float64]:
        """(R, K) weighted sums.

        Args:
            columns: (K, N), an array or a sparse matrix.
        """
        sums = np.empty((len(self.rows), columns.shape[0]))
        for rows, block in blocks(self.rows):
            sums[rows] = (columns @ np.ascontiguousarray(block.T)).T
        return sums

    def as_given(self, values: NDArray[Any]) -> NDArray[Any]:
        """Results (R, ...) without the axis R for one weighting."""
        return values[0] if self.is_one else values
