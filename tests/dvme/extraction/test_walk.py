"""How often an extraction reads images and the cache's tables: what is in memory is not read back."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import dvme
from dvme_cache import EmbeddingCache
from dvme_cache.files import LocalFiles

LITE = "efficientnet-lite0@size=32"
CPU = dvme.Runtime(device="cpu", workers=2)


@pytest.fixture
def images(tmp_path: Path, save_image: Callable[..., Path]) -> Path:
    """Two classes of two images each."""
    for seed, name in enumerate(("dark/0.png", "dark/1.png", "light/0.png", "light/1.png")):
        save_image(tmp_path / "images" / name, seed=seed, level=seed // 2)
    return tmp_path / "images"


@pytest.fixture
def images_read(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each image file was read, by its name."""
    counts: Counter[str] = Counter()
    read = Path.read_bytes

    def counting(self: Path) -> bytes:
        if self.suffix == ".png":
            counts[f"{self.parent.name}/{self.name}"] += 1
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", counting)
    return counts


@pytest.fixture
def columns_read(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each column of the tables, and `first-seen` of the samples, was read."""
    counts: Counter[str] = Counter()
    read = LocalFiles.read

    def counting(self: LocalFiles, key: str) -> bytes | None:
        found = re.fullmatch(r"tables/\d+/(\w+)/c/0", key)
        counts.update([found[1]] if found else ["first-seen"] if key == "samples/path/c/0" else [])
        return read(self, key)

    monkeypatch.setattr(LocalFiles, "read", counting)
    return counts


@pytest.fixture
def write_csv(tmp_path: Path) -> Callable[[list[str]], Path]:
    """A table of ids and two features."""

    def write(names: list[str]) -> Path:
        path = tmp_path / "features.csv"
        path.write_text("id,f0,f1\n" + "".join(f"{name},{i}.5,{i + 1}\n" for i, name in enumerate(names)))
        return path

    return write


def test_extract__what_is_read(
    images: Path, tmp_path: Path, images_read: Counter[str], columns_read: Counter[str]
) -> None:
    cache = tmp_path / "c.zarr"
    first = dvme.extract(images, cache, backbones=[LITE], runtime=CPU)
    assert first.outcomes[0].computed == len(images_read) == 4
    assert set(images_read.values()) == {1}, "what is embedded is what was identified"
    assert not columns_read, "a new cache knows nothing that could be asked for"
    images_read.clear()
    again = dvme.extract(images, cache, backbones=[LITE], runtime=CPU)
    assert again.outcomes[0].reused == 4
    assert (len(images_read), set(images_read.values())) == (4, {1})
    assert columns_read == {"path": 2, "label": 2, "split": 2, "group": 2}, "what is known, and by the update"
    columns_read.clear()
    dvme.plan_extraction(images, cache, backbones=[LITE], runtime=CPU)
    assert set(columns_read.values()) == {1}
    assert set(images_read.values()) == {2}


@pytest.mark.parametrize("n_kept", [0, 1, 3])
def test_extract__what_is_beyond_the_spool_is_read_twice(
    images: Path, tmp_path: Path, images_read: Counter[str], monkeypatch: pytest.MonkeyPatch, n_kept: int
) -> None:
    sizes = {path.stat().st_size for path in images.rglob("*.png")}
    monkeypatch.setattr("dvme.extraction.beginning.spool_bytes", lambda: n_kept * max(sizes))
    names = [LITE, "efficientnet-lite0@size=48"]
    report = dvme.extract(images, tmp_path / "c.zarr", backbones=names, runtime=CPU)
    assert [outcome.computed for outcome in report.outcomes] == [4, 4]
    assert sorted(images_read.values()) == sorted([1] * n_kept + [2] * (4 - n_kept))


def test_extract__an_interrupted_run_reads_what_is_left_once(
    images: Path, tmp_path: Path, images_read: Counter[str]
) -> None:
    """Also of another backbone, which lacks all of them."""
    dvme.extract(images / "dark", tmp_path / "c.zarr", backbones=[LITE], runtime=CPU)
    images_read.clear()
    dvme.extract(images, tmp_path / "c.zarr", backbones=[LITE], runtime=CPU)
    assert set(images_read.values()) == {1}
    images_read.clear()
    dvme.extract(images, tmp_path / "c.zarr", backbones=[LITE, "efficientnet-lite0@size=48"], runtime=CPU)
    assert set(images_read.values()) == {1}


def test_extract__a_warning_of_pixels_names_the_file_as_it_is_now(images: Path, tmp_path: Path) -> None:
    """Not the name under which the image was first seen."""
    grey = np.linspace(0, 4095, 32 * 32).astype(np.uint16).reshape(32, 32)
    grey[0, 0] = 65_535
    odd = images / "dark" / "odd.png"
    Image.fromarray(grey).save(odd)
    report = dvme.extract(images, tmp_path / "c.zarr", backbones=[LITE], runtime=CPU)
    assert list(report.outliers) == ["dark/odd.png"]
    odd.rename(images / "light" / "new.png")
    report = dvme.extract(images, tmp_path / "c.zarr", backbones=[LITE], runtime=CPU, replace=True)
    assert list(report.outliers) == ["light/new.png"]


def test_import__each_image_is_read_once(
    images: Path, tmp_path: Path, images_read: Counter[str], write_csv: Callable[..., Path]
) -> None:
    names = sorted(str(path.relative_to(images)) for path in images.rglob("*.png"))
    options: dict[str, Any] = {"backbone": "mine", "images": images, "made_by": "UNI v1"}
    dvme.cache.import_embeddings(write_csv(names[:2]), tmp_path / "c.zarr", **options)
    assert (sorted(images_read), set(images_read.values())) == (names[:2], {1})
    images_read.clear()
    dvme.cache.import_embeddings(write_csv(names[2:]), tmp_path / "c.zarr", **options)
    assert (sorted(images_read), set(images_read.values())) == (names[2:], {1})
    assert EmbeddingCache.open(tmp_path / "c.zarr").n_rows == 4
