"""SET:FOLDER as images: what a manifest in between would give, and nothing that is called so is taken for one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import run
from publishers import pictures

import dvme
from dvme.errors import DataError
from dvme.sets.direct import is_public_set
from dvme_cache import EmbeddingCache


@pytest.fixture
def nih(tmp_path: Path) -> Path:
    root = tmp_path / "nih"
    names = [f"0000000{patient}_00{visit}.png" for patient in range(1, 7) for visit in range(2)]
    pictures(root / "images_001", names)
    table = pd.DataFrame(
        {
            "Image Index": names,
            "Finding Labels": ["No Finding", "Mass|Edema"] * 6,
            "Follow-up #": "0",
            "Patient ID": [name[:8].lstrip("0") for name in names],
            "Patient Age": "50",
            "Patient Gender": ["F", "M"] * 6,
            "View Position": ["PA", "AP"] * 6,
            **dict.fromkeys(["OriginalImage[Width", "Height]", "OriginalImagePixelSpacing[x", "y]"], "1"),
        }
    )
    table.to_csv(root / "Data_Entry_2017_v2020.csv", index=False)
    return root


def test_extract__a_set_by_its_folder_is_its_manifest(nih: Path, tmp_path: Path) -> None:
    dvme.public_set("nih-cxr14", nih, tmp_path / "m.csv")
    for images, cache in ((tmp_path / "m.csv", "m.zarr"), (f"nih-cxr14:{nih}", "d.zarr")):
        done = run("extract", f"{images}", f"{tmp_path / cache}", "--backbones", "random@size=32", "--keep-col", "sex")
        assert done.exit_code == 0, done.output
    one, other = (EmbeddingCache.open(tmp_path / name) for name in ("m.zarr", "d.zarr"))
    columns = ("label", "split", "group", "sex", "path")
    assert {k: v.tolist() for k, v in one.columns(columns).items()} == {
        k: v.tolist() for k, v in other.columns(columns).items()
    }
    assert set(one.column("label")) == {"|", "|Mass|Edema|"}
    assert sorted(other.samples.paths)[0] == "images_001/00000001_000.png"
    planned = run(
        "extract", f"nih-cxr14:{nih}", f"{tmp_path / 'm.zarr'}", "--backbones", "random@size=32", "--plan", "--json"
    )
    assert '"computed": {}' in planned.stdout


def test_is_public_set__only_by_the_name_of_one(nih: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(nih)
    assert is_public_set("nih-cxr14:.")
    assert not is_public_set("nih:.")
    assert not is_public_set("C:/nih")
    assert not is_public_set("nih-cxr14")
    Path("aptos:x").mkdir()
    assert not is_public_set("aptos:x")
    with pytest.raises(DataError, match=r"images_001 has no train\.csv"):
        dvme.extract("aptos:images_001", "c.zarr", backbones=["random"])
    np.savez("pathmnist.npz", train_images=np.zeros((2, 28, 28, 3), np.uint8), train_labels=np.zeros((2, 1), np.uint8))
    np.savez("bloodmnist.npz", train_images=np.zeros((2, 28, 28, 3), np.uint8), train_labels=np.zeros((2, 1), np.uint8))
    with pytest.raises(DataError, match=r"dvme data medmnist \. --out medmnist\.csv takes it"):
        dvme.extract("medmnist:.", "c.zarr", backbones=["random"])
    assert not Path("c.zarr").exists()
