"""Dense features in a byte a value: of each token its values as whole numbers, and a scale of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.backbones.description.dense import Grid

INT8, STORED = "int8", "uint8"
"""The type that is asked for, and that of the cache's array of bytes."""
LARGEST = 127
SCALE = np.dtype("<f2")
HALF_A_SCALE = 0.5 / LARGEST
"""By how much a value may be off, relative to the largest of its token."""


def row_form(grids: Sequence[Grid], dim: int, dtype: str) -> tuple[int, str]:
    """How many elements a row has in a cache, and of which type.

    Args:
        grids: of dense features; () of one vector an image.
        dim: D, the numbers of a row.
        dtype: as it is asked for: `float32`, `float16`, or `int8` of dense features.
    """
    if dtype != INT8:
        return dim, dtype
    return sum(grid.n_values + grid.n_tokens * SCALE.itemsize for grid in grids), STORED


def row_bytes(grids: Sequence[Grid], dim: int, dtype: str) -> int:
    """Of the features of a row in a cache; as `row_form`."""
    n_elements, stored = row_form(grids, dim, dtype)
    return n_elements * np.dtype(stored).itemsize


def quantised(features: NDArray[np.float32], grids: Sequence[Grid]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Rows as bytes: of each map the int8 values token by token, then the float16 scales of its tokens.

    A scale is the largest magnitude of its token by 127, so that a value is off by half a scale at most.

    Args:
        features: (B, D), map after map.
        grids: of the maps.

    Returns:
        (B, bytes), and (B,) whether all scales of a row are finite; bytes of a row with others mean nothing.
    """
    n_rows = len(features)
    parts: list[NDArray[np.uint8]] = []
    is_finite, at = np.ones(n_rows, dtype=bool), 0
    for grid in grids:
        tokens = features[:, at : at + grid.n_values].reshape(n_rows, grid.n_tokens, grid.channels)
        at += grid.n_values
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            scales = (np.abs(tokens).max(axis=2) / LARGEST).astype(SCALE)
            is_sound = np.isfinite(scales)
            factors = np.where(is_sound & (scales > 0), 1 / scales.astype(np.float32), np.float32(0))
            whole = np.rint(np.where(is_sound[:, :, None], tokens, 0) * factors[:, :, None])
        values = np.clip(whole, -LARGEST, LARGEST).astype(np.int8)
        is_finite &= is_sound.all(axis=1)
        parts += [values.reshape(n_rows, -1).view(np.uint8), scales.view(np.uint8).reshape(n_rows, -1)]
    return np.concatenate(parts, axis=1), is_finite


def values_of(rows: NDArray[Any], grids: Sequence[Grid]) -> NDArray[np.float64]:
    """(B, D) of rows as a cache has them, dense features or not."""
    if rows.dtype != STORED:
        return rows.astype(np.float64)
    return np.concatenate([each.reshape(len(rows), -1) for each in maps_of(rows, grids)], axis=1, dtype=np.float64)


def maps_of(rows: NDArray[Any], grids: Sequence[Grid]) -> list[NDArray[np.float32]]:
    """The maps of rows as a cache has them, (B, n_tokens, channels) of each; bytes are decoded.

    Args:
        rows: (B, elements) float32, float16, or uint8 as `quantised` makes them.
        grids: of the maps.
    """
    return [decoded(values, scales) for values, scales in stored_maps(rows, grids)]


def stored_maps(rows: NDArray[Any], grids: Sequence[Grid]) -> Iterator[tuple[NDArray[Any], NDArray[np.float16] | None]]:
    """The maps of rows as they are stored; arguments as of `maps_of`.

    Yields:
        Of each map (B, n_tokens, channels) values, a view of the rows; and of bytes the (B, n_tokens) scales.
    """
    at = 0
    for grid in grids:
        values = rows[:, at : at + grid.n_values].reshape(len(rows), grid.n_tokens, grid.channels)
        at += grid.n_values
        if rows.dtype != STORED:
            yield values, None
            continue
        end = at + grid.n_tokens * SCALE.itemsize
        yield values.view(np.int8), np.ascontiguousarray(rows[:, at:end]).view(SCALE)
        at = end


def decoded(values: NDArray[Any], scales: NDArray[np.float16] | None) -> NDArray[np.float32]:
    """(..., channels) float32 of tokens of `stored_maps`, of bytes with (...,) their scales."""
    if scales is None:
        return values.astype(np.float32)
    found: NDArray[np.float32] = values * scales.astype(np.float32)[..., None]
    return found
