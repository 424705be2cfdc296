"""VinDr-CXR: Kaggle's real table, held against what pandas reads of it; PhysioNet's tables are written by hand."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from publishers import VINDR, frame, pictures, put

from dvme.errors import DataError, OptionError
from dvme.sets.building import public_set
from dvme.sets.unpacked import Unpacked
from dvme.sets.vindr import MAJORITY, SHARES, published


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return frame(VINDR)


@pytest.mark.parametrize(("readers", "n_images"), [(MAJORITY, 15_000), (SHARES, 1_000)])
def test_published__the_table_of_kaggle(tmp_path: Path, table: pd.DataFrame, readers: str, n_images: int) -> None:
    order = table["image_id"].drop_duplicates().iloc[:n_images]
    rows = table if n_images == 15_000 else table[table["image_id"].isin(order)]
    put(tmp_path, VINDR, None if rows is table else rows)
    unpacked = Unpacked(tmp_path)
    found = published(unpacked, readers)
    assert unpacked.remarks == [] or rows is not table
    seen = rows.drop_duplicates(["image_id", "rad_id", "class_name"])
    votes = seen.groupby(["image_id", "class_name"]).size().unstack(fill_value=0).drop(columns="No finding").loc[order]
    written = {MAJORITY: {2: "|", 3: "|"}, SHARES: {1: "=0.33|", 2: "=0.67|", 3: "|"}}[readers]
    names = [*votes.columns]
    expected = [
        "|" + "".join(name + written[n] for name, n in zip(names, row, strict=True) if n in written)
        for row in votes.to_numpy().tolist()
    ]
    assert list(found.columns["label"]) == expected
    assert {*found.columns["readers"]} == {"3"}
    assert "group" not in found.columns
    disputed = (votes > 0) & (votes < 3)
    policy = "more than half decides" if readers == MAJORITY else "the part that saw it is kept"
    assert found.remarks == (
        f"readers differ on {int(disputed.to_numpy().sum()):,} findings of {int(disputed.any(axis=1).sum()):,} images: "
        f"{policy}",
        "no image_labels_test.csv is there, so there is no official split: dvme draws one",
    )


TRAIN = """image_id,rad_id,Aortic enlargement,Nodule/Mass,Pneumonia,Other diseases,No finding
a,R1,1,0,0,0,0
a,R2,1,1,0,0,0
a,R3,0,0,0,0,1
b,R1,0.0,0.0,0.0,0.0,1.0
b,R2,0.0,0.0,0.0,1.0,0.0
b,R3,0,0,0,1,0
c,R1,0,0,1,0,0
c,R2,0,0,0,0,1
"""
TEST = "image_id,Aortic enlargement,Nodule/Mass,Pneumonia,Other disease,No finding\nd,0,0,0,1,0\ne,0,0,0,0,1\n"


def test_published__the_tables_of_physionet(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "image_labels_train.csv").write_text(TRAIN)
    (tmp_path / "annotations" / "image_labels_test.csv").write_text(TEST)
    pictures(tmp_path, [*(f"train/{name}.dicom" for name in "abc"), "test/d.dicom", "test/e.dicom"])
    built = public_set("vindr", tmp_path, tmp_path / "m.csv")
    assert built.columns == {
        "image": ["train/a.dicom", "train/b.dicom", "train/c.dicom", "test/d.dicom", "test/e.dicom"],
        "label": ["|Aortic enlargement|", "|Other diseases|", "|", "|Other diseases|", "|"],
        "split": ["train", "train", "train", "test", "test"],
        "readers": ["3", "3", "2", "1", "1"],
    }
    assert built.remarks == (
        "readers differ on 4 findings of 3 images: more than half decides",
        "1 training image with another number of readers than 3",
        "image_labels_train.csv has 8 rows, the published table 45,000: another version, or a part of it",
        "image_labels_test.csv has 2 rows, the published table 3,000: another version, or a part of it",
        "5 images without a patient: images of one patient may be on both sides of a split",
    )
    shares = public_set("vindr", tmp_path, readers="shares").columns["label"]
    assert shares[:3] == ["|Aortic enlargement=0.67|Nodule/Mass=0.33|", "|Other diseases=0.67|", "|Pneumonia=0.5|"]
    (tmp_path / "annotations" / "image_labels_train.csv").unlink()
    assert public_set("vindr", tmp_path).columns["label"] == ["|Other diseases|", "|"]


def test_published__what_it_refuses(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="a policy 'any' for readers is not known; pass readers='majority' or"):
        public_set("vindr", tmp_path, readers="any")
    with pytest.raises(DataError, match=r"has no train\.csv or vinbigdata-train\.csv or image_labels_train\.csv; put"):
        public_set("vindr", tmp_path)
    (tmp_path / "train.csv").write_text("image_id,label\na,1\n")
    with pytest.raises(DataError, match=r"has no column 'rad_id', 'class_name', and so is not the published table"):
        public_set("vindr", tmp_path)
    (tmp_path / "train.csv").write_text("image_id,rad_id,class_name\na,R1,ILD\n")
    pictures(tmp_path, ["a.jpg"])
    with pytest.raises(OptionError, match="the set vindr does not tell the views of its images; leave out views"):
        public_set("vindr", tmp_path, views=["PA"])
