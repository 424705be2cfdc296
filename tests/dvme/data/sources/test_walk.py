"""From arrays to embeddings and back: what holds for files holds for rows of arrays."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from command_line import assert_refused, run
from PIL import Image

import dvme
from dvme_cache import EmbeddingCache

BACKBONE = "random@size=32"
N = 24


@pytest.fixture(scope="module")
def pixels() -> Any:
    """(N, 8, 9, 3), dark ones and light ones."""
    values = np.random.default_rng(0).integers(0, 100, (N, 8, 9, 3)).astype(np.uint8)
    values[::2] += 140
    return values


@pytest.fixture(scope="module")
def place(pixels: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arrays")
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("x", data=pixels, chunks=(5, 8, 9, 3), compression="gzip")
        file["y"] = np.arange(N).reshape(N, 1, 1, 1) % 2
    np.savez_compressed(folder / "a.npz", images=pixels, labels=np.arange(N) % 2)
    (folder / "files").mkdir()
    for at, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"files/{at:06d}.ppm")
    dvme.extract(folder / "a.h5", folder / "a.zarr", backbones=[BACKBONE])
    return folder


def test_extract__rows_are_what_the_files_are(place: Path, tmp_path: Path) -> None:
    """The same images as files: the same embeddings, and nothing left to compute in the other's cache."""
    dvme.extract(place / "files", tmp_path / "files.zarr", backbones=[BACKBONE])
    found, expected = EmbeddingCache.open(place / "a.zarr"), EmbeddingCache.open(tmp_path / "files.zarr")
    assert found.samples.content_ids == expected.samples.content_ids
    assert found.embeddings(BACKBONE).fingerprint == expected.embeddings(BACKBONE).fingerprint
    rows = np.arange(N)
    assert np.array_equal(found.embeddings(BACKBONE).read(rows), expected.embeddings(BACKBONE).read(rows))
    copy = tmp_path / "a.zarr"
    shutil.copytree(place / "a.zarr", copy)
    for source in ("files", "a.npz", "a.h5"):
        outcome = dvme.extract(place / source, copy, backbones=[BACKBONE]).outcomes[0]
        assert (outcome.reused, outcome.computed) == (N, 0)


def test_extract__a_source_that_was_moved(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "a.zarr", tmp_path / "a.zarr")
    shutil.copy(place / "a.h5", tmp_path / "moved.h5")
    outcome = dvme.extract(tmp_path / "moved.h5", tmp_path / "a.zarr", backbones=[BACKBONE]).outcomes[0]
    assert (outcome.reused, outcome.computed) == (N, 0)
    paths = EmbeddingCache.open(tmp_path / "a.zarr").column("path")
    assert paths[3] == str(tmp_path / "moved.h5/x/000003")


def test_prune__rows_that_are_gone(place: Path, pixels: Any, tmp_path: Path) -> None:
    shutil.copytree(place / "a.zarr", tmp_path / "a.zarr")
    np.savez(tmp_path / "some.npz", images=pixels[:20])
    result = run("cache", "prune", tmp_path / "a.zarr", tmp_path / "some.npz", "--yes")
    assert result.exit_code == 0, result.output
    assert EmbeddingCache.open(tmp_path / "a.zarr").samples.is_pruned.tolist() == [False] * 20 + [True] * 4


def test_viz__shows_rows(place: Path, tmp_path: Path) -> None:
    result = run("viz", place / "a.zarr", "--out", tmp_path / "v.html", "--method", "pca")
    assert result.exit_code == 0, result.output
    assert "data:image/webp" in (tmp_path / "v.html").read_text()


def test_places__what_is_swapped_or_meant_otherwise(place: Path, tmp_path: Path) -> None:
    cache = place / "a.zarr"
    for name in ("a.h5", "a.npz"):
        file = place / name
        assert_refused(run("extract", cache, file, "--backbones", BACKBONE), f"swap them: {file} {cache}")
        assert_refused(run("info", file), f"a file of images, not a cache; dvme extract {file} NAME.zarr")
    for suffix in (".h5", ".npz"):
        export = tmp_path / f"e{suffix}"
        assert run("cache", "export", cache, export).exit_code == 0
        assert_refused(run("info", export), f"dvme cache import {export} NAME.zarr makes one of it")
        new = tmp_path / "new.zarr"
        refused = run("extract", export, new, "--backbones", BACKBONE)
        assert_refused(refused, f"holds embeddings, no images; dvme cache import {export}")
        assert not new.exists()
