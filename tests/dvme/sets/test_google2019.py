"""The real table of the radiologists' labels, held against what pandas reads of it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from publishers import GOOGLE, frame, pictures, put

from dvme.errors import DataError
from dvme.sets.building import public_set
from dvme.sets.google2019 import FINDINGS, published
from dvme.sets.unpacked import Unpacked


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return frame(GOOGLE)


def test_published__the_whole_table(tmp_path: Path, table: pd.DataFrame) -> None:
    put(tmp_path, GOOGLE)
    unpacked = Unpacked(tmp_path)
    found = published(unpacked)
    columns = {name: pd.Series([*values]) for name, values in found.columns.items()}
    assert columns["split"].value_counts().to_dict() == {"train": 2_414, "test": 1_962}
    assert columns["group"].nunique() == table["Patient ID"].nunique() == 1_695
    for name in FINDINGS:
        ours = columns["label"].str.contains(f"|{name}|", regex=False)
        for part, theirs in (("train", "val"), ("test", "test")):
            n = ((table[name] == "YES") & (table["Set Id"] == theirs)).sum()
            assert (ours & (columns["split"] == part)).sum() == n > 0
    assert int((columns["label"] == "|").sum()) == int((table[[*FINDINGS]] == "NO").all(axis=1).sum())
    assert unpacked.remarks == []
    assert found.remarks == (
        "1 impossible age left empty: '155'",
        "the publisher's validation part, 2,414 images, is the part that trains here",
    )


def test_published__the_two_tables_of_the_publisher(tmp_path: Path, table: pd.DataFrame) -> None:
    parts = {part: rows.drop(columns="Set Id").iloc[:3] for part, rows in table.groupby("Set Id")}
    both = pd.concat([parts["val"], parts["test"]])
    pictures(tmp_path / "images", both["Image Index"])
    put(tmp_path / "all_findings_expert_labels", "test_labels.csv", both)
    folder = tmp_path / "four_findings_expert_labels"
    put(folder, "test_labels.csv", parts["test"])
    one = public_set("google2019", tmp_path)
    assert len(one) == 3
    assert "split" not in one.columns
    assert "of one part alone no official split can be made: dvme draws one, by patient" in one.remarks
    put(folder, "validation_labels.csv", parts["val"])
    built = public_set("google2019", tmp_path)
    assert built.columns["split"] == ["train"] * 3 + ["test"] * 3
    assert [Path(image).name for image in built.columns["image"]] == [*both["Image Index"]]
    for file in ("validation_labels.csv", "test_labels.csv"):
        (folder / file).rename(tmp_path / f"four_findings_expert_labels_{file}")
    assert public_set("google2019", tmp_path).columns == built.columns


def test_published__cells_that_are_no_answer(tmp_path: Path, table: pd.DataFrame) -> None:
    rows = table.iloc[:3].copy()
    rows["Fracture"] = ["HEDGE", "YES", ""]
    put(tmp_path, GOOGLE, rows)
    with pytest.raises(DataError, match=r"column 'Fracture' of .* has 'HEDGE' in row 1; a finding is 1, 0"):
        public_set("google2019", tmp_path)
    with pytest.raises(DataError, match=r"has no google2019_nih-chest-xray-labels\.csv or four_findings"):
        public_set("google2019", put(tmp_path / "x", "other.csv", rows).parent)
