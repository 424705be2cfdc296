"""Files: one contract for folders and object stores; on a disk, writes are whole or not at all, and really synced."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvme_cache import CacheAccessError
from dvme_cache.files import (
    LocalFiles,
    is_url,
    make_folders,
    open_files,
    remove_partial_files,
    write_durably,
)
from dvme_cache.protocol import Files
from dvme_cache.remote import RemoteFiles

FSYNC = os.fsync  # as it is outside the tests
DIGITS = b"0123456789"


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def read_runs(files: Files, key: str, runs: Sequence[tuple[int, int]]) -> list[bytes]:
    """The bytes of runs (start, length)."""
    buffers = [bytearray(length) for _, length in runs]
    files.read_into(key, [(start, memoryview(buffer)) for (start, _), buffer in zip(runs, buffers, strict=True)])
    return [bytes(buffer) for buffer in buffers]


@pytest.fixture(params=["folder", "bucket"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    if request.param == "folder":
        return LocalFiles(tmp_path / "x.zarr")
    request.getfixturevalue("s3")
    return open_files("s3://bucket/deep/x.zarr")


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[os.stat_result]]:
    """What was synced, in order; every call goes through to the disk."""
    calls: list[os.stat_result] = []

    def count(descriptor: int) -> None:
        calls.append(os.fstat(descriptor))
        FSYNC(descriptor)

    monkeypatch.setattr(os, "fsync", count)
    return calls


@pytest.mark.parametrize("key", ["zarr.json", "embeddings/hf-hub%3Aa%2Fb/features/c/0/0", "a~b/%C3%A4%20/%2E%2E"])
def test_write__replaces_the_whole_file(files: Files, key: str) -> None:
    assert files.read(key) is None
    files.write(key, [b"old and longer"])
    files.write(key, [b"ne", memoryview(b"w"), b"", memoryview(bytes(range(3)))])
    assert files.read(key) == b"new\0\1\2"
    assert files.sizes() == {key: 6}
    files.write(key, [])
    assert files.read(key) == b""


def test_stamp__another_one_for_every_version(files: Files) -> None:
    assert files.stamp("a/b") is None
    files.write("a/b", [b"x"])
    first = files.stamp("a/b")
    files.write("a/c", [b"x"])
    assert files.stamp("a/b") == first
    assert files.stamp("a/b/c") is None
    files.write("a/b", [b"y"])
    assert files.stamp("a/b") not in (None, first)


def test_read__a_folder_is_no_file(files: Files) -> None:
    files.write("a/b", [b"x"])
    assert files.read("a") is None
    assert files.read("a/b/c") is None


def test_read_into__every_run_at_its_place(files: Files) -> None:
    files.write("a/b", [DIGITS])
    assert read_runs(files, "a/b", [(3, 4)]) == [b"3456"]
    assert read_runs(files, "a/b", [(0, 1), (4, 2), (9, 1)]) == [b"0", b"45", b"9"]
    assert read_runs(files, "a/b", [(0, 10)]) == [DIGITS]


@pytest.mark.parametrize("runs", [[(8, 3)], [(0, 2), (9, 2)], [(10, 1)], [(500, 1)]])
def test_read_into__a_file_that_ends_too_early(files: Files, runs: list[tuple[int, int]]) -> None:
    files.write("a/b", [DIGITS])
    with pytest.raises(EOFError, match="a/b ends at byte"):
        read_runs(files, "a/b", runs)


@pytest.mark.parametrize("key", ["never", "a", "a/b/c"])
def test_read_into__no_file(files: Files, key: str) -> None:
    files.write("a/b", [DIGITS])
    with pytest.raises(FileNotFoundError):
        read_runs(files, key, [(0, 1)])


def test_delete__what_is_there_and_what_is_not(files: Files) -> None:
    files.write("a/b", [b"x"])
    files.write("a/c", [b"y"])
    for key in ("a/b", "a/b", "never", "a/b/c"):
        files.delete(key)
    assert files.sizes() == {"a/c": 1}


def test_delete_tree__spares_what_only_begins_alike(files: Files) -> None:
    kept = {"embeddings/m2/c/0": 1, "embeddings/m.x": 2, "embeddings/zarr.json": 3, "copies/embeddings/m/zarr.json": 4}
    gone = {"embeddings/m/zarr.json": 5, "embeddings/m/features/c/0/0": 6}
    for key, size in (kept | gone).items():
        files.write(key, [bytes(size)])
    assert files.sizes() == kept | gone
    assert files.sizes("embeddings/m") == gone
    files.delete_tree("embeddings/m")
    files.delete_tree("never")
    assert files.sizes() == kept
    assert files.sizes("embeddings/m") == files.sizes("never") == {}


def test_names__right_below_a_folder(files: Files) -> None:
    for key in ("zarr.json", "embeddings/a%2Fb/zarr.json", "embeddings/m/c/0", "embeddings/zarr.json"):
        files.write(key, [b"x"])
    assert sorted(files.names("")) == ["embeddings", "zarr.json"]
    assert sorted(files.names("embeddings")) == ["a%2Fb", "m", "zarr.json"]
    assert files.names("never") == []
    assert files.names("embeddings/m/c/0") == []


@given(st.binary(min_size=1, max_size=80), st.lists(st.tuples(st.integers(0, 79), st.integers(1, 80)), max_size=8))
def test_read_into__equals_slices(scratch: Path, content: bytes, runs: list[tuple[int, int]]) -> None:
    files = LocalFiles(scratch)
    files.write("runs", [content])
    inside = [(start, length) for start, length in runs if start + length <= len(content)]
    assert read_runs(files, "runs", inside) == [content[start : start + length] for start, length in inside]


@pytest.mark.parametrize("n_bytes", [1, 7, 64])
def test_read_into__a_system_that_gives_few_bytes_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_bytes: int
) -> None:
    """POSIX: preadv may stop early, a signal is enough."""
    preadv = os.preadv
    monkeypatch.setattr(
        os, "preadv", lambda descriptor, buffers, offset: preadv(descriptor, [buffers[0][:n_bytes]], offset)
    )
    parts = [bytes([index]) * (index % 11) for index in range(100)]
    LocalFiles(tmp_path).write("a", parts)
    assert read_runs(LocalFiles(tmp_path), "a", [(3, 200), (1, 1)]) == [b"".join(parts)[3:203], b"".join(parts)[1:2]]


def test_write__many_parts(tmp_path: Path) -> None:
    parts = [index.to_bytes(2, "little") * (index % 7000) for index in range(1025)]
    LocalFiles(tmp_path).write("a", parts)
    assert (tmp_path / "a").read_bytes() == b"".join(parts)


def test_open_files__a_path_or_a_url(tmp_path: Path, s3: Any) -> None:
    local = open_files(str(tmp_path / "x.zarr"))
    assert isinstance(local, LocalFiles)
    assert str(local) == str(tmp_path / "x.zarr")
    remote = open_files("s3://bucket/x.zarr/")
    assert isinstance(remote, RemoteFiles)
    assert str(remote) == "s3://bucket/x.zarr"
    assert is_url("gs://a/b")
    assert not is_url("a/b")


@pytest.mark.parametrize("location", ["s3:/bucket/x.zarr", Path("s3://bucket/x.zarr"), "gs:/x"])
def test_open_files__a_url_of_one_slash(location: str | Path) -> None:
    with pytest.raises(CacheAccessError, match=f"{location} is neither a path nor a URL; write two slashes"):
        open_files(location)


def test_write_durably__replaces_the_content(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    write_durably(path, b"old and longer")
    write_durably(path, memoryview(b"new"))
    assert path.read_bytes() == b"new"
    assert names(path.parent) == ["file"]


def test_write_durably__syncs_the_file_then_its_folder(tmp_path: Path, synced: list[os.stat_result]) -> None:
    path = tmp_path / "file"
    write_durably(path, b"con", b"tent")
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


def delete_file(folder: Path) -> None:
    LocalFiles(folder).delete("a/file")


def delete_folder(folder: Path) -> None:
    LocalFiles(folder).delete_tree("a/folder")


@pytest.mark.parametrize("delete", [delete_file, delete_folder])
def test_delete__syncs_the_folder(tmp_path: Path, synced: list[os.stat_result], delete: Callable[[Path], None]) -> None:
    for key in ("a/file", "a/folder/b"):
        LocalFiles(tmp_path).write(key, [b"x"])
    synced.clear()
    delete(tmp_path)
    assert [call.st_ino for call in synced] == [(tmp_path / "a").stat().st_ino]


def test_make_folders__syncs_every_parent(tmp_path: Path, synced: list[os.stat_result]) -> None:
    make_folders(tmp_path / "a" / "b")
    make_folders(tmp_path / "a" / "b")
    assert [call.st_ino for call in synced] == [tmp_path.stat().st_ino, (tmp_path / "a").stat().st_ino]


def test_remove_partial_files__only_those(tmp_path: Path) -> None:
    kept = [".a.f00.partial/0", ".mine.partial", "c/0", "c/x.partial", "partial"]
    for name in ("c/.0.f00.partial", ".zarr.json.f00.partial", *kept):
        make_folders((tmp_path / name).parent)
        (tmp_path / name).write_bytes(b"x")
    remove_partial_files(tmp_path)
    assert sorted(LocalFiles(tmp_path).sizes()) == kept
