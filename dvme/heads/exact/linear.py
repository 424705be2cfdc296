"""The linear probe: exact logistic regression over a path of strengths, one of them chosen on validation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dvme.heads.exact.choice import Optimum, Path, optima, weights_of
from dvme.heads.exact.footprint import Footprint, alike
from dvme.heads.exact.gram_pool import GramPool, pooled
from dvme.heads.exact.labels import LabelOptima, LabelRows, label_optima
from dvme.heads.exact.logistic import fit_from_gram, fit_logistic, is_spanned
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
    """softmax(x W + b), or of several labels sigmoid(x W + b)."""

    weights: NDArray[Any]
    """(D, C) float64."""
    intercepts: NDArray[Any]
    """(C,) float64; -inf for a class that training lacked, of a label that all rows had inf."""
    chosen: Mapping[str, Any]
    """`strength`, and whether it `is_converged`; of several labels see `LabelOptima`."""
    is_multilabel: bool = False
    """Whether probabilities are independent."""

    def predict_proba(self, blocks: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """(B, C) probabilities of (B, D) features."""
        probabilities: NDArray[Any] = np.exp(self.log_proba(blocks))
        return probabilities

    def log_proba(self, blocks: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """(B, C) float64 log probabilities; -inf for a class that training lacked."""
        return log_proba_of(self.logits(only_block(blocks)), is_multilabel=self.is_multilabel)

    def logits(self, features: NDArray[Any]) -> NDArray[Any]:
        """(B, C) float64."""
        logits: NDArray[Any] = features.astype(np.float64) @ self.weights + self.intercepts
        return logits

    def arrays(self) -> dict[str, NDArray[Any]]:
        """See FittedHead."""
        return {"weights": self.weights, "intercepts": self.intercepts}

    def settings(self) -> dict[str, Any]:
        """See FittedHead."""
        return {"chosen": dict(self.chosen)} | ({"is_multilabel": True} if self.is_multilabel else {})

    @classmethod
    def restored(cls, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> FittedLinear:
        """See FittedHead."""
        is_multilabel = settings.get("is_multilabel", False)
        return cls(arrays["weights"], arrays["intercepts"], settings["chosen"], is_multilabel)


@dataclass(frozen=True)
class Linear:
    """Exact L2 logistic regression; the strength with the lowest validation log loss wins.

    Of several labels each has a regression, a strength and rows of its own: those where it is known.
    """

    strengths: Sequence[float] = STRENGTHS
    """The path, see STRENGTHS; kept as a tuple. Without validation rows the middle of it is taken."""
    name: str = "linear"
    is_fusion: bool = False
    revision: ClassVar[int] = 1

    def __post_init__(self) -> None:
        """Refuse what is no path."""
        object.__setattr__(self, "strengths", every("strengths", self.strengths, positive))

    def least_bytes(self, n_rows: int, dims: Sequence[int], n_classes: int, *, is_multilabel: bool = False) -> int:
        """See Bounded."""
        return Footprint(sum(dims), n_classes, is_multilabel)(n_rows, 1)

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
            footprint = Footprint(features.shape[1], data.n_classes, data.is_multilabel)
            n_strengths = len(head.strengths)
            budget, largest = runtime.memory_budget("cpu"), max(sizes.values())
            room = budget - footprint(largest, 1)
            pool = pooled([jobs[index] for index in members], features, min(budget // 2, room))
            rest = budget if pool is None else budget - pool.n_bytes
            at_once = {size: footprint.at_once(size, n_strengths, rest) for size in set(sizes.values())}
            for group in alike(sizes, footprint, n_strengths, rest):
                path = Path(head.strengths, min(at_once[sizes[index]] for index in group))
                heads = _fit_group([jobs[index] for index in group], features, pool, data, path)
                n_fitted += len(group)
                progress("fit linear", n_fitted, len(jobs))
                yield from zip(group, heads, strict=True)


def log_proba_of(logits: NDArray[Any], *, is_multilabel: bool) -> NDArray[Any]:
    """(B, C) log probabilities of (B, C) logits."""
    if is_multilabel:
        from scipy.special import log_expit

        independent: NDArray[Any] = log_expit(logits)
        return independent
    away = logits - logits.max(axis=1, keepdims=True)
    logs: NDArray[Any] = away - np.log(np.exp(away).sum(axis=1, keepdims=True))
    return logs


def _fit_group(
    jobs: Sequence[Job], features: NDArray[Any], pool: GramPool | None, data: Embedded, path: Path
) -> list[FittedHead]:
    """Fit, and choose on each job's validation rows: from the pool where it serves, else from the job's own rows."""
    grams: dict[int, Tensor] = {}
    for index, job in enumerate(jobs):
        if pool is not None and is_spanned(len(job.train), features.shape[1]):
            gram = pool.block(job.train, job.train)
            spreads = _spreads(data, job, partial(spread_of_gram, gram)) if data.is_multilabel else spread_of_gram(gram)
            if bool((spreads > LEAST_SPREAD * gram.trace()).all()):
                grams[index] = gram
    heads: dict[int, FittedHead] = {}
    if pool is not None and grams:
        from_pool = _fit_from_pool([jobs[index] for index in grams], list(grams.values()), pool, data, path)
        heads |= zip(grams, from_pool, strict=True)
    others = [index for index in range(len(jobs)) if index not in grams]
    if others:
        heads |= zip(others, _fit_from_rows([jobs[index] for index in others], features, data, path), strict=True)
    return [heads[index] for index in range(len(jobs))]


def _fit_from_rows(jobs: Sequence[Job], features: NDArray[Any], data: Embedded, path: Path) -> list[FittedHead]:
    """Gather each job's own rows."""
    rows = [torch.from_numpy(features[job.train]).double() for job in jobs]
    found = _optima(data)(
        jobs,
        data,
        path,
        spreads=[_spreads(data, job, partial(spread_of_rows, own)) for own, job in zip(rows, jobs, strict=True)],
        fit=partial(fit_logistic, rows),
        inputs=lambda job: torch.from_numpy(features[job.validation]).double(),
    )
    return [_head(optimum, optimum.weights, optimum.intercepts, path) for optimum in found]


def _fit_from_pool(
    jobs: Sequence[Job], grams: Sequence[Tensor], pool: GramPool, data: Embedded, path: Path
) -> list[FittedHead]:
    """Work with inner products; only the weights of the chosen strengths take the features."""
    found = _optima(data)(
        jobs,
        data,
        path,
        spreads=[_spreads(data, job, partial(spread_of_gram, gram)) for gram, job in zip(grams, jobs, strict=True)],
        fit=partial(fit_from_gram, grams),
        inputs=lambda job: pool.block(job.validation, job.train),
    )
    placed = torch.zeros(len(jobs), data.n_classes, len(pool.members), dtype=torch.float64)
    for own, job, optimum in zip(placed, jobs, found, strict=True):
        own.index_add_(1, pool.positions(job.train), optimum.weights.T.contiguous())
    weights = (placed.flatten(0, 1) @ pool.rows).view(len(jobs), data.n_classes, -1).mT
    return [
        _head(optimum, own, optimum.intercepts - pool.centre @ own, path)
        for own, optimum in zip(weights, found, strict=True)
    ]


def _optima(data: Embedded) -> Callable[..., Sequence[Optimum | LabelOptima]]:
    return label_optima if data.is_multilabel else optima


def _spreads(data: Embedded, job: Job, of: Callable[[Tensor | None], Tensor]) -> Tensor:
    """Of a job's training rows, given what tells it by weights; of several labels (L,), each on rows of its own."""
    return LabelRows.of(data, job).each(of) if data.is_multilabel else of(weights_of(data, job.train))


def _head(optimum: Optimum | LabelOptima, weights: Tensor, intercepts: Tensor, path: Path) -> FittedLinear:
    """Intercepts of a mean that tells nothing, for a shift of all changes no probability: 0."""
    own, chosen = weights.contiguous().numpy().copy(), optimum.chosen(path)
    if isinstance(optimum, LabelOptima):
        return FittedLinear(own, intercepts.numpy(), chosen, is_multilabel=True)
    is_present = intercepts.isfinite()
    return FittedLinear(own, (intercepts - intercepts[is_present].mean()).numpy(), chosen)
