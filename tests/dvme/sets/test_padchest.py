"""PadChest's real table, held against what pandas and plain Python read of it and against its counts."""

from __future__ import annotations

import ast
from pathlib import Path

import pandas as pd
import pytest
from publishers import PADCHEST, TABLES, first_lines, frame, pictures, put

import dvme
from dvme.errors import DataError, OptionError
from dvme.sets.building import Published, public_set
from dvme.sets.padchest import ALL, COMMON, RULE, published
from dvme.sets.unpacked import Unpacked


def _lists(table: pd.DataFrame) -> pd.Series:
    """The stripped labels of each image, or None."""
    distinct = {
        cell: None if cell == "nan" else {x.strip() for x in ast.literal_eval(cell)} for cell in set(table["Labels"])
    }
    return table["Labels"].map(distinct)


def _checked(found: Published, table: pd.DataFrame) -> None:
    """Every row: the findings by the rule, and what is unknown."""
    lists = [None if own is None else own - {""} for own in _lists(table)]
    labels = found.columns["label"]
    for own, label in zip(lists, labels, strict=True):
        if not own or "exclude" in own:
            assert label == ""
            continue
        have = {name for name, parts in RULE.items() if own.intersection(parts)}
        rest = {f"{name}=" for name in RULE if name not in have} if "unchanged" in own else set()
        assert {*label.split("|")} - {""} == have | rest
        assert label[0] == label[-1] == "|"
    for ours, theirs in (
        ("group", "PatientID"),
        ("study", "StudyID"),
        ("view", "Projection"),
        ("bits", "BitsStored_DICOM"),
    ):
        assert list(found.columns[ours]) == table[theirs].tolist()
    birth = pd.to_numeric(table["PatientBirth"], errors="coerce")
    years = table["StudyDate_DICOM"].str[:4].astype(int) - birth
    assert list(found.columns["age"]) == ["" if pd.isna(age) or not 0 <= age <= 120 else f"{age:.0f}" for age in years]


def test_published__the_beginning_of_the_table(tmp_path: Path) -> None:
    """Cut by lines, of which a row may have several; the last row is whole."""
    path = first_lines(tmp_path, PADCHEST, 10_000)
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    found = published(Unpacked(tmp_path))
    assert len(found.images) == len(table) > 9_000
    _checked(found, table)
    ids = table["PatientID"]
    assert max(map(len, found.columns["group"])) == 39 == ids.str.len().max()
    n_unchanged = sum("unchanged" in own and "exclude" not in own for own in _lists(table) if own)
    assert f"{n_unchanged:,} images with 'unchanged': findings that are not named are unknown there" in found.remarks


@pytest.mark.slow
def test_published__the_whole_table(tmp_path: Path) -> None:
    put(tmp_path, PADCHEST)
    unpacked = Unpacked(tmp_path)
    found = published(unpacked)
    assert unpacked.remarks == []
    assert len(found.images) == 160_861
    assert len({*found.columns["group"]}) == 67_625
    assert {
        "156 of 350 spellings of labels have blanks around, which are taken off",
        "103 images of which nothing is told (nan): no label",
        "777 images with none but empty labels: no label",
        "2,264 images with an empty label beside others, passed over",  # 3,041 with an empty one in all
        "226 images with 'normal' and another label, which counts",
        "1,312 images with 'exclude', the publisher's mark of what to leave out: no label",
        "14,334 images with 'unchanged': findings that are not named are unknown there",
        "22 images of a patient of unknown sex: 'O', 'nan'",
    } <= {*found.remarks}
    table = frame(PADCHEST)
    _checked(found, table)
    every = published(unpacked, labels=ALL)
    parts = [{*label.split("|")} - {""} for label in every.columns["label"]]
    lists = _lists(table)
    assert parts == [(own or set()) - {"", "normal"} for own in lists]
    assert [label == "" for label in every.columns["label"]] == [not (own or set()) - {""} for own in lists]


ROWS = {
    "plain": ("['normal']", "|", "|"),
    "blanks": (
        "[' pleural effusion', 'pericardial effusion']",
        "|Effusion|",
        "|pericardial effusion|pleural effusion|",
    ),
    "words": ("['pseudonodule', 'subcutaneous emphysema']", "|", "|pseudonodule|subcutaneous emphysema|"),
    "kinds": (
        "['laminar atelectasis', 'hydropneumothorax', 'rib fracture']",
        "|Atelectasis|Effusion|Pneumothorax|Fracture|",
        "|hydropneumothorax|laminar atelectasis|rib fracture|",
    ),
    "nan": ("nan", "", ""),
    "empty": ("[]", "", ""),
    "empty label": ("['']", "", ""),
    "beside": ("['', 'normal', 'cardiomegaly', 'cardiomegaly ']", "|Cardiomegaly|", "|cardiomegaly|"),
    "unchanged": ("['unchanged', 'cardiomegaly']", None, "|cardiomegaly|unchanged|"),
    "exclude": ("['exclude', 'nodule']", "", "|exclude|nodule|"),
    "quotes": ('["it\'s"]', "|", "|it's|"),
}
"""A cell, and the label by the rule and with all labels."""


@pytest.mark.parametrize("labels", [COMMON, ALL])
def test_labels__cell_by_cell(tmp_path: Path, labels: str) -> None:
    table = pd.read_csv(TABLES / PADCHEST, dtype=str, keep_default_na=False, nrows=len(ROWS), index_col=0)
    table["Labels"] = [cell for cell, *_ in ROWS.values()]
    table.to_csv(tmp_path / PADCHEST.removesuffix(".gz"), index=True)  # whose column has no name
    pictures(tmp_path / "0", table["ImageID"])
    built = public_set("padchest", tmp_path, tmp_path / "m.csv", labels=labels)
    expected = {name: common if labels == COMMON else every for name, (_, common, every) in ROWS.items()}
    if labels == COMMON:
        expected["unchanged"] = "|" + "".join(f"{name}{'' if name == 'Cardiomegaly' else '='}|" for name in RULE)
    assert dict(zip(ROWS, built.columns["label"], strict=True)) == expected
    samples = dvme.load_samples(tmp_path / "m.csv")
    assert samples.groups == table["PatientID"].tolist()
    assert "1 image with a label twice" in built.remarks
    assert ("1 image with 'unchanged': findings that are not named are unknown there" in built.remarks) == (
        labels == COMMON
    )


@pytest.mark.parametrize("cell", ["normal", "['a'", "['a', 1]", "{'a'}", "[['a']]", "__import__('os')", "[" * 5_000])
def test_labels__that_are_no_list(tmp_path: Path, cell: str) -> None:
    table = pd.read_csv(TABLES / PADCHEST, dtype=str, keep_default_na=False, nrows=3)
    table.loc[1, "Labels"] = cell
    put(tmp_path, PADCHEST, table)
    with pytest.raises(DataError, match=r" in row 2 for a list of labels; download the table again"):
        public_set("padchest", tmp_path)


def test_published__labels_and_names_that_cannot_be(tmp_path: Path) -> None:
    table = pd.read_csv(TABLES / PADCHEST, dtype=str, keep_default_na=False, nrows=2)
    table["Labels"] = ["['a=b']", "['normal']"]
    put(tmp_path, PADCHEST, table)
    pictures(tmp_path, table["ImageID"])
    with pytest.raises(OptionError, match="labels 'some' are not known; pass labels='common' or labels='all'"):
        public_set("padchest", tmp_path, labels="some")
    with pytest.raises(DataError, match="a finding cannot be called 'a=b'"):
        public_set("padchest", tmp_path, labels="all")
    assert [*public_set("padchest", tmp_path).columns["label"]] == ["|", "|"]
    assert public_set("padchest", tmp_path, views=["L"]).columns["view"] == ["L"]
