"""NIH's real table, held against what pandas reads of it and against the publisher's numbers."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from publishers import NIH, frame, pictures, put

from dvme.sets.building import Published, public_set
from dvme.sets.nih_cxr14 import published
from dvme.sets.unpacked import Unpacked

FINDINGS = {
    "Atelectasis": 11_559,
    "Cardiomegaly": 2_776,
    "Consolidation": 4_667,
    "Edema": 2_303,
    "Effusion": 13_317,
    "Emphysema": 2_516,
    "Fibrosis": 1_686,
    "Hernia": 227,
    "Infiltration": 19_894,
    "Mass": 5_782,
    "Nodule": 6_331,
    "Pleural_Thickening": 3_385,
    "Pneumonia": 1_431,
    "Pneumothorax": 5_302,
}
"""How many images have each, as published; 60,361 have none."""


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return frame(NIH)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, table: pd.DataFrame) -> tuple[Published, list[str]]:
    """The whole table, with lists that part its patients as the publisher's do by size, and no pictures."""
    root = tmp_path_factory.mktemp("nih")
    put(root, NIH)
    names = table["Image Index"].tolist()
    for name, part in (("train_val_list.txt", names[:86_524]), ("test_list.txt", names[86_524:])):
        (root / name).write_text("\n".join(part))
    unpacked = Unpacked(root)
    return published(unpacked), unpacked.remarks


def test_published__the_whole_table(whole: tuple[Published, list[str]], table: pd.DataFrame) -> None:
    found, remarks = whole
    columns = {name: pd.Series([*values]) for name, values in found.columns.items()}
    assert remarks == []
    assert found.remarks == ()
    assert {len(values) for values in columns.values()} == {len(found.images)} == {112_120}
    labels = columns["label"].str
    assert {name: int(labels.contains(f"|{name}|", regex=False).sum()) for name in FINDINGS} == FINDINGS
    assert int((columns["label"] == "|").sum()) == 60_361
    assert columns["split"].value_counts().to_dict() == {"train": 86_524, "test": 25_596}
    assert columns["group"].nunique() == 30_805
    assert columns["view"].value_counts().to_dict() == {"PA": 67_310, "AP": 44_810}
    assert columns["age"].astype(int).max() == 95
    assert columns["sex"].value_counts().to_dict() == table["Patient Gender"].value_counts().to_dict()
    for ours, theirs in (("age", "Patient Age"), ("height", "Height]"), ("spacing_y", "y]"), ("group", "Patient ID")):
        assert columns[ours].tolist() == table[theirs].tolist()


def test_published__an_older_table(tmp_path: Path, table: pd.DataFrame) -> None:
    """Of 2017: a column without a name at the end, and ages that nobody has."""
    old = table.iloc[:5].copy()
    old["Patient Age"] = ["058Y", "414", "155", "60", "11M"]
    put(tmp_path, "Data_Entry_2017.csv", old.assign(**{"": ""}))
    pictures(tmp_path, old["Image Index"])
    built = public_set("nih-cxr14", tmp_path)
    assert built.columns["age"] == ["58", "", "", "60", "0"]
    assert built.remarks[:-1] == (
        "no train_val_list.txt is there, so there is no official split",
        "no test_list.txt is there, so there is no official split",
        "2 impossible ages left empty: '414', '155'",
        "Data_Entry_2017.csv has 5 rows, the published table 112,120: another version, or a part of it",
    )
    assert "split" not in built.columns


def test_published__the_newer_of_two_tables(tmp_path: Path, table: pd.DataFrame) -> None:
    put(tmp_path / "old", "Data_Entry_2017.csv", table.iloc[:1])
    put(tmp_path / "new", "Data_Entry_2017_v2020.csv", table.iloc[1:3])
    pictures(tmp_path, table["Image Index"][:3])
    assert len(public_set("nih-cxr14", tmp_path)) == 2


def test_splits__lists_that_do_not_fit(tmp_path: Path, table: pd.DataFrame) -> None:
    names = table["Image Index"].tolist()[:6]
    put(tmp_path, NIH, table.iloc[:6])
    pictures(tmp_path, names)
    (tmp_path / "train_val_list.txt").write_text("\n".join([*names[:3], "gone.png"]))
    (tmp_path / "test_list.txt").write_text("\n".join([*names[2:5], ""]))
    built = public_set("nih-cxr14", tmp_path)
    assert built.columns["split"] == ["train", "train", "", "test", "test", ""]
    assert {
        "train_val_list.txt names 4 images, the published list 86,524",
        "1 name of train_val_list.txt not in the table: gone.png",
        f"1 image in both lists, and so in no part: {names[2]}",
        "2 images in no part of the official split",
    } <= {*built.remarks}
    (tmp_path / "test_list.txt").unlink()
    assert "split" not in public_set("nih-cxr14", tmp_path).columns
