"""Dense features of a cache as maps: tokens (B, T, C) by rows, on one grid, in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.backbones.description.dense import Grid, grids_of
from dvme.backbones.model.quantised import decoded, maps_of, stored_maps
from dvme.errors import DataError
from dvme_cache import Embeddings

FLOAT_BYTES = 4
FINER = 2
"""`segment-conv` gives so many times the rows and columns of the finest map."""
AT_ONCE = 16
"""Images whose means are taken together."""
_NOWHERE = np.empty(0, dtype=np.int64)


class DenseMaps:
    """The maps of one dense backbone of a cache."""

    def __init__(self, embeddings: Embeddings) -> None:
        """Of a backbone that has dense features.

        Raises:
            DataError: if it gives one vector an image.
        """
        self.embeddings = embeddings
        self.grids = grids_of(embeddings.fingerprint.fields)
        if not self.grids:
            step = f"dvme extract ... --backbones {embeddings.name} --dense makes its dense features"
            raise DataError(f"{embeddings.name} gives one vector an image, no map; {step}")

    @property
    def finest(self) -> Grid:
        """The grid of most tokens, with the channels of all maps."""
        finest = finest_of(self.grids)
        return Grid(finest.rows, finest.columns, self.n_channels)

    @property
    def n_channels(self) -> int:
        """Of all maps together."""
        return sum(grid.channels for grid in self.grids)

    def read(self, rows: NDArray[Any]) -> list[NDArray[np.float32]]:
        """The maps of some rows of the cache, each proven by its checksum.

        Args:
            rows: (B,) row indices, as `Embeddings.read` takes them.

        Returns:
            (B, n_tokens, channels) of each map, of int8 decoded.

        Raises:
            MissingEmbeddingsError, CorruptCacheError: as `Embeddings.read`.
        """
        return maps_of(self.embeddings.read(rows), self.grids)

    def on_grid(self, rows: NDArray[Any], shape: tuple[int, int]) -> NDArray[np.float32]:
        """The maps of some rows, resampled to one grid and joined.

        Bilinear between the middles of cells, which at the border goes on as it is: `torch.nn.functional.interpolate`
        with align_corners=False.

        Args:
            rows: (B,) row indices.
            shape: r rows and c columns of the grid.

        Returns:
            (B, r * c, sum of channels).
        """
        joined = np.empty((len(rows), shape[0] * shape[1], self.n_channels), dtype=np.float32)
        at = 0
        for grid, tokens in zip(self.grids, self.read(rows), strict=True):
            joined[:, :, at : at + grid.channels] = resampled(tokens, (grid.rows, grid.columns), shape)
            at += grid.channels
        return joined

    def tokens(
        self, rows: NDArray[Any], shape: tuple[int, int], wanted: Sequence[NDArray[Any]]
    ) -> list[NDArray[np.float32]]:
        """Some tokens of `on_grid`; of a map that has this grid no other is decoded, and none is resampled in vain.

        Args:
            rows: (B,) row indices.
            shape: r rows and c columns of the grid.
            wanted: of each row (k,) places on the grid, which may repeat.

        Returns:
            (k, sum of channels) of each row: of a map that has this grid the same bits as those of `on_grid`.
        """
        ends = np.cumsum([0, *map(len, wanted)])
        owners, places = np.repeat(np.arange(len(rows)), np.diff(ends)), np.concatenate([_NOWHERE, *wanted])
        found, at = np.empty((len(places), self.n_channels), dtype=np.float32), 0
        stored = stored_maps(self.embeddings.read(rows), self.grids)
        for grid, (values, scales) in zip(self.grids, stored, strict=True):
            out, own = found[:, at : at + grid.channels], (grid.rows, grid.columns)
            if own == shape:
                for row, (start, end) in enumerate(pairwise(ends)):
                    some = places[start:end]
                    picked = values[row].take(some, axis=0)  # faster than by pairs of row and place
                    out[start:end] = decoded(picked, None if scales is None else scales[row, some])
            else:
                out[:] = resampled_at(decoded(values, scales), own, shape, owners, places)
            at += grid.channels
        return [found[start:end] for start, end in pairwise(ends)]

    def row_bytes(self, n_tokens: int) -> int:
        """What `tokens` takes at most for a row of which it gives so many."""
        n_values = sum(grid.n_values for grid in self.grids) + 2 * n_tokens * self.n_channels
        return self.embeddings.stored.features.row_bytes + FLOAT_BYTES * n_values


def finest_of(grids: Sequence[Grid]) -> Grid:
    """The grid of most tokens."""
    return max(grids, key=lambda grid: grid.n_tokens)


def resampled(tokens: NDArray[np.float32], shape: tuple[int, int], wanted: tuple[int, int]) -> NDArray[np.float32]:
    """Tokens (B, r * c, C) of one grid on another, (B, r' * c', C); bilinear, as `DenseMaps.on_grid`."""
    if shape == wanted:
        return tokens
    n_images, _, n_channels = tokens.shape
    down = (weights(shape[0], wanted[0]) @ tokens.reshape(n_images, shape[0], -1)).reshape(-1, shape[1], n_channels)
    across = weights(shape[1], wanted[1]) @ down
    return across.reshape(n_images, wanted[0] * wanted[1], n_channels)


def resampled_at(
    tokens: NDArray[np.float32],
    shape: tuple[int, int],
    wanted: tuple[int, int],
    owners: NDArray[Any],
    places: NDArray[Any],
) -> NDArray[np.float32]:
    """Some tokens of `resampled`, each from its four neighbours alone.

    Args:
        tokens: (B, r * c, C).
        shape: r and c.
        wanted: r' and c'.
        owners: (K,) which of the B each is of.
        places: (K,) where on the grid of r' x c' cells it is.

    Returns:
        (K, C).
    """
    from scipy.sparse import csr_array

    n_images, n_tokens, n_channels = tokens.shape
    lines, parts = [], []
    for size, n_cells, at in zip(shape, wanted, np.divmod(places, wanted[1]), strict=True):
        lower, away = (each[at] for each in _neighbours(size, n_cells))
        lines.append((lower, np.minimum(lower + 1, size - 1)))
        parts.append((1 - away, away))
    sources = np.stack([owners * n_tokens + row * shape[1] + column for row in lines[0] for column in lines[1]], axis=1)
    shares = np.stack([down * across for down in parts[0] for across in parts[1]], axis=1).astype(np.float32)
    ends = np.arange(0, sources.size + 1, 4)
    mixing = csr_array((shares.ravel(), sources.ravel(), ends), shape=(len(places), n_images * n_tokens))
    found: NDArray[np.float32] = mixing @ tokens.reshape(-1, n_channels)
    return found


def weights(size: int, wanted: int) -> NDArray[np.float32]:
    """(wanted, size) of what each of `size` cells in a line counts in each of `wanted`."""
    lower, away = _neighbours(size, wanted)
    found = np.zeros((wanted, size), dtype=np.float32)
    found[np.arange(wanted), lower] = 1 - away
    if size > 1:
        found[np.arange(wanted), lower + 1] = away
    return found


def _neighbours(size: int, wanted: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Of each of `wanted` cells in a line the first of the two of `size` that it lies between, and how far from it."""
    middles = np.clip((np.arange(wanted) + 0.5) * size / wanted - 0.5, 0, size - 1)
    lower = np.minimum(middles.astype(np.int64), max(size - 2, 0))
    return lower, middles - lower


def means_of(maps: DenseMaps, rows: NDArray[Any]) -> NDArray[np.float32]:
    """(B, sum of channels) mean over all tokens of the rows of a cache, of each map, joined; in bounded memory."""
    found = np.empty((len(rows), maps.n_channels), dtype=np.float32)
    for start in range(0, len(rows), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        found[part] = np.concatenate([tokens.mean(axis=1) for tokens in maps.read(rows[part])], axis=1)
    return found
