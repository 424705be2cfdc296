from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dvme.heads.fitting import row_blocks as module
from dvme.heads.fitting.row_blocks import RowsOf, n_not_finite, row_blocks, selected
from dvme.runtime import resident_memory

FEATURES = np.arange(150, dtype=np.float16).reshape(50, 3)


def _joined(blocks: Any) -> NDArray[Any]:
    """What blocks make together, at the places that they name."""
    found = np.full((50, 3), np.nan)
    for part, block in blocks:
        assert len(block) == part.stop - part.start
        found[part] = block
    return found


@given(st.lists(st.integers(0, 49), max_size=50), st.integers(1, 200), st.integers(1, 200))
def test_row_blocks__are_the_rows_in_their_order(rows: list[int], n_values: int, n_read: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "READ_VALUES", n_read)
        wanted = np.array(rows, dtype=np.int64)
        for source in (FEATURES, RowsOf(FEATURES[::-1], np.arange(50)[::-1])):
            found = _joined(row_blocks(source, wanted, n_values))[: len(rows)]
            np.testing.assert_array_equal(found, FEATURES[wanted])
            np.testing.assert_array_equal(_joined(row_blocks(source, None, n_values)), FEATURES)


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_row_blocks__of_a_file_with_what_was_changed_in_memory(tmp_path: Path, mode: Any) -> None:
    np.save(tmp_path / "rows.npy", FEATURES)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode=mode)
    if mode != "r":
        mapped[7] = 9
    for source in (mapped, mapped[::-1][::-1]):
        for _ in range(2):
            np.testing.assert_array_equal(_joined(row_blocks(source, n_values=6)), np.array(mapped))
    assert (mapped[7] == 9).all() == (mode != "r")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="pages are counted by Linux")
def test_row_blocks__no_page_of_a_file_stays(tmp_path: Path) -> None:
    np.lib.format.open_memmap(tmp_path / "rows.npy", mode="w+", dtype=np.float16, shape=(200_000, 500))[:] = 1
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    before, most = resident_memory(), 0
    for _, block in row_blocks(mapped):
        assert block[-1, -1] == 1
        most = max(most, resident_memory() - before)
    assert most < 100e6


def test_row_blocks__what_reading_raises_is_raised() -> None:
    with pytest.raises(IndexError):
        list(row_blocks(RowsOf(FEATURES, np.arange(50)), np.array([3, 50]), 3))


def test_rows_of__is_an_array_of_its_rows() -> None:
    rows = np.array([5, 5, 2])
    own = RowsOf(FEATURES, rows)
    assert (own.shape, own.dtype, len(own)) == ((3, 3), np.dtype(np.float16), 3)
    np.testing.assert_array_equal(np.asarray(own), FEATURES[rows])
    np.testing.assert_array_equal(np.asarray(own, dtype=np.float32), FEATURES[rows])
    np.testing.assert_array_equal(own[np.array([2, 0])], FEATURES[[2, 5]])


def test_selected__reads_nothing_of_what_reads_when_asked() -> None:
    np.testing.assert_array_equal(selected(FEATURES, np.array([1, 3])), FEATURES[[1, 3]])
    own = selected(RowsOf(FEATURES, np.arange(50)[::-1]), np.array([0, 1]))
    assert isinstance(own, RowsOf)
    np.testing.assert_array_equal(own, FEATURES[[49, 48]])
    np.testing.assert_array_equal(selected(RowsOf(FEATURES, np.arange(50)), slice(3, 5)), FEATURES[3:5])


def test_n_not_finite__counts_rows() -> None:
    features = FEATURES.astype(np.float64)
    features[3, 1], features[9] = np.nan, 1e39  # beyond float32
    assert n_not_finite(features, np.array([0, 3, 9])) == 2
    assert n_not_finite(features, np.array([0, 4])) == 0
