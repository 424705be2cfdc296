"""Manifests of few small images, some of them of one group."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from dvme.adaptation.images import list_images
from dvme.adaptation.settings import settings_of
from dvme.adaptation.start import Begun, Source, begin, load_first
from dvme.backbones.loading.registry import get_spec
from dvme.runtime import Runtime, silent

SMALL = "timm:test_resnet@size=32"
RUNTIME = Runtime(device="cpu")
COLUMNS = ("image", "label", "split", "group")


@pytest.fixture
def write_images(tmp_path: Path, save_image: Callable[..., Path]) -> Callable[..., Path]:
    """Write images and their manifest; a row is (name, label, split, group), and `copies` name the image they show."""

    def write(rows: Sequence[Sequence[str]], copies: dict[str, str] | None = None, name: str = "m.csv") -> Path:
        for seed, (image, label, *_) in enumerate(rows):
            save_image(tmp_path / f"{image}.png", seed=500 + seed, level=int(label == "b"))
        for copy, original in (copies or {}).items():
            (tmp_path / f"{copy}.png").write_bytes((tmp_path / f"{original}.png").read_bytes())
        with (tmp_path / name).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows((f"{row[0]}.png", *row[1:]) for row in rows)
        return tmp_path / name

    return write


@pytest.fixture
def pairs(write_images: Callable[..., Path]) -> Path:
    """24 images of 12 groups: 2 groups are tested, and 2 others watched."""
    splits = ["test", "val", *["train"] * 4] * 2
    rows: list[Any] = [(f"{i:02}", "ab"[(i // 2) % 4 < 2], splits[i // 2], f"g{i // 2}") for i in range(24)]
    return write_images(rows)


@pytest.fixture
def begin_on(pairs: Path) -> Callable[..., Begun]:
    """An adaptation of a small network with random weights, before its first step."""

    def make(name: str = SMALL, method: str = "simclr", **settings: Any) -> Begun:
        images = list_images(pairs, None).identified(RUNTIME, lambda *_: None)
        asked = settings_of(method, **{"epochs": 3, "batch_size": 8, "learning_rate": 1e-3, "seed": 0} | settings)
        source = Source(get_spec(name), None, 1)
        loaded = load_first(source, asked, RUNTIME, silent)
        return begin(loaded, images, source, asked, "photo", pairs.parent / "pixels", RUNTIME, silent)

    return make
