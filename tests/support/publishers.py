"""Public sets in miniature: the publisher's real tables, which the package torchxrayvision ships, and tiny pictures."""

from __future__ import annotations

import gzip
import importlib.util
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

found = importlib.util.find_spec("torchxrayvision")
assert found is not None
assert found.submodule_search_locations
TABLES = Path(found.submodule_search_locations[0]) / "data"
NIH, CHEXPERT, VINDR = "Data_Entry_2017_v2020.csv.gz", "chexpert_train.csv.gz", "vinbigdata-train.csv.gz"
GOOGLE = "google2019_nih-chest-xray-labels.csv.gz"
PADCHEST = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz"


def frame(name: str) -> pd.DataFrame:
    """A real table, every cell a text, as pandas reads it."""
    return pd.read_csv(TABLES / name, dtype=str, keep_default_na=False)


def put(root: Path, name: str, table: pd.DataFrame | None = None) -> Path:
    """A real table, or a part of it, in a folder."""
    root.mkdir(parents=True, exist_ok=True)
    if table is None:
        return Path(shutil.copy(TABLES / name, root))
    place = root / name.removesuffix(".gz")
    table.to_csv(place, index=False)
    return place


def first_lines(root: Path, name: str, n: int) -> Path:
    """The header and n lines of a real table as they are, in a folder."""
    root.mkdir(parents=True, exist_ok=True)
    place = root / name.removesuffix(".gz")
    with gzip.open(TABLES / name, "rb") as packed, place.open("wb") as file:
        file.writelines(line for line, _ in zip(packed, range(n + 1), strict=False))
    return place


def pictures(root: Path, places: Iterable[str], *, bits: int = 8, size: int = 24) -> None:
    """Tiny grey pictures, each its own, below a folder; a suffix that Pillow has none for gets PNG."""
    for seed, place in enumerate(places):
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        grey = np.random.default_rng(seed).integers(0, 2**bits, (size, size), dtype=np.uint16)
        image = Image.fromarray(grey.astype(np.uint8) if bits == 8 else grey)
        image.save(path, None if path.suffix in {".png", ".jpg"} else "PNG")
