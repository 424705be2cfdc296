"""Maps of more images than are laid out: a sample is, and the others are placed beside it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.maps.projection import tsne_layout, umap_layout
from dvme.runtime import Progress, silent

LAID_OUT = 50_000
"""Images that t-SNE and UMAP lay out; of more, so many are drawn."""
BLOCK = {"tsne": 50_000, "umap": 10_000}
"""Images that are placed at once. UMAP takes 100 rounds for 10,000, 30 for more."""


def place(
    reduced: NDArray[np.float32],
    sample: NDArray[np.intp],
    method: str,
    *,
    initial: NDArray[Any],
    seed: int,
    progress: Progress = silent,
) -> NDArray[np.float32]:
    """Lay out some rows, and place each of the others by its neighbours among them.

    The rows that are placed attract and repel neither each other nor the sample, so that it is one map whatever their
    number. t-SNE starts a row at the median of its 25 nearest and takes 250 steps at a perplexity of 5, as openTSNE
    advises. UMAP starts it at the weighted mean of its 15 nearest.

    Args:
        reduced: (N, K) principal components of all rows.
        sample: (n,) rows to be laid out, ascending, n >= 5.
        method: `tsne` or `umap`.
        initial: (n, 2) where these start from, in any scale.
        seed: of everything that is drawn.
        progress: told (stage, done, total).

    Returns:
        (N, 2) float32.

    Source: Policar, Strazar and Zupan 2023, on embedding into a reference (t-SNE); McInnes et al. 2018 (UMAP).
    """
    rest = np.setdiff1d(np.arange(len(reduced)), sample, assume_unique=True)
    transform, layout = (_tsne if method == "tsne" else _umap)(reduced[sample], initial, seed)
    positions = np.empty((len(reduced), 2), dtype=np.float32)
    for start in range(0, len(rest), BLOCK[method]):
        progress(f"{method} images placed", start, len(rest))
        rows = rest[start : start + BLOCK[method]]
        positions[rows] = transform(reduced[rows])
    progress(f"{method} images placed", len(rest), len(rest))
    positions[sample] = layout()
    return positions


Transform = Callable[[NDArray[Any]], NDArray[Any]]
"""(B, K) to (B, 2)."""
Layout = Callable[[], NDArray[Any]]
"""The (n, 2) positions of the sample, once all others have theirs."""


def _tsne(reduced: NDArray[Any], initial: NDArray[Any], seed: int) -> tuple[Transform, Layout]:
    embedding = tsne_layout(reduced, initial, seed)
    return lambda rows: np.asarray(embedding.transform(rows)), lambda: np.array(embedding)  # `transform` shifts it


def _umap(reduced: NDArray[Any], initial: NDArray[Any], seed: int) -> tuple[Transform, Layout]:
    fitted = umap_layout(reduced, initial, seed)

    def transform(rows: NDArray[Any]) -> NDArray[Any]:
        with warnings.catch_warnings(action="ignore"):
            return np.asarray(fitted.transform(rows))

    return transform, lambda: np.asarray(fitted.embedding_)
