"""`linear` on rows beyond memory: seconds, memory and passes against N; DVME_TEN_MILLION says the largest N.

DVME_TEN_MILLION=10000000 DVME_SCALE_DIR=/scratch pytest tests/benchmarks/test_ten_million.py -m bench
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, SGDClassifier

from dvme.heads.exact.footprint import Footprint
from dvme.heads.exact.linear import STRENGTHS, Linear
from dvme.heads.fitting.jobs import Embedded, FittedHead, Job, fit_jobs
from dvme.runtime import Runtime

DIM, BLOCK = 256, 100_000
MEMORY = 2 << 30
"""Bytes that a fit may hold."""
MOST_RESIDENT = 4e9
"""Of the process: torch, the fit, row numbers and labels."""
PEER_ROWS = 100_000


def _truth() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(D, D) loadings of a decaying spectrum, and (D,) weights of logits of standard deviation 3."""
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(DIM, DIM)))[0]
    loadings = (axes / np.sqrt(np.arange(1, DIM + 1))).T @ axes
    weights = rng.normal(size=DIM)
    return loadings.astype(np.float32), (3 * weights / np.linalg.norm(loadings @ weights)).astype(np.float32)


def _written(path: Path, n_rows: int) -> NDArray[np.int64]:
    """(N,) labels drawn from the logits; N rows in float16 are written block by block."""
    loadings, weights = _truth()
    rows = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(n_rows, DIM))
    labels = np.empty(n_rows, dtype=np.int64)
    for start in range(0, n_rows, BLOCK):
        rng = np.random.default_rng([1, start])
        own = rng.standard_normal((min(BLOCK, n_rows - start), DIM), dtype=np.float32) @ loadings
        labels[start : start + BLOCK] = rng.random(len(own)) < 1 / (1 + np.exp(-own @ weights))
        rows[start : start + BLOCK] = own + 1
    rows.flush()
    return labels


def _job(n_rows: int) -> Job:
    """Nine of ten rows train, in a drawn order, and a twentieth chooses."""
    order = np.random.default_rng(2).permutation(n_rows)
    return Job(Linear(), ("a",), order[: n_rows * 9 // 10], order[-n_rows // 20 :])


def _fitted(path: Path, n_rows: int, *, is_streamed: bool) -> tuple[FittedHead, float]:
    """The head and its seconds, on the first rows of a file."""
    rows, labels = np.load(path, mmap_mode="r")[:n_rows], np.load(path.with_suffix(".labels.npy"))[:n_rows]
    job = _job(n_rows)
    in_memory = Footprint(DIM, 2)(len(job.train), 1)
    start = time.perf_counter()
    runtime = Runtime(memory=min(MEMORY, in_memory - 1) if is_streamed else 1 << 40)
    (head,) = fit_jobs([job], Embedded({"a": rows}, labels, 2), runtime=runtime)
    return head, time.perf_counter() - start


def _measured(path: Path, n_rows: int) -> dict[str, Any]:
    """What a process of its own takes."""
    command = [sys.executable, __file__, str(path), str(n_rows)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    measured: dict[str, Any] = json.loads(found.stdout)
    return measured


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    largest = int(os.environ.get("DVME_TEN_MILLION", "100000"))
    folder = Path(os.environ.get("DVME_SCALE_DIR") or tmp_path_factory.mktemp("rows"))
    path = folder / f"{largest}.npy"
    np.save(path.with_suffix(".labels.npy"), _written(path, largest))
    return path, largest


@pytest.mark.bench
def test_linear__time_and_memory_against_rows(stored: tuple[Path, int]) -> None:
    path, largest = stored
    sizes = [size for size in (10_000, 100_000, 1_000_000, 10_000_000) if size <= largest]
    found = [_measured(path, size) for size in sizes]
    for size, own in zip(sizes, found, strict=True):
        print(
            f"\nlinear, {len(STRENGTHS)} strengths, {size:,} x {DIM} float16: {own['seconds']:.1f} s, "
            f"{own['n_passes']} passes, {own['resident'] / 1e9:.2f} GB resident at most",
            end="",
        )
    logs = np.log([[size, own["seconds"]] for size, own in zip(sizes, found, strict=True)])
    print(
        f"\nlog seconds against log N: slope {np.polyfit(logs[:, 0], logs[:, 1], 1)[0]:.2f}; of the last two sizes ",
        end="",
    )
    print(f"{np.divide(*(logs[-1] - logs[-2])[::-1]):.2f}")
    weights = np.array(found[-1]["weights"])
    loadings, truth = _truth()
    found_logits, true_logits = loadings @ weights, loadings @ truth
    cosine = found_logits @ true_logits / np.linalg.norm(found_logits) / np.linalg.norm(true_logits)
    print(f"cosine of the fitted and the true logits: {cosine:.6f}")
    assert all(own["is_converged"] and own["resident"] < MOST_RESIDENT for own in found)
    assert cosine > 1 - 3 * DIM / sizes[-1]


@pytest.mark.bench
def test_linear__objective_and_time_beside_memory_and_scikit_learn(stored: tuple[Path, int]) -> None:
    path, largest = stored
    n_rows = min(PEER_ROWS, largest)
    held, seconds = _fitted(path, n_rows, is_streamed=False)
    streamed, slower = _fitted(path, n_rows, is_streamed=True)
    job = _job(n_rows)
    rows = np.load(path, mmap_mode="r")[job.train].astype(np.float64)
    labels = np.load(path.with_suffix(".labels.npy"))[job.train]
    spread = float(np.square(rows - rows.mean(0)).sum())

    def objective(weights: NDArray[Any], intercept: float) -> float:
        """Of a vector, at the strength that was chosen."""
        logits = rows @ weights + intercept
        losses = np.logaddexp(0.0, np.where(labels == 1, -logits, logits))
        return float(losses.sum()) + 0.5 * float(held.chosen["strength"]) * spread * float(weights @ weights)

    def own(head: FittedHead) -> float:
        weights, intercepts = head.arrays()["weights"], head.arrays()["intercepts"]
        return objective(weights[:, 1] - weights[:, 0], float(intercepts[1] - intercepts[0]))

    least = own(held)
    print(f"\n{n_rows:,} rows: in memory {seconds:.1f} s, streamed {slower:.1f} s, objective {least:.6f}, ", end="")
    print(f"streamed {own(streamed) / least - 1:+.1e} relative")
    features = rows.astype(np.float32)
    makes: dict[str, Callable[[float], Any]] = {
        "LogisticRegression": lambda l2: LogisticRegression(C=1 / l2, max_iter=1000),
        "SGDClassifier": lambda l2: SGDClassifier(loss="log_loss", alpha=l2 / len(rows), random_state=0),
    }
    for name, make in makes.items():
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            peers = [make(strength * spread).fit(features, labels) for strength in STRENGTHS]
        took = time.perf_counter() - start
        peer = peers[STRENGTHS.index(held.chosen["strength"])]
        above = objective(peer.coef_[0].astype(np.float64), float(peer.intercept_[0])) / least - 1
        print(f"{name} of scikit-learn, {len(STRENGTHS)} strengths: {took:.1f} s, objective {above:+.1e} relative")
    assert streamed.chosen["streamed"]["n_passes"] > 0
    assert streamed.chosen["strength"] == held.chosen["strength"]
    assert abs(own(streamed) / least - 1) < 1e-12


def _tell(path: Path, n_rows: int) -> None:
    """Fit, and print what it took; resident memory at its highest since exec, where getrusage adds the parent's."""
    head, seconds = _fitted(path, n_rows, is_streamed=True)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    arrays, resident = head.arrays(), 1024 * int(status["VmHWM"].split()[0])
    weights = (arrays["weights"][:, 1] - arrays["weights"][:, 0]).tolist()
    took = {"seconds": seconds, "resident": resident, "n_passes": head.chosen["streamed"]["n_passes"]}
    print(json.dumps(took | {"weights": weights, "is_converged": head.chosen["is_converged"]}))


if __name__ == "__main__":
    _tell(Path(sys.argv[1]), int(sys.argv[2]))
