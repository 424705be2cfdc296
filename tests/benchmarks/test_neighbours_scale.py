"""Neighbours in a large bank: seconds, recall and memory of `knn`, beside the indexes of FAISS that a user would take.

DVME_SCALE_ROWS sets the largest number of rows. Each contender is a process of its own on float16 rows in a file. It
makes what it searches and searches for the same queries. Rows are like embeddings: a thousand clusters of unequal sizes
along 64 directions, of which the j-th has a variance of 1 / j, and a little noise in all.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from memory import HELD
from numpy.typing import NDArray

N_ROWS = int(os.environ.get("DVME_SCALE_ROWS", "100000"))
D, K, N_QUERIES, N_JUDGED = 256, 20, 10_000, 300
N_CLUSTERS, N_DIRECTIONS, NOISE = 1000, 64, 0.1
RECALL = 0.99
MOST_OF_HNSW = 100_000
"""Rows up to which its graph is built in about a minute on two cores."""
BLOCK = 100_000

PROLOGUE = f"""
import json, sys, time
import numpy as np
{HELD}
rows, queries = np.load(sys.argv[1], mmap_mode="r"), np.load(sys.argv[2])
k = int(sys.argv[3])
"""
OURS = """
from dvme.heads import Embedded, Job
from dvme.heads.neighbours import knn
from dvme.runtime import Runtime, silent
from dvme.vectors import unit_rows
begin = time.perf_counter()
n = len(rows)
job = Job(knn.KNN((k,), search="ivf"), ("a",), np.arange(n), np.empty(0, dtype=np.int64))
data = Embedded({"a": rows}, np.arange(n) % 2, 2)
(_, fitted), = knn.KNN.fit_together([job], data, Runtime(device="cpu"), silent)
built = time.perf_counter()
fitted.predict_proba([queries])
stop = time.perf_counter()
neighbours = knn.search(unit_rows(queries[:int(sys.argv[4])]), fitted.bank, k)[1]
about = dict(build=built - begin, search=stop - built, bytes=held("VmHWM"), **fitted.chosen)
print(json.dumps(about | dict(neighbours=neighbours.tolist())))
"""
THEIRS = """
import faiss
from dvme.vectors import unit_rows
begin = time.perf_counter()
if sys.argv[5] == "flat":
    index = faiss.IndexFlatIP(rows.shape[1])
else:
    index = faiss.IndexHNSWFlat(rows.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efSearch = 64
index.add(unit_rows(rows))
built = time.perf_counter()
neighbours = index.search(unit_rows(queries), k)[1]
stop = time.perf_counter()
about = dict(build=built - begin, search=stop - built, bytes=held("VmHWM"))
print(json.dumps(about | dict(neighbours=neighbours[:int(sys.argv[4])].tolist())))
"""


@pytest.fixture(scope="module")
def draw() -> Callable[[int, int], NDArray[np.float16]]:
    """Rows of the one distribution, by their number and a seed."""
    fixed = np.random.default_rng(0)
    centres = 1.5 * fixed.normal(size=(N_CLUSTERS, N_DIRECTIONS))
    decay = 1.0 / np.sqrt(np.arange(1, N_DIRECTIONS + 1))
    directions = (decay[:, None] * fixed.normal(size=(N_DIRECTIONS, D))).astype(np.float32)
    shares = fixed.dirichlet(np.full(N_CLUSTERS, 0.5))

    def draw(n: int, seed: int) -> NDArray[np.float16]:
        rng = np.random.default_rng([seed, n])
        factors = centres[rng.choice(N_CLUSTERS, n, p=shares)] + rng.normal(size=(n, N_DIRECTIONS))
        noise = NOISE * rng.standard_normal((n, D), dtype=np.float32)
        return (factors.astype(np.float32) @ directions + noise).astype(np.float16)

    return draw


def _write(path: Path, n: int, draw: Callable[[int, int], NDArray[np.float16]]) -> Path:
    rows = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(n, D))
    for start in range(0, n, BLOCK):
        rows[start : start + BLOCK] = draw(min(BLOCK, n - start), start + 1)
    return path


def _run(code: str, rows: Path, queries: Path, kind: str = "") -> dict[str, Any]:
    command = [sys.executable, "-c", PROLOGUE + code, str(rows), str(queries), str(K), str(N_JUDGED), kind]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _recall(found: dict[str, Any], exact: dict[str, Any]) -> float:
    pairs = zip(found["neighbours"], exact["neighbours"], strict=True)
    return float(np.mean([len({*own} & {*true}) / K for own, true in pairs]))


@pytest.mark.bench
def test_knn__against_the_indexes_of_faiss(draw: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "queries.npy", draw(N_QUERIES, 0))
    sizes = sorted({max(2000, N_ROWS // 10), max(2000, round(N_ROWS / 10**0.5)), N_ROWS})
    seconds = []
    for n in sizes:
        rows = _write(tmp_path / "rows.npy", n, draw)
        ours = _run(OURS, rows, tmp_path / "queries.npy")
        seconds.append(ours["build"] + ours["search"])
    flat = _run(THEIRS, rows, tmp_path / "queries.npy", "flat")
    contenders = {"knn by inverted lists": ours, "IndexFlatIP": flat}
    if n <= MOST_OF_HNSW:
        contenders["IndexHNSWFlat"] = _run(THEIRS, rows, tmp_path / "queries.npy", "hnsw")
    for name, each in contenders.items():
        print(
            f"\n{name}, {n:,} x {D}: {each['build']:.1f} s + {each['search']:.1f} s for {N_QUERIES:,} queries, recall "
            f"at {K} {_recall(each, flat):.4f}, {each['bytes'] / 1e9:.2f} GB"
        )
    slope = np.polyfit(np.log(sizes), np.log(seconds), 1)[0]
    print(f"\nseconds of knn, {', '.join(f'{n:,}: {s:.1f}' for n, s in zip(sizes, seconds, strict=True))}; ", end="")
    print(f"slope {slope:.2f}; {ours['n_probes']} of {ours['n_lists']} lists, recall {ours['recall']:.4f} as said")
    assert _recall(ours, flat) >= RECALL - 0.005  # of another sample
