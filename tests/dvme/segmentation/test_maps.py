from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from dvme.backbones.description.dense import Grid, grids_text
from dvme.backbones.model.quantised import quantised
from dvme.errors import DataError
from dvme.segmentation.maps import DenseMaps, resampled, resampled_at
from dvme_cache import CorruptCacheError, EmbeddingCache, Fingerprint

N = 40
GRIDS = (Grid(6, 6, 5), Grid(3, 4, 8))
DIM = sum(grid.n_values for grid in GRIDS)


def write(place: Path, stored: NDArray[Any], fields: dict[str, Any]) -> DenseMaps:
    """A cache of dense rows, without any image."""
    with EmbeddingCache.writing(place) as cache:
        ids = [(row + 1).to_bytes(8, "big") * 2 for row in range(len(stored))]
        cache.samples.add(ids, [f"{row}.png" for row in range(len(stored))])
        table = cache.ensure_embeddings(
            "net@dense=last-2",
            Fingerprint(fields),
            dim=stored.shape[1],
            dtype=str(stored.dtype),
            provenance={},
            rows_per_shard=16,
        )
        for shard in table.pending_shards():
            table.commit(shard, stored[shard], {})
    return DenseMaps(EmbeddingCache.open(place).embeddings("net@dense=last-2"))


@pytest.fixture(scope="module")
def features() -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(N, DIM)).astype(np.float32)


@pytest.fixture
def maps(tmp_path: Path, features: NDArray[np.float32]) -> Callable[[str], DenseMaps]:
    """Of the features, stored as a type."""

    def make(dtype: str) -> DenseMaps:
        stored = quantised(features, GRIDS)[0] if dtype == "int8" else features.astype(dtype)
        return write(tmp_path / f"{dtype}.zarr", stored, {"maps": grids_text(GRIDS), "dtype": dtype})

    return make


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 0.0), ("float16", 2e-3), ("int8", 2e-2)])
def test_read__tokens_of_each_map_in_the_order_of_the_rows(
    dtype: str, tolerance: float, maps: Callable[[str], DenseMaps], features: NDArray[np.float32]
) -> None:
    dense, rows = maps(dtype), np.array([30, 2, 2, 17])
    assert (dense.grids, dense.finest) == (GRIDS, Grid(6, 6, 13))
    first, second = dense.read(rows)
    assert (first.dtype, second.dtype) == (np.float32, np.float32)
    for at, row in enumerate(rows.tolist()):
        for token in range(36):
            np.testing.assert_allclose(first[at, token], features[row, token * 5 : token * 5 + 5], atol=tolerance)
        for token in range(12):
            start = 36 * 5 + token * 8
            np.testing.assert_allclose(second[at, token], features[row, start : start + 8], atol=tolerance)


@pytest.mark.parametrize("shape", [(6, 6), (3, 4), (7, 9), (2, 5), (1, 1), (24, 24)])
def test_on_grid__as_torch_interpolates_each_map(shape: tuple[int, int], maps: Callable[[str], DenseMaps]) -> None:
    dense, rows = maps("float32"), np.array([5, 0, 39])
    expected = []
    for grid, tokens in zip(GRIDS, dense.read(rows), strict=True):
        planes = torch.from_numpy(tokens).reshape(3, grid.rows, grid.columns, grid.channels).permute(0, 3, 1, 2)
        other = interpolate(planes, size=shape, mode="bilinear", align_corners=False)
        expected.append(other.permute(0, 2, 3, 1).reshape(3, shape[0] * shape[1], grid.channels).numpy())
    found = dense.on_grid(rows, shape)
    np.testing.assert_allclose(found, np.concatenate(expected, axis=2), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_tokens__as_torch_interpolates_each_map(dtype: str, maps: Callable[[str], DenseMaps]) -> None:
    dense = maps(dtype)
    for shape in ((6, 6), (3, 4), (7, 9), (2, 5), (1, 1), (24, 24)):
        check_tokens(dense, shape)


def check_tokens(dense: DenseMaps, shape: tuple[int, int]) -> None:
    rows, n_tokens = np.array([5, 0, 39, 0]), shape[0] * shape[1]
    wanted = [np.array([n_tokens - 1, 0, 0]), np.arange(n_tokens), np.arange(0), np.arange(n_tokens)[::-1]]
    found = dense.tokens(rows, shape, wanted)
    assert [len(own) for own in found] == [3, n_tokens, 0, n_tokens]
    at = 0
    for grid, tokens in zip(GRIDS, dense.read(rows), strict=True):
        planes = torch.from_numpy(tokens).reshape(4, grid.rows, grid.columns, grid.channels).permute(0, 3, 1, 2)
        other = interpolate(planes, size=shape, mode="bilinear", align_corners=False)
        expected = other.permute(0, 2, 3, 1).reshape(4, n_tokens, grid.channels).numpy()
        for number, places in enumerate(wanted):
            own = found[number][:, at : at + grid.channels]
            np.testing.assert_allclose(own, expected[number][places], rtol=0, atol=1e-6)
            if (grid.rows, grid.columns) == shape:
                np.testing.assert_array_equal(own, tokens[number][places])
        at += grid.channels
    assert dense.tokens(rows[:0], shape, []) == []


def test_tokens__take_no_more_than_they_say(tmp_path: Path) -> None:
    grids, n_rows = (Grid(8, 8, 64), Grid(4, 4, 64)), 100
    stored = np.ones((n_rows, sum(grid.n_values for grid in grids)), dtype=np.float16)
    dense = write(tmp_path / "c.zarr", stored, {"maps": grids_text(grids), "dtype": "float16"})
    for n_tokens in (5, 200):
        wanted = [np.resize(np.arange(64), n_tokens)] * n_rows
        dense.tokens(np.arange(n_rows), (8, 8), wanted)  # what is read once
        tracemalloc.start()
        dense.tokens(np.arange(n_rows), (8, 8), wanted)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < n_rows * dense.row_bytes(n_tokens)


def test_resampled_at__of_one_cell_or_line_is_constant() -> None:
    tokens, every = np.arange(8, dtype=np.float32).reshape(2, 4, 1), np.arange(12)
    owners = np.repeat([1, 0], 12)
    found = resampled_at(tokens, (1, 4), (3, 4), owners, np.tile(every, 2))
    np.testing.assert_array_equal(found[:, 0], np.concatenate([np.tile(tokens[own, :, 0], 3) for own in (1, 0)]))
    found = resampled_at(tokens[:, :1], (1, 1), (3, 4), owners, np.tile(every, 2))
    np.testing.assert_array_equal(found[:, 0], np.repeat([4.0, 0.0], 12))


def test_resampled__of_one_cell_or_line_is_constant() -> None:
    tokens = np.arange(4, dtype=np.float32).reshape(1, 4, 1)  # one line of four cells
    np.testing.assert_array_equal(resampled(tokens[:, :1], (1, 1), (2, 3)), np.zeros((1, 6, 1)))
    np.testing.assert_array_equal(resampled(tokens, (1, 4), (3, 4)), np.tile(tokens, (1, 3, 1)))


def test_read__a_damaged_row_is_named_and_the_others_are_read(tmp_path: Path, features: NDArray[np.float32]) -> None:
    stored = quantised(features, GRIDS)[0]
    fields = {"maps": grids_text(GRIDS), "dtype": "int8"}
    write(tmp_path / "c.zarr", stored, fields)
    file = next((tmp_path / "c.zarr" / "embeddings").rglob("features/c/1/0"))
    data = bytearray(file.read_bytes())
    data[5 * stored.shape[1] + 7] ^= 1  # row 21
    file.write_bytes(data)
    dense = DenseMaps(EmbeddingCache.open(tmp_path / "c.zarr").embeddings("net@dense=last-2"))
    with pytest.raises(CorruptCacheError, match="the first is 21"):
        dense.read(np.array([3, 21]))
    assert len(dense.read(np.array([20, 22]))[0]) == 2


def test_dense_maps__refuses_one_vector_an_image(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gives one vector an image, no map; dvme extract"):
        write(tmp_path / "c.zarr", np.ones((3, 4), dtype=np.float32), {"pooling": "average"})
