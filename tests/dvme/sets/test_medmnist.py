"""Miniatures of MedMNIST's archives; numbers and names held against the package medmnist, where it is installed."""

from __future__ import annotations

import importlib.util
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dvme
from dvme.data.sources import read_image
from dvme.errors import DataError, OptionError
from dvme.sets.building import public_set
from dvme.sets.catalogue import set_of
from dvme.sets.medmnist import NON_COMMERCIAL, PARTS

SIZES = {"train": 4, "val": 2, "test": 3}


def _write(root: Path, name: str, n_classes: int, *, axes: tuple[int, ...] = (28, 28), several: bool = False) -> Path:
    """An archive: image i of each part has the value i everywhere, and the class i modulo their number."""
    root.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {}
    for part, n in SIZES.items():
        values = np.arange(n, dtype=np.uint8)
        arrays[f"{part}_images"] = np.zeros((n, *axes), np.uint8) + values.reshape(-1, *[1] * len(axes))
        labels = (values % n_classes)[:, None]
        arrays[f"{part}_labels"] = (labels == np.arange(n_classes)).astype(np.uint8) if several else labels
    np.savez_compressed(root / f"{name}.npz", **arrays)
    return root


def test_published__classes_and_splits(tmp_path: Path) -> None:
    _write(tmp_path / "d", "pathmnist_64", 9, axes=(64, 64, 3))
    built = public_set("medmnist", tmp_path / "d", tmp_path / "m.csv")
    own = [f"d/pathmnist_64.npz/{part}_images/{row:06d}" for part, n in SIZES.items() for row in range(n)]
    classes = ["adipose", "background", "debris", "lymphocytes"]
    assert built.columns == {
        "image": own,
        "label": [*classes, *classes[:2], *classes[:3]],
        "split": ["train"] * 4 + ["val"] * 2 + ["test"] * 3,
    }
    assert (built.set.title, built.set.task, built.set.n_images) == (
        "PathMNIST of MedMNIST, 64 px",
        "9 classes",
        107_180,
    )
    assert (built.set.licence, built.set.shares_with) == ("CC BY 4.0", ())
    samples = dvme.load_samples(tmp_path / "m.csv")
    assert read_image(samples.paths[-1]).data == b"P6\n64 64\n255\n" + bytes([2]) * 64 * 64 * 3
    assert "its parts have 4 + 2 + 3 images, those published 89,996 + 10,004 + 7,180: a part of it" in built.remarks


def test_published__findings_of_chestmnist(tmp_path: Path) -> None:
    built = public_set("medmnist", _write(tmp_path, "chestmnist", 14, several=True))
    assert built.columns["label"][:4] == ["|atelectasis|", "|cardiomegaly|", "|effusion|", "|infiltration|"]
    assert built.set.task == "14 findings"
    assert {"NIH ChestX-ray14", "the labels of Google 2019"} < {*built.set.shares_with}
    assert "the splits of ChestMNIST are not the official ones of ChestX-ray14" in built.remarks
    assert "ChestMNIST has several images of a patient of NIH ChestX-ray14, whose ids are not told" in built.remarks


def test_published__grades_licences_and_whose_pictures(tmp_path: Path) -> None:
    retina = public_set("medmnist", _write(tmp_path / "r", "retinamnist", 5, axes=(28, 28, 3)))
    assert retina.columns["label"][:4] == ["0", "1", "2", "3"]
    assert "the grades are in order, and dvme takes them so, for they are numbers" in retina.remarks
    derma = public_set("medmnist", _write(tmp_path / "d", "dermamnist_224", 7, axes=(224, 224, 3)))
    assert derma.set.shares_with == ("the skin lesions of ISIC",)
    assert "the licence is CC BY-NC 4.0: no commercial use" in derma.remarks
    pneumonia = public_set("medmnist", _write(tmp_path / "p", "pneumoniamnist", 2))
    assert pneumonia.classes == {"normal": 5, "pneumonia": 4}
    assert pneumonia.set.shares_with == (set_of("kermany-pneumonia").collections)
    assert any("pictures of Kermany et al. 2018" in line for line in pneumonia.remarks)


def test_published__several_files_and_none(tmp_path: Path) -> None:
    root = _write(_write(tmp_path / "a", "bloodmnist", 8, axes=(28, 28, 3)), "bloodmnist_64", 8, axes=(64, 64, 3))
    with pytest.raises(
        DataError, match=r"has 2 files of MedMNIST: bloodmnist\.npz, bloodmnist_64\.npz; choose one with"
    ):
        public_set("medmnist", root)
    assert public_set("medmnist", root, edition="bloodmnist_64").set.title == "BloodMNIST of MedMNIST, 64 px"
    assert public_set("medmnist", root, edition="BloodMNIST.npz").set.title == "BloodMNIST of MedMNIST, 28 px"
    with pytest.raises(OptionError, match=r"has no bloodmnist_128\.npz; it has bloodmnist\.npz, bloodmnist_64\.npz"):
        public_set("medmnist", root, edition="bloodmnist_128")
    np.savez(tmp_path / "embeddings.npz", x=np.zeros((3, 4)))
    with pytest.raises(DataError, match=r"has no file of MedMNIST, such as pathmnist\.npz or pathmnist_64\.npz$"):
        public_set("medmnist", _write(tmp_path / "b", "faces", 2))
    with pytest.raises(DataError, match=r"organmnist3d\.npz is of volumes, and backbones take flat images"):
        public_set("medmnist", _write(tmp_path / "c", "organmnist3d", 2, axes=(28, 28, 28)))


def test_published__an_archive_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "octmnist.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match=r"octmnist\.npz cannot be read as "):
        public_set("medmnist", tmp_path)
    np.savez(tmp_path / "octmnist.npz", train_images=np.array([{}, {}], dtype=object))
    with pytest.raises(DataError, match="never unpickled"):
        public_set("medmnist", tmp_path)


def test_parts__are_those_of_the_package() -> None:
    package = importlib.util.find_spec("medmnist")
    if package is None or package.origin is None:
        pytest.skip("the package medmnist is not installed")
    info = runpy.run_path(str(Path(package.origin).with_name("info.py")))["INFO"]  # the package itself imports torch
    flat = {flag: told for flag, told in info.items() if "3d" not in flag}
    assert {flag: [*told["n_samples"].values()] for flag, told in flat.items()} == {
        flag: sizes for flag, (_, *sizes) in PARTS.items()
    }
    assert {flag for flag, told in flat.items() if "NC" in told["license"]} == {*NON_COMMERCIAL}
    assert set_of("medmnist").n_images == sum(sum(told["n_samples"].values()) for told in flat.values())
