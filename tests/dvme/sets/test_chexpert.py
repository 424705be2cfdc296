"""CheXpert's real table, held against what pandas reads of it and against its counts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from publishers import CHEXPERT, TABLES, first_lines, frame, pictures, put

import dvme
from dvme.data.targets import Targets
from dvme.errors import DataError
from dvme.sets.building import Published, public_set
from dvme.sets.chexpert import DEVICES, ILLNESSES, published
from dvme.sets.unpacked import Unpacked

NAMES = (*ILLNESSES, DEVICES)
WHOLE = {"Atelectasis": (33_376, 33_739), "Consolidation": (14_783, 27_742), "Edema": (52_246, 12_984)}
"""How many images of the whole table have a finding, and how many may have it."""


def _checked(found: Published, table: pd.DataFrame) -> None:
    """Every cell of every row: what the label says of a finding, against the table's own cell."""
    meant = {"": "=", "0.0": None, "1.0": "", "-1.0": "=?"}
    labels = found.columns["label"]
    said = Counter[tuple[str, str | None]]()
    expected = Counter[tuple[str, str | None]]()
    for label, count in Counter(labels).items():
        parts = {part.partition("=")[0]: part.removeprefix(part.partition("=")[0]) for part in label.split("|") if part}
        said.update({(name, parts.get(name) if label else "="): count for name in NAMES})
    is_clear = table["No Finding"] == "1.0"
    for name in NAMES:
        for cell, count in table.loc[~is_clear, name].value_counts().items():
            expected[name, meant[cell]] += count
        for cell, count in table.loc[is_clear, name].value_counts().items():
            expected[name, None if cell == "" and name != DEVICES else meant[cell]] += count
    assert +said == +expected
    n_unsure = int((table[[*NAMES]] == "-1.0").to_numpy().sum())
    assert f"{n_unsure:,} uncertain cells (-1), kept as uncertain" in found.remarks
    n_unknown = sum(count for (_, cell), count in expected.items() if cell == "=")
    assert f"{n_unknown:,} empty cells elsewhere, kept as unknown" in found.remarks
    paths = table["Path"].str.split("/")
    assert list(found.columns["group"]) == paths.str[2].tolist()
    assert list(found.columns["study"]) == (paths.str[2] + "/" + paths.str[3]).tolist()
    assert list(found.columns["view"]) == table["Frontal/Lateral"].tolist()
    assert list(found.columns["projection"]) == table["AP/PA"].tolist()
    assert list(found.columns["age"]) == table["Age"].tolist()
    assert Counter(found.columns["sex"]) == Counter(table["Sex"].map({"Male": "M", "Female": "F"}).fillna(""))


def test_published__the_beginning_of_the_table(tmp_path: Path) -> None:
    path = first_lines(tmp_path, CHEXPERT, 20_000)
    unpacked = Unpacked(tmp_path)
    found = published(unpacked)
    assert len(found.images) == 20_000
    _checked(found, pd.read_csv(path, dtype=str, keep_default_na=False))
    assert unpacked.remarks == [
        "chexpert_train.csv has 20,000 rows, the published table 223,414: another version, or a part of it"
    ]


@pytest.mark.slow
def test_published__the_whole_table(tmp_path: Path) -> None:
    put(tmp_path, CHEXPERT)
    unpacked = Unpacked(tmp_path)
    found = published(unpacked)
    assert unpacked.remarks == []
    assert len(found.images) == 223_414
    assert len({*found.columns["group"]}) == 64_540
    assert len({*found.columns["study"]}) == 187_641
    for name, (n_there, n_unsure) in WHOLE.items():
        labels = found.columns["label"]
        assert sum(f"|{name}|" in label for label in labels) == n_there
        assert sum(f"|{name}=?|" in label for label in labels) == n_unsure
    assert "1 image of a patient of unknown sex: 'Unknown'" in found.remarks
    assert "22,381 images with 'No Finding': empty cells of illnesses count as absent there" in found.remarks
    _checked(found, frame(CHEXPERT))


def _valid(table: pd.DataFrame) -> pd.DataFrame:
    """Rows as the validation part has them: all cells 0 or 1, patients and paths of its own."""
    valid = table.replace({"": "0.0", "-1.0": "1.0"})
    return valid.assign(Path=table["Path"].str.replace("train/patient0", "valid/patient6"))


@pytest.mark.parametrize("prefix", ["CheXpert-v1.0-small/", "CheXpert-v1.0/", "", "/data/chexpert/CheXpert-v1.0/"])
@pytest.mark.parametrize("layout", ["{}", "CheXpert-v1.0-small/{}", "batch 2 (train 1)/{}"])
def test_published__whatever_stands_before_the_paths(tmp_path: Path, prefix: str, layout: str) -> None:
    train = pd.read_csv(TABLES / CHEXPERT, dtype=str, keep_default_na=False, nrows=8)
    train["Path"] = train["Path"].str.replace("CheXpert-v1.0-small/", prefix)
    valid = _valid(train.iloc[:4])
    ends = [path[path.index("patient") :] for path in [*train["Path"], *valid["Path"]]]
    folders = ["train"] * 8 + ["valid"] * 4
    places = [layout.format(f"{folder}/{end}") for folder, end in zip(folders, ends, strict=True)]
    if layout.startswith("batch"):
        places = [layout.format(end) for end in ends]
    pictures(tmp_path, places)
    put(tmp_path / "tables", "train.csv", train)
    put(tmp_path / "tables", "valid.csv", valid)
    out = tmp_path / "m.csv"
    built = public_set("chexpert", tmp_path, out)
    assert [*built.columns["image"]] == places
    assert built.splits == {"train": 8, "val": 4}
    samples = dvme.load_samples(out)
    targets = Targets.of(samples.labels)  # type: ignore[arg-type]
    edema = targets.values[:, targets.classes.index("Edema")]
    assert edema[8:].tolist() == (valid["Edema"] == "1.0").tolist()
    assert (
        len(public_set("chexpert", tmp_path, views=["lateral"])) == 2 * sum("lateral" in end for end in ends[:8]) or 1
    )


def test_published__other_tables(tmp_path: Path) -> None:
    train = pd.read_csv(TABLES / CHEXPERT, dtype=str, keep_default_na=False, nrows=3)
    put(tmp_path, "train.csv", train.assign(Path="view1_frontal.jpg"))
    with pytest.raises(DataError, match=r"has 'view1_frontal\.jpg' for a path; one ends in patient, study and view"):
        public_set("chexpert", tmp_path)
    put(tmp_path, "train.csv", train.assign(Edema=["1", "maybe", ""]))
    with pytest.raises(DataError, match=r"column 'Edema' of .*train\.csv has 'maybe'"):
        public_set("chexpert", tmp_path)
    put(tmp_path, "train.csv", train.drop(columns="Edema"))
    with pytest.raises(DataError, match=r"has no column 'Edema', and so is not the published table"):
        public_set("chexpert", tmp_path)
    put(tmp_path, "train.csv", train.drop(columns=["Sex", "Age"]))
    pictures(tmp_path, train["Path"])
    built = public_set("chexpert", tmp_path)
    assert [*built.columns["sex"]] == [""] * 3
    assert "train.csv has no column Sex, Age, which the published table has" in built.remarks
    put(tmp_path, "train.csv", train.assign(**{"No Finding": "1.0"}))
    both = public_set("chexpert", tmp_path)
    assert "2 images with 'No Finding' and an illness: the illness counts" in both.remarks
    assert "|Lung Opacity|" in both.columns["label"][1]
    (tmp_path / "train.csv").unlink()
    with pytest.raises(DataError, match=r"has no train\.csv or chexpert_train\.csv; put the publisher's table there"):
        public_set("chexpert", tmp_path)
