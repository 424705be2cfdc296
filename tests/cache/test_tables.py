"""Column tables: replaced as a whole, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from dvme_cache import MISSING, CorruptCacheError, EmbeddingCache
from dvme_cache.arrays import create_array
from dvme_cache.files import LocalFiles
from dvme_cache.store import CacheStore
from dvme_cache.tables import ColumnTables

OLD, NEW = {"label": ["cat", "dog"], "split": ["train", "test"]}, {"patient": ["p1", "p2"], "label": ["x", "y"]}


def reopened(path: Path) -> ColumnTables:
    return ColumnTables(zarr.open_group(CacheStore(LocalFiles(path)), path="tables", mode="r+"))


def content(tables: ColumnTables, n_rows: int = 2) -> dict[str, list[str]]:
    return {name: values.tolist() for name, values in tables.read_all(n_rows).items()}


def generations(path: Path) -> list[str]:
    """Of the tables and of their copies, which must be the same."""
    kept, copies = (
        sorted(entry.name for entry in (root / "tables").iterdir() if entry.is_dir())
        for root in (path, path / "copies")
    )
    assert kept == copies
    return kept


@pytest.fixture
def path(tmp_path: Path) -> Path:
    ColumnTables.create(CacheStore(LocalFiles(tmp_path)))
    return tmp_path


def test_read__unknown_columns_and_rows_are_missing(path: Path) -> None:
    tables = reopened(path)
    assert tables.columns == []
    assert tables.read_all(2, ["label"])["label"].tolist() == [MISSING, MISSING]
    tables.replace({"label": ["cat", "", "dog"]})
    assert tables.read_all(5)["label"].tolist() == ["cat", "", "dog", "", ""]
    assert tables.read_all(1)["label"].tolist() == ["cat"]
    assert tables.read_all(1, ["no such"])["no such"].tolist() == [""]
    assert tables.read_all(2)["label"].dtype == object


@pytest.mark.parametrize("damage", [lambda file: file.unlink(), lambda file: file.write_bytes(file.read_bytes()[:-1])])
def test_read__one_of_two_copies_is_enough(path: Path, damage: Callable[[Path], None]) -> None:
    reopened(path).replace(OLD)
    chunk = Path("tables", "00000001", "label", "c", "0")
    damage(path / chunk)
    assert content(reopened(path)) == OLD
    damage(path / "copies" / chunk)
    with pytest.raises(CorruptCacheError, match=f"{path}/tables/00000001/label is damaged"):
        reopened(path).read_all(2, ["label"])["label"]
    assert reopened(path).read_all(2, ["split"])["split"].tolist() == OLD["split"]


def test_replace__keeps_order_and_unicode(path: Path) -> None:
    columns = {
        "zeta": ["käfer", "一二三"],
        "label": ["\U0001f98b", ' spaces, "quotes"\n'],
        "a/b ü": ["", "x" * 5000],
        "c": ["a", "b"],
        "zarr.json": ["c", "d"],
        "..": ["e", "f"],
        ".": ["g", "h"],
        "%2E": ["i", "j"],
    }
    reopened(path).replace(columns)
    assert reopened(path).columns == list(columns)
    assert content(reopened(path)) == columns


def test_replace__drops_old_columns_and_their_files(path: Path) -> None:
    tables = reopened(path)
    for columns in (OLD, NEW, {}, OLD, {"label": []}, NEW):
        tables.replace(columns)
        assert list(content(tables)) == list(content(reopened(path))) == list(columns)
    assert content(reopened(path)) == NEW
    assert generations(path) == ["00000005", "00000006"]  # the last, and the one that readers may be in the middle of


def test_replace__leaves_nothing_of_what_must_go(path: Path) -> None:
    for columns in (OLD, NEW):
        reopened(path).replace(columns)
    reopened(path).replace({"label": ["", "dog"]}, is_previous_kept=False)
    assert generations(path) == ["00000003"]
    assert content(reopened(path)) == {"label": ["", "dog"]}


def test_replace__finishes_a_removal_that_was_killed(path: Path) -> None:
    """Files of a generation whose metadata are gone already, or of its copies alone, go with the next replacement."""
    for columns in (OLD, NEW, OLD, NEW):
        reopened(path).replace(columns)
    for left in ("tables/00000001", "copies/tables/00000002"):
        (path / left / "label" / "c").mkdir(parents=True)
        (path / left / "label" / "c" / "0").write_bytes(b"what was to be erased")
    reopened(path).replace({"label": ["", "dog"]}, is_previous_kept=False)
    assert generations(path) == ["00000005"]


def test_replace__interrupted_before_the_switch_keeps_the_old_columns(path: Path) -> None:
    reopened(path).replace(OLD)
    group = zarr.create_group(CacheStore(LocalFiles(path)), path="tables/00000002")
    for name in ("label", "left over"):
        array = create_array(group, name, shape=(3,), dtype=str, chunks=(4,), fill_value="")
        array[:] = np.array(["torn", "torn", "torn"], dtype=object)

    assert content(reopened(path)) == OLD
    reopened(path).replace(NEW)
    assert content(reopened(path)) == NEW
    assert reopened(path).read_all(2, ["left over"])["left over"].tolist() == ["", ""]
    assert not list(path.rglob("left*"))


@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_replace__failing_at_any_write_leaves_all_old_or_all_new(
    path: Path, fail_fsync: Callable[[int], AbstractContextManager[None]], step: int
) -> None:
    """Every write syncs a file, then its folder: every third sync is now a file's, now a folder's."""
    reopened(path).replace(OLD)
    for at in range(1, 100, step):
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
    assert at > 20, "the failures were reached"


def test_read_all__columns_of_one_moment(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the first column and the second, a writer replaces them twice: the generation that was begun is gone."""
    reopened(path).replace(OLD)
    reader, read, n_reads = reopened(path), ColumnTables._read, 0

    def interrupted(self: ColumnTables, *arguments: Any) -> NDArray[Any]:
        nonlocal n_reads
        n_reads += self is reader
        if self is reader and n_reads == 2:
            for columns in (OLD, NEW):
                reopened(path).replace(columns)
        return read(self, *arguments)

    monkeypatch.setattr(ColumnTables, "_read", interrupted)
    found = {name: values.tolist() for name, values in reader.read_all(2).items()}
    assert found in (OLD, NEW)
    assert n_reads > 2, "begun anew"


def test_read_all__of_names_that_are_given(path: Path) -> None:
    reopened(path).replace(OLD)
    found = {name: values.tolist() for name, values in reopened(path).read_all(3, ["split", "unknown"]).items()}
    assert found == {"split": ["train", "test", ""], "unknown": ["", "", ""]}
    assert list(reopened(path).read_all(0)) == ["label", "split"]


def test_replace__an_open_reader_goes_on_reading(path: Path) -> None:
    reopened(path).replace(OLD)
    reader = reopened(path)
    assert reader.read_all(2, ["label"])["label"].tolist() == OLD["label"]
    reopened(path).replace(NEW)
    assert reader.read_all(2, ["label"])["label"].tolist() in (OLD["label"], NEW["label"])


def test_class_order__kept_replaced_and_taken_away(tmp_path: Path) -> None:
    with EmbeddingCache.writing(tmp_path / "c.zarr") as cache:
        rows = cache.samples.add([bytes([n]) * 16 for n in (1, 2)], ["1", "2"])
        cache.update_columns(rows, {"label": ["mild", "none"]})
        assert cache.class_order == ()
        cache.update_columns(rows, {}, class_order=["none", "mild"])
    assert EmbeddingCache.open(tmp_path / "c.zarr").class_order == ("none", "mild")
    with EmbeddingCache.writing(tmp_path / "c.zarr") as cache:
        generation = cache.tables.current()[0]
        cache.update_columns(rows, {"label": ["mild", "none"]}, class_order=["none", "mild"])
        assert cache.tables.current()[0] == generation  # nothing changed
        cache.update_columns(rows, {"label": ["none", "none"]})
        cache.prune(rows[1:])
        assert cache.class_order == ("none", "mild")
        cache.update_columns(rows[:1], {"label": ["mild"]}, class_order=["mild"])
        assert (cache.class_order, cache.column("label").tolist()) == (("mild",), ["mild", ""])
        cache.update_columns(rows[:1], {}, class_order=())
    cache = EmbeddingCache.open(tmp_path / "c.zarr")
    assert cache.class_order == ()
    assert "class_order" not in zarr.open_group(tmp_path / "c.zarr/tables", mode="r").attrs
    assert cache.column("label").tolist() == ["mild", ""]


def test_class_order__changes_in_one_write_with_the_labels(tmp_path: Path) -> None:
    with EmbeddingCache.writing(tmp_path / "c.zarr") as cache:
        rows = cache.samples.add([bytes([1]) * 16], ["1"])
        cache.update_columns(rows, {"label": ["a"]}, class_order=["a"])
        seen: list[tuple[str, tuple[str, ...]]] = []
        put = type(cache.tables._group.attrs).put

        def watched(self: Any, attributes: dict[str, Any]) -> None:
            now = EmbeddingCache.open(tmp_path / "c.zarr")
            seen.append((now.column("label")[0], now.class_order))
            put(self, attributes)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(cache.tables._group.attrs), "put", watched)
            cache.update_columns(rows, {"label": ["b"]}, class_order=["b"])
    assert seen == [("a", ("a",))]  # one write, before which everything is as it was
    now = EmbeddingCache.open(tmp_path / "c.zarr")
    assert (now.column("label")[0], now.class_order) == ("b", ("b",))
