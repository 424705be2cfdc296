from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from publishers import pictures

import dvme
from dvme.errors import DataError
from dvme.sets.building import public_set

REAL = Path(__file__).parents[4] / "shared" / "data" / "chest_xray_kermany" / "manifest.csv"
TRAIN = [
    "NORMAL/IM-0115-0001.jpeg",
    "NORMAL/IM-0011-0001-0002.jpeg",
    "NORMAL/NORMAL2-IM-0115-0001.jpeg",
    "PNEUMONIA/person1_bacteria_1.jpeg",
    "PNEUMONIA/person1_bacteria_2.jpeg",
    "PNEUMONIA/person7_virus_9.jpeg",
    "PNEUMONIA/person22_bacteria_3.jpeg",
]
TEST = ["NORMAL/IM-0001-0001.jpeg", "PNEUMONIA/person1_virus_6.jpeg"]
VAL = ["PNEUMONIA/person1946_bacteria_4874.jpeg"]


def _unpack(root: Path, **parts: list[str]) -> Path:
    pictures(root, [f"{part}/{name}" for part, names in parts.items() for name in names])
    return root


@pytest.fixture
def kermany(tmp_path: Path) -> Path:
    return _unpack(tmp_path / "chest_xray", train=TRAIN, test=TEST, val=VAL)


def test_published__the_names_tell_all(kermany: Path, tmp_path: Path) -> None:
    built = public_set("kermany-pneumonia", kermany, tmp_path / "m.csv")
    rows = {Path(row["image"]).name: row for row in csv.DictReader((tmp_path / "m.csv").read_text().splitlines())}
    assert list(built.columns) == ["image", "label", "published_split", "group", "kind"]
    told = [[*rows[name].values()][1:] for name in ("person1_virus_6.jpeg", "IM-0011-0001-0002.jpeg")]
    assert told == [["PNEUMONIA", "test", "person1", "virus"], ["NORMAL", "train", "IM-0011", ""]]
    assert rows["NORMAL2-IM-0115-0001.jpeg"]["group"] == rows["IM-0115-0001.jpeg"]["group"] == "IM-0115"
    assert built.classes == {"NORMAL": 4, "PNEUMONIA": 6}
    samples = dvme.load_samples(tmp_path / "m.csv")
    assert "split" not in samples.given
    assert len(set(samples.groups)) == built.n_groups == 7
    assert built.remarks == (
        "1 of 4 numbers of children with pneumonia have both bacteria and a virus, as if numbers had been given twice; "
        "each counts as one patient, which leaks nothing",
        "1 of 3 numbers of healthy children occur with and without NORMAL2; each counts as one patient, which leaks "
        "nothing",
        "10 pictures, and 5,856 as published: a part of it, or another version",
        "published parts with too few images to choose or to test by: test 2, train 7, val 1",
        "1 of 7 numbers of patients in more than one published part: these are the column published_split, which dvme "
        "does not take for the split by itself, and it draws one by patient",
        "shares pictures with PneumoniaMNIST: these are no external test of each other",
    )


def test_published__kaggles_archive_has_everything_twice(kermany: Path) -> None:
    once = public_set("kermany-pneumonia", kermany)
    _unpack(kermany / "chest_xray", train=TRAIN, test=TEST, val=VAL)
    _unpack(kermany / "__MACOSX", train=TRAIN)
    twice = public_set("kermany-pneumonia", kermany)
    assert sorted(map(_end, twice.columns["image"])) == sorted(map(_end, once.columns["image"]))
    assert twice.columns["label"] == once.columns["label"]
    assert len(twice) == len(once) == 10
    assert twice.remarks[0].startswith("10 pictures there twice, as Kaggle's archive has them, and left out once: ")


def _end(path: str) -> str:
    return "/".join(path.split("/")[-3:])


def test_published__the_newest_version(tmp_path: Path) -> None:
    """Its numbers are on one side each: the parts are the split."""
    train = ["NORMAL/NORMAL-28501-0001.jpeg", "PNEUMONIA/BACTERIA-1008087-0001.jpeg", "PNEUMONIA/notes.jpeg"]
    root = _unpack(tmp_path / "CellData" / "chest_xray", train=train, test=["PNEUMONIA/VIRUS-3637528-0002.jpeg"])
    pictures(root, ["figure.png"])
    built = public_set("kermany-pneumonia", root)
    assert dict(built.columns) | {"image": []} == {
        "image": [],
        "label": ["PNEUMONIA", "NORMAL", "PNEUMONIA", "PNEUMONIA"],
        "split": ["test", "train", "train", "train"],
        "group": ["3637528", "28501", "1008087", ""],
        "kind": ["virus", "", "bacteria", ""],
    }
    assert {
        "1 name without the number of a patient: notes.jpeg",
        "1 picture left out, for no table names them",
        "1 image without a patient: images of one patient may be on both sides of a split",
    } <= {*built.remarks}


def test_published__a_part_alone_or_nothing(kermany: Path, tmp_path: Path) -> None:
    built = public_set("kermany-pneumonia", kermany / "train")
    assert list(built.columns) == ["image", "label", "group", "kind"]
    assert "all pictures in one part, without a name: dvme draws a split, by patient" in built.remarks
    with pytest.raises(DataError, match="has no pictures in folders NORMAL and PNEUMONIA; name the folder into"):
        public_set("kermany-pneumonia", kermany / "train" / "NORMAL")


@pytest.mark.skipif(not REAL.is_file(), reason="the real pictures are not beside the project: ../shared/data")
def test_published__real_names(tmp_path: Path) -> None:
    """The names of 1,433 real pictures, counted by hand."""
    with REAL.open() as file:
        real = list(csv.DictReader(file))
    for row in real:
        place = tmp_path / row["published_split"] / row["label"] / Path(row["image"]).name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"")
    built = public_set("kermany-pneumonia", tmp_path)
    assert built.classes == Counter(row["label"] for row in real)
    assert Counter(built.columns["kind"]) == Counter(row["subtype"].replace("normal", "") for row in real)
    assert built.n_groups == len({row["patient"] for row in real})
    kinds, parts = defaultdict(set), defaultdict(set)
    for row in real:
        parts[row["patient"]].add(row["published_split"])
        if match := re.match(r"images/(person\d+)_([a-z]+)", row["image"]):
            kinds[match[1]].add(match[2])
    n_both = sum(len(each) == 2 for each in kinds.values())
    n_parts = sum(len(each) > 1 for each in parts.values())
    assert built.remarks[0].startswith(f"{n_both} of {len(kinds)} numbers of children with pneumonia have both")
    assert any(line.startswith(f"{n_parts} of {len(parts)} numbers of patients in more than") for line in built.remarks)
