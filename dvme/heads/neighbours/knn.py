"""The weighted k-nearest-neighbour classifier of DINO's protocol, searched by FAISS."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dvme.errors import OptionError
from dvme.heads.fitting.cells import constant_labels
from dvme.heads.fitting.choosing import last_near_best, last_near_best_of_labels
from dvme.heads.fitting.jobs import Embedded, FittedHead, Job, by_backbones, only_block
from dvme.heads.neighbours.of_images import nearest_images
from dvme.heads.neighbours.votes import depth, shares_of
from dvme.limits import every, whole
from dvme.metrics.classification import METRICS, check_metric
from dvme.runtime import Progress, Runtime
from dvme.vectors import spans, unit_rows

STUDY = "study"
"""To choose by what the study is about."""
NEIGHBOURS = (1, 5, 10, 20, 100, 200)
QUERIES = 4096
"""Rows that are searched for at once; what they hold grows with k, not with the bank."""
TIED = 8 * float(np.finfo(np.float32).eps)
"""Where the k-th and the next similarity differ by at most this, float64 decides: a matrix product gives rows that are
the same to the bit similarities of up to 5 eps apart, measured on up to 4,096 values."""
FOUND = 1 << 24
"""Neighbours, or values of theirs, that are looked at together; a single query may exceed it."""
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
    """(n,) class indices of the bank; of several labels (n, L) cells, see Embedded."""
    n_classes: int
    """C, or L."""
    chosen: Mapping[str, Any]
    """`k`; of several labels also `constant_labels`, of which training knows one value only, or none."""
    device: str = "cpu"
    """Where to search; not saved."""
    weights: NDArray[Any] | None = None
    """(n,) how many of the k neighbours each row of the bank stands for; None: one."""
    n_views: int = 1
    """K: the bank is that of n / K images, then that of their second view, and so on. An image votes once, by its most
    similar view."""

    @property
    def is_multilabel(self) -> bool:
        """Whether probabilities are independent."""
        return self.labels.ndim == 2

    @property
    def bank(self) -> NDArray[Any]:
        """(n, D)."""
        bank: NDArray[Any] = self.unit[self.rows]
        return bank

    def log_proba(self, blocks: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """(B, C) their logarithms; -inf for a class without a vote."""
        with np.errstate(divide="ignore"):
            logs: NDArray[Any] = np.log(self.predict_proba(blocks))
        return logs

    def predict_proba(self, blocks: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """(B, C) shares of the votes of the k nearest training rows.

        Of several labels each has the votes of those among them that know it. Where none does, it is as frequent as in
        training.
        """
        queries, bank, k = only_block(blocks), self.bank, self.chosen["k"]
        parts = [np.empty((0, self.n_classes))]
        for rows in spans(len(queries), 1, QUERIES // self.n_views):
            some = unit_rows(queries[rows])
            similarities, neighbours = _nearest(some, bank, [k], self.weights, self.n_views, self.device)
            parts.append(shares_of(similarities, neighbours, k, self.labels, self.weights, self.n_classes))
        return np.concatenate(parts)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """See FittedHead."""
        weights = {} if self.weights is None else {"weights": self.weights}
        return {"bank": self.bank, "labels": self.labels, **weights}

    def settings(self) -> dict[str, Any]:
        """See FittedHead."""
        several = {"is_multilabel": True} if self.is_multilabel else {}
        views = {"n_views": self.n_views} if self.n_views > 1 else {}
        return {"n_classes": self.n_classes, "chosen": dict(self.chosen)} | several | views

    @classmethod
    def restored(cls, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> FittedKNN:
        """See FittedHead."""
        n_classes, chosen, weights = settings["n_classes"], settings["chosen"], arrays.get("weights")
        n_views = settings.get("n_views", 1)
        return cls(arrays["bank"], slice(None), arrays["labels"], n_classes, chosen, weights=weights, n_views=n_views)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the bank alone, not the rows of other heads."""
        return FittedKNN.restored, (self.settings(), self.arrays())


@dataclass(frozen=True)
class KNN:
    """Cosine neighbours, each voting exp(similarity / 0.07); the largest k that does as well as the best on validation.

    As well: not worse by more than a standard error of the difference, for with few validation images the best is often
    so by chance, and the votes of a larger k are steadier. Of equally similar rows the one that comes first in training
    is nearer. Where training has several views of an image, k counts images, and each votes by its nearest view.

    DINO's protocol takes the k with the best accuracy, which is 1 where one class is rare: `choose_by="accuracy",
    standard_errors=0`.

    Source: Caron et al. 2021 (DINO), section 4.1; Wu et al. 2018, section 3.4; Breiman et al. 1984, section 3.4.3, for
        the rule of one standard error.

    Example:
        >>> dvme.KNN(neighbours=[5, 10]).neighbours
        (5, 10)
    """

    neighbours: Sequence[int] = NEIGHBOURS
    """Values of k to choose from, capped by the number of training rows; kept as a tuple.

    Without validation rows the middle one is taken."""
    choose_by: str = STUDY
    """The metric on validation that k is chosen by; `study`: that of the sweep, or AUC. Of several labels the mean."""
    standard_errors: float = 1.0
    """How many of the difference from the best k a larger one may be worse; 0: of equal scores the largest k."""
    name: str = "knn"
    is_fusion: bool = False
    revision: ClassVar[int] = 2

    def __post_init__(self) -> None:
        """Refuse what cannot be searched."""
        if self.choose_by != STUDY:
            check_metric(self.choose_by)
        if not 0.0 <= self.standard_errors < math.inf:
            raise OptionError(f"standard_errors {self.standard_errors!r} is not possible; it must be 0 or more")
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
            unit = unit_rows(only_block(data.blocks(backbones, slice(None))))
            for index in members:
                job = jobs[index]
                chosen: dict[str, Any] = {"k": head._chosen_k(unit, data, job, device)}  # noqa: SLF001
                if data.is_multilabel:
                    chosen["constant_labels"] = constant_labels(data.labels[job.train])
                n_fitted += 1
                progress("fit knn", n_fitted, len(jobs))
                bank = data.every_view(job.train)
                labels, weights = data.labels[bank], None if data.weights is None else data.weights_of(bank)
                yield index, FittedKNN(unit, bank, labels, data.n_classes, chosen, device, weights, data.n_views)

    def _chosen_k(self, unit: NDArray[Any], data: Embedded, job: Job, device: str) -> int:
        labels, n_classes, weights = data.labels, data.n_classes, data.weights_of(job.train)
        most = len(job.train) if weights is None else math.ceil(weights.sum())
        candidates = sorted({min(k, most) for k in self.neighbours})
        if len(candidates) == 1 or not len(job.validation):
            return candidates[len(candidates) // 2]
        every = data.every_view(job.train)
        bank, bank_labels = unit[every], labels[every]
        shares = np.empty((len(candidates), len(job.validation), n_classes))
        for rows in spans(len(job.validation), 1, QUERIES // data.n_views):
            depths = [depth(k, weights, len(bank)) for k in candidates]
            some = unit[job.validation[rows]]
            similarities, found = _nearest(some, bank, candidates, weights, data.n_views, device)
            for position, (k, near) in enumerate(zip(candidates, depths, strict=True)):
                own = similarities[:, :near], found[:, :near], k
                shares[position, rows] = shares_of(*own, bank_labels, weights, n_classes)
        metric = METRICS[0] if self.choose_by == STUDY else self.choose_by
        judges = data.weights_of(job.validation)
        choose = last_near_best_of_labels if data.is_multilabel else last_near_best
        truth = data.truth_of(job.validation) if data.is_multilabel else labels[job.validation]
        return candidates[choose(metric, truth, shares, judges, n_errors=self.standard_errors)]


def _nearest(
    queries: NDArray[Any],
    bank: NDArray[Any],
    k: Sequence[int],
    weights: NDArray[Any] | None,
    n_views: int,
    device: str,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Similarities (B, K) and rows (B, K) of the bank, of as many rows, or images of several views, as k need."""
    if n_views > 1:
        assert weights is None, "a row of several views has no weight of its own"
        return nearest_images(queries, bank, k, n_views, partial(search, device=device))
    return search(queries, bank, [depth(each, weights, len(bank)) for each in k], device=device)


def search(
    queries: NDArray[Any], bank: NDArray[Any], k: int | Sequence[int], *, device: str = "cpu"
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The k most similar bank rows of every query, exactly.

    FAISS leaves open which of equally similar rows it finds. Here it is always the first of the bank: where the k-th
    and the next similarity are equal up to TIED, the query is searched deeper until all rows are found that may be
    among the k. These are sorted by their similarity in float64, and of equal ones by the order of the bank.

    Args:
        queries: (B, D) float32, L2-normalised.
        bank: (n, D) float32, L2-normalised.
        k: 1 <= k <= n, or several of them: then the first k are those of each.
        device: `cuda` or `cuda:INDEX`, with faiss-gpu only; else `cpu`.

    Returns:
        Cosine similarities (B, k), descending up to rounding, and bank indices (B, k), of the largest k.
    """
    cuts = np.atleast_1d(k)
    most = int(cuts.max())
    similarities, neighbours = _found(queries, bank, min(most + 1, len(bank)), device)
    inner = cuts[cuts < len(bank)]
    is_open = (similarities[:, inner - 1] - similarities[:, inner] <= TIED).any(axis=1)
    similarities, neighbours = np.array(similarities[:, :most]), np.array(neighbours[:, :most])
    unsettled, depth = np.flatnonzero(is_open), min(most + 1, len(bank))
    while len(unsettled):
        still, size = [], max(1, FOUND // (depth * bank.shape[1]))
        for some in np.split(unsettled, range(size, len(unsettled), size)):
            near, found = _found(queries[some], bank, depth, device)
            is_settled = (near[:, most - 1] - near[:, -1] > TIED) | (depth == len(bank))
            still.append(some[~is_settled])
            done = some[is_settled]
            similarities[done], neighbours[done] = _sorted(queries[done], bank, found[is_settled], most)
        unsettled, depth = np.concatenate(still), min(2 * depth, len(bank))
    return similarities, neighbours


def _sorted(
    queries: NDArray[Any], bank: NDArray[Any], found: NDArray[Any], k: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The first k of the (B, K) rows that were found, by similarity in float64, then by the order of the bank."""
    # Not a matrix product: rows that are the same to the bit get the same similarity, wherever they are.
    exact, wide = np.empty(found.shape), queries.astype(np.float64)
    for columns in spans(found.shape[1], queries.size, FOUND):
        exact[:, columns] = np.einsum("bd,bkd->bk", wide, bank[found[:, columns]].astype(np.float64))
    order = np.lexsort((found, -exact))[:, :k]
    return np.take_along_axis(exact, order, axis=1), np.take_along_axis(found, order, axis=1)


@cache
def _faiss() -> Any:
    """The module, once the installation is known to be sound; that takes longer than a small search."""
    from dvme.environment import check_single_faiss

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
        similarities, neighbours = faiss.knn_gpu(_gpu_resources(), queries, bank, k, metric=metric, device=index)
    else:
        similarities, neighbours = faiss.knn(queries, bank, k, metric=metric)
    return similarities, neighbours
