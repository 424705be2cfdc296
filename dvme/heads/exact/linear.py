"""The linear probe: exact logistic regression over a path of strengths, one of them chosen on validation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError, OptionError
from dvme.heads.exact.choice import Optimum, Path, optima, weights_of
from dvme.heads.exact.cumulative import cumulative_log_proba, fit_cumulative
from dvme.heads.exact.footprint import Footprint, alike
from dvme.heads.exact.gram_pool import GramPool, pooled
from dvme.heads.exact.labels import LabelOptima, LabelRows, label_optima
from dvme.heads.exact.logistic import LogisticFit, fit_from_gram, fit_logistic, is_spanned
from dvme.heads.exact.spreads import spread_of_gram, spread_of_rows
from dvme.heads.exact.streaming import StreamPlan, streamed_optimum
from dvme.heads.fitting.jobs import Embedded, FittedHead, Job, by_backbones, only_block
from dvme.heads.fitting.row_blocks import RowArray, RowsOf, row_blocks
from dvme.limits import every, positive
from dvme.metrics.grades import expected_grades, kappa_cuts
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

SOFTMAX, CUMULATIVE = "softmax", "cumulative"
LINKS = (SOFTMAX, CUMULATIVE)
ARGMAX, KAPPA = "argmax", "kappa"
TUNED = (ARGMAX, KAPPA)

LEAST_SPREAD = 1e-6
"""Squared distance of a job's rows from their mean, relative to that from the mean of the pool, below which inner
products about the latter keep too few digits."""


@dataclass(frozen=True)
class FittedLinear:
    """softmax(x W + b), or of several labels sigmoid(x W + b); or of classes in order one score and its cuts."""

    weights: NDArray[Any]
    """(D, C) float64; (D, 1) of one score."""
    intercepts: NDArray[Any]
    """(C,) float64; -inf for a class that training lacked, of a label that all rows had inf. Of one score (C - 1,), the
    cuts, which fall."""
    chosen: Mapping[str, Any]
    """`strength`, and whether it `is_converged`; of several labels see `LabelOptima`. Where they were tuned, the `cuts`
    of `predicted_classes`."""
    is_multilabel: bool = False
    """Whether probabilities are independent."""
    link: str = SOFTMAX
    """Of LINKS: how logits become probabilities."""

    def predict_proba(self, blocks: Sequence[RowArray]) -> NDArray[Any]:
        """(B, C) probabilities of (B, D) features."""
        probabilities: NDArray[Any] = np.exp(self.log_proba(blocks))
        return probabilities

    def log_proba(self, blocks: Sequence[RowArray]) -> NDArray[Any]:
        """(B, C) float64 log probabilities; -inf for a class that training lacked."""
        logits = self.logits(only_block(blocks))
        return log_proba_of(logits, is_multilabel=self.is_multilabel, link=self.link)

    def logits(self, features: RowArray) -> NDArray[Any]:
        """(B, C) float64, block by block; by cumulative link (B, C - 1) log odds of a class above each."""
        logits = np.empty((len(features), len(self.intercepts)))
        for part, block in row_blocks(features):
            logits[part] = block.astype(np.float64) @ self.weights + self.intercepts
        return logits

    def arrays(self) -> dict[str, NDArray[Any]]:
        """See FittedHead."""
        return {"weights": self.weights, "intercepts": self.intercepts}

    def settings(self) -> dict[str, Any]:
        """See FittedHead."""
        own: dict[str, Any] = {"chosen": dict(self.chosen)} | ({"is_multilabel": True} if self.is_multilabel else {})
        return own if self.link == SOFTMAX else own | {"link": self.link}

    @classmethod
    def restored(cls, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> FittedLinear:
        """See FittedHead."""
        is_multilabel = settings.get("is_multilabel", False)
        link = settings.get("link", SOFTMAX)
        return cls(arrays["weights"], arrays["intercepts"], settings["chosen"], is_multilabel, link)


@dataclass(frozen=True)
class Linear:
    """Exact L2 logistic regression; the strength with the lowest validation log loss wins.

    Of several labels each has a regression, a strength and rows of its own: those where it is known.

    Example:
        >>> head = dvme.Linear(strengths=[0.001, 0.1])
        >>> report = dvme.probe("my.zarr", heads=[head], backbones="dino", n_folds=2)
    """

    strengths: Sequence[float] = STRENGTHS
    """The path, see STRENGTHS; kept as a tuple. Without validation rows the middle of it is taken."""
    link: str = SOFTMAX
    """`softmax`; or `cumulative` for classes in order: one score and a cut between each class and the next, which is
    proportional odds (McCullagh 1980). Of two classes they are the same."""
    tune: str = ARGMAX
    """What an image is taken for: `argmax`, its most probable class; or `kappa` for classes in order: the expected
    grade is cut where quadratic kappa on validation is largest. Probabilities stay as they are, and so does all that
    goes by them, such as the AUC. Without two classes on validation it is `argmax`."""
    name: str = "linear"
    is_fusion: bool = False
    reads_blocks: ClassVar[bool] = True
    revision: ClassVar[int] = 1

    def __post_init__(self) -> None:
        """Refuse what is no path."""
        object.__setattr__(self, "strengths", every("strengths", self.strengths, positive))
        for name, value, known in (("link", self.link, LINKS), ("tune", self.tune, TUNED)):
            if value not in known:
                raise OptionError(f"{name} {value!r} is not known; choose from {', '.join(known)}")

    def least_bytes(self, n_rows: int, dims: Sequence[int], n_classes: int, *, is_multilabel: bool = False) -> int:
        """See Bounded."""
        return Footprint(sum(dims), n_classes, is_multilabel)(n_rows, 1)

    @staticmethod
    def fit_together(
        jobs: Sequence[Job], data: Embedded, runtime: Runtime, progress: Progress
    ) -> Iterator[tuple[int, FittedHead]]:
        """Fit jobs of like size and all strengths together, in groups that fit the memory budget.

        A single job that does not fit it takes some strengths after the others; one that does not fit it at a single
        strength is streamed, see `streaming`.

        With K views of n images the loss is the mean over all K n rows, each view of an image counting 1 / K of it, and
        the penalty is that of one row: strengths mean what they mean without views.

        Raises:
            OptionError: if the budget does not hold a job at a single strength, nor its streaming.
            DataError: if a job is finite at no strength, or is to take several labels for classes in order.
        """
        n_fitted = 0
        jobs = [replace(job, train=data.every_view(job.train)) for job in jobs]
        for (_, head), members in by_backbones(jobs).items():
            assert isinstance(head, Linear)
            if data.is_multilabel and (head.link, head.tune) != (SOFTMAX, ARGMAX):
                raise DataError(
                    "images with several labels have no order of classes; take linear without link and tune"
                )
            for group in _fit_alike(head, {index: jobs[index] for index in members}, data, runtime, progress):
                n_fitted += len(group)
                progress("fit linear", n_fitted, len(jobs))
                yield from group.items()


def _fit_alike(
    head: Linear, jobs: Mapping[int, Job], data: Embedded, runtime: Runtime, progress: Progress
) -> Iterator[dict[int, FittedLinear]]:
    """Jobs of one head on one backbone, by their positions: those that fit in memory, then those that are streamed."""
    features = data.embeddings[next(iter(jobs.values())).backbones[0]]
    n_strengths, budget = len(head.strengths), runtime.memory_budget("cpu")
    footprint = Footprint(features.shape[1], data.n_classes, data.is_multilabel)
    is_cumulative, is_tuned = head.link == CUMULATIVE and data.n_classes > 2, head.tune == KAPPA
    path = Path(head.strengths, n_strengths, _cumulative_log_proba if is_cumulative else None)
    plans = {} if is_cumulative or data.is_multilabel else _plans(jobs, footprint, n_strengths, budget)
    held = {index: job for index, job in jobs.items() if index not in plans}
    groups = _fit_held(held, features, data, path, footprint, budget) if held else iter(())
    for group in groups:
        yield {index: _tuned(own, jobs[index], features, data) for index, own in group.items()} if is_tuned else group
    for index, plan in plans.items():
        optimum, took = streamed_optimum(jobs[index], data, path, plan, progress)
        own = _head(optimum, optimum.weights, optimum.intercepts, path)
        own = replace(own, chosen={**own.chosen, "streamed": took})
        yield {index: _tuned(own, jobs[index], features, data) if is_tuned else own}


def _fit_held(
    jobs: Mapping[int, Job], features: RowArray, data: Embedded, path: Path, footprint: Footprint, budget: int
) -> Iterator[dict[int, FittedLinear]]:
    """Jobs that fit in memory, those of like size together."""
    sizes, n_strengths = {index: len(job.train) for index, job in jobs.items()}, len(path.strengths)
    room = budget - footprint(max(sizes.values()), 1)
    pool = pooled(list(jobs.values()), features, min(budget // 2, room))
    rest = budget if pool is None else budget - pool.n_bytes
    at_once = {size: footprint.at_once(size, n_strengths, rest) for size in set(sizes.values())}
    for group in alike(sizes, footprint, n_strengths, rest):
        some = replace(path, at_once=min(at_once[sizes[index]] for index in group))
        heads = _fit_group([jobs[index] for index in group], features, pool, data, some)
        yield dict(zip(group, heads, strict=True))


def log_proba_of(logits: NDArray[Any], *, is_multilabel: bool, link: str = SOFTMAX) -> NDArray[Any]:
    """(B, C) log probabilities of (B, C) logits; of cumulative ones, (B, C - 1)."""
    if link == CUMULATIVE:
        return cumulative_log_proba(logits)
    if is_multilabel:
        from scipy.special import log_expit

        independent: NDArray[Any] = log_expit(logits)
        return independent
    away = logits - logits.max(axis=1, keepdims=True)
    logs: NDArray[Any] = away - np.log(np.exp(away).sum(axis=1, keepdims=True))
    return logs


def _plans(jobs: Mapping[int, Job], footprint: Footprint, n_strengths: int, budget: int) -> dict[int, StreamPlan]:
    """Of those jobs that are streamed."""
    found = {index: StreamPlan.of(footprint, len(job.train), n_strengths, budget) for index, job in jobs.items()}
    return {index: plan for index, plan in found.items() if plan is not None}


def _fit_group(
    jobs: Sequence[Job], features: RowArray, pool: GramPool | None, data: Embedded, path: Path
) -> list[FittedLinear]:
    """Fit, and choose on each job's validation rows: from the pool where it serves, else from the job's own rows."""
    grams: dict[int, tuple[Tensor, Tensor]] = {}
    for index, job in enumerate(jobs):
        if pool is not None and is_spanned(len(job.train), features.shape[1]):
            gram, means = pool.centred(job.train)
            spreads = _spreads(data, job, partial(spread_of_gram, gram)) if data.is_multilabel else spread_of_gram(gram)
            if bool((spreads > LEAST_SPREAD * (gram.trace() + means.sum())).all()):
                grams[index] = gram, means
    heads: dict[int, FittedLinear] = {}
    if pool is not None and grams:
        from_pool = _fit_from_pool([jobs[index] for index in grams], list(grams.values()), pool, data, path)
        heads |= zip(grams, from_pool, strict=True)
    others = [index for index in range(len(jobs)) if index not in grams]
    if others:
        heads |= zip(others, _fit_from_rows([jobs[index] for index in others], features, data, path), strict=True)
    return [heads[index] for index in range(len(jobs))]


def _fit_from_rows(jobs: Sequence[Job], features: RowArray, data: Embedded, path: Path) -> list[FittedLinear]:
    """Gather each job's own rows."""
    rows = [torch.from_numpy(features[job.train]).double() for job in jobs]
    found = _optima(data)(
        jobs,
        data,
        path,
        spreads=[_spreads(data, job, partial(spread_of_rows, own)) for own, job in zip(rows, jobs, strict=True)],
        fit=partial(fit_logistic, rows, solve=_solve(path)),
        inputs=lambda job: torch.from_numpy(features[job.validation]).double(),
    )
    return [_head(optimum, optimum.weights, optimum.intercepts, path) for optimum in found]


def _fit_from_pool(
    jobs: Sequence[Job], centred: Sequence[tuple[Tensor, Tensor]], pool: GramPool, data: Embedded, path: Path
) -> list[FittedLinear]:
    """Work with inner products, of `GramPool.centred`; only the weights of the chosen strengths take the features."""
    grams, means = zip(*centred, strict=True)
    found = _optima(data)(
        jobs,
        data,
        path,
        spreads=[_spreads(data, job, partial(spread_of_gram, gram)) for gram, job in zip(grams, jobs, strict=True)],
        fit=partial(fit_from_gram, grams, means=means, solve=_solve(path)),
        inputs=lambda job: pool.block(job.validation, job.train),
    )
    n_outputs = found[0].weights.shape[1]
    placed = torch.zeros(len(jobs), n_outputs, len(pool.members), dtype=torch.float64)
    for own, job, optimum in zip(placed, jobs, found, strict=True):
        own.index_add_(1, pool.positions(job.train), optimum.weights.T.contiguous())
    weights = (placed.flatten(0, 1) @ pool.rows).view(len(jobs), n_outputs, -1).mT
    return [
        _head(optimum, own, optimum.intercepts - pool.centre @ own, path)
        for own, optimum in zip(weights, found, strict=True)
    ]


def _optima(data: Embedded) -> Callable[..., Sequence[Optimum | LabelOptima]]:
    return label_optima if data.is_multilabel else optima


def _solve(path: Path) -> Callable[..., list[LogisticFit]] | None:
    return None if path.log_proba is None else fit_cumulative


def _cumulative_log_proba(logits: Tensor) -> Tensor:
    return torch.from_numpy(cumulative_log_proba(logits.numpy()))


def _tuned(head: FittedLinear, job: Job, features: RowArray, data: Embedded) -> FittedLinear:
    """With the cuts of the largest quadratic kappa on validation, where that is defined."""
    labels = data.labels[job.validation]
    grades = expected_grades(np.exp(head.log_proba([RowsOf(features, job.validation)])))
    cuts = kappa_cuts(labels, grades, data.n_classes, data.weights_of(job.validation))
    return head if cuts is None else replace(head, chosen={**head.chosen, "cuts": cuts})


def _spreads(data: Embedded, job: Job, of: Callable[[Tensor | None], Tensor]) -> Tensor:
    """Of a job's training rows, given what tells it by weights; of several labels (L,), each on rows of its own."""
    return LabelRows.of(data, job).each(of) if data.is_multilabel else of(weights_of(data, job.train))


def _head(optimum: Optimum | LabelOptima, weights: Tensor, intercepts: Tensor, path: Path) -> FittedLinear:
    """Intercepts of a mean that tells nothing, for a shift of all changes no probability: 0."""
    own, chosen = weights.contiguous().numpy().copy(), optimum.chosen(path)
    if isinstance(optimum, LabelOptima):
        return FittedLinear(own, intercepts.numpy(), chosen, is_multilabel=True)
    if path.log_proba is not None:
        return FittedLinear(own, intercepts.numpy(), chosen, link=CUMULATIVE)
    is_present = intercepts.isfinite()
    return FittedLinear(own, (intercepts - intercepts[is_present].mean()).numpy(), chosen)
