from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from publishers import pictures

import dvme
from dvme.errors import DataError
from dvme.sets.aptos import _copies
from dvme.sets.building import public_set
from dvme.sets.unpacked import Unpacked

NAMES = ["000c1434d8d7", "001639a390f0", "0024cdab0c1e", "002c21358ce6", "005b95c28852"]
GRADES = ["2", "4", "1", "0", "0"]
OTHER = "0a74c92e287c"


def _table(path: Path, names: Sequence[str], grades: Sequence[str]) -> None:
    rows = [f"{name},{grade}" for name, grade in zip(names, grades, strict=True)]
    path.write_text("\n".join(["id_code,diagnosis", *rows]) + "\n")


@pytest.fixture
def aptos(tmp_path: Path) -> Path:
    """Five graded pictures and one without a grade."""
    root = tmp_path / "aptos2019"
    pictures(root / "train_images", [f"{name}.png" for name in NAMES])
    pictures(root / "test_images", [f"{OTHER}.png"], size=20)
    _table(root / "train.csv", NAMES, GRADES)
    (root / "test.csv").write_text(f"id_code\n{OTHER}\n")
    (root / "sample_submission.csv").write_text(f"id_code,diagnosis\n{OTHER},0\n")
    return root


def test_published__graded_images_alone(aptos: Path, tmp_path: Path) -> None:
    built = public_set("aptos", aptos, tmp_path / "m.csv")
    samples = dvme.load_samples(tmp_path / "m.csv")
    assert samples.labels == GRADES
    assert [path.name for path in samples.paths] == [f"{name}.png" for name in NAMES]
    assert all(path.is_file() for path in samples.paths)
    assert list(built.columns) == ["image", "label"]
    assert built.classes == {"0": 2, "1": 1, "2": 1, "4": 1}
    assert built.remarks == (
        "1 image of test.csv, of which nobody has the grades, left out; predict takes their folder as it is",
        "there is no official split of graded images: dvme draws one",
        "the grades 0 to 4 are in order, and dvme takes them so, for they are numbers",
        "train.csv has 5 rows, the published table 3,662: another version, or a part of it",
        "5 images without a patient: images of one patient may be on both sides of a split",
    )


def test_published__copies_are_counted_and_those_that_disagree(aptos: Path) -> None:
    """Three sets of copies: two of one grade, one of two grades, and three files."""
    folder = aptos / "train_images"
    copies = {"c1": NAMES[0], "c2": NAMES[1], "c3": NAMES[1], "c4": NAMES[4]}
    for copy, name in copies.items():
        shutil.copy(folder / f"{name}.png", folder / f"{copy}.png")
    _table(aptos / "train.csv", [*NAMES, *copies], [*GRADES, "2", "4", "3", "1"])
    same = "4 pictures the same as another to the byte: dvme takes copies for one image"
    remarks = public_set("aptos", aptos).remarks
    assert f"{same}; 2 images with copies of different grades, which then have none" in remarks
    places = ["train_images/c1.png", "packed.zip/c1.png", None]
    packed = ["1 picture in archives, where copies were not looked for"]
    assert _copies(Unpacked(aptos), places, ["2", "2", "2"]) == packed


def test_published__a_split_that_others_made(aptos: Path) -> None:
    _table(aptos / "train.csv", NAMES[:3], GRADES[:3])
    _table(aptos / "valid.csv", NAMES[3:], GRADES[3:])
    _table(aptos / "test.csv", [OTHER], ["3.0"])
    built = public_set("aptos", aptos)
    assert built.columns["split"] == ["val", "val", "test", "train", "train", "train"]
    assert built.columns["label"] == [*GRADES[3:], "3", *GRADES[:3]]
    assert "test.csv has grades, and so the split is not the publisher's, whose test grades nobody has" in built.remarks


def test_published__another_table(aptos: Path) -> None:
    _table(aptos / "train.csv", NAMES, ["0", "1", "5", "0", "0"])
    with pytest.raises(DataError, match=r"column 'diagnosis' of .*train\.csv has '5' in row 3; a grade is 0 to 4"):
        public_set("aptos", aptos)
    (aptos / "train.csv").write_text("image,level\n10_left,0\n")
    with pytest.raises(DataError, match=r"has no column 'id_code', 'diagnosis', and so is not the published table"):
        public_set("aptos", aptos)
