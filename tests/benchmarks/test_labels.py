"""How much faster exact logistic regression of several labels is than a loop over labels with scikit-learn."""

from __future__ import annotations

import time
import warnings

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from dvme.heads.exact.linear import STRENGTHS, Linear
from dvme.heads.exact.logistic import fit_logistic
from dvme.heads.fitting.jobs import Embedded, Job, fit_jobs

N_LABELS, N_TRAIN, N_VALIDATION, DIM = 14, 2000, 400, 2048
RAREST, COMMONEST = 0.01, 0.4
"""Shares of the images that have a label."""
UNKNOWN = 0.1
"""Of the cells."""
N_THREADS = 1
"""For both, and CPU seconds, as of the benchmark of one label."""
TOLERANCES = (1e-6, 1e-8)
"""Of scikit-learn: the looser one is what the target is about, the tighter one reaches our objective."""
TARGET = 5.0
REPEATS = 3


def _features(rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Correlated, sparse and non-negative features as after a ReLU, and labels that depend on some of their factors."""
    n_rows, n_factors = N_TRAIN + N_VALIDATION, 256
    factors = rng.normal(size=(n_rows, n_factors))
    loadings = rng.normal(size=(n_factors, DIM)) / np.sqrt(np.arange(1, n_factors + 1))[:, None]
    features = np.maximum(0.15 * factors @ loadings + 0.25 * rng.normal(size=(n_rows, DIM)) - 0.1, 0)
    signs = factors[:, :64] @ rng.normal(size=(64, N_LABELS)) / 8.0 + rng.normal(size=(n_rows, N_LABELS))
    shares = np.geomspace(RAREST, COMMONEST, N_LABELS)
    cells = (signs > np.quantile(signs, 1.0 - shares, axis=0).diagonal()).astype(np.float32)
    cells[rng.random(cells.shape) < UNKNOWN] = np.nan
    return features.astype(np.float32), cells


def _objective(rows: NDArray[np.float64], truth: NDArray[np.float32], l2: float, weights: NDArray[np.float64]) -> float:
    """Written out: summed log loss of known rows, and the penalty; the intercept comes last."""
    logits = rows @ weights[:-1] + weights[-1]
    return float(np.logaddexp(0.0, (1.0 - 2.0 * truth) * logits).sum()) + l2 / 2 * float(weights[:-1] @ weights[:-1])


def _peers(
    wide: NDArray[np.float64],
    cells: NDArray[np.float32],
    known: list[NDArray[np.int64]],
    l2: NDArray[np.float64],
    tolerance: float,
) -> tuple[float, list[NDArray[np.float64]]]:
    """CPU seconds of the loop over labels and strengths, and (S, D + 1) solutions of each label."""
    started, solutions = time.process_time(), []
    for label, rows in enumerate(known):
        some, own = wide[rows], []
        for strength in l2[:, label]:
            peer = LogisticRegression(C=1 / strength, tol=tolerance, max_iter=20000).fit(some, cells[rows, label])
            peer.predict_proba(wide[N_TRAIN:])
            own.append(np.r_[peer.coef_[0], peer.intercept_])
        solutions.append(np.array(own))
    return time.process_time() - started, solutions


@pytest.mark.bench
def test_linear__all_labels_together_against_a_loop_over_scikit_learn() -> None:
    """Features to validated heads; scikit-learn fits, and predicts the same validation rows."""
    features, cells = _features(np.random.default_rng(0))
    train, validation = np.arange(N_TRAIN), np.arange(N_TRAIN, len(cells))
    data, job = Embedded({"a": features}, cells, N_LABELS), Job(Linear(), ("a",), train, validation)
    known = [np.flatnonzero(~np.isnan(cells[train, label])) for label in range(N_LABELS)]
    wide = features.astype(np.float64)
    scales = [float(np.square(wide[rows] - wide[rows].mean(axis=0)).sum()) for rows in known]
    n_threads = torch.get_num_threads()
    torch.set_num_threads(N_THREADS)
    try:
        with threadpool_limits(N_THREADS), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            ours = []
            for _ in range(REPEATS):
                started = time.process_time()
                (head,) = fit_jobs([job], data)
                ours.append(time.process_time() - started)
            l2 = np.outer(STRENGTHS, scales)  # (S, L)
            targets = torch.from_numpy(np.nan_to_num(cells[train]).astype(np.float64).T)
            weights = torch.from_numpy((~np.isnan(cells[train])).astype(np.float64).T)
            (fit,) = fit_logistic(
                [torch.from_numpy(wide[train])],
                [targets.repeat(len(STRENGTHS), 1)],
                [torch.from_numpy(l2.ravel())],
                1,
                [weights.repeat(len(STRENGTHS), 1)],
            )
            solved = (
                torch.cat([fit.weights[..., 0], fit.intercepts], dim=1).numpy().reshape(len(STRENGTHS), N_LABELS, -1)
            )
            peers = {tolerance: _peers(wide, cells, known, l2, tolerance) for tolerance in TOLERANCES}
    finally:
        torch.set_num_threads(n_threads)
    assert head.chosen["is_converged"]
    seconds = float(np.median(ours))
    print(
        f"\nlinear, {N_LABELS} labels x {N_TRAIN} rows x {DIM} values x {len(STRENGTHS)} strengths, {UNKNOWN:.0%} of "
        f"the cells unknown, {N_THREADS} thread: ours {seconds:.1f} CPU s (median of {REPEATS})"
    )
    for tolerance, (took, solutions) in peers.items():
        gaps = [
            _objective(wide[rows], cells[rows, label], l2[index, label], solutions[label][index])
            / _objective(wide[rows], cells[rows, label], l2[index, label], solved[index, label])
            - 1.0
            for label, rows in enumerate(known)
            for index in range(len(STRENGTHS))
        ]
        print(
            f"  scikit-learn at tol {tolerance:.0e}: {took:.1f} s, {took / seconds:.1f} times longer; its objective is "
            f"{min(gaps):.1e} to {max(gaps):.1e} above ours"
        )
        assert min(gaps) > -1e-6
        assert took / seconds >= TARGET
    assert max(gaps) < 1e-6  # at the last tolerance
