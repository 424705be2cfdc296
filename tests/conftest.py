"""Images, caches and checkpoints that the tests share. Everything is made here or comes from a package."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SOLAR = importlib.util.find_spec("elpv_dataset")


@pytest.fixture(scope="session")
def solar_cells() -> list[tuple[Path, str]]:
    """(path, defect likelihood) of the 2,624 real photographs."""
    assert SOLAR is not None
    assert SOLAR.origin is not None
    data = Path(SOLAR.origin).parent / "data"
    lines = (line.split() for line in (data / "labels.csv").read_text().splitlines())
    return [(data / name, likelihood[:4]) for name, likelihood, _ in lines]


@pytest.fixture
def write_manifest(tmp_path: Path) -> Callable[..., Path]:
    """Write a CSV manifest of rows with named columns."""

    def write(rows: Sequence[Sequence[object]], columns: Sequence[str], name: str = "manifest.csv") -> Path:
        path = tmp_path / name
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(rows)
        return path

    return write


@pytest.fixture
def save_image() -> Callable[..., Path]:
    """Save a small image of noise whose brightness depends on the class, different for every seed."""

    def save(path: Path, *, seed: int, level: int = 0, size: tuple[int, int] = (40, 32)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        pixels = rng.integers(0, 60, size=(size[1], size[0], 3)) + 60 * level
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        return path

    return save


@pytest.fixture
def class_folders(tmp_path: Path, save_image: Callable[..., Path]) -> Path:
    """root/class/img with 3 classes of 12 images."""
    root = tmp_path / "images"
    for level, name in enumerate(("dark", "grey", "light")):
        for index in range(12):
            save_image(root / name / f"{index:02d}.png", seed=100 * level + index, level=level)
    return root
