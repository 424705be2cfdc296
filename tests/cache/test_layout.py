"""Shard and chunk sizes, by hand and as invariants."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvme_cache.layout import chunk_rows, shard_rows


@pytest.mark.parametrize(
    ("n_rows", "rows"),
    [
        (0, 64),
        (1, 64),
        (800, 64),
        (2_624, 64),
        (16_384, 64),  # 256 shards of 64 exactly
        (16_640, 128),  # 65 rows a shard would do: the next power of two
        (1_000_000, 4_096),  # 3,906
        (100_000_000, 32_768),  # 390,625, more than a shard may hold
    ],
)
def test_shard_rows__by_hand(n_rows: int, rows: int) -> None:
    assert shard_rows(n_rows) == rows


@given(st.integers(0, 10**9))
def test_shard_rows__is_a_bounded_power_of_two(n_rows: int) -> None:
    rows = shard_rows(n_rows)
    assert rows in {64 << power for power in range(10)}  # 64 to 32,768
    if 64 < rows < 32_768:
        assert 128 <= n_rows / rows <= 260


@pytest.mark.parametrize(
    ("rows_per_shard", "row_bytes", "rows"),
    [(64, 1_024, 64), (32_768, 384 * 4, 512), (4_096, 768 * 4, 256), (64, 32_768, 32), (64, 1 << 22, 1)],
)
def test_chunk_rows__by_hand(rows_per_shard: int, row_bytes: int, rows: int) -> None:
    assert chunk_rows(rows_per_shard, row_bytes) == rows


@given(st.integers(0, 10**9), st.integers(2, 1 << 24))
def test_chunk_rows__divides_the_shard_within_a_mebibyte(n_rows: int, row_bytes: int) -> None:
    shard = shard_rows(n_rows)
    chunk = chunk_rows(shard, row_bytes)
    assert shard % chunk == 0
    assert chunk * row_bytes <= 1 << 20 or chunk == 1
    assert chunk == shard or 2 * chunk * row_bytes > 1 << 20, "the largest that fits"
