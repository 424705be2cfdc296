"""Metrics of 14 labels under a thousand resamples, against a loop over scikit-learn, and what memory they take."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest
from memory import HELD
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, brier_score_loss, recall_score, roc_auc_score

from dvme.metrics.decisions import decide_over
from dvme.metrics.probability_errors import brier
from dvme.metrics.ranking import areas, auc, average_precision

pytestmark = pytest.mark.bench
N_LABELS, N_IMAGES, N_RESAMPLES = 14, 100_000, 1_000
N_LOOPED = 1
"""Resamples that the loop is timed on; all of them would take an hour."""
THRESHOLDS = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
LEAST = 20.0
"""Times that all of it is faster than the loop."""
MOST_MEMORY = 400 * 2**20
"""Bytes beyond truth, probabilities and weights, which are of the caller."""
DATA = f"""
import numpy as np
rng = np.random.default_rng(0)
truth = (rng.random(({N_IMAGES}, {N_LABELS})) < np.geomspace(0.002, 0.2, {N_LABELS})).astype(float)
p = 1 / (1 + np.exp(2 - rng.normal(size=truth.shape) - truth))
weights = np.empty(({N_RESAMPLES}, {N_IMAGES}), dtype=np.uint16)
for row in weights:
    row[:] = np.bincount(rng.integers(0, {N_IMAGES}, {N_IMAGES}), minlength={N_IMAGES})
"""
Metric = Callable[[NDArray[np.float64], NDArray[np.float64], NDArray[np.uint16]], NDArray[np.float64]]


def _misses(truth: NDArray[np.float64], p: NDArray[np.float64], weights: NDArray[np.uint16]) -> NDArray[np.float64]:
    return decide_over(truth, p, THRESHOLDS, weights).false_negative_rate


def _looped_misses(
    truth: NDArray[np.float64], p: NDArray[np.float64], sample_weight: NDArray[np.uint16]
) -> list[float]:
    return [1.0 - recall_score(truth, p > threshold, sample_weight=sample_weight) for threshold in THRESHOLDS]


OWN: dict[str, Metric] = {"auc": auc, "average precision": average_precision, "brier": brier, "misses": _misses}
LOOPED = {
    "auc": roc_auc_score,
    "average precision": average_precision_score,
    "brier": brier_score_loss,
    "misses": _looped_misses,
}


def test_metrics__a_thousand_resamples_against_a_loop_over_scikit_learn() -> None:
    """In seconds of the processor, as both run on one core; the loop's are of few resamples, multiplied."""
    made: dict[str, NDArray[np.float64]] = {}
    exec(DATA, made)
    truth, p, weights = made["truth"], made["p"], made["weights"]
    areas(truth[:50], p[:50])  # imports
    total = {"own": 0.0, "looped": 0.0}
    print(f"\n{N_LABELS} labels x {N_IMAGES:,} images, {N_RESAMPLES:,} resamples:")
    for name, metric in OWN.items():
        start = time.process_time()
        found = metric(truth, p, weights)
        own = time.process_time() - start
        start = time.process_time()
        for r in range(N_LOOPED):
            for label in range(N_LABELS):
                expected = LOOPED[name](truth[:, label], p[:, label], sample_weight=weights[r])
                np.testing.assert_allclose(found[r, ..., label], expected, atol=1e-9)
        looped = (time.process_time() - start) * N_RESAMPLES / N_LOOPED
        total["own"] += own
        total["looped"] += looped
        print(f"  {name}: {own:.1f} s, the loop {looped:.0f} s, {looped / own:.0f} times")
    start = time.process_time()
    areas(truth, p, weights)
    print(f"  auc and average precision from one pass: {time.process_time() - start:.1f} s")
    faster = total["looped"] / total["own"]
    print(f"  all: {total['own']:.1f} s, the loop {total['looped']:.0f} s, {faster:.0f} times")
    assert faster >= LEAST


@pytest.mark.parametrize("name", OWN)
def test_metrics__peak_memory(name: str) -> None:
    """Of a process of its own, beyond what it holds before; it does not grow with resamples."""
    call = {
        "auc": "from dvme.metrics.ranking import auc as metric",
        "average precision": "from dvme.metrics.ranking import average_precision as metric",
        "brier": "from dvme.metrics.probability_errors import brier as metric",
        "misses": f"""
from dvme.metrics.decisions import decide_over
def metric(truth, p, weights):
    return decide_over(truth, p, np.array({THRESHOLDS.tolist()}), weights).false_negative_rate
""",
    }[name]
    measured = "metric(truth[:50], p[:50], weights[:2, :50]); before = held('VmRSS'); metric(truth, p, weights)"
    script = f"{HELD}\n{DATA}\n{call}\n{measured}\nprint(held() - before)"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    extra = int(done.stdout)
    print(f"\n{name}: {extra / 2**20:.0f} MB beyond data and weights")
    assert extra <= MOST_MEMORY
