"""How fast images come out of arrays and data sets, against the same images as PNG files."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import datasets
import h5py
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_image

from dvme.data import Samples, decode, load_samples
from dvme.data.hashing import identify
from dvme.data.sources import read_image
from dvme.data.sources.arrays.blocks import BLOCKS, MOST_BYTES
from dvme.runtime import Runtime

PAIRS = 3


def hdf5(path: Path, images: NDArray[Any], **how: Any) -> Path:
    file = path.with_suffix(".h5")
    with h5py.File(file, "w") as out:
        out.create_dataset("x", data=images, **how)
    return file


def windowed(path: Path, images: NDArray[Any]) -> Path:
    """An archive that is several times as large as what is kept of it."""
    BLOCKS.most_bytes = 32 << 20
    return npz(path, images)


def chunked(path: Path, images: NDArray[Any]) -> Path:
    return hdf5(path, images, chunks=(32, *images.shape[1:]), compression="gzip", compression_opts=4)


def npz(path: Path, images: NDArray[Any]) -> Path:
    np.savez_compressed(path.with_suffix(".npz"), train_images=images)
    return path.with_suffix(".npz")


def stored(path: Path, images: NDArray[Any]) -> Path:
    np.savez(path.with_suffix(".npz"), train_images=images)
    return path.with_suffix(".npz")


def arrow(path: Path, images: NDArray[Any]) -> Path:
    _dataset(path, images).save_to_disk(str(path))
    return path


def parquet(path: Path, images: NDArray[Any]) -> Path:
    _dataset(path, images).to_parquet(path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


def _dataset(path: Path, images: NDArray[Any]) -> datasets.Dataset:
    files = [{"bytes": (path.parent / "png" / f"{i:06d}.png").read_bytes(), "path": None} for i in range(len(images))]
    return datasets.Dataset.from_dict({"image": files}, features=datasets.Features({"image": datasets.Image()}))


@pytest.fixture(autouse=True)
def _as_ever() -> Iterator[None]:
    yield
    BLOCKS.most_bytes = MOST_BYTES


@pytest.mark.bench
@pytest.mark.parametrize(
    ("write", "n_images", "edge", "most"),
    [
        (hdf5, 5000, 96, 1.0),
        (chunked, 5000, 96, 1.0),
        (npz, 10_000, 28, 1.0),
        (npz, 1000, 224, 1.0),
        (windowed, 1000, 224, 2.5),
        (stored, 1000, 224, 1.0),
        (arrow, 5000, 96, 1.15),
        (parquet, 5000, 96, 1.15),
    ],
)
def test_arrays__against_png_files(
    write: Callable[[Path, NDArray[Any]], Path], n_images: int, edge: int, most: float, tmp_path: Path
) -> None:
    """Hashing and decoding everything, in pairs in turn; the median of the ratios of seconds.

    Arrow and Parquet hold the PNG files themselves, so that the same is decoded and the ratio is about 1.
    A compressed archive that is larger than what is kept of it is decompressed twice, by one thread each time.
    """
    images = crops(n_images, edge)
    (tmp_path / "png").mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "png" / f"{i:06d}.png")
    source = write(tmp_path / "images", images)
    ratios, seconds = [], []
    for _ in range(PAIRS):
        files, own = took(tmp_path / "png"), took(source)
        ratios.append(sum(own) / sum(files))
        seconds.append((*files, *own))
    medians = [statistics.median(each) for each in zip(*seconds, strict=True)]
    per_second = [n_images / (medians[at] + medians[at + 1]) for at in (0, 2)]
    own_seconds = f"hash {medians[2]:.2f} s, decode {medians[3]:.2f} s"
    print(
        f"\n{write.__name__}, {n_images:,} of {edge} px: PNG files {per_second[0]:,.0f}/s (hash {medians[0]:.2f} s, "
        f"decode {medians[1]:.2f} s), rows {per_second[1]:,.0f}/s ({own_seconds}), "
        f"ratio of seconds {statistics.median(ratios):.2f}"
    )
    assert statistics.median(ratios) < most


def crops(n_images: int, edge: int) -> NDArray[np.uint8]:
    """(N, edge, edge, 3) pieces of a photograph."""
    photograph, random = load_sample_image("china.jpg"), np.random.default_rng(0)
    corners = random.integers(0, np.array(photograph.shape[:2]) - edge + 1, (n_images, 2))
    return np.stack([photograph[y : y + edge, x : x + edge] for y, x in corners])


def took(place: Path) -> tuple[float, float]:
    """Seconds of identifying the images of a place, and of reading and decoding them."""
    os.utime(place)  # another file by now, so that nothing is left of the run before
    samples: Samples = load_samples(place, images_only=True)
    n_workers = Runtime().n_workers
    started = time.perf_counter()
    identify(samples, n_workers, lambda *_: None)
    identified = time.perf_counter()
    with ThreadPoolExecutor(n_workers) as pool:
        for each in pool.map(lambda path: decode(read_image(path)), samples.paths):
            assert each.image.mode == "RGB"
    return identified - started, time.perf_counter() - identified
