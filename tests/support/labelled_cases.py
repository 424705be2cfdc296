"""Small sets of truth, probabilities and weights for property tests: random, tied, tiny, with gaps, degenerate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray


@dataclass(frozen=True)
class Case:
    """N images, L labels, R weightings."""

    truth: NDArray[Any]
    """(N, L) 0, 1, nan."""
    p: NDArray[Any]
    """(N, L) in [0, 1], often tied, often exactly 0 or 1."""
    weights: NDArray[Any]
    """(R, N); whole numbers with 0 among them, or any."""

    def each(self) -> list[tuple[int, int, NDArray[Any], NDArray[Any], NDArray[Any]]]:
        """Weighting, label, and the truth, probabilities and weights of the cells that count."""
        found = []
        for r, weight in enumerate(self.weights):
            for label in range(self.truth.shape[1]):
                rows = ~np.isnan(self.truth[:, label]) & (weight > 0)
                found.append((r, label, self.truth[rows, label].astype(int), self.p[rows, label], weight[rows]))
        return found


@st.composite
def cases(draw: st.DrawFn, *, are_whole: bool | None = None) -> Case:
    """Of 1 to 30 images; `are_whole` fixes the kind of the weights."""
    rng = np.random.default_rng(draw(st.integers(0, 1_000_000)))
    n, n_labels = draw(st.integers(1, 30)), draw(st.integers(1, 3))
    truth = (rng.random((n, n_labels)) < draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))).astype(float)
    truth[rng.random((n, n_labels)) < draw(st.sampled_from([0.0, 0.3, 1.0]))] = np.nan
    steps = draw(st.sampled_from([1, 2, 4, 20, 10_000]))
    p = np.round(rng.random((n, n_labels)) * steps) / steps
    whole = draw(st.booleans()) if are_whole is None else are_whole
    weights = rng.integers(0, 4, (3, n)).astype(float) if whole else rng.exponential(size=(3, n))
    return Case(truth, p, weights)
