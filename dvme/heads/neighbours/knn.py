"""The weighted k-nearest-neighbour classifier of DINO's protocol: a head on a bank of embeddings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dvme.errors import OptionError
from dvme.heads.fitting.cells import constant_labels
from dvme.heads.fitting.choosing import last_near_best, last_near_best_of_labels
from dvme.heads.fitting.jobs import Embedded, FittedHead, Job, by_backbones, only_block
from dvme.heads.fitting.row_blocks import RowArray
from dvme.heads.neighbours.brute_force import search_device
from dvme.heads.neighbours.inverted_lists import InvertedLists
from dvme.heads.neighbours.of_images import nearest_images
from dvme.heads.neighbours.of_rows import search
from dvme.heads.neighbours.recall import SAMPLE, with_recall
from dvme.heads.neighbours.votes import depth, shares_of
from dvme.limits import every, whole
from dvme.metrics.classification import METRICS, check_metric
from dvme.runtime import Progress, Runtime
from dvme.vectors import spans, unit_rows

STUDY = "study"
"""To choose by what the study is about."""
NEIGHBOURS = (1, 5, 10, 20, 100, 200)
AUTO, EXACT, IVF = SEARCHES = "auto", "exact", "ivf"
LISTED_FROM = 250_000
"""Rows of a bank from which `auto` searches inverted lists: about where an exact search for 10,000 queries takes as
long as the lists with their making."""
QUERIES = 4096
"""Rows that are searched for at once; what they hold grows with k, not with the bank."""
VALUES = 1 << 25
"""Values of queries and their neighbours that are searched for at once in inverted lists, which are read each time."""


@dataclass(frozen=True)
class FittedKNN:
    """A bank of unit vectors with labels."""

    unit: NDArray[Any] | InvertedLists
    """(N, D) float32, L2-normalised; heads of one backbone share it. Inverted lists are a head's own."""
    rows: NDArray[Any] | slice
    """(n,) rows of `unit` that are the bank: those trained on."""
    labels: NDArray[Any]
    """(n,) class indices of the bank; of several labels (n, L) cells, see Embedded."""
    n_classes: int
    """C, or L."""
    chosen: Mapping[str, Any]
    """`k`; of several labels also `constant_labels`, of which training knows one value only, or none. Of inverted lists
    also the `Recall` that was measured."""
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
    def is_listed(self) -> bool:
        """Whether the bank is in inverted lists."""
        return isinstance(self.unit, InvertedLists)

    @property
    def bank(self) -> NDArray[Any] | InvertedLists:
        """(n, D)."""
        return self.unit if isinstance(self.unit, InvertedLists) else self.unit[self.rows]

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
        for rows in _portions(len(queries), bank, k, self.n_views):
            some = unit_rows(queries[rows])
            similarities, neighbours = _nearest(some, bank, [k], self.weights, self.n_views, self.device)
            parts.append(shares_of(similarities, neighbours, k, self.labels, self.weights, self.n_classes))
        return np.concatenate(parts)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """See FittedHead."""
        weights, bank = {} if self.weights is None else {"weights": self.weights}, self.bank
        own = bank.arrays() if isinstance(bank, InvertedLists) else {"bank": bank}
        return {**own, "labels": self.labels, **weights}

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
        bank = arrays["bank"] if "bank" in arrays else InvertedLists.restored(arrays, chosen.get("n_probes"))
        return cls(bank, slice(None), arrays["labels"], n_classes, chosen, weights=weights, n_views=n_views)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the bank alone, not the rows of other heads."""
        return FittedKNN.restored, (self.settings(), self.arrays())


@dataclass(frozen=True)
class KNN:
    """Cosine neighbours, each voting exp(similarity / 0.07); the largest k that does as well as the best on validation.

    As well: not worse by more than a standard error of the difference, for with few validation images the best is often
    so by chance, and the votes of a larger k are steadier. Of equally similar rows the one that comes first in training
    is nearer. Where training has several views of an image, k counts images, and each votes by its nearest view.

    A bank of LISTED_FROM rows or more is searched by inverted lists (see `inverted_lists`), which miss a few
    neighbours; how few is measured (see `recall`).

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
    search: str = AUTO
    """`exact`; or `ivf`, by inverted lists; or `auto`: `ivf` from LISTED_FROM rows. Of several views it is exact."""
    name: str = "knn"
    is_fusion: bool = False
    revision: ClassVar[int] = 3
    reads_blocks: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Refuse what cannot be searched."""
        if self.choose_by != STUDY:
            check_metric(self.choose_by)
        if not 0.0 <= self.standard_errors < math.inf:
            raise OptionError(f"standard_errors {self.standard_errors!r} is not possible; it must be 0 or more")
        if self.search not in SEARCHES:
            raise OptionError(f"search {self.search!r} is not known; choose from {', '.join(SEARCHES)}")
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
        device = search_device(runtime)
        n_fitted = 0
        for (backbones, head), members in by_backbones(jobs).items():
            assert isinstance(head, KNN)
            units = UnitRows(only_block([data.embeddings[name] for name in backbones]))
            for index in members:
                job = jobs[index]
                every = data.every_view(job.train)
                labels, weights = data.labels[every], None if data.weights is None else data.weights_of(every)
                unit: NDArray[Any] | InvertedLists
                rows: NDArray[Any] | slice
                measured: dict[str, Any] = {}
                if head._is_listed(units, data, job, runtime.memory_budget("cpu")):  # noqa: SLF001
                    unit, measured = head._lists(units, job, weights)  # noqa: SLF001
                    rows = slice(None)
                else:
                    unit, rows = units.shared(every)
                bank = unit if isinstance(unit, InvertedLists) else unit[rows]
                chosen = {"k": head._chosen_k(bank, units, data, job, device)} | measured  # noqa: SLF001
                if data.is_multilabel:
                    chosen["constant_labels"] = constant_labels(data.labels[job.train])
                n_fitted += 1
                progress("fit knn", n_fitted, len(jobs))
                yield index, FittedKNN(unit, rows, labels, data.n_classes, chosen, device, weights, data.n_views)

    def _is_listed(self, units: UnitRows, data: Embedded, job: Job, budget: int) -> bool:
        """Whether a bank is in lists: to be searched in part, or as memory does not hold it otherwise."""
        if data.n_views > 1:
            return False
        is_beyond = not units.is_in_memory and 4 * len(job.train) * units.values.shape[1] > budget
        return is_beyond or self._is_partial(job)

    def _is_partial(self, job: Job) -> bool:
        return self.search == IVF or (self.search != EXACT and len(job.train) >= LISTED_FROM)

    def _lists(self, units: UnitRows, job: Job, weights: NDArray[Any] | None) -> tuple[InvertedLists, dict[str, Any]]:
        """The bank of a job in lists, and what was measured of them; exact ones are all probed."""
        lists = InvertedLists.of(units.values, job.train, seed=job.seed)
        if not self._is_partial(job) or lists.n_lists == 1:
            return lists, {}
        n = len(lists)
        k = depth(self._candidates(n, weights)[-1], weights, n)
        draw = np.random.default_rng([job.seed, SAMPLE])
        if len(job.validation) >= SAMPLE:
            queries = units[job.validation[draw.choice(len(job.validation), SAMPLE, replace=False)]]
            lists, recall = with_recall(lists, queries, k)
        else:
            own = draw.choice(n, min(n, SAMPLE), replace=False)
            lists, recall = with_recall(lists, lists[own], min(k, n - 1), own)
        return lists, recall.described()

    def _candidates(self, n_rows: int, weights: NDArray[Any] | None) -> list[int]:
        most = n_rows if weights is None else math.ceil(weights.sum())
        return sorted({min(k, most) for k in self.neighbours})

    def _chosen_k(
        self, bank: NDArray[Any] | InvertedLists, units: UnitRows, data: Embedded, job: Job, device: str
    ) -> int:
        labels, n_classes, weights = data.labels, data.n_classes, data.weights_of(job.train)
        candidates = self._candidates(len(job.train), weights)
        if len(candidates) == 1 or not len(job.validation):
            return candidates[len(candidates) // 2]
        bank_labels = labels[data.every_view(job.train)]
        shares = np.empty((len(candidates), len(job.validation), n_classes))
        depths = [depth(k, weights, len(bank)) for k in candidates]
        for rows in _portions(len(job.validation), bank, depths[-1], data.n_views):
            some = units[job.validation[rows]]
            similarities, found = _nearest(some, bank, candidates, weights, data.n_views, device)
            for position, (k, near) in enumerate(zip(candidates, depths, strict=True)):
                own = similarities[:, :near], found[:, :near], k
                shares[position, rows] = shares_of(*own, bank_labels, weights, n_classes)
        metric = METRICS[0] if self.choose_by == STUDY else self.choose_by
        judges = data.weights_of(job.validation)
        choose = last_near_best_of_labels if data.is_multilabel else last_near_best
        truth = data.truth_of(job.validation) if data.is_multilabel else labels[job.validation]
        return candidates[choose(metric, truth, shares, judges, n_errors=self.standard_errors)]


class UnitRows:
    """(N, D) embeddings as rows of length 1: all at once, or of what is not in memory those that are asked for."""

    def __init__(self, values: RowArray) -> None:
        self.values = values
        self.is_in_memory = isinstance(values, np.ndarray) and not isinstance(values, np.memmap)

    @cached_property
    def every(self) -> NDArray[Any]:
        """(N, D)."""
        return unit_rows(self.values[:])

    def __getitem__(self, rows: NDArray[Any]) -> NDArray[Any]:
        """(n, D) of some rows."""
        found: NDArray[Any] = self.every[rows] if self.is_in_memory else unit_rows(self.values[rows])
        return found

    def shared(self, rows: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any] | slice]:
        """An array and which of its rows these are: where memory holds all, heads share one."""
        return (self.every, rows) if self.is_in_memory else (self[rows], slice(None))


def _portions(n: int, bank: NDArray[Any] | InvertedLists, k: int, n_views: int) -> Iterator[slice]:
    """Queries that are searched for at once."""
    if isinstance(bank, InvertedLists):
        return spans(n, bank.shape[1] + 4 * k, VALUES)
    return spans(n, 1, QUERIES // n_views)


def _nearest(
    queries: NDArray[Any],
    bank: NDArray[Any] | InvertedLists,
    k: Sequence[int],
    weights: NDArray[Any] | None,
    n_views: int,
    device: str,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Similarities (B, K) and rows (B, K) of the bank, of as many rows, or images of several views, as k need."""
    if n_views > 1:
        assert weights is None, "a row of several views has no weight of its own"
        assert not isinstance(bank, InvertedLists), "lists know no images"
        return nearest_images(queries, bank, k, n_views, partial(search, device=device))
    return search(queries, bank, [depth(each, weights, len(bank)) for each in k], device=device)
