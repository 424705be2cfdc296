"""The linear probe: exact logistic regression over a path of strengths, one of them chosen on validation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError
from dvme.heads.exact.footprint import Footprint, alike
from dvme.heads.exact.gram_pool import GramPool, pooled
from dvme.heads.exact.logistic import LogisticFit, fit_from_gram, fit_logistic, is_spanned
from dvme.heads.exact.spreads import spread_of_gram, spread_of_rows
from dvme.heads.fitting.jobs import Embedded, FittedHead, Job, by_backbones, only_block
from dvme.limits import every, positive
from dvme.runtime import Progress, Runtime
from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = deferred("torch")

STRENGTHS = tuple(float(10.0 ** (exponent / 2)) for exponent in range(-12, -1))
"""Penalties per training row, relative to the rows' mean squared distance from their mean: 1e-6 to 1e-1.

Relative, so that one path serves every backbone whatever the scale of its features; a job's own
training rows set the scale. The features themselves are not rescaled, as in the usual protocols
(Kornblith et al. 2019, appendix B; Ericsson et al. 2021, section 3).
"""

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
        return log_softmax(self.logits(only_block(blocks)))

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

    strengths: Sequence[float] = STRENGTHS
    """The path, see STRENGTHS; kept as a tuple. Without validation rows the middle of it is taken."""
    name: str = "linear"
    is_fusion: bool = False
    revision: ClassVar[int] = 1

    def __post_init__(self) -> None:
        """Refuse what is no path."""
        object.__setattr__(self, "strengths", every("strengths", self.strengths, positive))

    def least_bytes(self, n_rows: int, dims: Sequence[int], n_classes: int) -> int:
        """See Bounded."""
        return Footprint(sum(dims), n_classes)(n_rows, 1)

    @staticmethod
    def fit_together(
        jobs: Sequence[Job], data: Embedded, runtime: Runtime, progress: Progress
    ) -> Iterator[tuple[int, FittedHead]]:
        """Fit jobs of like size and all strengths together, in groups that fit the memory budget.

        A single job that does not fit it takes some strengths after the others.

        Raises:
            OptionError: if the budget does not hold a job at a single strength.
            DataError: if a job is finite at no strength.
        """
        n_fitted = 0
        for (backbones, head), members in by_backbones(jobs).items():
            assert isinstance(head, Linear)
            features = only_block(data.blocks(backbones, slice(None)))
            sizes = {index: len(jobs[index].train) for index in members}
            footprint, n_strengths = Footprint(features.shape[1], data.n_classes), len(head.strengths)
            budget, largest = runtime.memory_budget("cpu"), max(sizes.values())
            room = budget - footprint(largest, 1)
            pool = pooled([jobs[index] for index in members], features, min(budget // 2, room))
            rest = budget if pool is None else budget - pool.n_bytes
            at_once = {size: footprint.at_once(size, n_strengths, rest) for size in set(sizes.values())}
            for group in alike(sizes, footprint, n_strengths, rest):
                path = _Path(head.strengths, min(at_once[sizes[index]] for index in group))
                heads = _fit_group([jobs[index] for index in group], features, pool, data, path)
                n_fitted += len(group)
                progress("fit linear", n_fitted, len(jobs))
                yield from zip(group, heads, strict=True)


@dataclass(frozen=True)
class _Path:
    """Strengths to choose from, some of them at once."""

    strengths: Sequence[float]
    at_once: int


@dataclass(frozen=True)
class _Optimum:
    """Of one job, at one strength."""

    position: int
    """Of the strength on the path."""
    loss: float
    """Mean log loss on the validation rows; without any, the distance from the middle of the path. inf where either
    or the parameters are not finite."""
    weights: Tensor
    """(D, C) or (n, C), see LogisticFit."""
    intercepts: Tensor
    """(C,)."""
    is_converged: bool


def log_softmax(logits: NDArray[Any]) -> NDArray[Any]:
    """(B, C) log probabilities of (B, C) logits."""
    away = logits - logits.max(axis=1, keepdims=True)
    logs: NDArray[Any] = away - np.log(np.exp(away).sum(axis=1, keepdims=True))
    return logs


def _fit_group(
    jobs: Sequence[Job], features: NDArray[Any], pool: GramPool | None, data: Embedded, path: _Path
) -> list[FittedHead]:
    """Fit, and choose on each job's validation rows: from the pool where it serves, else from the job's own rows."""
    grams: dict[int, Tensor] = {}
    for index, job in enumerate(jobs):
        if pool is not None and is_spanned(len(job.train), features.shape[1]):
            gram = pool.block(job.train, job.train)
            if spread_of_gram(gram) > LEAST_SPREAD * gram.trace():
                grams[index] = gram
    heads: dict[int, FittedHead] = {}
    if pool is not None and grams:
        from_pool = _fit_from_pool([jobs[index] for index in grams], list(grams.values()), pool, data, path)
        heads |= zip(grams, from_pool, strict=True)
    others = [index for index in range(len(jobs)) if index not in grams]
    if others:
        heads |= zip(others, _fit_from_rows([jobs[index] for index in others], features, data, path), strict=True)
    return [heads[index] for index in range(len(jobs))]


def _fit_from_rows(jobs: Sequence[Job], features: NDArray[Any], data: Embedded, path: _Path) -> list[FittedHead]:
    """Gather each job's own rows."""
    rows = [torch.from_numpy(features[job.train]).double() for job in jobs]
    optima = _optima(
        jobs,
        data,
        path,
        spreads=[spread_of_rows(own, _weights(data, job.train)) for own, job in zip(rows, jobs, strict=True)],
        fit=partial(fit_logistic, rows),
        inputs=lambda job: torch.from_numpy(features[job.validation]).double(),
    )
    return [_head(optimum, optimum.weights, optimum.intercepts, path) for optimum in optima]


def _fit_from_pool(
    jobs: Sequence[Job], grams: Sequence[Tensor], pool: GramPool, data: Embedded, path: _Path
) -> list[FittedHead]:
    """Work with inner products; only the weights of the chosen strengths take the features."""
    optima = _optima(
        jobs,
        data,
        path,
        spreads=[spread_of_gram(gram, _weights(data, job.train)) for gram, job in zip(grams, jobs, strict=True)],
        fit=partial(fit_from_gram, grams),
        inputs=lambda job: pool.block(job.validation, job.train),
    )
    placed = torch.zeros(len(jobs), data.n_classes, len(pool.members), dtype=torch.float64)
    for own, job, optimum in zip(placed, jobs, optima, strict=True):
        own.index_add_(1, pool.positions(job.train), optimum.weights.T.contiguous())
    weights = (placed.flatten(0, 1) @ pool.rows).view(len(jobs), data.n_classes, -1).mT
    return [
        _head(optimum, own, optimum.intercepts - pool.centre @ own, path)
        for own, optimum in zip(weights, optima, strict=True)
    ]


def _optima(
    jobs: Sequence[Job],
    data: Embedded,
    path: _Path,
    *,
    spreads: Sequence[Tensor],
    fit: Callable[..., list[LogisticFit]],
    inputs: Callable[[Job], Tensor],
) -> list[_Optimum]:
    """Every job's best optimum. Strengths do not depend on each other, and of those that are done the best is kept.

    Args:
        jobs: what to fit.
        data: their labels.
        path: strengths, relative to the spreads.
        spreads: summed squared distance of each job's rows from their mean.
        fit: solves all jobs, given their targets and strengths, C, and weights.
        inputs: what a job's optima take for its validation rows, (v, D) or (v, n).
    """
    strengths = torch.tensor(path.strengths, dtype=torch.float64)
    targets = [_targets(data, job.train) for job in jobs]
    weights = None if data.weights is None else [_weights(data, job.train) for job in jobs]
    middle = len(strengths) // 2
    best: list[_Optimum] = []
    for start in range(0, len(strengths), path.at_once):
        part = strengths[start : start + path.at_once]
        fits = fit(targets, [spread * part for spread in spreads], data.n_classes, weights)
        found = [
            _best(own, inputs(job), _targets(data, job.validation), _weights(data, job.validation), start, middle)
            for job, own in zip(jobs, fits, strict=True)
        ]
        del fits
        best = [min(pair, key=lambda optimum: optimum.loss) for pair in zip(best or found, found, strict=True)]
    for job, optimum in zip(jobs, best, strict=True):
        if optimum.loss == np.inf:
            raise DataError(
                f"{job.head.name} on {'+'.join(job.backbones)} diverged: no strength had a finite loss; rescale its "
                "embeddings, or leave it out"
            )
    return best


def _best(
    fit: LogisticFit, inputs: Tensor, targets: Tensor, weights: Tensor | None, start: int, middle: int
) -> _Optimum:
    """The strength with the least mean log loss on (v, D) rows or (v, n) products; the middle one without a row.

    A class that training lacked costs a bounded amount. `start` is the first strength's position on the path.
    """
    if len(targets):
        losses = [
            _log_loss(inputs @ own + shift, targets, weights)
            for own, shift in zip(fit.weights, fit.intercepts, strict=True)
        ]
    else:
        losses = [float(abs(start + index - middle)) for index in range(len(fit.weights))]
    is_sound = fit.weights.isfinite().all(2).all(1) & ~fit.intercepts.isnan().any(1)
    losses = [loss if sound and np.isfinite(loss) else np.inf for loss, sound in zip(losses, is_sound, strict=True)]
    index = int(np.argmin(losses))
    # Copies, not views that keep the whole path.
    weights, intercepts = fit.weights[index].clone(), fit.intercepts[index].clone()
    return _Optimum(start + index, losses[index], weights, intercepts, bool(fit.is_converged[index]))


def _log_loss(logits: Tensor, targets: Tensor, weights: Tensor | None) -> float:
    """Mean over (v, C) logits, by (v,) weights if there are any."""
    log_probabilities = torch.log_softmax(logits, dim=-1).clamp_min(np.log(1e-15))
    losses = -log_probabilities[torch.arange(len(targets)), targets]
    return float(losses.mean() if weights is None else losses @ weights / weights.sum())


def _head(optimum: _Optimum, weights: Tensor, intercepts: Tensor, path: _Path) -> FittedLinear:
    """Intercepts of a mean that tells nothing, for a shift of all changes no probability: 0."""
    is_present = intercepts.isfinite()
    chosen = {"strength": path.strengths[optimum.position], "is_converged": optimum.is_converged}
    own = weights.contiguous().numpy().copy()
    return FittedLinear(own, (intercepts - intercepts[is_present].mean()).numpy(), chosen)


def _targets(data: Embedded, rows: NDArray[np.int64]) -> Tensor:
    """(n,) int64 labels."""
    return torch.from_numpy(data.labels[rows].astype(np.int64))


def _weights(data: Embedded, rows: NDArray[np.int64]) -> Tensor | None:
    """(n,) float64."""
    weights = data.weights_of(rows)
    return None if weights is None else torch.from_numpy(weights)
