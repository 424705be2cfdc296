"""A file that cannot be read has no row, loses nothing that is known of it, and comes in once it can be read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import dvme
from dvme.data import Samples, load_samples
from dvme.data.folder import folder_samples
from dvme.data.hashing import identify
from dvme.errors import DataError
from dvme.extraction.indexing import Index, index_samples
from dvme_cache import EmbeddingCache, unreadable_id

LITE = "efficientnet-lite0@size=32"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of two files each."""
    folder = tmp_path / "images"
    for name in ("a/1.png", "a/2.png", "b/1.png", "b/2.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


@pytest.fixture
def index(tmp_path: Path) -> Callable[[Samples], Index]:
    """Index files into a cache, without any model."""

    def run(samples: Samples) -> Index:
        with EmbeddingCache.writing(tmp_path / "c.zarr") as cache:
            return index_samples(cache, identify(samples, 2, lambda *_: None))

    return run


def hidden(path: Path) -> Path:
    """Put a link to nowhere in the place of a file, as behind a share that sleeps; where the file is now."""
    aside = path.with_suffix(".aside")
    path.rename(aside)
    path.symlink_to(path.parent / "nowhere")
    return aside


def back(path: Path) -> None:
    path.unlink()
    path.with_suffix(".aside").rename(path)


def test_index_samples__no_row_for_a_file_that_cannot_be_read(
    root: Path, index: Callable[[Samples], Index], tmp_path: Path
) -> None:
    hidden(root / "b" / "2.png")
    found = index(load_samples(root))
    assert (len(found.rows), found.n_new, list(found.unread)) == (3, 3, ["b/2.png"])
    assert "cannot be read: No such file or directory" in found.unread["b/2.png"]
    back(root / "b" / "2.png")
    found = index(load_samples(root))
    assert (len(found.rows), found.n_new, found.unread) == (4, 1, {})
    assert EmbeddingCache.open(tmp_path / "c.zarr").n_rows == 4


def test_index_samples__a_known_file_that_cannot_be_read_keeps_its_label(
    root: Path, index: Callable[[Samples], Index], tmp_path: Path
) -> None:
    index(load_samples(root))
    hidden(root / "b" / "2.png")
    found = index(load_samples(root))
    assert (found.n_unlisted, found.n_new) == (0, 0)
    cache = EmbeddingCache.open(tmp_path / "c.zarr")
    assert cache.column("label").tolist() == ["a", "a", "b", "b"]
    assert cache.n_rows == 4


def test_index_samples__a_folder_that_cannot_be_listed_is_not_unlisted(
    root: Path, index: Callable[[Samples], Index], tmp_path: Path
) -> None:
    index(load_samples(root))
    (root / "b").rename(tmp_path / "b")
    (root / "b").symlink_to(tmp_path / "share")
    assert index(load_samples(root)).n_unlisted == 0
    (root / "b").unlink()
    (tmp_path / "share").mkdir()
    (root / "b").symlink_to(tmp_path / "share")
    for name in ("1.png", "2.png"):
        (tmp_path / "b" / name).rename(tmp_path / "share" / name)
    index(load_samples(root))
    (tmp_path / "share").rename(tmp_path / "asleep")
    assert index(load_samples(root)).n_unlisted == 0
    assert EmbeddingCache.open(tmp_path / "c.zarr").column("label").tolist() == ["a", "a", "b", "b"]


def test_index_samples__the_row_of_an_older_version_goes(
    root: Path, index: Callable[[Samples], Index], tmp_path: Path
) -> None:
    with EmbeddingCache.writing(tmp_path / "c.zarr") as cache:
        stand_in = unreadable_id(os.path.realpath(root / "b" / "2.png"))
        cache.samples.add([stand_in, b"x" * 16], ["b/2.png", "other.png"])
    index(load_samples(root))
    cache = EmbeddingCache.open(tmp_path / "c.zarr")
    assert cache.samples.is_pruned.tolist() == [True, False, False, False, False, False]


def test_index_samples__nothing_can_be_read(root: Path, index: Callable[[Samples], Index]) -> None:
    for path in list(root.rglob("*.png")):
        hidden(path)
    with pytest.raises(DataError, match=r"none of 4 files can be used; a/1\.png: cannot be read: No such file"):
        index(load_samples(root))


def test_identify__a_pipe_is_not_waited_for(root: Path) -> None:
    os.mkfifo(root / "a" / "pipe.png")
    files = [root / "a" / "1.png", root / "a" / "pipe.png", root / "a"]
    nothing = ["", "", ""]
    samples = Samples(files, ["1", "2", "3"], nothing, nothing, nothing)
    found = identify(samples, 1, lambda *_: None)
    assert (found.samples.ids, found.unread_paths) == (["1"], files[1:])
    assert list(found.unread) == ["2", "3"]
    assert "a pipe, socket or device, no file" in found.unread["2"]


def test_index_samples__copies_and_names_of_one_file(root: Path, index: Callable[[Samples], Index]) -> None:
    (root / "a" / "copy.png").write_text("a/1.png")
    os.link(root / "a" / "2.png", root / "a" / "hard.png")
    (root / "b" / "link.png").symlink_to("1.png")
    found = index(folder_samples(root))
    assert [ids for ids in found.ids if len(ids) > 1] == [
        ["a/1.png", "a/copy.png"],
        ["a/2.png", "a/hard.png"],
        ["b/1.png", "b/link.png"],
    ]
    assert found.same_files == [["a/2.png", "a/hard.png"], ["b/1.png", "b/link.png"]]


def test_index_samples__a_number_that_the_cache_writes_in_another_way(
    root: Path, index: Callable[[Samples], Index], tmp_path: Path
) -> None:
    files, nothing = sorted(root.rglob("*.png")), ["", ""]

    def grouped(some: list[Path], groups: list[str]) -> Samples:
        return Samples(some, [str(path) for path in some], nothing, nothing, groups, frozenset({"group"}))

    index(grouped(files[:2], ["12", "007"]))
    with pytest.raises(DataError, match=r"groups '12' and '12\.0' are the same number \('12' is what the cache has\)"):
        index(grouped(files[2:], ["12.0", "x"]))
    assert EmbeddingCache.open(tmp_path / "c.zarr").n_rows == 2
    assert "7 and 007" in index(grouped(files[2:], ["7", "x"])).remarks[0]
    index(grouped(files[:2], ["12.0", "8"]))  # what is replaced is no other spelling


def test_extract__every_copy_that_fails_is_listed(class_folders: Path, tmp_path: Path) -> None:
    for number in range(30):
        (class_folders / "dark" / f"empty{number}.png").touch()
    report = dvme.extract(class_folders, tmp_path / "c.zarr", backbones=[LITE])
    (outcome,) = report.outcomes
    assert (outcome.failed, outcome.computed, report.n_rows) == (1, 36, 37)
    assert set(outcome.reasons) == {f"dark/empty{number}.png" for number in range(30)}
    assert set(outcome.reasons.values()) == {"the file is empty"}
    assert len(report.copies[0]) == 30


def test_extract__names_what_it_could_not_list_and_loses_nothing(class_folders: Path, tmp_path: Path) -> None:
    cache = tmp_path / "c.zarr"
    dvme.extract(class_folders, cache, backbones=[LITE])
    before = EmbeddingCache.open(cache).embeddings(LITE).read(np.arange(36))
    (class_folders / "dark").rename(tmp_path / "dark")
    (class_folders / "dark").symlink_to(tmp_path / "share")
    hidden(class_folders / "grey" / "00.png")
    report = dvme.extract(class_folders, cache, backbones=[LITE])
    assert list(report.unlisted) == [str(class_folders / "dark")]
    assert list(report.unread) == ["grey/00.png"]
    assert (report.outcomes[0].reused, report.outcomes[0].computed) == (23, 0)
    np.testing.assert_array_equal(EmbeddingCache.open(cache).embeddings(LITE).read(np.arange(36)), before)
    plan = dvme.plan_extraction(class_folders, cache, backbones=[LITE])
    assert (plan.unlisted, list(plan.unread), plan.n_rows) == (report.unlisted, ["grey/00.png"], 23)
    assert plan.n_unlisted == report.n_unlisted == 0
    with pytest.raises(DataError, match="replace=True would lose their embeddings, nothing was done"):
        dvme.extract(class_folders, cache, backbones=[LITE], replace=True)
    np.testing.assert_array_equal(EmbeddingCache.open(cache).embeddings(LITE).read(np.arange(36)), before)
