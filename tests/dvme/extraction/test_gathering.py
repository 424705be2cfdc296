"""Whatever order images arrive in, every batch has the same ones, and what is kept is what was given."""

from __future__ import annotations

import random
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dvme.extraction.decoding import Content, Unread
from dvme.extraction.gathering import Gathering, Target, portions_of

Kept = dict[int, tuple[float, str]]


def content_of(row: int) -> Content:
    """Pixels that tell which row they are of; some rows fail, some cannot be read."""
    if row % 7 == 3:
        return f"{row} is broken"
    return Unread(f"{row} is gone") if row % 11 == 5 else np.full((1, 1, 1), row % 256, dtype=np.uint8)


def gathering_of(rows: list[int], shard_rows: int, size: int) -> tuple[Gathering, Kept]:
    """One that keeps into a dictionary: row to its feature, and to why it has none."""
    kept: Kept = {}

    def keep(rows: NDArray[Any], features: NDArray[Any], failed: Mapping[int, str]) -> None:
        assert len({row // shard_rows for row in rows.tolist()}) == 1
        for row, feature in zip(rows.tolist(), features, strict=True):
            assert row not in kept
            kept[row] = float(feature[0]), failed.get(row, "")

    shards = [np.array([row for row in rows if row // shard_rows == shard]) for shard in range(64)]
    model: Any = SimpleNamespace(dim=1, grids=())
    return Gathering(Target(model, [shard for shard in shards if len(shard)], "float32", keep), size), kept


def slow_batches(rows: list[int], shard_rows: int, size: int) -> list[list[int]]:
    shards = [[row for row in rows if row // shard_rows == shard] for shard in range(64)]
    return [shard[start : start + size] for shard in shards for start in range(0, len(shard), size)]


CASES = st.lists(
    st.tuples(st.sets(st.integers(0, 63), min_size=1), st.sampled_from([1, 5, 8, 64])), min_size=1, max_size=3
)


@given(CASES, st.sampled_from([1, 4, 16]), st.randoms(use_true_random=False))
def test_gathering__any_order_gives_the_same_batches(
    cases: list[tuple[set[int], int]], size: int, order: random.Random
) -> None:
    made = [gathering_of(sorted(rows), shard_rows, size) for rows, shard_rows in cases]
    portions = list(portions_of([gathering for gathering, _ in made]))
    decoded = [row for portion in portions for row in portion.tolist()]
    assert sorted(decoded) == sorted(set().union(*(rows for rows, _ in cases))), "each image once"
    assert all(len(portion) <= size for portion in portions)
    order.shuffle(portions)
    batches: list[list[list[int]]] = [[] for _ in made]
    for portion in portions:
        contents = [content_of(row) for row in portion.tolist()]
        for (gathering, _), found in zip(made, batches, strict=True):
            for batch in gathering.arrived(portion, contents):
                found.append(batch.rows.tolist())
                pixels = batch.pixels
                features = None if pixels is None else pixels.reshape(-1, 1).astype(np.float32)
                if (commit := gathering.embedded(batch, features)) is not None:
                    commit()
    for (gathering, kept), found, (rows, shard_rows) in zip(made, batches, cases, strict=True):
        assert sorted(found) == sorted(slow_batches(sorted(rows), shard_rows, size))
        expected = {row: content_of(row) for row in rows}
        assert gathering.unread == {row: each.reason for row, each in expected.items() if isinstance(each, Unread)}
        assert kept.keys() == {row for row, each in expected.items() if not isinstance(each, Unread)}
        for row, (feature, reason) in kept.items():
            if isinstance(expected[row], str):
                assert (np.isnan(feature), reason) == (True, expected[row])
            else:
                assert (feature, reason) == (row, "")
        assert gathering.rest() == []


def test_rest__whole_batches_of_shards_that_are_not_complete() -> None:
    gathering, kept = gathering_of(list(range(32)), 16, 4)
    contents = {row: content_of(row) for row in range(32)}
    for first in (4, 12, 16):
        rows = np.arange(first, first + 4)
        for batch in gathering.arrived(rows, [contents[row] for row in rows.tolist()]):
            pixels = batch.pixels
            assert pixels is not None
            assert gathering.embedded(batch, pixels.reshape(-1, 1).astype(np.float32)) is None
    half, _ = gathering.arrived(np.arange(6), [contents[row] for row in range(6)]), None
    assert [batch.rows.tolist() for batch in half] == [[0, 1, 2, 3]]
    for commit in gathering.rest():
        commit()
    expected = {*range(4, 8), *range(12, 20)}
    assert kept.keys() == {row for row in expected if row % 11 != 5}


def test_rest__what_was_complete_and_not_committed_is_kept_once() -> None:
    gathering, kept = gathering_of(list(range(9)), 3, 3)
    commits = []
    for first in (0, 3, 6):
        (batch,) = gathering.arrived(np.arange(first, first + 3), [np.full((1, 1, 1), 7, dtype=np.uint8)] * 3)
        commits.append(gathering.embedded(batch, np.full((3, 1), first, dtype=np.float32)))
    assert commits[0] is not None
    commits[0]()
    for commit in (*gathering.rest(), *commits):  # of the third shard nobody was told; who keeps twice fails
        assert commit is not None
        commit()
    assert kept.keys() == set(range(9))


def test_portions_of__batches_of_all_where_all_lack_the_same() -> None:
    made = [gathering_of(list(range(50)), 20, 8)[0] for _ in range(3)]
    portions = [portion.tolist() for portion in portions_of(made)]
    assert portions == slow_batches(list(range(50)), 20, 8)
