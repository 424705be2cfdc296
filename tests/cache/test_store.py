"""Durable writes: whole or not at all, and really synced."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from dvme_cache.store import DurableStore, make_folders, remove_partial_files, write_durably

FSYNC = os.fsync  # as it is outside the tests


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[os.stat_result]]:
    """What was synced, in order; every call goes through to the disk."""
    calls: list[os.stat_result] = []

    def count(descriptor: int) -> None:
        calls.append(os.fstat(descriptor))
        FSYNC(descriptor)

    monkeypatch.setattr(os, "fsync", count)
    return calls


def test_write_durably__replaces_the_content(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    write_durably(path, b"old and longer")
    write_durably(path, memoryview(b"new"))
    assert path.read_bytes() == b"new"
    assert names(path.parent) == ["file"]


def test_write_durably__syncs_the_file_then_its_folder(tmp_path: Path, synced: list[os.stat_result]) -> None:
    path = tmp_path / "file"
    write_durably(path, b"content")
    file, folder = synced
    assert file.st_ino == path.stat().st_ino
    assert file.st_size == len(b"content"), "flushed before it was synced"
    assert folder.st_ino == tmp_path.stat().st_ino


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_write_durably__failure_keeps_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    path = tmp_path / "file"
    write_durably(path, b"old")

    def fail(descriptor: int) -> None:
        assert path.read_bytes() == b"old", "nothing may be renamed before it is synced"
        raise error

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(type(error)):
        write_durably(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_make_folders__syncs_every_parent(tmp_path: Path, synced: list[os.stat_result]) -> None:
    make_folders(tmp_path / "a" / "b")
    make_folders(tmp_path / "a" / "b")
    assert [call.st_ino for call in synced] == [tmp_path.stat().st_ino, (tmp_path / "a").stat().st_ino]


def test_remove_partial_files__only_those(tmp_path: Path) -> None:
    for name in ("c/.0.f00.partial", ".zarr.json.f00.partial", "c/0", "partial", "c/x.partial"):
        make_folders((tmp_path / name).parent)
        (tmp_path / name).write_bytes(b"x")
    remove_partial_files(tmp_path)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == [
        "c/0",
        "c/x.partial",
        "partial",
    ]


def test_durable_store__zarr_round_trip_is_synced(tmp_path: Path, synced: list[os.stat_result]) -> None:
    values = np.arange(10, dtype=np.float32)
    array = zarr.create_array(DurableStore(tmp_path / "a"), shape=(10,), chunks=(4,), dtype="float32")
    synced.clear()
    array[:] = values
    assert sum(stat.S_ISREG(call.st_mode) for call in synced) == 3, "a file for each chunk"
    assert sum(stat.S_ISDIR(call.st_mode) for call in synced) >= 3
    stored = {path.stat().st_ino for path in (tmp_path / "a" / "c").iterdir()}
    assert {call.st_ino for call in synced if stat.S_ISREG(call.st_mode)} == stored
    read = zarr.open_array(DurableStore(tmp_path / "a", read_only=True), mode="r")
    np.testing.assert_array_equal(read[...], values)


def test_durable_store__failed_write_raises_and_keeps_the_old_chunk(
    tmp_path: Path, fail_fsync: Callable[[int], AbstractContextManager[None]]
) -> None:
    array = zarr.create_array(DurableStore(tmp_path / "a"), shape=(4,), chunks=(4,), dtype="float32")
    array[:] = 1.0
    with fail_fsync(1), pytest.raises(OSError, match="No space left"):
        array[:] = 2.0
    np.testing.assert_array_equal(array[...], np.ones(4))


def test_durable_store__read_only_refuses_to_write(tmp_path: Path) -> None:
    store = DurableStore(tmp_path, read_only=True)
    value = default_buffer_prototype().buffer.from_bytes(b"x")
    with pytest.raises(ValueError, match="read-only"):
        sync(store.set("key", value))
    with pytest.raises(ValueError, match="read-only"):
        store.set_sync("key", value)
    assert names(tmp_path) == []


def test_set_if_not_exists__keeps_the_first(tmp_path: Path) -> None:
    store, buffer = DurableStore(tmp_path), default_buffer_prototype().buffer
    sync(store.set_if_not_exists("a/key", buffer.from_bytes(b"first")))
    sync(store.set_if_not_exists("a/key", buffer.from_bytes(b"second")))
    assert (tmp_path / "a" / "key").read_bytes() == b"first"
    store.set_sync("a/key", buffer.from_bytes(b"third"))
    assert (tmp_path / "a" / "key").read_bytes() == b"third"
