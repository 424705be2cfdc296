"""Which strength of a path each job takes: by log loss on its validation rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError
from dvme.heads.exact.logistic import LogisticFit
from dvme.heads.fitting.jobs import Embedded, Job
from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = deferred("torch")

LEAST_PROBABILITY = 1e-15
"""Of the truth: a class that training lacked costs a bounded log loss."""


@dataclass(frozen=True)
class Path:
    """Strengths to choose from, some of them at once."""

    strengths: Sequence[float]
    at_once: int
    log_proba: Callable[[Tensor], Tensor] | None = None
    """(v, C) log probabilities of what weights and intercepts make of rows; None: softmax."""


@dataclass(frozen=True)
class Optimum:
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

    def chosen(self, path: Path) -> dict[str, Any]:
        """What a head says of it."""
        return {"strength": path.strengths[self.position], "is_converged": self.is_converged}


def optima(
    jobs: Sequence[Job],
    data: Embedded,
    path: Path,
    *,
    spreads: Sequence[Tensor],
    fit: Callable[..., list[LogisticFit]],
    inputs: Callable[[Job], Tensor],
) -> list[Optimum]:
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
    targets = [targets_of(data, job.train) for job in jobs]
    weights = None if data.weights is None else [weights_of(data, job.train) for job in jobs]
    best: list[Optimum] = []
    for start in range(0, len(strengths), path.at_once):
        part = strengths[start : start + path.at_once]
        fits = fit(targets, [spread * part for spread in spreads], data.n_classes, weights)
        found = [
            best_of(own, _losses(own, inputs(job), data, job.validation, path, start), start)
            for job, own in zip(jobs, fits, strict=True)
        ]
        del fits
        best = [min(pair, key=lambda optimum: optimum.loss) for pair in zip(best or found, found, strict=True)]
    for job, optimum in zip(jobs, best, strict=True):
        check_finite(job, optimum.loss)
    return best


def check_finite(job: Job, loss: float) -> None:
    """Refuse a job that no strength solves."""
    if loss == np.inf:
        raise DataError(
            f"{job.head.name} on {'+'.join(job.backbones)} diverged: no strength had a finite loss; rescale its "
            "embeddings, or leave it out"
        )


def best_of(fit: LogisticFit, losses: Sequence[float], start: int = 0) -> Optimum:
    """The strength with the least of (S,) losses; inf where parameters are not finite.

    `start` is the first strength's position on the path.
    """
    is_sound = fit.weights.isfinite().all(2).all(1) & ~fit.intercepts.isnan().any(1)
    losses = [loss if sound and np.isfinite(loss) else np.inf for loss, sound in zip(losses, is_sound, strict=True)]
    index = int(np.argmin(losses))
    # Copies, not views that keep the whole path.
    weights, intercepts = fit.weights[index].clone(), fit.intercepts[index].clone()
    return Optimum(start + index, losses[index], weights, intercepts, bool(fit.is_converged[index]))


def from_middle(path: Path, start: int, n_strengths: int) -> list[float]:
    """What stands for losses where there is no validation row: how far each strength is from the middle of the path."""
    middle = len(path.strengths) // 2
    return [float(abs(start + index - middle)) for index in range(n_strengths)]


def log_losses(logits: Tensor, targets: Tensor, log_proba: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """(v,) of (v, C) logits. A class that training lacked costs a bounded amount."""
    logs = torch.log_softmax(logits, dim=-1) if log_proba is None else log_proba(logits)
    return -logs.clamp_min(np.log(LEAST_PROBABILITY))[torch.arange(len(targets)), targets]


def _losses(
    fit: LogisticFit, inputs: Tensor, data: Embedded, rows: NDArray[np.int64], path: Path, start: int
) -> list[float]:
    """Mean log losses of the strengths on (v, D) rows or (v, n) products."""
    if not len(rows):
        return from_middle(path, start, len(fit.weights))
    targets, weights = targets_of(data, rows), weights_of(data, rows)
    found = []
    for own, shift in zip(fit.weights, fit.intercepts, strict=True):
        losses = log_losses(inputs @ own + shift, targets, path.log_proba)
        found.append(float(losses.mean() if weights is None else losses @ weights / weights.sum()))
    return found


def targets_of(data: Embedded, rows: NDArray[np.int64]) -> Tensor:
    """(n,) int64 labels."""
    return torch.from_numpy(data.labels[rows].astype(np.int64))


def weights_of(data: Embedded, rows: NDArray[np.int64]) -> Tensor | None:
    """(n,) float64."""
    weights = data.weights_of(rows)
    return None if weights is None else torch.from_numpy(weights)
