"""Near-duplicates of many embeddings in cells: seconds, memory, recall, and how the time grows with their number.

DVME_SCALE_ROWS sets the number of rows, 512 bytes of disk each. Beside it stand all with all as up to 100,000 rows, and
what one would run otherwise: `range_search` of a flat index of FAISS; both on at most so many rows as take a minute.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from dvme.study.design.directions import cosines_of, lengths_of
from dvme.study.design.similarity import COSINE, close_pairs

pytestmark = pytest.mark.bench
N, DIM, BLOCK = int(os.environ.get("DVME_SCALE_ROWS", "100000")), 256, 65536
N_CLUSTERS, N_MAPS, N_HIDDEN = 200, 8, 16
PLANTED, BLACK, WIDEST = 0.01, 5000, 0.05
"""Share of rows that are turned copies, rows of one black image, and the largest angle of a copy; a pair has 0.0447."""
MOST_ALL, MOST_FLAT = 200_000, 50_000
MOST_SLOPE, MOST_BYTES = 1.6, 4e9

Scale = tuple[Path, NDArray[np.int64], NDArray[np.int64]]

SEARCH = """
import json, sys, threading, time
import numpy as np
from dvme.study.design import near
near.MANY = 1000
def anonymous():
    line = next(line for line in open("/proc/self/status") if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024
peak = [0]
def watch():
    while True:
        peak[0] = max(peak[0], anonymous())
        time.sleep(0.02)
near.near_pairs(np.random.default_rng(0).normal(size=(2000, 64)).astype(np.float16))  # everything is imported
threading.Thread(target=watch, daemon=True).start()
values = np.load(sys.argv[1], mmap_mode="r")[: int(sys.argv[2])]
started = time.perf_counter()
found = near.near_pairs(values)
seconds = time.perf_counter() - started
np.save(sys.argv[3], found.pairs)
crowds = [len(crowd.rows) for crowd in found.crowds]
print(json.dumps({"seconds": seconds, "peak": peak[0], "crowds": crowds, "all": found.recall is None}))
"""


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory: pytest.TempPathFactory) -> Scale:
    """(N, D) rows in float16 on disk, (P, 2) planted pairs, and the rows that are black.

    The others are in clusters on surfaces of few dimensions, with noise. A copy follows its original, so that the first
    rows have them as well.
    """
    path = tmp_path_factory.mktemp("scale") / "values.npy"
    rng = np.random.default_rng(0)
    values = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(N, DIM))
    mean, clusters = rng.normal(size=DIM), 0.7 * rng.normal(size=(N_CLUSTERS, DIM))
    maps = (rng.normal(size=(N_MAPS, N_HIDDEN, DIM)) / np.sqrt(N_HIDDEN)).astype(np.float32)
    planted = []
    for start in range(0, N, BLOCK):
        n = min(BLOCK, N - start)
        which = rng.integers(0, N_CLUSTERS, n)
        block = (mean + clusters[which]).astype(np.float32) + 0.25 * rng.standard_normal((n, DIM), dtype=np.float32)
        for number in range(N_MAPS):
            mine = which % N_MAPS == number
            block[mine] += rng.standard_normal((int(mine.sum()), N_HIDDEN), dtype=np.float32) @ maps[number]
        first = 2 * rng.choice(n // 2, int(PLANTED * n), replace=False)
        lengths = np.linalg.norm(block[first], axis=1, keepdims=True)
        noise = rng.normal(size=(len(first), DIM)) / np.sqrt(DIM) * lengths
        block[first + 1] = block[first] + noise * rng.uniform(0, WIDEST, (len(first), 1))
        values[start : start + n] = block
        planted.append(np.stack([first, first + 1], axis=1) + start)
    pairs = np.concatenate(planted)
    free = np.setdiff1d(np.arange(N), pairs)
    crowd = rng.choice(free, min(BLACK, N // 50), replace=False)
    values[np.sort(crowd)] = values[crowd[0]]
    values.flush()
    is_close = cosines_of(values, lengths_of(values), *pairs.T) > COSINE
    return path, pairs[is_close], np.sort(crowd)


def _searched(path: Path, n: int) -> tuple[dict[str, Any], NDArray[np.int64]]:
    out = path.with_name(f"{n}.npy")
    run = subprocess.run([sys.executable, "-c", SEARCH, path, str(n), out], check=True, capture_output=True, text=True)
    return json.loads(run.stdout), np.load(out)


def _is_in(pairs: NDArray[np.int64], found: NDArray[np.int64]) -> NDArray[np.bool_]:
    keys = [each.astype(np.int64) @ np.array([N, 1]) for each in (pairs, found)]
    return np.isin(*keys)


def test_cells__seconds_memory_recall_and_slope(embeddings: Scale) -> None:
    path, planted, _ = embeddings
    sizes, seconds = [N // 16, N // 4, N], []
    for n in sizes:
        told, found = _searched(path, n)
        own = planted[planted.max(axis=1) < n]
        recall = float(_is_in(own, found).mean())
        print(
            f"\n{n:,} rows: {told['seconds']:.1f} s, {told['peak'] / 1e6:,.0f} MB, {len(found):,} pairs, crowds of "
            f"{told['crowds']}, {len(own):,} planted pairs, recall {recall:.4f}, {'all' if told['all'] else 'in part'}"
        )
        assert told["all"]
        assert recall == 1.0
        assert told["peak"] < MOST_BYTES
        seconds.append(told["seconds"])
    slope = float(np.polyfit(np.log(sizes[1:]), np.log(seconds[1:]), 1)[0])
    print(f"time grows as N to the power of {slope:.2f} from {sizes[1]:,} to {N:,} rows")
    assert slope < MOST_SLOPE


def test_cells__against_all_with_all_and_a_flat_index(embeddings: Scale) -> None:
    path, _, black = embeddings
    for most, name, search in ((MOST_ALL, "all with all", _all), (MOST_FLAT, "faiss range_search", _flat)):
        n_else = _compare(path, black[black < min(N, most)], min(N, most), name, search)
        assert n_else == 0 if search is _all else n_else < 10  # FAISS decides in float32


def _compare(
    path: Path, black: NDArray[np.int64], n: int, name: str, search: Callable[[NDArray[Any]], NDArray[np.int64]]
) -> int:
    """How many pairs one finds and the other does not, but for those of black images."""
    told, found = _searched(path, n)
    values = np.load(path, mmap_mode="r")[:n]
    started = time.perf_counter()
    pairs = search(values)
    seconds = time.perf_counter() - started
    ratio = seconds / told["seconds"]
    print(f"\n{n:,} rows: {name} {seconds:.1f} s, in cells {told['seconds']:.1f} s: {ratio:.1f} times faster")
    both = [each[~np.isin(each, black).all(axis=1)] for each in (pairs, found)]
    return len(np.setxor1d(*(each @ np.array([n, 1]) for each in both)))


def _all(values: NDArray[Any]) -> NDArray[np.int64]:
    close = close_pairs(values)
    assert close is not None
    return close.pairs


def _flat(values: NDArray[Any]) -> NDArray[np.int64]:
    unit = values.astype(np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    index = faiss.IndexFlatIP(DIM)
    index.add(unit)
    bounds, _, others = index.range_search(unit, COSINE)
    rows = np.searchsorted(bounds, np.arange(len(others)), side="right") - 1
    pairs = np.stack([rows, others], axis=1)
    return pairs[rows < others]
