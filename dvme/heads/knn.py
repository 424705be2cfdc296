"""The weighted k-nearest-neighbour classifier of DINO's protocol, searched by FAISS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.heads.jobs import FittedHead, Job

NEIGHBOURS = (1, 5, 10, 20, 100, 200)
TEMPERATURE = 0.07


@dataclass(frozen=True)
class FittedKNN:
    """A bank of unit vectors with labels."""

    bank: NDArray[Any]
    """(n, D) float32, L2-normalised training rows."""
    labels: NDArray[Any]
    """(n,) class indices."""
    n_classes: int
    """C."""
    chosen: Mapping[str, Any]
    """`k`."""

    def predict_proba(self, features: NDArray[Any]) -> NDArray[Any]:
        """(B, C) shares of the votes of the k nearest training rows."""
        similarities, neighbours = search(normalised(features), self.bank, self.chosen["k"])
        return votes(similarities, self.labels[neighbours], self.n_classes)


@dataclass(frozen=True)
class KNN:
    """Cosine neighbours, each voting exp(similarity / 0.07); the k most accurate on validation wins.

    Source: Caron et al. 2021 (DINO), section 4.1; Wu et al. 2018, section 3.4. Of equal accuracies the
    smallest k is taken.
    """

    neighbours: Sequence[int] = NEIGHBOURS
    """Values of k to choose from, capped by the number of training rows."""
    name: str = "knn"

    def fit(
        self, features: NDArray[Any], labels: NDArray[Any], n_classes: int, jobs: Sequence[Job]
    ) -> list[FittedHead]:
        """One search per job at its largest k serves every smaller one."""
        unit = normalised(features)
        return [self._fit_one(unit, labels, n_classes, job) for job in jobs]

    def _fit_one(self, unit: NDArray[Any], labels: NDArray[Any], n_classes: int, job: Job) -> FittedHead:
        bank, bank_labels = unit[job.train], labels[job.train]
        candidates = sorted({min(k, len(bank)) for k in self.neighbours})
        similarities, found = search(unit[job.validation], bank, candidates[-1])
        targets = labels[job.validation]
        accuracies = [
            float((votes(similarities[:, :k], bank_labels[found[:, :k]], n_classes).argmax(1) == targets).mean())
            for k in candidates
        ]
        return FittedKNN(bank, bank_labels, n_classes, {"k": candidates[int(np.argmax(accuracies))]})


def normalised(features: NDArray[Any]) -> NDArray[Any]:
    """(N, D) float32 rows of length 1; a row of zeros stays zero."""
    features = np.ascontiguousarray(features, dtype=np.float32)
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(lengths > 0, lengths, 1.0)


def search(queries: NDArray[Any], bank: NDArray[Any], k: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The k most similar bank rows of every query, exactly.

    Args:
        queries: (B, D) float32, L2-normalised.
        bank: (n, D) float32, L2-normalised.
        k: 1 <= k <= n.

    Returns:
        Cosine similarities (B, k), descending, and bank indices (B, k).
    """
    from dvme.backbones.environment import check_single_faiss

    check_single_faiss()
    import faiss

    similarities, neighbours = faiss.knn(queries, bank, k, metric=faiss.METRIC_INNER_PRODUCT)
    return similarities, neighbours


def votes(similarities: NDArray[Any], labels: NDArray[Any], n_classes: int) -> NDArray[Any]:
    """(B, C) vote shares of neighbours, each weighing exp(similarity / TEMPERATURE).

    Args:
        similarities: (B, K), descending.
        labels: (B, K) class indices of the neighbours.
        n_classes: C.
    """
    weights = np.exp((similarities - similarities[:, :1]).astype(np.float64) / TEMPERATURE)
    tally = np.zeros((len(labels), n_classes))
    np.add.at(tally, (np.arange(len(labels))[:, None], labels), weights)
    shares: NDArray[Any] = tally / tally.sum(axis=1, keepdims=True)
    return shares
