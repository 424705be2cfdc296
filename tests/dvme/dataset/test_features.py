"""Embeddings as an array: what numpy gives for the same brackets, and what plain zarr reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import dvme
from dvme.backbones.description.dense import Grid
from dvme.backbones.model.quantised import INT8, quantised
from dvme_cache import EmbeddingCache, Fingerprint, MissingEmbeddingsError, RowState

MASK = np.arange(19) % 5 == 2
PLACES: list[Any] = [
    *(0, -1, slice(None), slice(2, 15, 4), [3, 1, 3], MASK, np.array([[0, 1], [5, 4]]), np.array([], dtype=np.int64)),
    *((slice(None), 2), (4, 1), (MASK, slice(1, 3)), (Ellipsis, -1), np.int64(6)),
    *(([4, 0, 4], [1, 2, 0]), (slice(2, 5), None, 1), (None, 3), (slice(None), ..., [2, 0]), (Ellipsis,), ()),
    *((np.array([], dtype=np.int64), 1), (slice(9, None, -2), slice(None, None, -1))),
]


@pytest.mark.parametrize("places", PLACES, ids=map(str, range(len(PLACES))))
@pytest.mark.parametrize("name", ["a", "b"])
def test_getitem__as_numpy_has_it(cache: Path, left: list[int], name: str, places: Any) -> None:
    """The reference is read by zarr alone, which has nan where there is nothing."""
    reference = zarr.open_group(cache, mode="r")[f"embeddings/{name}/features"][:20][left]
    found = dvme.open(cache)[name]
    assert (found.shape, found.dtype, found.ndim, len(found)) == (reference.shape, reference.dtype, 2, 19)
    np.testing.assert_array_equal(found[places], reference[places])


def test_array__all_rows(cache: Path) -> None:
    found = dvme.open(cache)["a"]
    np.testing.assert_array_equal(np.asarray(found), found[:])
    assert np.asarray(found, dtype=np.float64).dtype == np.float64
    with pytest.raises(ValueError, match="the embeddings of a are read from the cache, which is a copy"):
        np.array(found, copy=False)
    with pytest.raises(IndexError):
        found[19]


def test_states__failed_rows_are_named(cache: Path) -> None:
    data = dvme.open(cache)
    found = data["a"]
    assert found.failed == {"3.png": "torn"}
    assert (~found.is_there).nonzero()[0].tolist() == [3]
    assert np.isnan(found[3]).all()
    assert repr(found) == "a: 19 images x 4, float32; 1 failed: 3.png (torn)"
    late = data["late"]
    assert set(late.states.tolist()) == {RowState.PENDING}
    assert (late.failed, repr(late)) == ({}, "late: 19 images x 2, float32; 19 not extracted yet")
    assert np.isnan(late[:]).all()


def test_getitem__dense_features_of_a_byte_are_decoded(tmp_path: Path) -> None:
    grids = (Grid(2, 2, 3), Grid(1, 1, 3))
    values = np.random.default_rng(0).normal(size=(6, 15)).astype(np.float32)
    stored, _ = quantised(values, grids)
    with EmbeddingCache.writing(tmp_path / "c.zarr") as store:
        ids = [bytes([image + 1]) * 16 for image in range(6)]
        rows = store.samples.add(ids, [f"{image}.png" for image in range(6)])
        fingerprint = Fingerprint({"maps": "2x2x3,1x1x3", "dtype": INT8})
        table = store.ensure_embeddings("a", fingerprint, dim=stored.shape[1], dtype="uint8", provenance={})
        table.commit(rows[:5], stored[:5], {})
    found = dvme.open(tmp_path / "c.zarr")["a"]
    assert (found.shape, found.dtype, found.grids) == ((6, 15), np.float32, grids)
    assert "2 x 2 x 3, 1 x 1 x 3" in repr(found)
    for start, grid in zip((0, 12), grids, strict=True):
        own, told = (each[:5, start : start + grid.n_values].reshape(5, -1, 3) for each in (values, found[:]))
        scales = np.abs(own).max(axis=2, keepdims=True) / 127
        assert (np.abs(own - told) <= 0.51 * scales + 1e-3 * np.abs(own)).all()
    assert np.isnan(found[5]).all()


def test_open__a_backbone_that_is_not_there(cache: Path) -> None:
    with pytest.raises(MissingEmbeddingsError, match=r"has no dino embeddings \(it has: a, a@view=1, a@view=2, b"):
        dvme.open(cache)["dino"]
