"""Whether images come out of archives as fast as out of files, and what the index of a large archive takes."""

from __future__ import annotations

import io
import statistics
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dvme.backbones import get_spec
from dvme.data import load_samples
from dvme.data.hashing import hash_files
from dvme.data.sources import is_there
from dvme.extraction.decoding import Decoder, Supply, Way, Work

N_IMAGES, EDGE, REPEATS, BATCH = 2000, 256, 5, 32
QUALITY = 75
LEAST = {
    "hash": {"files": 1.0, "images.tar": 0.9, "stored.zip": 0.75, "deflated.zip": 0.2},
    "read and decode": {"files": 1.0, "images.tar": 0.9, "stored.zip": 0.9, "deflated.zip": 0.6},
}
"""Of the speed of files: zip has a checksum to compare, and what is deflated is inflated."""
N_TINY = 200_000
INDEX = """
import sys, time
from pathlib import Path
from dvme.data import load_samples
from dvme.data.sources import opened
def peak():
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024
before, started = peak(), time.perf_counter()
with opened(Path(sys.argv[1])):
    print(time.perf_counter() - started, peak() - before)
samples = load_samples(sys.argv[1])
print(time.perf_counter() - started, peak() - before, len(samples))
"""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same JPEGs of about 30 kB as files, in a tar and in zip archives."""
    root = tmp_path_factory.mktemp("archives")
    (root / "files").mkdir()
    rng = np.random.default_rng(0)
    for i in range(N_IMAGES):
        pixels = rng.integers(0, 256, (EDGE, EDGE, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((EDGE, EDGE), Image.Resampling.BICUBIC, (0, 0, 128, 128)).save(
            root / "files" / f"{i:05d}.jpg", quality=QUALITY
        )
    names = sorted(path.name for path in (root / "files").iterdir())
    with tarfile.open(root / "images.tar", "w") as tar:
        for name in names:
            tar.add(root / "files" / name, name)
    for label, method in (("stored", zipfile.ZIP_STORED), ("deflated", zipfile.ZIP_DEFLATED)):
        with zipfile.ZipFile(root / f"{label}.zip", "w", method) as archive:
            for name in names:
                archive.write(root / "files" / name, name)
    return {name: root / name for name in ("files", "images.tar", "stored.zip", "deflated.zip")}


def silent(done: int, total: int) -> None:
    """Nobody is told."""


def hash_all(paths: list[Path]) -> None:
    found = hash_files(paths, 2, silent)
    assert all(isinstance(each, bytes) for each in found)


def decode_all(paths: list[Path], digests: list[bytes]) -> None:
    work = [Work(row, path, digest) for row, (path, digest) in enumerate(zip(paths, digests, strict=True))]
    parts = [work[start : start + BATCH] for start in range(0, len(work), BATCH)]
    way = Way.of(get_spec("efficientnet-lite0"))
    with ThreadPoolExecutor(2) as pool:
        supply = Supply(parts, Decoder([way], None).read_and_decode, pool, n_ahead=3)
        n_decoded = 0
        while (portion := supply.take()) is not None:
            n_decoded += sum(isinstance(future.result().contents[0], np.ndarray) for _, future in portion)
    assert n_decoded == len(paths)


@pytest.mark.bench
def test_read_image__archives_beside_files(sources: dict[str, Path]) -> None:
    """In turn, so that what else the machine does falls on all alike."""
    paths = {name: load_samples(path).paths for name, path in sources.items()}
    digests = [each for each in hash_files(paths["files"], 2, silent) if isinstance(each, bytes)]
    tasks: dict[str, Callable[[list[Path]], None]] = {
        "hash": hash_all,
        "read and decode": lambda some: decode_all(some, digests),
    }
    for task, function in tasks.items():
        wall: dict[str, list[float]] = {name: [] for name in paths}
        work: dict[str, list[float]] = {name: [] for name in paths}
        for _ in range(REPEATS):
            for name, some in paths.items():
                started, busy = time.perf_counter(), time.process_time()
                function(some)
                wall[name].append(time.perf_counter() - started)
                work[name].append(time.process_time() - busy)
        for name in paths:
            ratios = [files / each for files, each in zip(wall["files"], wall[name], strict=True)]
            of_work = statistics.median(work["files"]) / statistics.median(work[name])
            ratio = f"{statistics.median(ratios):.2f} of files ({min(ratios):.2f} to {max(ratios):.2f})"
            speed = N_IMAGES / statistics.median(wall[name])
            print(f"\n{task}, {name}: {speed:.0f} images/s, {ratio}; by processor time {of_work:.2f}")
            assert of_work >= LEAST[task][name]


@pytest.mark.bench
@pytest.mark.parametrize("kind", ["tar", "pax.tar", "zip"])
def test_load_samples__index_of_many_members(kind: str, tmp_path: Path) -> None:
    path, names = tmp_path / f"many.{kind}", [f"class{i % 7}/image{i:07d}.png" for i in range(N_TINY)]
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(zipfile.ZipInfo(name), b"x" * 100)
    else:
        with tarfile.open(path, "w") as tar:
            for name in names:
                info = tarfile.TarInfo(name)
                info.size = 100
                info.mtime = 1.5 if kind == "pax.tar" else 1  # a fraction of a second takes a header of its own
                tar.addfile(info, io.BytesIO(b"x" * 100))
    done = subprocess.run([sys.executable, "-c", INDEX, path], capture_output=True, text=True, check=True)
    index, listing = done.stdout.splitlines()
    size = path.stat().st_size / 1e6
    print(f"\n{kind}, {N_TINY:,} members, {size:.0f} MB: s and MiB of the index {index}; listed {listing}")
    assert float(index.split()[0]) < 30


@pytest.mark.bench
def test_is_there__a_hundred_thousand_rows_of_a_manifest(sources: dict[str, Path]) -> None:
    for name in ("stored.zip", "images.tar"):
        paths = [sources[name] / f"{i % N_IMAGES:05d}.jpg" for i in range(100_000)]
        started = time.perf_counter()
        assert all(map(is_there, paths))
        archived = time.perf_counter() - started
        files = [sources["files"] / path.name for path in paths]
        started = time.perf_counter()
        assert all(map(is_there, files))
        print(f"\nis_there, 100,000 rows: {name} {archived:.2f} s, files {time.perf_counter() - started:.2f} s")
