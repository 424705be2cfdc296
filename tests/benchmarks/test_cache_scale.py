"""A cache of a million embeddings: how long it takes to open, write and read, and what memory a scan needs.

It takes 10 GB of disk and 10 GB of memory. DVME_SCALE_ROWS sets another number of rows, to try it out; what
depends on the number of rows is then printed, and not held against the targets.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from dvme_cache import EmbeddingCache, Fingerprint

FULL_ROWS = 1_000_000
GUARD = 0.25
"""Half of the target of 0.5: the same np.save takes between one and eight seconds here, from one run to the next."""
N_ROWS = int(os.environ.get("DVME_SCALE_ROWS", FULL_ROWS))
D, BACKBONE, REPEATS = 1536, "synthetic", 3
N_GATHERED, DRAWS = 1000, 10
BLOCK_ROWS = 8192

OPEN = """
import sys, time
import numpy as np
from dvme_cache import EmbeddingCache
started = time.perf_counter()
row = EmbeddingCache.open(sys.argv[1]).embeddings(sys.argv[2]).read(np.array([int(sys.argv[3])]))
print(time.perf_counter() - started)
"""
SCAN = """
import sys
from dvme_cache import EmbeddingCache
n_rows = sum(len(rows) for rows, _ in EmbeddingCache.open(sys.argv[1]).scan([sys.argv[2]]))
assert n_rows == int(sys.argv[3])
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(peak.split()[1]) * 1024)
"""


@dataclass
class Written:
    """The cache, the same array as a .npy file, and the seconds that each took in every repeat."""

    path: Path
    npy: Path
    add_s: float = 0.0
    """One samples.add of all rows."""
    commit_s: list[float] = field(default_factory=list)
    synced_save_s: list[float] = field(default_factory=list)
    save_s: list[float] = field(default_factory=list)

    @property
    def shards(self) -> list[Path]:
        """The files of the features."""
        return sorted((self.path / "embeddings" / BACKBONE / "features" / "c").glob("*/0"))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Written]:
    """Write the array to the cache and by numpy, in turns, on the same disk; the last of each stays."""
    folder = tmp_path_factory.mktemp("scale")
    found = Written(folder / "scale.zarr", folder / "scale.npy")
    array = _synthetic()
    ids = [hashlib.blake2b(str(row).encode(), digest_size=16).digest() for row in range(N_ROWS)]
    with EmbeddingCache.writing(found.path) as cache:
        found.add_s = _seconds(cache.samples.add, ids, [f"folder/{row:07d}.png" for row in range(N_ROWS)])
        for _ in range(REPEATS):
            cache.remove_embeddings(BACKBONE)
            found.commit_s.append(_seconds(_commit, cache, array))
            found.npy.unlink(missing_ok=True)
            found.synced_save_s.append(_seconds(_save, found.npy, array))
            found.npy.unlink()
            found.save_s.append(_seconds(np.save, found.npy, array))
            os.sync()
    del array
    yield found
    shutil.rmtree(folder)


@pytest.mark.bench
def test_commit__speed_against_numpy(written: Written) -> None:
    medians = [statistics.median(times) for times in (written.commit_s, written.synced_save_s, written.save_s)]
    ratio = medians[1] / medians[0]
    print(
        f"\ncache, {_size()}: written shard by shard in {medians[0]:.2f} s ({_spread(written.commit_s)}); np.save with "
        f"fsync {medians[1]:.2f} s ({_spread(written.synced_save_s)}), ratio {ratio:.2f}; np.save without fsync "
        f"{medians[2]:.2f} s, ratio {medians[2] / medians[0]:.2f}; samples added in {written.add_s:.2f} s"
    )
    assert ratio >= GUARD or N_ROWS < FULL_ROWS


@pytest.mark.bench
def test_read__speed_against_numpy(written: Written) -> None:
    """Every row, proven by its checksum, against np.load; from memory, and from a disk whose pages are dropped."""
    np.testing.assert_array_equal(_read_all(written.path), np.load(written.npy, mmap_mode="r"))
    seconds: dict[str, list[float]] = {"read": [], "load": [], "cold read": [], "cold load": []}
    for _ in range(REPEATS):
        for name in ("", "cold "):
            prepare = _drop_pages if name else _warm
            prepare(written.shards)
            seconds[f"{name}read"].append(_seconds(_read_all, written.path))
            prepare([written.npy])
            seconds[f"{name}load"].append(_seconds(np.load, written.npy))
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    ratio = medians["load"] / medians["read"]
    print(
        f"\ncache, {_size()}: read and proven in {medians['read']:.2f} s ({_spread(seconds['read'])}), np.load "
        f"{medians['load']:.2f} s ({_spread(seconds['load'])}), ratio {ratio:.2f}; with pages dropped "
        f"{medians['cold read']:.2f} s and {medians['cold load']:.2f} s, ratio "
        f"{medians['cold load'] / medians['cold read']:.2f}"
    )
    assert ratio >= GUARD or N_ROWS < FULL_ROWS


@pytest.mark.bench
def test_open__time_until_the_first_row(written: Written) -> None:
    """Open, find the backbone, read one row; each time in a fresh process, imports not counted."""
    rows = np.random.default_rng(0).integers(0, N_ROWS, 5).tolist()
    seconds = [float(_run(OPEN, written.path, BACKBONE, row)) for row in rows]
    print(f"\ncache, {_size()}: opened and one row read in {statistics.median(seconds):.3f} s ({_spread(seconds)})")
    assert statistics.median(seconds) < 0.2


@pytest.mark.bench
def test_scan__peak_memory(written: Written) -> None:
    """The high-water mark of a fresh process's own memory; ru_maxrss would count its parent's."""
    peak = float(_run(SCAN, written.path, BACKBONE, N_ROWS)) / 1e6
    n_files = sum(path.is_file() for path in written.path.rglob("*"))
    print(f"\ncache, {_size()}: a full scan peaks at {peak:.0f} MB; {n_files} files")
    assert peak < 500
    assert n_files < 1000


@pytest.mark.bench
def test_read__random_rows(written: Written) -> None:
    """A thousand random rows, against reading the whole shard files they lie in, and against plain zarr."""
    embeddings = EmbeddingCache.open(written.path).embeddings(BACKBONE)
    plain: Any = zarr.open_group(str(written.path), mode="r")[f"embeddings/{BACKBONE}/features"]
    expected = np.load(written.npy, mmap_mode="r")
    rng = np.random.default_rng(0)
    seconds: dict[str, list[float]] = {"gather": [], "shards": [], "zarr": []}
    for _ in range(DRAWS):
        rows = rng.choice(N_ROWS, min(N_GATHERED, N_ROWS), replace=False)
        shards = [
            written.path / embeddings.features.key(shard) for shard in set((rows // embeddings.shard_rows).tolist())
        ]
        _warm(shards)
        seconds["gather"].append(_seconds(embeddings.read, rows))
        seconds["shards"].append(_seconds(_read_whole, shards))
        seconds["zarr"].append(_seconds(plain.oindex.__getitem__, rows))
    np.testing.assert_array_equal(embeddings.read(rows), expected[rows])
    np.testing.assert_array_equal(plain.oindex[rows], expected[rows])
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    print(
        f"\ncache, {_size()}: {N_GATHERED:,} random rows of {len(shards)} shards in {medians['gather'] * 1e3:.1f} ms, "
        f"medians of {DRAWS}; reading these shards whole {medians['shards'] * 1e3:.0f} ms, ratio "
        f"{medians['shards'] / medians['gather']:.1f}; plain zarr {medians['zarr'] * 1e3:.0f} ms, ratio "
        f"{medians['zarr'] / medians['gather']:.1f}"
    )
    assert medians["gather"] < medians["zarr"]
    assert medians["gather"] < medians["shards"] or N_ROWS < FULL_ROWS


def _synthetic() -> NDArray[np.float16]:
    """(N, 1536) finite values, no two rows equal: blocks of noise that are shifted by ever another amount."""
    noise = np.random.default_rng(0).standard_normal((BLOCK_ROWS, D)).astype(np.float16)
    array = np.empty((N_ROWS, D), dtype=np.float16)
    for start in range(0, N_ROWS, BLOCK_ROWS):
        part = array[start : start + BLOCK_ROWS]
        part[...] = np.roll(noise, start // BLOCK_ROWS, axis=1)[: len(part)]
        part[:, 0] = start // BLOCK_ROWS
    return array


def _commit(cache: EmbeddingCache, array: NDArray[np.float16]) -> None:
    made_by = Fingerprint({"weights": "none"})
    embeddings = cache.ensure_embeddings(BACKBONE, made_by, dim=D, dtype="float16", provenance={})
    embeddings.write(np.arange(len(array)), array)


def _read_all(path: Path) -> NDArray[Any]:
    return EmbeddingCache.open(path).embeddings(BACKBONE).read(np.arange(N_ROWS))


def _save(path: Path, array: NDArray[np.float16]) -> None:
    with path.open("wb") as file:
        np.save(file, array)
        file.flush()
        os.fsync(file.fileno())


def _read_whole(paths: list[Path]) -> None:
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            left = os.fstat(descriptor).st_size
            while left:
                left -= len(os.read(descriptor, left))
        finally:
            os.close(descriptor)


def _warm(paths: list[Path]) -> None:
    """Have the files' pages in memory."""
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.read(1 << 24):
                pass


def _drop_pages(paths: list[Path]) -> None:
    """Have none of the files' pages in memory."""
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _run(script: str, *arguments: object) -> str:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _seconds(run: Callable[..., object], *arguments: object) -> float:
    started = time.perf_counter()
    run(*arguments)
    return time.perf_counter() - started


def _spread(seconds: list[float]) -> str:
    return f"{min(seconds):.3g} to {max(seconds):.3g}"


def _size() -> str:
    return f"{N_ROWS:,} x {D} float16, {N_ROWS * D * 2 / 1e9:.2f} GB"
