"""The sample table: one row per content, appended by one attribute."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import MemoryStore

from dvme_cache import CorruptCacheError
from dvme_cache.samples import SampleTable
from dvme_cache.store import DurableStore

Ids = Callable[[Sequence[int] | range], list[bytes]]


def reopened(path: Path) -> SampleTable:
    group = zarr.open_group(DurableStore(path), mode="r+")["samples"]
    assert isinstance(group, zarr.Group)
    return SampleTable(group)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    SampleTable.create(zarr.create_group(DurableStore(tmp_path)))
    return tmp_path


def test_add__equal_contents_share_a_row(path: Path, ids: Ids) -> None:
    samples = reopened(path)
    assert len(samples) == 0
    assert samples.content_ids == samples.paths == []
    assert samples.add(ids([7, 3, 7]), ["seven", "three", "copy of seven"]).tolist() == [0, 1, 0]
    assert samples.add(ids([9, 3, 9, 1]), ["nine", "moved", "copy", "ä/一.png"]).tolist() == [2, 1, 2, 3]
    assert samples.add(ids([1, 7]), ["again", "again"]).tolist() == [3, 0]
    assert samples.add([], []).tolist() == []
    for table in (samples, reopened(path)):
        assert len(table) == 4
        assert table.content_ids == ids([7, 3, 9, 1])
        assert table.paths == ["seven", "three", "nine", "ä/一.png"]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.integers(0, 9), max_size=8), max_size=4))
def test_add__rows_are_first_appearances(calls: list[list[int]]) -> None:
    root = zarr.create_group(MemoryStore())
    SampleTable.create(root)
    group = root["samples"]
    assert isinstance(group, zarr.Group)
    samples = SampleTable(group)
    seen: list[int] = []
    for numbers in calls:
        seen += [number for place, number in enumerate(numbers) if number not in seen + numbers[:place]]
        rows = samples.add([bytes([number + 1] * 16) for number in numbers], [f"{number}" for number in numbers])
        assert rows.tolist() == [seen.index(number) for number in numbers]
    assert samples.paths == [str(number) for number in seen]


@pytest.mark.parametrize("n_lost", [1, 3])
def test_add__overwrites_rows_that_were_never_counted(path: Path, ids: Ids, n_lost: int) -> None:
    """A crash after the columns and before `n_rows`: invisible, then overwritten by fewer or more rows."""
    reopened(path).add(ids([0, 1]), ["zero", "one"])
    group = zarr.open_group(path, mode="r+")
    table = np.frombuffer(b"".join(ids(range(50, 50 + n_lost))), dtype=np.uint8).reshape(-1, 16)
    for name, values in (("content_id", table), ("path", np.array(["lost"] * n_lost, dtype=object))):
        array = group[f"samples/{name}"]
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


def test_add__a_failed_write_changes_nothing_on_disk(
    path: Path, ids: Ids, fail_fsync: Callable[[int], AbstractContextManager[None]]
) -> None:
    reopened(path).add(ids([0]), ["zero"])
    for at in range(1, 10):
        with fail_fsync(at), pytest.raises(OSError, match="No space left"):
            reopened(path).add(ids([1, 2]), ["one", "two"])
        assert reopened(path).content_ids == ids([0])
        assert reopened(path).paths == ["zero"]


def test_add__can_be_repeated_after_a_failure(
    path: Path, ids: Ids, fail_fsync: Callable[[int], AbstractContextManager[None]]
) -> None:
    samples = reopened(path)
    with fail_fsync(1), pytest.raises(OSError, match="No space left"):
        samples.add(ids([0, 1]), ["zero", "one"])
    assert samples.add(ids([1, 0]), ["one", "zero"]).tolist() == [0, 1]
    assert reopened(path).content_ids == ids([1, 0])


def test_content_ids__lost_rows_are_named(path: Path, ids: Ids) -> None:
    reopened(path).add(ids([0, 1]), ["zero", "one"])
    (path / "samples" / "content_id" / "c" / "0" / "0").unlink()
    with pytest.raises(CorruptCacheError, match=r"samples/content_id is damaged .committed rows are gone"):
        _ = reopened(path).content_ids
