"""Pruning lists first, erases for good, and never mistakes an unreadable file for one that is gone."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dvme
from dvme.errors import DataError
from dvme_cache import CacheNotFoundError, EmbeddingCache, RowState, verify_cache

LITE, OTHER = "efficientnet-lite0@size=32", "efficientnet-lite0@size=48"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def cache(class_folders: Path, tmp_path: Path) -> Path:
    """36 images of two backbones; then one is deleted, one moved, and one file holds another image."""
    path = tmp_path / "c.zarr"
    dvme.extract(class_folders, path, backbones=[LITE, OTHER])
    (class_folders / "dark" / "05.png").unlink()
    (class_folders / "grey" / "03.png").rename(class_folders / "light" / "moved.png")
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_prune__lists_and_changes_nothing(class_folders: Path, cache: Path) -> None:
    before = contents(cache)
    report = dvme.cache.prune(cache, class_folders)
    assert (report.removed, report.n_kept, report.is_done) == (["dark/05.png"], 35, False)
    assert contents(cache) == before


def test_prune__erases_every_trace_and_keeps_the_rest(class_folders: Path, cache: Path) -> None:
    store = EmbeddingCache.open(cache)
    row = store.samples.paths.index("dark/05.png")
    digest, features = store.samples.content_ids[row], store.embeddings(LITE).read(np.array([row])).tobytes()
    others = np.setdiff1d(np.arange(36), [row])
    kept = store.embeddings(LITE).read(others)
    assert any(features in data for data in contents(cache).values())
    report = dvme.cache.prune(cache, class_folders, confirmed=True)
    assert (report.removed, report.n_kept, report.is_done) == (["dark/05.png"], 35, True)
    store = EmbeddingCache.open(cache)
    assert store.samples.is_pruned.nonzero()[0].tolist() == [row]
    assert digest not in store.samples.content_ids
    assert "dark/05.png" not in store.samples.paths
    assert not any(features in data for data in contents(cache).values())
    assert all(store.column(name)[row] == "" for name in store.tables.columns)
    assert store.embeddings(LITE).states()[row] == RowState.PENDING
    np.testing.assert_array_equal(store.embeddings(LITE).read(others), kept)
    assert verify_cache(store).findings == []
    assert (dvme.info(cache).n_rows, dvme.info(cache).n_pruned, dvme.info(cache).backbones[0].pending) == (35, 1, 0)
    assert dvme.cache.prune(cache, class_folders).removed == []
    # No generation of the tables, current or previous, names the image any more.
    for tables in (cache / "tables", cache / "copies" / "tables"):
        assert [path.name for path in tables.iterdir() if path.is_dir()] == [store.tables.current()[0]]


def test_prune__an_image_that_comes_back_is_a_new_row(class_folders: Path, cache: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone.png"
    keep = class_folders / "dark" / "04.png"
    gone.write_bytes(keep.read_bytes())
    keep.unlink()
    dvme.cache.prune(cache, class_folders, confirmed=True)
    keep.write_bytes(gone.read_bytes())
    report = dvme.extract(class_folders, cache, backbones=[LITE])
    assert (report.n_new, report.outcomes[0].computed, report.outcomes[0].reused) == (1, 1, 34)
    assert dvme.info(cache).n_rows == 35


def test_prune__another_folder_is_refused(cache: Path, tmp_path: Path) -> None:
    from PIL import Image

    other = tmp_path / "other"
    other.mkdir()
    Image.new("L", (8, 8)).save(other / "x.png")
    before = contents(cache)
    with pytest.raises(DataError, match=r"none of the 36 images of .* is among those of .*; nothing was pruned"):
        dvme.cache.prune(cache, other, confirmed=True)
    assert contents(cache) == before


def test_prune__a_file_that_cannot_be_read_stops_it(class_folders: Path, cache: Path) -> None:
    loop = class_folders / "dark" / "06.png"
    loop.unlink()
    loop.symlink_to("06.png")
    before = contents(cache)
    with pytest.raises(DataError, match=r"1 file cannot be read, such as .*06\.png; nothing was pruned"):
        dvme.cache.prune(cache, class_folders, confirmed=True)
    assert contents(cache) == before


def test_prune__no_cache_is_made(class_folders: Path, tmp_path: Path) -> None:
    with pytest.raises(CacheNotFoundError):
        dvme.cache.prune(tmp_path / "none.zarr", class_folders, confirmed=True)
    assert not (tmp_path / "none.zarr").exists()


@pytest.mark.parametrize("place", ["dark", "grey/deep"])
def test_prune__a_folder_that_cannot_be_listed_stops_it(
    class_folders: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    scandir, before = os.scandir, contents(cache)
    (class_folders / place).mkdir(exist_ok=True)

    def failing(path: Any = ".") -> Any:
        if Path(path) == class_folders / place:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)
    with pytest.raises(DataError, match=f"NOT LISTED: .*{place} .*not connected.*; nothing was pruned"):
        dvme.cache.prune(cache, class_folders, confirmed=True)
    monkeypatch.undo()
    assert contents(cache) == before


def test_prune__a_class_that_is_a_link_to_nowhere_stops_it(class_folders: Path, cache: Path, tmp_path: Path) -> None:
    (class_folders / "dark").rename(tmp_path / "dark")
    (class_folders / "dark").symlink_to(tmp_path / "share")
    with pytest.raises(DataError, match=r"NOT LISTED: .*; nothing was pruned"):
        dvme.cache.prune(cache, class_folders, confirmed=True)
    assert dvme.info(cache).n_rows == 36


def test_prune__an_empty_mount_point_is_seen(class_folders: Path, cache: Path, tmp_path: Path) -> None:
    (class_folders / "dark").rename(tmp_path / "dark")
    (class_folders / "dark").mkdir()
    report = dvme.cache.prune(cache, class_folders)
    assert report.gone_folders == {"dark": 12}
    assert len(report.removed) == 12
    assert report.remarks == ["a folder holds no image: dark"]
