"""What the neighbours of an image say: each votes for its classes, the nearer the more."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.heads.fitting.cells import frequencies

TEMPERATURE = 0.07


def depth(k: int, weights: NDArray[Any] | None, n_rows: int) -> int:
    """How many rows are enough for k neighbours, whichever they are, where a row stands for its weight of them."""
    if weights is None:
        return k
    return min(n_rows, int(np.searchsorted(np.cumsum(np.sort(weights)), k)) + 1)


def counted(weights: NDArray[Any], k: int) -> NDArray[Any]:
    """(B, K) how much of the weight of each neighbour, the nearest first, is among the first k."""
    through = np.cumsum(weights, axis=1)
    counts: NDArray[Any] = np.clip(k - (through - weights), 0.0, weights)
    return counts


def votes(
    similarities: NDArray[Any], labels: NDArray[Any], n_classes: int, counts: NDArray[Any] | None = None
) -> NDArray[Any]:
    """(B, C) vote shares of neighbours, each weighing exp(similarity / TEMPERATURE).

    Args:
        similarities: (B, K), descending.
        labels: (B, K) class indices of the neighbours.
        n_classes: C.
        counts: (B, K) how often each neighbour votes; None: once.
    """
    weights = _weights_of_votes(similarities, counts)
    tally = np.zeros((len(labels), n_classes))
    np.add.at(tally, (np.arange(len(labels))[:, None], labels), weights)
    shares: NDArray[Any] = tally / tally.sum(axis=1, keepdims=True)
    return shares


def label_votes(
    similarities: NDArray[Any],
    neighbours: NDArray[Any],
    cells: NDArray[Any],
    prior: NDArray[Any],
    counts: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """(B, L) shares of the votes for each label among the neighbours that know it, weighing as in `votes`.

    Args:
        similarities: (B, K), descending.
        neighbours: (B, K) rows of the bank.
        cells: (n, L) what each row of the bank knows: a part of its vote from 0 to 1, nan: nothing.
        prior: (L,) the share where no neighbour knows anything.
        counts: (B, K) how often each neighbour votes; None: once.
    """
    weights = _weights_of_votes(similarities, counts)
    shares = np.tile(prior, (len(neighbours), 1))
    for label, own in enumerate(cells.T):
        ballots = own[neighbours]
        known = np.where(np.isnan(ballots), 0.0, weights)
        total = known.sum(axis=1)
        np.divide((known * np.nan_to_num(ballots)).sum(axis=1), total, out=shares[:, label], where=total > 0)
    return shares


def shares_of(
    similarities: NDArray[Any],
    neighbours: NDArray[Any],
    k: int,
    labels: NDArray[Any],
    weights: NDArray[Any] | None,
    n_classes: int,
) -> NDArray[Any]:
    """(B, C) of the votes of (B, K) rows of a bank with (n,) labels or (n, L) cells, and weights if there are any."""
    counts = None if weights is None else counted(weights[neighbours], k)
    if labels.ndim == 2:
        return label_votes(similarities, neighbours, labels, frequencies(labels, weights), counts)
    return votes(similarities, labels[neighbours], n_classes, counts)


def _weights_of_votes(similarities: NDArray[Any], counts: NDArray[Any] | None) -> NDArray[Any]:
    weights: NDArray[Any] = np.exp((similarities - similarities[:, :1]).astype(np.float64) / TEMPERATURE)
    if counts is not None:
        weights *= counts
    return weights
