"""A source changes the columns that it has, and no others; what became of each is counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import dvme
from dvme.data import Samples
from dvme.data.folder import folder_samples
from dvme.data.hashing import identify
from dvme.data.samples import STANDARD
from dvme.errors import DataError
from dvme.extraction.checks import order_of
from dvme.extraction.indexing import Changes, Index, index_samples
from dvme_cache import EmbeddingCache

Given = Callable[..., Samples]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Three images, and a copy of the third."""
    paths = [tmp_path / f"{name}.png" for name in "abcd"]
    for path, content in zip(paths, ("a", "b", "c", "c"), strict=True):
        path.write_text(content)
    return paths


@pytest.fixture
def index(files: list[Path], tmp_path: Path) -> Callable[..., Index]:
    """Index the files with some columns into a cache."""

    def run(order: Sequence[str] | None = None, findings: Sequence[str] = (), **columns: Sequence[str]) -> Index:
        values = {name: list(columns.get(name, [""] * 4)) for name in STANDARD}
        kept = {name: list(column) for name, column in columns.items() if name not in STANDARD}
        ids, given = [path.name for path in files], frozenset(columns) - set(kept)
        samples = Samples(files, ids, values["label"], values["split"], values["group"], given, kept, tuple(findings))
        with EmbeddingCache.writing(tmp_path / "c.zarr") as cache:
            return index_samples(cache, identify(samples, 1, lambda *_: None), order)

    return run


@pytest.fixture
def columns(tmp_path: Path) -> Callable[[], list[list[str]]]:
    """Label, split and group of the three rows."""

    def read() -> list[list[str]]:
        cache = EmbeddingCache.open(tmp_path / "c.zarr")
        return [cache.column(name).tolist() for name in STANDARD]

    return read


ALL = {
    "label": ["x", "y", "x", "x"],
    "split": ["train", "val", "test", "test"],
    "group": ["p", "p", "q", "q"],
}
MERGED = [["x", "y", "x"], ["train", "val", "test"], ["p", "p", "q"]]


def test_index_samples__a_source_without_columns_keeps_all(
    index: Callable[..., Index], columns: Callable[[], list[list[str]]]
) -> None:
    assert index(**ALL).changes == Changes({}, {}, {})
    assert index().changes == Changes({}, {}, {"label": 3, "split": 3, "group": 3})
    assert columns() == MERGED


def test_index_samples__only_the_columns_of_the_source_change(
    index: Callable[..., Index], columns: Callable[[], list[list[str]]]
) -> None:
    index(**ALL)
    found = index(label=["y", "y", "x", "x"])
    assert found.changes == Changes({"label": 1}, {}, {"split": 3, "group": 3})
    assert columns() == [["y", "y", "x"], *MERGED[1:]]


def test_index_samples__an_empty_cell_of_a_column_removes(
    index: Callable[..., Index], columns: Callable[[], list[list[str]]]
) -> None:
    index(**ALL)
    found = index(group=["", "r", "", "q"])  # of copies, one cell is enough
    assert found.changes == Changes({"group": 1}, {"group": 1}, {"label": 3, "split": 3})
    assert columns() == [*MERGED[:2], ["", "r", "q"]]


def test_index_samples__contradictory_copies_lose_all_three(
    index: Callable[..., Index], columns: Callable[[], list[list[str]]]
) -> None:
    index(**ALL)
    found = index(label=["x", "y", "x", "y"])
    assert found.contradictory == ["c.png", "d.png"]
    assert found.changes == Changes({}, {"label": 1, "split": 1, "group": 1}, {"split": 2, "group": 2})
    assert columns() == [["x", "y", ""], ["train", "val", ""], ["p", "p", ""]]


def test_index_samples__further_columns_go_by_the_rules_of_groups(
    index: Callable[..., Index], columns: Callable[[], list[list[str]]], tmp_path: Path
) -> None:
    """An empty cell removes, of copies one cell is enough, and a source without the column keeps it."""

    def sexes() -> list[str]:
        return EmbeddingCache.open(tmp_path / "c.zarr").column("sex").tolist()

    found = index(**ALL, sex=["F", "M", "", "F"])
    assert (sexes(), found.changes) == (["F", "M", "F"], Changes({}, {}, {}))
    assert index(**ALL).changes == Changes({}, {}, {})
    assert sexes() == ["F", "M", "F"]
    found = index(**ALL, sex=["M", "", "F", "F"])
    assert (sexes(), found.changes) == (["M", "", "F"], Changes({"sex": 1}, {"sex": 1}, {}))
    assert found.columns["sex"].tolist() == sexes()
    assert columns() == MERGED


def test_index_samples__copies_that_disagree_on_a_further_column_lose_that_one_alone(
    index: Callable[..., Index], columns: Callable[[], list[list[str]]], tmp_path: Path
) -> None:
    found = index(**ALL, sex=["F", "M", "F", "M"], age=["1", "2", "3", "3"])
    assert found.remarks == ["copies of 1 image disagree on 'sex' and keep none of it"]
    assert found.contradictory == []
    assert columns() == MERGED
    cache = EmbeddingCache.open(tmp_path / "c.zarr")
    assert [cache.column(name).tolist() for name in ("sex", "age")] == [["F", "M", ""], ["1", "2", "3"]]
    index(label=["x", "y", "x", "y"], age=["1", "2", "3", "3"])  # and disagreeing labels leave it
    assert EmbeddingCache.open(tmp_path / "c.zarr").column("age").tolist() == ["1", "2", "3"]


def test_index_samples__new_values_are_no_change(index: Callable[..., Index]) -> None:
    index()
    assert index(**ALL).changes == Changes({}, {}, {})


def test_extract__a_folder_keeps_the_groups_of_a_manifest(
    class_folders: Path, write_manifest: Callable[..., Path], tmp_path: Path
) -> None:
    ids = folder_samples(class_folders).ids
    rows = [[f"images/{name}", name.split("/")[0], f"p{i % 5}"] for i, name in enumerate(ids)]
    manifest = write_manifest(rows, ["image", "label", "patient"])
    cache = tmp_path / "c.zarr"
    first = dvme.extract(
        manifest, cache, backbones=["efficientnet-lite0@size=32"], columns=dvme.Columns(group="patient")
    )
    assert (first.n_grouped, first.n_groups, first.n_kept) == (36, 5, {})
    again = dvme.extract(class_folders, cache, backbones=["efficientnet-lite0@size=32"])
    assert (again.n_changed, again.n_removed, again.n_kept) == ({}, {}, {"group": 36})
    assert (again.n_grouped, again.n_groups) == (36, 5)
    assert EmbeddingCache.open(cache).column("group").tolist() == [row[2] for row in rows]


def test_index__a_file_that_holds_another_image_is_named_with_what_it_lost(
    index: Callable[..., Index], files: list[Path], columns: Callable[[], list[list[str]]]
) -> None:
    assert index(**ALL).remarks == []
    files[1].write_text("another image")
    assert index(label=ALL["label"]).remarks == [
        "1 file holds another image than before, such as b.png; the old one lost its label, split, group; this "
        "source says nothing of the new one's split, group"
    ]
    label, split, group = columns()
    assert (label[1], split[1], group[1]) == ("", "", "")
    assert (label[3], split[3], group[3]) == ("y", "", "")
    assert index(label=ALL["label"]).remarks == [], "it is said once"
    files[1].write_text("a third")
    assert index(**ALL).remarks == ["1 file holds another image than before, such as b.png; the old one lost its label"]


def test_extract__a_flat_folder_keeps_the_labels(class_folders: Path, tmp_path: Path) -> None:
    cache = tmp_path / "c.zarr"
    dvme.extract(class_folders, cache, backbones=["efficientnet-lite0@size=32"])
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in class_folders.rglob("*.png"):
        path.rename(flat / f"{path.parent.name}-{path.name}")
    report = dvme.extract(flat, cache, backbones=["efficientnet-lite0@size=32"])
    assert report.n_kept == {"label": 36}
    assert report.task.counts == (12, 12, 12)
    assert EmbeddingCache.open(cache).column("label").tolist().count("grey") == 12


def test_index_samples__order_of_classes(
    index: Callable[..., Index], columns: Callable[[], list[list[str]]], tmp_path: Path, files: list[Path]
) -> None:
    index(["y", "x"], **ALL)
    assert EmbeddingCache.open(tmp_path / "c.zarr").class_order == ("y", "x")
    with pytest.raises(DataError, match=r"the class order of .*c.zarr \(y < x\) lacks 'z'; name all classes"):
        index(label=["z", "y", "x", "x"])
    with pytest.raises(DataError, match=r"class_order \(y\) lacks 'x'"):
        index(["y"])  # without labels of their own these images keep the cache's
    assert columns() == MERGED
    index(["q", "p"], label=["p", "q", "q", "q"])  # every label is replaced, so the old ones need no place
    assert EmbeddingCache.open(tmp_path / "c.zarr").class_order == ("q", "p")
    files[0].write_text("another image")  # the label of the one that it replaces is gone as well
    index(["r", "q"], label=["r", "q", "q", "q"])
    assert columns()[0] == ["", "q", "q", "r"]
    files[0].write_text("a third one")
    files[0].rename(files[0].with_name("e.png"))
    files[0] = files[0].with_name("e.png")
    with pytest.raises(DataError, match="lacks 'r'"):  # of a row that is not among the files and keeps its label
        index(["s", "q"], label=["s", "q", "q", "q"])


def test_index_samples__findings_that_the_source_lacks_stay_as_they_are(
    index: Callable[..., Index], columns: Callable[[], list[list[str]]], tmp_path: Path, files: list[Path]
) -> None:
    """By hand: Edema is told anew, the second image is another one, Mass stays or is unknown; Hernia is new."""
    index(findings=["Edema", "Mass"], label=["|Mass|", "|Edema|", "|", "|"])
    files[1].write_text("another image")
    found = index(findings=["Hernia", "Edema"], label=["|Edema|", "|Hernia|", "", ""])
    assert columns()[0] == ["|Edema|Mass|", "", "|Edema=|Hernia=|", "|Mass=|Hernia|"]
    assert found.class_order == EmbeddingCache.open(tmp_path / "c.zarr").class_order == ("Edema", "Mass", "Hernia")


def test_index_samples__a_finding_that_is_new_is_unknown_for_the_rows_of_before(
    index: Callable[..., Index], tmp_path: Path
) -> None:
    index(findings=["Edema"], label=["|Edema|", "|", "|", "|"])
    other = tmp_path / "z.png"
    other.write_text("z")
    samples = Samples([other], ["z.png"], ["|Wart|"], [""], [""], frozenset({"label"}), findings=("Wart",))
    with EmbeddingCache.writing(tmp_path / "c.zarr") as cache:
        found = index_samples(cache, identify(samples, 1, lambda *_: None))
        labels = cache.column("label").tolist()
    assert labels == ["|Edema|Wart=|", "|Wart=|", "|Wart=|", "|Edema=|Wart|"]
    assert found.remarks == ["new to the cache, and unknown for images with a label from before: Wart"]
    classes = Samples([other], ["z.png"], ["x"], [""], [""], frozenset({"label"}))
    identified = identify(classes, 1, lambda *_: None)
    refused = pytest.raises(DataError, match="some images may have several findings, others have one class")
    with EmbeddingCache.writing(tmp_path / "c.zarr") as cache, refused:
        index_samples(cache, identified)


def test_order_of__nobody_is_told_of_an_order_that_was_not_given(index: Callable[..., Index], tmp_path: Path) -> None:
    cache = tmp_path / "c.zarr"
    index(findings=["Edema", "Mass"], label=["|Edema|", "|", "|", "|"])
    files = [tmp_path / "a.png"]
    columns = Samples(files, ["a.png"], ["|Wart|"], [""], [""], findings=("Wart",))
    assert order_of(cache, columns, None) == ("Wart",)
    in_one_cell = Samples(files, ["a.png"], ["|Wart|"], [""], [""])
    assert order_of(cache, in_one_cell, None) == ("Edema", "Mass")
    assert order_of(cache, Samples(files, ["a.png"], ["x"], [""], [""]), None) == ()
    with pytest.raises(DataError, match="class_order"):
        order_of(cache, columns, ["Edema"])
