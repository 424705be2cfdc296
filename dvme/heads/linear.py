"""The linear probe: exact logistic regression over a path of strengths, one of them chosen on validation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dvme.heads.jobs import Embedded, FittedHead, Job, by_backbones, only_block
from dvme.heads.logistic import LogisticFit, fit_from_gram, fit_logistic, is_spanned
from dvme.runtime import Progress, Runtime

STRENGTHS = tuple(float(10.0 ** (exponent / 2)) for exponent in range(-12, -1))
"""Penalties per training row, relative to the rows' mean squared distance from their mean: 1e-6 to 1e-1.

Relative, so that one path serves every backbone whatever the scale of its features; a job's own
training rows set the scale. The features themselves are not rescaled, as in the usual protocols
(Kornblith et al. 2019, appendix B; Ericsson et al. 2021, section 3).
"""

PADDING, SMALL_JOB, LARGEST_GROUPED = 1.3, 80, 512
"""Jobs share a batch up to this ratio of training rows, or up to so few rows; larger jobs fill the cores alone."""
ITERATION_ARRAYS = 30
"""Arrays of parameters or logits that an iteration holds: ten pairs of L-BFGS and the work in progress."""
EQUAL = 1e-28
"""Squared distance, relative to the squared length, below which rows differ by rounding only."""
LEAST_SPREAD = 1e-6
"""Squared distance of a job's rows from their mean, relative to that from the mean of the pool, below which inner
products about the latter keep too few digits."""


@dataclass(frozen=True)
class FittedLinear:
    """softmax(x W + b)."""

    weights: NDArray[Any]
    """(D, C) float64."""
    intercepts: NDArray[Any]
    """(C,) float64; -inf for a class that training lacked."""
    chosen: Mapping[str, Any]
    """`strength`, and whether it `is_converged`."""

    def predict_proba(self, blocks: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """(B, C) probabilities of (B, D) features."""
        probabilities: NDArray[Any] = np.exp(self.log_proba(blocks))
        return probabilities

    def log_proba(self, blocks: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """(B, C) float64 log probabilities; -inf for a class that training lacked."""
        logits = self.logits(only_block(blocks))
        peak = logits.max(axis=1, keepdims=True)
        log_probabilities: NDArray[Any] = logits - peak - np.log(np.exp(logits - peak).sum(axis=1, keepdims=True))
        return log_probabilities

    def logits(self, features: NDArray[Any]) -> NDArray[Any]:
        """(B, C) float64."""
        logits: NDArray[Any] = features.astype(np.float64) @ self.weights + self.intercepts
        return logits

    def arrays(self) -> dict[str, NDArray[Any]]:
        """See FittedHead."""
        return {"weights": self.weights, "intercepts": self.intercepts}

    def settings(self) -> dict[str, Any]:
        """See FittedHead."""
        return {"chosen": dict(self.chosen)}

    @classmethod
    def restored(cls, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> FittedLinear:
        """See FittedHead."""
        return cls(arrays["weights"], arrays["intercepts"], settings["chosen"])


@dataclass(frozen=True)
class Linear:
    """Exact L2 logistic regression; the strength with the lowest validation log loss wins."""

    strengths: tuple[float, ...] = STRENGTHS
    """The path, see STRENGTHS. Without validation rows the middle of it is taken."""
    name: str = "linear"
    is_fusion: bool = False

    @staticmethod
    def fit_together(
        jobs: Sequence[Job], data: Embedded, runtime: Runtime, progress: Progress
    ) -> Iterator[tuple[int, FittedHead]]:
        """Fit jobs of like size and all strengths together, in groups that fit the memory budget."""
        n_fitted = 0
        for (backbones, head), members in by_backbones(jobs).items():
            assert isinstance(head, Linear)
            features = only_block(data.blocks(backbones, slice(None)))
            sizes = {index: len(jobs[index].train) for index in members}
            bytes_of = _Footprint(features.shape[1], data.n_classes, len(head.strengths))
            budget = runtime.memory_budget("cpu")
            pool = _pooled([jobs[index] for index in members], features, budget // 2)
            rest = budget if pool is None else budget - pool.n_bytes
            for group in _alike(sizes, bytes_of, rest):
                heads = _fit_group([jobs[index] for index in group], features, pool, data, head.strengths)
                n_fitted += len(group)
                progress("fit linear", n_fitted, len(jobs))
                yield from zip(group, heads, strict=True)


@dataclass(frozen=True)
class _Footprint:
    """Bytes that the fit of a job holds."""

    dim: int
    n_classes: int
    n_strengths: int

    def __call__(self, n_rows: int) -> int:
        """For a job of so many training rows."""
        width = n_rows if is_spanned(n_rows, self.dim) else self.dim
        rows = 3 * n_rows * self.dim + 3 * n_rows * width
        columns = self.n_strengths * self.n_classes
        return 8 * (rows + ITERATION_ARRAYS * columns * (n_rows + width) + 2 * columns * self.dim)


def _alike(sizes: Mapping[int, int], bytes_of: _Footprint, budget: int) -> list[list[int]]:
    """Keys of like sizes: padded to the largest of a group, little is wasted, and all of it fits the budget."""
    groups: list[list[int]] = []
    for key in sorted(sizes, key=lambda key: sizes[key]):
        size = sizes[key]
        group = groups[-1] if groups else []
        is_close = bool(group) and size <= max(PADDING * sizes[group[0]], SMALL_JOB)
        fits = size <= LARGEST_GROUPED and (len(group) + 1) * bytes_of(size) <= budget
        if is_close and fits:
            group.append(key)
        else:
            groups.append([key])
    return groups


@dataclass(frozen=True)
class _Pool:
    """All P rows that some jobs name, and their inner products: computed once, for the jobs share most rows."""

    members: NDArray[np.int64]
    """(P,) row numbers, ascending."""
    centre: Tensor
    """(D,)."""
    rows: Tensor
    """(P, D) float64, centred."""
    gram: NDArray[np.float64]
    """(P, P)."""

    @property
    def n_bytes(self) -> int:
        """Of the rows, their products, and as many again while a block is taken out."""
        return self.rows.nbytes + 2 * self.gram.nbytes

    def positions(self, rows: NDArray[np.int64]) -> Tensor:
        """Where row numbers lie in the pool."""
        return torch.from_numpy(np.searchsorted(self.members, rows))

    def block(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Tensor:
        """(n, m) inner products."""
        part = self.gram[np.searchsorted(self.members, rows)]
        return torch.from_numpy(part.take(np.searchsorted(self.members, columns), axis=1))


def _pooled(jobs: Sequence[Job], features: NDArray[Any], budget: int) -> _Pool | None:
    """The pool of the jobs that are solved from Gram matrices, if it has fewer products than they on their own."""
    dim = features.shape[1]
    few = [job for job in jobs if is_spanned(len(job.train), dim)]
    if not few:
        return None
    members = np.unique(np.concatenate([rows for job in few for rows in (job.train, job.validation)]))
    n_rows = len(members)
    if n_rows**2 > sum(len(job.train) ** 2 for job in few) or 8 * n_rows * (2 * n_rows + 3 * dim) > budget:
        return None
    rows = features[members].astype(np.float64)
    centre = rows.mean(axis=0)
    rows -= centre
    gram = rows @ rows.T  # NumPy sees the symmetry, which halves the work
    return _Pool(members, torch.from_numpy(centre), torch.from_numpy(rows), gram)


def _fit_group(
    jobs: Sequence[Job], features: NDArray[Any], pool: _Pool | None, data: Embedded, strengths: tuple[float, ...]
) -> list[FittedHead]:
    """Fit, and choose on each job's validation rows: from the pool where it serves, else from the job's own rows."""
    grams: dict[int, Tensor] = {}
    for index, job in enumerate(jobs):
        if pool is not None and is_spanned(len(job.train), features.shape[1]):
            gram = pool.block(job.train, job.train)
            if _spread(gram) > LEAST_SPREAD * gram.trace():
                grams[index] = gram
    heads: dict[int, FittedHead] = {}
    if pool is not None and grams:
        pooled = _fit_from_pool([jobs[index] for index in grams], list(grams.values()), pool, data, strengths)
        heads |= zip(grams, pooled, strict=True)
    others = [index for index in range(len(jobs)) if index not in grams]
    if others:
        heads |= zip(others, _fit_from_rows([jobs[index] for index in others], features, data, strengths), strict=True)
    return [heads[index] for index in range(len(jobs))]


def _fit_from_rows(
    jobs: Sequence[Job], features: NDArray[Any], data: Embedded, strengths: tuple[float, ...]
) -> list[FittedHead]:
    """Gather each job's own rows."""
    rows = [torch.from_numpy(features[job.train]).double() for job in jobs]
    path = torch.tensor(strengths, dtype=torch.float64)
    scales = [_squared_distance(own) * path for own in rows]
    fits = fit_logistic(rows, [_targets(data, job.train) for job in jobs], scales, data.n_classes)
    heads: list[FittedHead] = []
    for job, fit in zip(jobs, fits, strict=True):
        best = _best(fit, torch.from_numpy(features[job.validation]).double(), _targets(data, job.validation))
        weights = fit.weights[best].numpy().copy()  # not a view that keeps the whole path
        heads.append(_head(fit, best, weights, fit.intercepts[best], strengths))
    return heads


def _fit_from_pool(
    jobs: Sequence[Job], grams: Sequence[Tensor], pool: _Pool, data: Embedded, strengths: tuple[float, ...]
) -> list[FittedHead]:
    """Work with inner products; only the weights of the chosen strengths take the features."""
    path = torch.tensor(strengths, dtype=torch.float64)
    scales = [_spread(gram) * path for gram in grams]
    fits = fit_from_gram(grams, [_targets(data, job.train) for job in jobs], scales, data.n_classes)
    best = [
        _best(fit, pool.block(job.validation, job.train), _targets(data, job.validation))
        for job, fit in zip(jobs, fits, strict=True)
    ]
    placed = torch.zeros(len(jobs), data.n_classes, len(pool.members), dtype=torch.float64)
    for own, job, fit, chosen in zip(placed, jobs, fits, best, strict=True):
        own.index_add_(1, pool.positions(job.train), fit.weights[chosen].T.contiguous())
    weights = (placed.flatten(0, 1) @ pool.rows).view(len(jobs), data.n_classes, -1).mT
    return [
        _head(fit, chosen, own.contiguous().numpy().copy(), fit.intercepts[chosen] - pool.centre @ own, strengths)
        for own, fit, chosen in zip(weights, fits, best, strict=True)
    ]


def _head(
    fit: LogisticFit, best: int, weights: NDArray[Any], intercepts: Tensor, strengths: tuple[float, ...]
) -> FittedLinear:
    """Intercepts of a mean that tells nothing, for a shift of all changes no probability: 0."""
    is_present = intercepts.isfinite()
    chosen = {"strength": strengths[best], "is_converged": bool(fit.is_converged[best])}
    return FittedLinear(weights, (intercepts - intercepts[is_present].mean()).numpy(), chosen)


def _targets(data: Embedded, rows: NDArray[np.int64]) -> Tensor:
    """(n,) int64 labels."""
    return torch.from_numpy(data.labels[rows].astype(np.int64))


def _spread(gram: Tensor) -> Tensor:
    """Summed squared distance from their mean of rows with an (n, n) Gram matrix."""
    return gram.trace() - gram.sum() / len(gram)


def _squared_distance(rows: Tensor) -> Tensor:
    """Summed squared distance of (n, D) rows from their mean; n where all rows are equal, up to rounding."""
    distance = (rows - rows.mean(dim=0)).square().sum()
    return torch.where(distance > EQUAL * rows.square().sum(), distance, float(len(rows)))


def _best(fit: LogisticFit, inputs: Tensor, targets: Tensor) -> int:
    """The strength with the least mean log loss on (v, D) rows or (v, n) products; the middle one without a row.

    A class that training lacked costs a bounded amount.
    """
    if not len(targets):
        return len(fit.weights) // 2
    logits = inputs @ fit.weights + fit.intercepts[:, None]
    log_probabilities = torch.log_softmax(logits, dim=-1).clamp_min(np.log(1e-15))
    return int((-log_probabilities[:, torch.arange(len(targets)), targets].mean(dim=1)).argmin())
