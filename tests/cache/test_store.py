"""The store: metadata sealed, everything small kept twice, and whichever of the two is sound is served."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.codecs import Crc32cCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from dvme_cache import CorruptCacheError
from dvme_cache.files import LocalFiles
from dvme_cache.sealing import crc32c, is_sound
from dvme_cache.store import CacheStore

PROTOTYPE = default_buffer_prototype()
CHUNK, DOCUMENT = "samples/path/c/0", "samples/zarr.json"


def chunk(content: bytes) -> bytes:
    return content + crc32c(content).to_bytes(4, "little")


def get(store: CacheStore, key: str, byte_range: ByteRequest | None = None) -> bytes | None:
    found = sync(store.get(key, PROTOTYPE, byte_range))
    return None if found is None else found.to_bytes()


def put(store: CacheStore, key: str, data: bytes) -> None:
    sync(store.set(key, PROTOTYPE.buffer.from_bytes(data)))


def listed(keys: Any) -> list[str]:
    async def collect() -> list[str]:
        return sorted([key async for key in keys])

    return sync(collect())


@pytest.fixture
def store(tmp_path: Path) -> CacheStore:
    return CacheStore(LocalFiles(tmp_path))


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Keys in the order in which they are written; every write goes through."""
    keys: list[str] = []
    write = LocalFiles.write

    def remember(files: LocalFiles, key: str, parts: Any) -> None:
        keys.append(key)
        write(files, key, parts)

    monkeypatch.setattr(LocalFiles, "write", remember)
    return keys


@pytest.mark.parametrize("key", [CHUNK, DOCUMENT, "zarr.json", "tables/00000001/label/c/0", "embeddings/m/zarr.json"])
def test_set__writes_the_copy_first(store: CacheStore, writes: list[str], tmp_path: Path, key: str) -> None:
    """A copy may be newer than what it stands in for, and is never older."""
    put(store, key, b"{}")
    assert writes == [f"copies/{key}", key]
    assert (tmp_path / "copies" / key).read_bytes() == (tmp_path / key).read_bytes()


@pytest.mark.parametrize("key", ["embeddings/m/state/c/0", "embeddings/m/features/c/0/0", "embeddings/m/reason/c/0"])
def test_set__writes_embeddings_once(store: CacheStore, writes: list[str], key: str) -> None:
    put(store, key, b"x")
    assert writes == [key]
    assert get(store, key) == b"x"


def test_set__seals_metadata_and_nothing_else(store: CacheStore, tmp_path: Path) -> None:
    put(store, DOCUMENT, b'{"attributes": {"n_rows": 3}, "zarr_format": 3}')
    content = json.loads((tmp_path / DOCUMENT).read_text())
    assert set(content) == {"attributes", "zarr_format"}
    assert set(content["attributes"]) == {"n_rows", "seal"}
    assert is_sound(DOCUMENT, (tmp_path / DOCUMENT).read_bytes())
    put(store, CHUNK, chunk(b"{}"))
    assert (tmp_path / CHUNK).read_bytes() == chunk(b"{}")


def torn(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-3])


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x01
    file.write_bytes(content)


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def turned_into_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("damage", [torn, flipped, emptied, Path.unlink, turned_into_a_folder])
@pytest.mark.parametrize(("key", "data"), [(CHUNK, chunk(b"paths")), (DOCUMENT, b'{"attributes": {"n_rows": 3}}')])
def test_load__either_place_will_do(
    store: CacheStore, tmp_path: Path, key: str, data: bytes, damage: Callable[[Path], None]
) -> None:
    put(store, key, data)
    written = get(store, key)
    damage(tmp_path / key)
    assert get(store, key) == written
    assert sync(store.exists(key))
    if (tmp_path / key).is_dir():
        (tmp_path / key).rmdir()
    put(store, key, data)
    damage(tmp_path / "copies" / key)
    assert get(store, key) == written


@pytest.mark.parametrize("damage", [torn, flipped, emptied])
def test_load__both_damaged(store: CacheStore, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    for key, data in ((CHUNK, chunk(b"paths")), (DOCUMENT, b"{}")):
        put(store, key, data)
        for place in (key, f"copies/{key}"):
            damage(tmp_path / place)
    with pytest.raises(CorruptCacheError, match=f"{tmp_path}/{DOCUMENT} and its copy are damaged; restore it"):
        get(store, DOCUMENT)
    assert get(store, CHUNK) == (tmp_path / CHUNK).read_bytes(), "for its codec to refuse"


def test_load__both_gone(store: CacheStore) -> None:
    assert get(store, DOCUMENT) is get(store, CHUNK) is None
    assert not sync(store.exists(DOCUMENT))


def test_load__a_document_of_another_place_is_not_served(store: CacheStore, tmp_path: Path) -> None:
    for name, rows in (("a", 1), ("b", 2)):
        put(store, f"{name}/zarr.json", json.dumps({"attributes": {"n_rows": rows}}).encode())
    shutil.copy(tmp_path / "a" / "zarr.json", tmp_path / "b" / "zarr.json")
    data = get(store, "b/zarr.json")
    assert data is not None
    assert json.loads(data)["attributes"]["n_rows"] == 2, "its copy"
    shutil.copy(tmp_path / "a" / "zarr.json", tmp_path / "copies" / "b" / "zarr.json")
    with pytest.raises(CorruptCacheError):
        get(store, "b/zarr.json")


@given(st.binary(min_size=1, max_size=40), st.integers(0, 45), st.integers(0, 45))
def test_get__parts_equal_slices(scratch: Path, data: bytes, one: int, other: int) -> None:
    store = CacheStore(LocalFiles(scratch / "parts"))
    key, (start, stop) = "embeddings/m/state/c/0", sorted((one, other))
    put(store, key, data)
    assert get(store, key, RangeByteRequest(start, stop)) == data[start:stop]
    assert get(store, key, OffsetByteRequest(start)) == data[start:]
    assert get(store, key, SuffixByteRequest(start + 1)) == data[max(0, len(data) - start - 1) :]
    parts = sync(store.get_partial_values(PROTOTYPE, [(key, None), ("never", None), (key, OffsetByteRequest(1))]))
    assert [None if part is None else part.to_bytes() for part in parts] == [data, None, data[1:]]


def test_delete__takes_the_copy_along(store: CacheStore, tmp_path: Path) -> None:
    for key in ("a/zarr.json", "a/b/zarr.json", "ab/zarr.json"):
        put(store, key, b"{}")
    sync(store.delete("a/zarr.json"))
    assert get(store, "a/zarr.json") is None
    assert get(store, "a/b/zarr.json") is not None
    sync(store.delete_dir("a"))
    sync(store.delete("never"))
    assert listed(store.list()) == ["ab/zarr.json", "copies/ab/zarr.json"]
    assert listed(store.list_prefix("copies/")) == ["copies/ab/zarr.json"]
    assert listed(store.list_dir("")) == ["ab", "copies"]
    assert listed(store.list_dir("ab/")) == ["zarr.json"]


def test_set__failing_at_any_sync_leaves_old_or_new(
    store: CacheStore, tmp_path: Path, fail_fsync: Callable[[int], AbstractContextManager[None]]
) -> None:
    old, new = chunk(b"old"), chunk(b"new")
    for at in range(1, 10):
        put(store, CHUNK, old)
        try:
            with fail_fsync(at):
                put(store, CHUNK, new)
        except OSError:
            assert get(store, CHUNK) in (old, new)
            copy = (tmp_path / "copies" / CHUNK).read_bytes()
            assert (get(store, CHUNK), copy) != (new, old), "the copy is never older"
        else:
            break
    assert at == 5, "two files, each with its folder"
    assert get(store, CHUNK) == new


def test_zarr__round_trip_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[os.stat_result] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor)))
    values = np.arange(10, dtype=np.float32)
    store = CacheStore(LocalFiles(tmp_path))
    array = zarr.create_array(
        store, name="a", shape=(10,), chunks=(4,), dtype="float32", compressors=[Crc32cCodec()], fill_value=0
    )
    synced.clear()
    array[:] = values
    files = {call.st_ino for call in synced if stat.S_ISREG(call.st_mode)}
    assert len(files) == 6, "a file for each chunk, twice"
    assert files == {path.stat().st_ino for path in tmp_path.rglob("c/*")}
    assert sum(stat.S_ISDIR(call.st_mode) for call in synced) >= 6
    read = zarr.open_array(CacheStore(LocalFiles(tmp_path), read_only=True), path="a", mode="r")
    np.testing.assert_array_equal(read[...], values)
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "copies" / "a", mode="r")[...], values)


def test_zarr__failed_write_raises_and_keeps_the_old_chunk(
    store: CacheStore, fail_fsync: Callable[[int], AbstractContextManager[None]]
) -> None:
    array = zarr.create_array(store, name="a", shape=(4,), chunks=(4,), dtype="float32", compressors=[Crc32cCodec()])
    array[:] = 1.0
    with fail_fsync(1), pytest.raises(OSError, match="No space left"):
        array[:] = 2.0
    np.testing.assert_array_equal(array[...], np.ones(4))


def test_read_only__refuses_to_write(store: CacheStore, tmp_path: Path) -> None:
    put(store, "a/zarr.json", b"{}")
    before = sorted(tmp_path.rglob("*"))
    reader = store.with_read_only(read_only=True)
    assert reader == store
    assert hash(reader) == hash(store)
    assert get(reader, "a/zarr.json") == get(store, "a/zarr.json")
    value = PROTOTYPE.buffer.from_bytes(b"x")
    for write in (
        lambda: reader.set("key", value),
        lambda: reader.set_if_not_exists("key", value),
        lambda: reader.delete("a/zarr.json"),
        lambda: reader.delete_dir("a"),
    ):
        with pytest.raises(ValueError, match="read-only"):
            sync(write())
    assert sorted(tmp_path.rglob("*")) == before
    put(reader.with_read_only(read_only=False), "key", b"x")
    assert store != CacheStore(LocalFiles(tmp_path / "a"))


def test_set_if_not_exists__keeps_the_first(store: CacheStore) -> None:
    for data in (chunk(b"first"), chunk(b"second")):
        sync(store.set_if_not_exists("a/key", PROTOTYPE.buffer.from_bytes(data)))
    assert get(store, "a/key") == chunk(b"first")
    put(store, "a/key", chunk(b"third"))
    assert get(store, "a/key") == chunk(b"third")
