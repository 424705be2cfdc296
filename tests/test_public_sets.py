"""The guide to public sets: its commands, on miniatures of the real tables."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import run
from light import spelled
from publishers import CHEXPERT, NIH, PADCHEST, TABLES, pictures, put

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


def _commands(heading: str) -> list[list[str]]:
    section = GUIDE[GUIDE.index(f"## {heading}\n") :].partition("\n## ")[0]
    blocks = re.findall(r"```text\n(.*?)```", section, flags=re.DOTALL)
    return [shlex.split(line)[1:] for block in blocks for line in block.splitlines() if line.startswith("dvme ")]


def _run(words: list[str]) -> str:
    """A command of the guide, with small pictures and few strengths."""
    small = [re.sub("^efficientnet-lite0@", "efficientnet-lite0@size=32@", word) for word in words]
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
    for heading in ("NIH ChestX-ray14", "CheXpert", "PadChest"):
        commands = [words for words in _commands(heading) if words[1] != "google2019"]
        assert [words[0] for words in commands][:3] == ["data", "extract", "probe"]
        if form == "short":
            commands = [words[: words.index("--by")] if "--by" in words else words for words in commands[:3]]
        said[heading] = [_run(words) for words in commands]
    assert "official split: train 36, test 18" in said["NIH ChestX-ray14"][0]
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
