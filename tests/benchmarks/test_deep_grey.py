"""How near decoding of 16-bit grey comes to Pillow alone, which opens a file and makes an array of it."""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dvme.data import decode_image
from dvme.runtime import keep_freed_memory

SIZE, N_IMAGES, PAIRS = 2048, 2, 9
LEAST = {"PNG": 0.8, "TIFF, deflate": 0.75, "TIFF, LZW": 0.7, "TIFF, uncompressed": 0.2, "PGM": 0.8}
"""Of Pillow's throughput, beside other work. An uncompressed TIFF costs Pillow little more than a copy."""
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "PNG": ("PNG", {}),
    "TIFF, deflate": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "TIFF, LZW": ("TIFF", {"compression": "tiff_lzw"}),
    "TIFF, uncompressed": ("TIFF", {}),
    "PGM": ("PPM", {}),
}


def scene(seed: int) -> NDArray[np.uint16]:
    """A chest-like picture: 12 bits of smooth grey with grain."""
    rows, columns = np.mgrid[0:SIZE, 0:SIZE]
    grain = np.random.default_rng(seed).normal(0, 12, size=rows.shape)
    values = 2048 + 900 * np.sin(columns / 90 + seed) + 700 * np.cos(rows / 130) + grain
    return values.clip(0, 4095).astype(np.uint16)


def pillow_alone(data: bytes) -> NDArray[Any]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def seconds(decode: Callable[[bytes], Any], files: list[bytes], n_threads: int) -> float:
    with ThreadPoolExecutor(n_threads) as pool:
        started = time.perf_counter()
        list(pool.map(decode, files))
        return time.perf_counter() - started


@pytest.mark.bench
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_decode__ratio_to_pillow_alone(kind: str, n_threads: int) -> None:
    """Medians of pairs in turn, in as many threads."""
    keep_freed_memory()
    name, options = KINDS[kind]
    files = []
    for seed in range(N_IMAGES):
        buffer = io.BytesIO()
        Image.fromarray(scene(seed)).save(buffer, name, **options)
        files.append(buffer.getvalue())
    pairs = [(seconds(pillow_alone, files, n_threads), seconds(decode_image, files, n_threads)) for _ in range(PAIRS)]
    ratio = statistics.median(alone / ours for alone, ours in pairs)
    alone, ours = (N_IMAGES / statistics.median(each) for each in zip(*pairs, strict=True))
    print(
        f"\ndecode, {SIZE} x {SIZE} of 16 bits, {kind}, {n_threads} threads, medians of {PAIRS} pairs: "
        f"Pillow {alone:.1f}/s, dvme {ours:.1f}/s, ratio {ratio:.2f}"
    )
    assert ratio > LEAST[kind]
