"""The sample table: one row per content, appended by one attribute; a pruned row keeps its place."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from dvme_cache import CorruptCacheError
from dvme_cache.files import LocalFiles
from dvme_cache.samples import PRUNED_PATH, SampleTable
from dvme_cache.store import CacheStore

Ids = Callable[[Sequence[int] | range], list[bytes]]
FailFsync = Callable[[int], AbstractContextManager[None]]
ID_CHUNK, PATH_CHUNK = "samples/content_id/c/0/0", "samples/path/c/0"


def reopened(path: Path) -> SampleTable:
    group = zarr.open_group(CacheStore(LocalFiles(path)), path="samples", mode="r+")
    return SampleTable(group)


def break_both(path: Path, key: str) -> None:
    for place in (path / key, path / "copies" / key):
        content = bytearray(place.read_bytes())
        content[len(content) // 2] ^= 0x10
        place.write_bytes(content)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    SampleTable.create(CacheStore(LocalFiles(tmp_path)))
    return tmp_path


def test_add__equal_contents_share_a_row(path: Path, ids: Ids) -> None:
    samples = reopened(path)
    assert len(samples) == 0
    assert samples.content_ids == samples.paths == []
    assert samples.ids.shape == (0, 16)
    assert samples.add(ids([7, 3, 7]), ["seven", "three", "copy of seven"]).tolist() == [0, 1, 0]
    assert samples.add(ids([9, 3, 9, 1]), ["nine", "moved", "copy", "ä/一.png"]).tolist() == [2, 1, 2, 3]
    assert samples.add(ids([1, 7]), ["again", "again"]).tolist() == [3, 0]
    assert samples.add([], []).tolist() == []
    for table in (samples, reopened(path)):
        assert len(table) == 4
        assert table.content_ids == [row.tobytes() for row in table.ids] == ids([7, 3, 9, 1])
        assert table.paths == ["seven", "three", "nine", "ä/一.png"]
        assert not table.is_pruned.any()


def test_add__across_chunks(path: Path, ids: Ids) -> None:
    """Chunks of 100 rows here: appended to, crossed and filled to the brim."""
    stops = [0, 99, 100, 101, 250, 300, 301]
    for start, stop in pairwise(stops):
        assert reopened(path).add(ids(range(stop)), [f"{row}.png" for row in range(stop)]).tolist() == [*range(stop)]
        assert len(reopened(path)) == stop > start
    assert reopened(path).content_ids == ids(range(301))
    assert reopened(path).paths == [f"{row}.png" for row in range(301)]
    for key in ("samples/content_id/c/2/0", "samples/path/c/2"):
        break_both(path, key)
    for read in ("ids", "paths"):
        with pytest.raises(CorruptCacheError, match="is damaged"):
            getattr(reopened(path), read)


@settings(max_examples=settings.default.max_examples // 7)
@given(st.lists(st.lists(st.integers(0, 9), max_size=8), max_size=4))
def test_add__rows_are_first_appearances(scratch: Path, calls: list[list[int]]) -> None:
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        SampleTable.create(CacheStore(LocalFiles(Path(folder))))
        samples = reopened(Path(folder))
        seen: list[int] = []
        for numbers in calls:
            seen += [number for place, number in enumerate(numbers) if number not in seen + numbers[:place]]
            rows = samples.add([bytes([number + 1] * 16) for number in numbers], [f"{number}" for number in numbers])
            assert rows.tolist() == [seen.index(number) for number in numbers]
        for table in (samples, reopened(Path(folder))):
            assert table.paths == [str(number) for number in seen]
            assert table.content_ids == [bytes([number + 1] * 16) for number in seen]


@pytest.mark.parametrize("n_lost", [1, 3])
def test_add__overwrites_rows_that_were_never_counted(path: Path, ids: Ids, n_lost: int) -> None:
    """A crash after the columns and before `n_rows`: invisible, then overwritten by fewer or more rows."""
    reopened(path).add(ids([0, 1]), ["zero", "one"])
    group = zarr.open_group(CacheStore(LocalFiles(path)), path="samples", mode="r+")
    table = np.frombuffer(b"".join(ids(range(50, 50 + n_lost))), dtype=np.uint8).reshape(-1, 16)
    for name, values in (("content_id", table), ("path", np.array(["lost"] * n_lost, dtype=object))):
        array = group[name]
        assert isinstance(array, zarr.Array)
        array.resize((2 + n_lost, *array.shape[1:]))
        array[2:] = values

    samples = reopened(path)
    assert len(samples) == 2
    assert samples.content_ids == ids([0, 1])
    assert samples.paths == ["zero", "one"]
    assert samples.add(ids([50, 1, 2]), ["found again", "one", "two"]).tolist() == [2, 1, 3]
    assert reopened(path).content_ids == ids([0, 1, 50, 2])
    assert reopened(path).paths == ["zero", "one", "found again", "two"]


def test_add__failing_at_any_sync_adds_all_or_nothing(path: Path, ids: Ids, fail_fsync: FailFsync) -> None:
    reopened(path).add(ids([0]), ["zero"])
    n_failures = 0
    for at in range(1, 100):
        try:
            with fail_fsync(at):
                reopened(path).add(ids([1, 2]), ["one", "two"])
        except OSError:
            n_failures += 1
            samples = reopened(path)
            assert samples.content_ids in (ids([0]), ids([0, 1, 2]))
            assert samples.paths == ["zero", "one", "two"][: len(samples)]
        else:
            break
    assert n_failures == 20, "two arrays, each its shape and its chunk, and the count: files and copies with folders"
    assert reopened(path).paths == ["zero", "one", "two"]


def test_add__can_be_repeated_after_any_failure(tmp_path: Path, ids: Ids, fail_fsync: FailFsync) -> None:
    """On the same object, which goes on saying what counts."""
    for at in range(1, 100):
        SampleTable.create(CacheStore(LocalFiles(tmp_path / str(at))))
        samples = reopened(tmp_path / str(at))
        try:
            with fail_fsync(at):
                samples.add(ids([0, 1]), ["zero", "one"])
        except OSError:
            assert len(samples) == len(samples.content_ids) == 0
            assert samples.add(ids([1, 0]), ["one", "zero"]).tolist() == [0, 1]
            assert samples.content_ids == reopened(tmp_path / str(at)).content_ids == ids([1, 0])
        else:
            break
    assert at > 20


@pytest.mark.parametrize(("key", "read"), [(ID_CHUNK, "content_ids"), (PATH_CHUNK, "paths")])
def test_reading__one_of_two_copies_is_enough(path: Path, ids: Ids, key: str, read: str) -> None:
    reopened(path).add(ids([0, 1]), ["zero", "one"])
    expected = getattr(reopened(path), read)
    (path / key).write_bytes(b"torn")
    assert getattr(reopened(path), read) == expected
    (path / key).unlink()
    assert getattr(reopened(path), read) == expected
    assert reopened(path).add(ids([2]), ["two"]).tolist() == [2], "and it is written whole again"
    (path / "copies" / key).unlink()
    assert getattr(reopened(path), read) == [*expected, ids([2])[0] if read == "content_ids" else "two"]


@pytest.mark.parametrize(("key", "read"), [(ID_CHUNK, "ids"), (PATH_CHUNK, "paths")])
def test_reading__both_copies_gone_or_damaged_is_named(path: Path, ids: Ids, key: str, read: str) -> None:
    reopened(path).add(ids([0, 1]), ["zero", "one"])
    array = key.partition("/c/")[0]
    break_both(path, key)
    with pytest.raises(CorruptCacheError, match=f"{path}/{array} is damaged"):
        getattr(reopened(path), read)
    for place in (path / key, path / "copies" / key):
        place.unlink()
    with pytest.raises(CorruptCacheError, match=rf"{path}/{array} is damaged .*(rows are|chunk is) gone"):
        getattr(reopened(path), read)


def test_reading__fewer_rows_than_counted(path: Path, ids: Ids) -> None:
    """Metadata of another moment, as after a partial copy: rows are never made up."""
    reopened(path).add(ids([0, 1]), ["zero", "one"])
    store = CacheStore(LocalFiles(path))
    document = json.loads((path / "samples" / "zarr.json").read_text())
    document["attributes"]["n_rows"] = 3
    store.save("samples/zarr.json", json.dumps(document).encode())
    for read in ("ids", "paths"):
        with pytest.raises(CorruptCacheError, match="committed rows are gone"):
            getattr(reopened(path), read)


@pytest.mark.parametrize("key", [ID_CHUNK, PATH_CHUNK])
def test_add__to_a_damaged_table_is_refused(path: Path, ids: Ids, key: str) -> None:
    reopened(path).add(ids([0, 1]), ["zero", "one"])
    break_both(path, key)
    with pytest.raises(CorruptCacheError, match=f"{key.partition('/c/')[0]} is damaged"):
        reopened(path).add(ids([2]), ["two"])
    assert len(reopened(path)) == 2


def test_prune__rows_keep_their_numbers_and_lose_everything_else(path: Path, ids: Ids) -> None:
    samples = reopened(path)
    samples.add(ids(range(4)), ["zero", "one", "two", "three"])
    samples.prune(np.array([1, 3]))
    for table in (samples, reopened(path)):
        assert table.is_pruned.tolist() == [False, True, False, True]
        assert table.paths == ["zero", PRUNED_PATH, "two", PRUNED_PATH]
        assert [table.content_ids[row] for row in (0, 2)] == ids([0, 2])
    assert samples.add(ids([3, 0, 4]), ["three again", "zero", "four"]).tolist() == [4, 0, 5], "a new row"
    for file in path.rglob("*"):
        assert not file.is_file() or ids([1])[0] not in file.read_bytes()
    assert reopened(path).is_pruned.tolist() == [False, True, False, True, False, False]


def test_prune__failing_at_any_sync_can_be_repeated(path: Path, ids: Ids, fail_fsync: FailFsync) -> None:
    reopened(path).add(ids(range(3)), ["zero", "one", "two"])
    for at in range(1, 100):
        try:
            with fail_fsync(at):
                reopened(path).prune(np.array([1]))
        except OSError:
            samples = reopened(path)
            assert [samples.content_ids[row] for row in (0, 2)] == ids([0, 2])
            if samples.is_pruned[1]:
                assert samples.paths[1] == PRUNED_PATH, "the ids go last"
        else:
            break
    assert at == 9, "two chunks, twice, each with its folder"
    assert reopened(path).paths == ["zero", PRUNED_PATH, "two"]
    assert reopened(path).is_pruned.tolist() == [False, True, False]
