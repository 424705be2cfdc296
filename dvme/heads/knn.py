"""The weighted k-nearest-neighbour classifier of DINO's protocol, searched by FAISS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.heads.jobs import Embedded, FittedHead, Job, by_backbones, only_block
from dvme.heads.limits import every, whole
from dvme.runtime import Progress, Runtime

NEIGHBOURS = (1, 5, 10, 20, 100, 200)
TEMPERATURE = 0.07
QUERIES = 4096
"""Rows that are searched for at once; what they hold grows with k, not with the bank."""
TIED = 8 * float(np.finfo(np.float32).eps)
"""Cosine similarities whose difference is at most this count as equal: a matrix product gives rows that are the same to
the bit similarities of up to 5 eps apart, measured on up to 4,096 values; a vote changes by 1.4e-5 of itself."""
FOUND = 1 << 24
"""Neighbours that are looked at together; a single query may exceed it."""
GPU_NEIGHBOURS = 2048
"""The deepest search that FAISS offers on a GPU."""


@dataclass(frozen=True)
class FittedKNN:
    """A bank of unit vectors with labels."""

    unit: NDArray[Any]
    """(N, D) float32, L2-normalised; heads of one backbone share it."""
    rows: NDArray[Any] | slice
    """(n,) rows of `unit` that are the bank: those trained on."""
    labels: NDArray[Any]
    """(n,) class indices of the bank."""
    n_classes: int
    """C."""
    chosen: Mapping[str, Any]
    """`k`."""
    device: str = "cpu"
    """Where to search; not saved."""

    @property
    def bank(self) -> NDArray[Any]:
        """(n, D)."""
        bank: NDArray[Any] = self.unit[self.rows]
        return bank

    def predict_proba(self, blocks: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """(B, C) shares of the votes of the k nearest training rows."""
        queries, bank = only_block(blocks), self.bank
        parts = [np.empty((0, self.n_classes))]
        for start in range(0, len(queries), QUERIES):
            some = normalised(queries[start : start + QUERIES])
            similarities, neighbours = search(some, bank, self.chosen["k"], device=self.device)
            parts.append(votes(similarities, self.labels[neighbours], self.n_classes))
        return np.concatenate(parts)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """See FittedHead."""
        return {"bank": self.bank, "labels": self.labels}

    def settings(self) -> dict[str, Any]:
        """See FittedHead."""
        return {"n_classes": self.n_classes, "chosen": dict(self.chosen)}

    @classmethod
    def restored(cls, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> FittedKNN:
        """See FittedHead."""
        return cls(arrays["bank"], slice(None), arrays["labels"], settings["n_classes"], settings["chosen"])

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the bank alone, not the rows of other heads."""
        return FittedKNN.restored, (self.settings(), self.arrays())


@dataclass(frozen=True)
class KNN:
    """Cosine neighbours, each voting exp(similarity / 0.07); the k most accurate on validation wins.

    Of equal accuracies the smallest k is taken; of similarities equal up to TIED the row that comes first in training.

    Source: Caron et al. 2021 (DINO), section 4.1; Wu et al. 2018, section 3.4.
    """

    neighbours: Sequence[int] = NEIGHBOURS
    """Values of k to choose from, capped by the number of training rows; kept as a tuple.

    Without validation rows the middle one is taken."""
    name: str = "knn"
    is_fusion: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be searched."""
        checked = every("neighbours", self.neighbours, partial(whole, least=1))
        object.__setattr__(self, "neighbours", checked)

    @staticmethod
    def fit_together(
        jobs: Sequence[Job], data: Embedded, runtime: Runtime, progress: Progress
    ) -> Iterator[tuple[int, FittedHead]]:
        """One search per job at its largest k serves every smaller one.

        A single deep search for all jobs, of which each keeps its own rows, is no faster where the sizes of the
        subsets grow by a factor: the largest subset costs as much as all others together. And it lets rounding
        decide differently among neighbours that are all but equally near.
        """
        device = _search_device(runtime)
        n_fitted = 0
        for (backbones, head), members in by_backbones(jobs).items():
            assert isinstance(head, KNN)
            unit = normalised(only_block(data.blocks(backbones, slice(None))))
            for index in members:
                job = jobs[index]
                chosen = {"k": head._chosen_k(unit, data.labels, data.n_classes, job, device)}  # noqa: SLF001
                n_fitted += 1
                progress("fit knn", n_fitted, len(jobs))
                yield index, FittedKNN(unit, job.train, data.labels[job.train], data.n_classes, chosen, device)

    def _chosen_k(self, unit: NDArray[Any], labels: NDArray[Any], n_classes: int, job: Job, device: str) -> int:
        candidates = sorted({min(k, len(job.train)) for k in self.neighbours})
        if len(candidates) == 1 or not len(job.validation):
            return candidates[len(candidates) // 2]
        bank, bank_labels = unit[job.train], labels[job.train]
        n_correct = np.zeros(len(candidates), dtype=int)
        for start in range(0, len(job.validation), QUERIES):
            rows = job.validation[start : start + QUERIES]
            similarities, found = search(unit[rows], bank, candidates[-1], device=device)
            for position, k in enumerate(candidates):
                shares = votes(similarities[:, :k], bank_labels[found[:, :k]], n_classes)
                n_correct[position] += (shares.argmax(axis=1) == labels[rows]).sum()
        return candidates[int(n_correct.argmax())]


def normalised(features: NDArray[Any]) -> NDArray[Any]:
    """(N, D) float32 rows of length 1; a row of zeros stays zero."""
    features = np.ascontiguousarray(features, dtype=np.float32)
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(lengths > 0, lengths, 1.0)


def search(
    queries: NDArray[Any], bank: NDArray[Any], k: int, *, device: str = "cpu"
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The k most similar bank rows of every query, exactly.

    FAISS leaves open which of equally similar rows it finds, and which it puts first. Here it is always the first of
    the bank: rows that follow each other by no more than TIED in similarity are put in the order of the bank, and
    where the k-th and the next are such, the query is searched deeper until all rows of that run are found.

    Args:
        queries: (B, D) float32, L2-normalised.
        bank: (n, D) float32, L2-normalised.
        k: 1 <= k <= n.
        device: `cuda` or `cuda:INDEX`, with faiss-gpu only; else `cpu`.

    Returns:
        Cosine similarities (B, k), descending but for differences up to TIED, and bank indices (B, k), ascending where
        similarities are equal up to TIED.
    """
    similarities = np.empty((len(queries), k), dtype=np.float32)
    neighbours = np.empty((len(queries), k), dtype=np.int64)
    unsettled, depth = np.arange(len(queries)), min(k + 1, len(bank))
    while len(unsettled):
        still, size = [], max(1, FOUND // depth)
        for some in np.split(unsettled, range(size, len(unsettled), size)):
            near, found, is_run_over = _in_bank_order(*_found(queries[some], bank, depth, device))
            similarities[some], neighbours[some] = near[:, :k], found[:, :k]
            still.append(some[~is_run_over[:, k - 1 :].any(axis=1)])
        if depth == len(bank):
            break
        unsettled, depth = np.concatenate(still), min(2 * depth, len(bank))
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


@cache
def _faiss() -> Any:
    """The module, once the installation is known to be sound; that takes longer than a small search."""
    from dvme.backbones.environment import check_single_faiss

    check_single_faiss()
    import faiss

    return faiss


@cache
def _gpu_resources() -> Any:
    """Scratch memory on the GPU, kept between searches."""
    return _faiss().StandardGpuResources()


def _search_device(runtime: Runtime) -> str:
    """The GPU where FAISS can use it, else `cpu`."""
    device = runtime.torch_device() if hasattr(_faiss(), "StandardGpuResources") else "cpu"
    return device if device.startswith("cuda") else "cpu"


def _found(queries: NDArray[Any], bank: NDArray[Any], k: int, device: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """(B, k) similarities, descending, and bank indices; equal ones in any order."""
    faiss = _faiss()
    metric = faiss.METRIC_INNER_PRODUCT
    if device.startswith("cuda") and k <= GPU_NEIGHBOURS:
        index = int(device.partition(":")[2] or -1)  # -1: the current one
        found = faiss.knn_gpu(_gpu_resources(), queries, bank, k, metric=metric, device=index)
    else:
        found = faiss.knn(queries, bank, k, metric=metric)
    similarities, neighbours = found
    return similarities, neighbours


def _in_bank_order(
    similarities: NDArray[Any], neighbours: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Sort neighbours of equal similarity by their index, and say (B, K - 1) behind which a run of equals is over."""
    is_run_over = similarities[:, :-1] - similarities[:, 1:] > TIED
    tied = np.flatnonzero(~is_run_over.all(axis=1))
    run = np.zeros((len(tied), similarities.shape[1]), dtype=np.int64)
    run[:, 1:] = is_run_over[tied].cumsum(axis=1)
    order = np.lexsort((neighbours[tied], run))
    for values in (similarities, neighbours):
        values[tied] = np.take_along_axis(values[tied], order, axis=1)
    return similarities, neighbours, is_run_over
