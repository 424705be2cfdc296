"""The guide to public sets: its commands, on miniatures of the real tables."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from command_line import run
from light import spelled
from publishers import CHEXPERT, NIH, PADCHEST, TABLES, pictures, put

import dvme
from dvme_cache import EmbeddingCache

GUIDE = (Path(__file__).parents[1] / "examples" / "public_sets.md").read_text(encoding="utf-8")
N_EACH = 18
"""Images of each label in a miniature."""


def _rows(name: str, column: str, labels: list[str], patient: str, n_read: int) -> pd.DataFrame:
    """The first rows with just these labels, as many of each, a patient each."""
    table = pd.read_csv(TABLES / name, dtype=str, keep_default_na=False, nrows=n_read).drop_duplicates(patient)
    rows = pd.concat([table[table[column] == label].iloc[:N_EACH] for label in labels])
    assert len(rows) == N_EACH * len(labels)
    return rows


def _nih(root: Path) -> None:
    rows = _rows(NIH, "Finding Labels", ["No Finding", "Cardiomegaly", "Atelectasis"], "Patient ID", 10_000)
    put(root / "nih", NIH, rows)
    pictures(root / "nih" / "images_001" / "images", rows["Image Index"])
    for name, start in (("train_val_list.txt", 0), ("test_list.txt", 2)):
        chosen = [row for row in range(len(rows)) if (row % 3 == 2) == (start == 2)]
        (root / "nih" / name).write_text("\n".join(rows["Image Index"].iloc[chosen]))


def _chexpert(root: Path) -> None:
    table = pd.read_csv(TABLES / CHEXPERT, dtype=str, keep_default_na=False, nrows=8_000)
    table = table[table["Frontal/Lateral"] == "Frontal"]
    told = table[table["Edema"].isin(["0.0", "1.0", "-1.0"]) & table["Pleural Effusion"].isin(["0.0", "1.0"])]
    rows = told.drop_duplicates(["Edema", "Pleural Effusion", "Path"]).groupby(["Edema", "Pleural Effusion"]).head(9)
    is_test = np.arange(len(rows)) % 3 == 2
    folder = root / "CheXpert-v1.0-small"
    valid = rows[is_test & (rows["Edema"] != "-1.0")].copy()
    valid["Path"] = valid["Path"].str.replace("train/patient0", "valid/patient6")
    put(folder, "train.csv", rows[~is_test])
    put(folder, "valid.csv", valid)
    pictures(root, [*rows[~is_test]["Path"], *valid["Path"]])


def _padchest(root: Path) -> None:
    rows = _rows(PADCHEST, "Labels", ["['normal']", "['cardiomegaly']", "['laminar atelectasis']"], "PatientID", 8_000)
    put(root / "padchest", PADCHEST, rows)
    pictures(root / "padchest" / "0", rows["ImageID"], bits=16)


def _patchcam(root: Path) -> None:
    """Patches whose brightness shows the label, slides of three."""
    (root / "pcam").mkdir()
    for seed, (part, n) in enumerate((("train", 36), ("valid", 18), ("test", 18))):
        stem = root / "pcam" / f"camelyonpatch_level_2_split_{part}"
        labels = np.arange(n, dtype=np.uint8) % 2
        noise = np.random.default_rng(seed).integers(0, 100, (n, 96, 96, 3), dtype=np.uint8)
        with h5py.File(f"{stem}_x.h5", "w") as file:
            file["x"] = noise + 80 * labels[:, None, None, None]
        with h5py.File(f"{stem}_y.h5", "w") as file:
            file["y"] = labels[:, None, None, None]
        slides = [f"{row},0,{row},{bool(label)},{bool(label)},{part}_{row // 3}" for row, label in enumerate(labels)]
        Path(f"{stem}_meta.csv").write_text("\n".join([",coord_y,coord_x,tumor_patch,center_tumor_patch,wsi", *slides]))


def _medmnist(root: Path) -> None:
    (root / "medmnist").mkdir()
    arrays = {}
    for seed, (part, n) in enumerate((("train", 36), ("val", 18), ("test", 18))):
        arrays[f"{part}_labels"] = labels = (np.arange(n, dtype=np.uint8) % 3)[:, None]
        noise = np.random.default_rng(seed).integers(0, 100, (n, 28, 28, 3), dtype=np.uint8)
        arrays[f"{part}_images"] = noise + 50 * labels[..., None, None]
    np.savez_compressed(root / "medmnist" / "bloodmnist.npz", **arrays)


def _commands(heading: str) -> list[list[str]]:
    section = GUIDE[GUIDE.index(f"## {heading}\n") :].partition("\n## ")[0]
    blocks = re.findall(r"```text\n(.*?)```", section, flags=re.DOTALL)
    return [shlex.split(line)[1:] for block in blocks for line in block.splitlines() if line.startswith("dvme ")]


def _run(words: list[str]) -> str:
    """A command of the guide, with small pictures and few strengths."""
    small = [re.sub("^efficientnet-lite0", "efficientnet-lite0@size=32", word) for word in words]
    done = run(*(spelled("linear") if word == "linear" else word for word in small))
    assert done.exit_code == 0, f"{words}\n{done.output}"
    return done.stdout


@pytest.mark.parametrize("form", ["short", pytest.param("whole", marks=pytest.mark.slow)])
def test_guide__gets_from_each_download_to_a_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """The short form looks at no subgroups and at no other site."""
    monkeypatch.chdir(tmp_path)
    _nih(tmp_path)
    _chexpert(tmp_path)
    _padchest(tmp_path)
    said = {}
    assert [words[0] for words in _commands("Two commands")] == ["extract", "probe"]
    directly = [_run(words) for words in _commands("Two commands")]
    for heading in ("NIH ChestX-ray14", "CheXpert", "PadChest"):
        commands = [words for words in _commands(heading) if words[1] != "google2019"]
        assert [words[0] for words in commands][:3] == ["data", "extract", "probe"]
        if form == "short":
            commands = [words[: words.index("--by")] if "--by" in words else words for words in commands[:3]]
        said[heading] = [_run(words) for words in commands]
    assert "official split: train 36, test 18" in said["NIH ChestX-ray14"][0]
    assert said["NIH ChestX-ray14"][2].splitlines()[:8] == directly[1].splitlines()[:8]
    labels = EmbeddingCache.open("nih.zarr").column("label").tolist()
    assert sorted(labels) == ["|"] * N_EACH + ["|Atelectasis|"] * N_EACH + ["|Cardiomegaly|"] * N_EACH
    assert "its val part is the test set" in said["CheXpert"][2]
    assert "soft=0.7" in said["CheXpert"][2]
    assert EmbeddingCache.open("padchest.zarr").embeddings("efficientnet-lite0@size=32@range=dtype").dim == 1280
    if form == "whole":
        assert "padchest" in said["PadChest"][3]


def test_guide__names_options_that_there_are() -> None:
    commands = [words for heading in ("NIH ChestX-ray14", "VinDr-CXR") for words in _commands(heading)]
    assert ["data", "google2019", "nih/", "--out", "google.csv"] in commands
    assert ["data", "vindr", "vindr/", "--out", "vindr.csv"] in commands


@pytest.mark.parametrize(
    ("heading", "make", "split", "labels"),
    [
        ("PatchCamelyon", _patchcam, "official split: train 36, val 18, test 18", {"0", "1"}),
        (
            "MedMNIST",
            _medmnist,
            "official split: train 36, val 18, test 18",
            {"basophil", "eosinophil", "erythroblast"},
        ),
    ],
)
def test_guide__gets_from_arrays_to_a_probe(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    heading: str,
    make: Callable[[Path], None],
    split: str,
    labels: set[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path)
    commands = _commands(heading)
    assert [words[0] for words in commands] == ["data", "extract", "probe"]
    built, _, probed = (_run(words) for words in commands)
    assert split in built
    cache = EmbeddingCache.open(commands[1][2])
    assert {*cache.column("label").tolist()} == labels
    assert cache.n_rows == 72
    assert "your split: train 36, val 18, test 18" in probed


def test_guide__has_the_command_of_every_set() -> None:
    """Each as `dvme data SET FOLDER/ --out FILE.csv`, and extraction takes that file."""
    commands = [shlex.split(line)[1:] for line in GUIDE.splitlines() if line.startswith("dvme ")]
    built = {words[1]: words[4] for words in commands if words[0] == "data"}
    assert built.keys() == {each.name for each in dvme.public_sets()}
    extracted = {words[1] for words in commands if words[0] == "extract" and words[1].endswith(".csv")}
    assert extracted == {*built.values()} - {"google.csv", "vindr.csv"}
