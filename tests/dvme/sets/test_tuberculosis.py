"""Montgomery and Shenzhen, in their own layouts."""

from __future__ import annotations

from pathlib import Path

import pytest
from publishers import pictures

from dvme.errors import DataError
from dvme.sets.building import public_set

MONTGOMERY = {
    "MCUCXR_0001_0": "Patient's Sex: F \nPatient's Age: 027Y\nnormal\n\n",
    "MCUCXR_0099_1": "Patient's Sex: M\nPatient's Age: 053Y\nCavitary infiltrate\n multiple 3 nodules on R\n",
    "MCUCXR_0104_1": "Patient's Sex: O\nPatient's Age: 000Y\nnormal\n",
}
SHENZHEN = {
    "CHNCXR_0001_0": "male 45yrs\nnormal",
    "CHNCXR_0002_0": "femal 32yrs\nnormal",
    "CHNCXR_0327_1": "Female,28yrs\nbilateral PTB",
    "CHNCXR_0328_1": "male24yrs\nright PTB\nwith effusion",
    "CHNCXR_0329_1": "male 16month \nPTB",
    "CHNCXR_0330_1": "female 64days\nPTB",
    "CHNCXR_0331_1": "female\u00a030 secondary PTB in the right upper field",
}
NO_SPLIT = "the publisher has no split: dvme draws one"


def _readings(root: Path, texts: dict[str, str]) -> Path:
    (root / "ClinicalReadings").mkdir(parents=True)
    for name, text in texts.items():
        (root / "ClinicalReadings" / f"{name}.txt").write_text(text)
    pictures(root / "CXR_png", [f"{name}.png" for name in texts])
    return root


@pytest.fixture
def montgomery(tmp_path: Path) -> Path:
    root = _readings(tmp_path / "MontgomerySet", MONTGOMERY)
    pictures(root / "ManualMask" / "leftMask", [f"{name}.png" for name in MONTGOMERY])
    pictures(root / "ManualMask" / "rightMask", [f"{name}.png" for name in list(MONTGOMERY)[:2]])
    return root


@pytest.fixture
def shenzhen(tmp_path: Path) -> Path:
    root = _readings(tmp_path / "ChinaSet_AllFiles", SHENZHEN)
    pictures(root / "mask", ["CHNCXR_0001_0_mask.png", "CHNCXR_0327_1_mask.png"])
    (root / "NLM-ChinaCXRSet-ReadMe.docx").write_bytes(b"")
    return root


def test_montgomery__label_people_and_masks_of_both_sides(montgomery: Path, tmp_path: Path) -> None:
    built = public_set("montgomery", montgomery, tmp_path / "m.csv")
    names, folder = list(MONTGOMERY), "MontgomerySet"
    assert built.columns == {
        "image": [f"{folder}/CXR_png/{name}.png" for name in names],
        "label": ["normal", "tuberculosis", "tuberculosis"],
        "age": ["27", "53", "0"],
        "sex": ["F", "M", ""],
        "finding": ["normal", "Cavitary infiltrate multiple 3 nodules on R", "normal"],
        "mask_left": [f"{folder}/ManualMask/leftMask/{name}.png" for name in names],
        "mask_right": [*(f"{folder}/ManualMask/rightMask/{name}.png" for name in names[:2]), ""],
    }
    assert built.remarks == (
        "labels by the last digit of the names: 0 normal, 1 tuberculosis",
        "3 pictures there, and 138 as published: a part of it",
        NO_SPLIT,
        "1 image of a patient of unknown sex: 'O'",
        "1 reading of normal lungs under the label tuberculosis, which stays: MCUCXR_0104_1",
        "1 image without a mask of the right",
        "3 images without a patient: images of one patient may be on both sides of a split",
        "shares pictures with TBX11K: these are no external test of each other",
    )


def test_shenzhen__readings_however_they_are_written(shenzhen: Path) -> None:
    built = public_set("shenzhen", shenzhen)
    assert built.columns["label"] == ["normal"] * 2 + ["tuberculosis"] * 5
    assert built.columns["sex"] == ["M", "F", "F", "M", "M", "F", "F"]
    assert built.columns["age"] == ["45", "32", "28", "24", "1", "0", "30"]
    assert built.columns["finding"] == [
        *("normal", "normal", "bilateral PTB", "right PTB with effusion", "PTB", "PTB"),
        "secondary PTB in the right upper field",
    ]
    masks = [Path(place).name for place in built.columns["mask"]]
    assert masks == ["CHNCXR_0001_0_mask.png", "", "CHNCXR_0327_1_mask.png", "", "", "", ""]
    assert {NO_SPLIT, "5 images without a mask"} <= {*built.remarks}


def test_shenzhen__without_readings_and_masks(tmp_path: Path) -> None:
    pictures(tmp_path, ["CXR_png/CHNCXR_0001_0.png", "CXR_png/CHNCXR_0400_1.png", "CXR_png/Thumbs.png"])
    built = public_set("shenzhen", tmp_path)
    assert list(built.columns) == ["image", "label"]
    assert {
        "no clinical readings are there (ClinicalReadings/*.txt): no age, sex and finding",
        "1 picture left out, for no table names them",
    } <= {*built.remarks}
    _readings(tmp_path / "x", {"CHNCXR_0009_1": "female 20yrs\nPTB"})
    built = public_set("shenzhen", tmp_path)
    assert built.columns["age"] == ["", "", "20"]
    assert "2 images without a clinical reading" in built.remarks


def test_shenzhen__the_split_of_others(shenzhen: Path) -> None:
    names = list(SHENZHEN)
    lists = {"train": names[:4], "valid": names[3:5], "test": names[5:]}
    for part, own in lists.items():
        rows = [f"{name}.png,{0 if name == names[2] else name[-1]}" for name in own]
        (shenzhen / f"ShenzenCXR_{part}_data.txt").write_text("\n".join(rows))
    built = public_set("shenzhen", shenzhen)
    assert built.columns["split"] == ["train", "train", "train", "", "val", "test", "test"]
    assert built.remarks[2:8] == (
        "the split is that of Hosseinzadeh Taher et al. 2021, by their lists; the publisher has none",
        "Shen*CXR_train_data.txt names 4 images, the published list 463",
        f"1 label of Shen*CXR_train_data.txt not the last digit, which counts: {names[2]}",
        "Shen*CXR_valid_data.txt names 2 images, the published list 65",
        f"1 image in two lists, and so in no part: {names[3]}",
        "Shen*CXR_test_data.txt names 2 images, the published list 134",
    )


def test_published__both_sets_in_one_folder_and_none(montgomery: Path, shenzhen: Path, tmp_path: Path) -> None:
    """Each takes its own; the other's pictures are counted as left out."""
    assert len(public_set("montgomery", tmp_path)) == 3
    assert len(public_set("shenzhen", tmp_path)) == 7
    with pytest.raises(DataError, match=r"has no pictures called CHNCXR_0001_0\.png; name the folder into which"):
        public_set("shenzhen", montgomery)
    assert shenzhen.is_dir()
