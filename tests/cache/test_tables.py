"""Column tables: replaced as a whole, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import zarr

from dvme_cache import MISSING
from dvme_cache.arrays import create_array
from dvme_cache.store import DurableStore
from dvme_cache.tables import ColumnTables

OLD, NEW = {"label": ["cat", "dog"], "split": ["train", "test"]}, {"patient": ["p1", "p2"], "label": ["x", "y"]}


def reopened(path: Path) -> ColumnTables:
    group = zarr.open_group(DurableStore(path), mode="r+")["tables"]
    assert isinstance(group, zarr.Group)
    return ColumnTables(group)


def content(tables: ColumnTables, n_rows: int = 2) -> dict[str, list[str]]:
    return {name: tables.read(name, n_rows).tolist() for name in tables.columns}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    ColumnTables.create(zarr.create_group(DurableStore(tmp_path)))
    return tmp_path


def test_read__unknown_columns_and_rows_are_missing(path: Path) -> None:
    tables = reopened(path)
    assert tables.columns == []
    assert tables.read("label", 2).tolist() == [MISSING, MISSING]
    tables.replace({"label": ["cat", "", "dog"]})
    assert tables.read("label", 5).tolist() == ["cat", "", "dog", "", ""]
    assert tables.read("label", 1).tolist() == ["cat"]
    assert tables.read("no such", 1).tolist() == [""]
    assert tables.read("label", 2).dtype == object


def test_replace__keeps_order_and_unicode(path: Path) -> None:
    columns = {"zeta": ["käfer", "一二三"], "label": ["\U0001f98b", ' spaces, "quotes"\n'], "a/b ü": ["", "x" * 5000]}
    reopened(path).replace(columns)
    assert reopened(path).columns == ["zeta", "label", "a/b ü"]
    assert content(reopened(path)) == columns


def test_replace__drops_old_columns_and_their_files(path: Path) -> None:
    tables = reopened(path)
    for columns in (OLD, NEW, {}, OLD, {"label": []}, NEW):
        tables.replace(columns)
        assert list(content(tables)) == list(content(reopened(path))) == list(columns)
    assert content(reopened(path)) == NEW
    kept = sorted(entry.name for entry in (path / "tables").iterdir() if entry.is_dir())
    assert kept == ["00000005", "00000006"]  # the last one, and the one that readers may be in the middle of


def test_replace__interrupted_before_the_switch_keeps_the_old_columns(path: Path) -> None:
    reopened(path).replace(OLD)
    group = zarr.open_group(DurableStore(path), mode="r+").create_group("tables/00000002")
    for name in ("label", "left over"):
        array = create_array(group, name, shape=(3,), dtype=str, chunks=(4,), fill_value="")
        array[:] = np.array(["torn", "torn", "torn"], dtype=object)

    assert content(reopened(path)) == OLD
    reopened(path).replace(NEW)
    assert content(reopened(path)) == NEW
    assert reopened(path).read("left over", 2).tolist() == ["", ""]


def test_replace__failing_at_any_write_leaves_all_old_or_all_new(
    path: Path, fail_fsync: Callable[[int], AbstractContextManager[None]]
) -> None:
    reopened(path).replace(OLD)
    for at in range(1, 100):
        try:
            with fail_fsync(at):
                reopened(path).replace(NEW)
        except OSError:
            columns = reopened(path).columns
            assert columns in (list(OLD), list(NEW))
            assert content(reopened(path)) == (OLD if columns == list(OLD) else NEW)
            reopened(path).replace(OLD)
        else:
            break
    assert content(reopened(path)) == NEW
    assert at > 10, "the failures were reached"


def test_replace__an_open_reader_goes_on_reading(path: Path) -> None:
    reopened(path).replace(OLD)
    reader = reopened(path)
    assert reader.read("label", 2).tolist() == OLD["label"]
    reopened(path).replace(NEW)
    assert reader.read("label", 2).tolist() in (OLD["label"], NEW["label"])
