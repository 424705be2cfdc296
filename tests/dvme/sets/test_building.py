from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd
import pytest
from publishers import NIH, TABLES, pictures, put

import dvme
from dvme.errors import DataError, OptionError, UnknownNameError
from dvme.sets.building import Published, public_set
from dvme.sets.catalogue import set_of

HEADER = ["image", "label", "group", "study", "view", "width", "height", "spacing_x", "spacing_y", "age", "sex"]


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """Eight real rows, three of them AP, of several patients."""
    table = pd.read_csv(TABLES / NIH, dtype=str, keep_default_na=False, nrows=200)
    return pd.concat([table.iloc[:3], table[table["View Position"] == "AP"].iloc[:3], table.iloc[3:5]])


@pytest.fixture
def nih(tmp_path: Path, rows: pd.DataFrame) -> Path:
    root = tmp_path / "down load"
    put(root, NIH, rows)
    pictures(root / "images_001" / "images", rows["Image Index"][:6])
    return root


def _written(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_public_set__writes_what_extraction_reads_without_an_option(
    nih: Path, rows: pd.DataFrame, tmp_path: Path
) -> None:
    out = tmp_path / "nih.csv"
    built = public_set("nih-cxr14", nih, out)
    written = _written(out)
    assert [*written[0]] == HEADER == [*built.columns]
    assert [row["image"] for row in written] == [f"down load/images_001/images/{n}" for n in rows["Image Index"][:6]]
    samples = dvme.load_samples(out, dvme.Columns(keep="view,sex,age,spacing_x"))
    assert [path.is_file() for path in samples.paths] == [True] * 6
    findings = rows["Finding Labels"][:6].replace("No Finding", "")
    assert samples.labels == [f"|{each}|" if each else "|" for each in findings]
    assert samples.groups == [*rows["Patient ID"][:6]]
    assert samples.kept["age"] == [*rows["Patient Age"][:6]]
    assert samples.kept["spacing_x"] == [*rows["OriginalImagePixelSpacing[x"][:6]]
    assert (len(built), built.n_listed, built.n_groups, built.path) == (
        6,
        8,
        rows["Patient ID"][:6].nunique(),
        str(out),
    )
    assert dvme.public_set("nih-cxr14", nih).path is None


@pytest.mark.parametrize("place", ["down load/m.csv", "m.csv", "other/deep/m.csv", "link/m.csv"])
def test_public_set__paths_are_those_from_the_manifests_folder(nih: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "other" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "other" / "deep")
    public_set("nih-cxr14", nih, tmp_path / place)
    paths = [Path(row["image"]) for row in _written(tmp_path / place)]
    assert not any(path.is_absolute() for path in paths)
    assert all((tmp_path / place).parent.joinpath(path).is_file() for path in paths)


def test_public_set__says_all_that_it_leaves_out(nih: Path, rows: pd.DataFrame, tmp_path: Path) -> None:
    pictures(nih, ["images_002/images/99999999_000.png"])
    (nih / "images_012.tar.gz").write_bytes(b"")
    twice = pd.concat([rows, rows[:1]])
    put(nih, NIH, twice)
    built = public_set("nih-cxr14", nih, views="pa")
    assert len(built) == sum(twice["View Position"][:6] == "PA")
    n_ap = sum(twice["View Position"] == "AP")
    assert {
        "1 picture left out, for no table names them",
        f"{n_ap} images of other views left out: AP {n_ap}",
        "1 row of a picture that has one already, left out",
        "2 pictures not there, and left out; 1 archive not unpacked: images_012.tar.gz",
    } <= {*built.remarks}
    shared = [line for line in built.remarks if line.startswith("shares pictures with ChestMNIST")]
    assert len(shared) == 1


def test_public_set__never_replaces_a_file_by_itself_nor_leaves_half_of_one(nih: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.csv"
    out.write_text("mine")
    with pytest.raises(OptionError, match=r"m\.csv is there already; name another file, or pass force=True"):
        public_set("nih-cxr14", nih, out)
    with pytest.raises(OptionError, match=r"m\.txt does not end in \.csv"):
        public_set("nih-cxr14", nih, tmp_path / "m.txt")
    with pytest.raises(OptionError, match="is not a folder; make it first"):
        public_set("nih-cxr14", nih, tmp_path / "nowhere" / "m.csv")
    with pytest.raises(DataError, match="is not a folder; name the one into which the set was unpacked"):
        public_set("nih-cxr14", tmp_path / "nowhere", out, force=True)
    assert out.read_text() == "mine"
    assert len(public_set("nih-cxr14", nih, out, force=True)) == len(_written(out)) == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["down load", "m.csv"]


def test_public_set__options_that_are_not_of_the_set(nih: Path) -> None:
    with pytest.raises(OptionError, match="the set nih-cxr14 has no choice of readers; leave it out"):
        public_set("nih-cxr14", nih, readers="shares")
    with pytest.raises(OptionError, match=r"no image has the view 'lateral'; there are PA \(\d\), AP \(\d\); pass one"):
        public_set("nih-cxr14", nih, views=["PA", "lateral"])
    with pytest.raises(UnknownNameError, match="no public set 'nih'"):
        public_set("nih", nih)


def test_public_set__without_a_picture_or_without_the_table(nih: Path, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    with pytest.raises(DataError, match=r"bare has no Data_Entry_2017_v2020\.csv or Data_Entry_2017\*\.csv; put"):
        public_set("nih-cxr14", tmp_path / "bare")
    (nih / "images_001").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"none of the 8 pictures of NIH ChestX-ray14 is below .*; name the folder"):
        public_set("nih-cxr14", nih)
    (nih / "images_001.tar.gz").write_bytes(b"")
    with pytest.raises(DataError, match=r"is below .*; unpack images_001\.tar\.gz"):
        public_set("nih-cxr14", nih)


def test_public_set__leaks_are_counted(nih: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = ["a.png", "b.png", "c.png", "d.png", "e.png"]
    pictures(tmp_path / "own", images)
    columns = {
        "label": ["|", "", "|x|", "|x=?|", "|x=|"],
        "split": ["train", "test", "test", "", "train"],
        "group": ["1", "1", "2", "2", ""],
    }
    monkeypatch.setattr(
        "dvme.sets.nih_cxr14.published", lambda unpacked: Published(images=unpacked.find(images), columns=columns)
    )
    built = public_set("nih-cxr14", tmp_path / "own")
    assert built.remarks[:-1] == (
        "1 image without a label",
        "1 image in no part of the official split",
        "1 image without a patient: images of one patient may be on both sides of a split",
        "1 patient in more than one part of the official split, which dvme refuses",
    )
    assert (built.classes, built.splits, built.n_groups) == ({"x": 1}, {"train": 2, "test": 2}, 2)
    assert built.to_json() == {
        "set": set_of("nih-cxr14").to_json(),
        "path": None,
        "n_images": 5,
        "n_listed": 5,
        "n_groups": 2,
        "splits": {"train": 2, "test": 2},
        "classes": {"x": 1},
        "columns": ["image", "label", "split", "group"],
        "remarks": [*built.remarks],
    }
