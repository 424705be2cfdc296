"""Several labels of an image: a logistic regression for each, at all strengths, on the rows where it is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dvme.heads.exact.choice import LEAST_PROBABILITY, Path, check_finite
from dvme.heads.exact.logistic import LogisticFit
from dvme.heads.fitting.cells import constant_labels, constants
from dvme.heads.fitting.jobs import Embedded, Job
from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = deferred("torch")


@dataclass(frozen=True)
class LabelRows:
    """What a job's n training rows tell of each label.

    A label of which they know one value only is nothing to solve. It gets a problem whose optimum is where it begins.
    """

    targets: Tensor
    """(L, n) float64 from 0 to 1; 0 where nothing is known."""
    weights: Tensor
    """(L, n) float64 how often each row counts; 0 where nothing is known."""
    constants: Tensor
    """(L,) the only value that is known of a label; nan if there are several."""

    @classmethod
    def of(cls, data: Embedded, job: Job) -> LabelRows:
        """Those of a job."""
        cells = data.labels[job.train].astype(np.float64)
        if data.cell_weights is not None:
            cells[data.cell_weights[job.train] == 0.0] = np.nan
        counts = data.weights_of(job.train)
        only = constants(cells)
        is_known, is_constant = ~np.isnan(cells), ~np.isnan(only)
        targets = np.where(is_constant, 0.5, np.where(is_known, cells, 0.0))
        weights = is_known if counts is None else is_known * counts[:, None]
        weights = weights if data.cell_weights is None else weights * data.cell_weights[job.train]
        weights = np.where(is_constant, 1.0, weights)
        by_label = [torch.from_numpy(np.ascontiguousarray(each.T)) for each in (targets, weights)]
        return cls(by_label[0], by_label[1], torch.from_numpy(only))

    def each(self, of: Callable[[Tensor], Tensor]) -> Tensor:
        """(L,) what is told of each label by its (n,) weights; labels of equal ones are asked about once."""
        distinct, place = torch.unique(self.weights, dim=0, return_inverse=True)
        return torch.stack([of(own) for own in distinct])[place]


@dataclass(frozen=True)
class LabelOptima:
    """Of one job: each label's best optimum."""

    positions: Tensor
    """(L,) of the strengths on the path."""
    losses: Tensor
    """(L,) mean log loss where the label is known on validation. Where validation does not have both values of it, the
    distance from the middle of the path. inf where either or the parameters are not finite."""
    weights: Tensor
    """(D, L) or (n, L), see LogisticFit."""
    intercepts: Tensor
    """(L,); the log odds of the only value of a label of which training knows no other."""
    is_converged: Tensor
    """(L,) bool."""
    constant: list[int]
    """The labels of which training knows one value only, or none."""

    def chosen(self, path: Path) -> dict[str, Any]:
        """What a head says of it: a strength for each label, None where there is nothing to solve."""
        strengths = [
            None if label in self.constant else path.strengths[position]
            for label, position in enumerate(self.positions.tolist())
        ]
        return {
            "strength": strengths,
            "is_converged": bool(self.is_converged.all()),
            "constant_labels": self.constant,
        }

    def better(self, other: LabelOptima) -> LabelOptima:
        """Of each label the one with the lower loss, of equal ones this."""
        is_other = other.losses < self.losses
        names = ("positions", "losses", "weights", "intercepts", "is_converged")
        own: dict[str, Any] = {n: torch.where(is_other, getattr(other, n), getattr(self, n)) for n in names}
        return replace(self, **own)


def label_optima(
    jobs: Sequence[Job],
    data: Embedded,
    path: Path,
    *,
    spreads: Sequence[Tensor],
    fit: Callable[..., list[LogisticFit]],
    inputs: Callable[[Job], Tensor],
) -> list[LabelOptima]:
    """Every label's best optimum of every job, as `optima` for one label.

    Args:
        jobs: what to fit.
        data: their labels.
        path: strengths, relative to the spreads.
        spreads: (L,) summed squared distance of each label's own rows of a job from their mean.
        fit: solves all jobs, given their targets and strengths, 1, and weights.
        inputs: what a job's optima take for its validation rows, (v, D) or (v, n).
    """
    strengths = torch.tensor(path.strengths, dtype=torch.float64)
    rows = [LabelRows.of(data, job) for job in jobs]
    best: list[LabelOptima] = []
    for start in range(0, len(strengths), path.at_once):
        part = strengths[start : start + path.at_once]
        fits = fit(
            [own.targets.repeat(len(part), 1) for own in rows],
            [(part[:, None] * spread).flatten() for spread in spreads],
            1,
            [own.weights.repeat(len(part), 1) for own in rows],
        )
        distances = (torch.arange(start, start + len(part)) - len(strengths) // 2).abs().double()
        found = [
            _best(own, _losses(own, data, job, inputs(job), distances), start, data, job, taught)
            for job, own, taught in zip(jobs, fits, rows, strict=True)
        ]
        del fits
        best = [one.better(other) for one, other in zip(best or found, found, strict=True)]
    for job, own in zip(jobs, best, strict=True):
        check_finite(job, float(own.losses.max()))
    return best


def _losses(fit: LogisticFit, data: Embedded, job: Job, inputs: Tensor, distances: Tensor) -> Tensor:
    """(S, L) mean log losses of strengths on the known cells of the (v, D) rows, or what stands for them."""
    truth = torch.from_numpy(data.truth_of(job.validation))
    counts = data.weights_of(job.validation)
    is_known = ~truth.isnan()
    weights = is_known.double() if counts is None else is_known * torch.from_numpy(counts)[:, None]
    if data.cell_weights is not None:
        weights = weights * torch.from_numpy(data.cell_weights[job.validation])
    n_labels = truth.shape[1]
    losses = []
    for start in range(0, len(fit.weights), n_labels):
        some = slice(start, start + n_labels)
        logits = inputs @ fit.weights[some, :, 0].T + fit.intercepts[some, 0]
        own = torch.nn.functional.softplus(torch.where(truth == 1.0, -logits, logits))
        own = own.clamp_max(-np.log(LEAST_PROBABILITY))
        losses.append((torch.where(is_known, own, 0.0) * weights).sum(0) / weights.sum(0))
    is_judge = (truth == 1.0).any(0) & (truth == 0.0).any(0)
    return torch.where(is_judge, torch.stack(losses), distances[:, None])


def _best(fit: LogisticFit, losses: Tensor, start: int, data: Embedded, job: Job, rows: LabelRows) -> LabelOptima:
    """Each label's strength with the least of (S, L) losses, the first of which is at `start` on the path."""
    is_sound = fit.weights.isfinite().all(2).all(1) & fit.intercepts.isfinite().all(1)
    losses = torch.where(is_sound.view_as(losses) & losses.isfinite(), losses, torch.inf)
    least, index = losses.min(0)
    place = index * losses.shape[1] + torch.arange(losses.shape[1])
    is_constant = ~rows.constants.isnan()
    weights = torch.where(is_constant, 0.0, fit.weights[place, :, 0].T)
    intercepts = torch.where(is_constant, torch.logit(rows.constants), fit.intercepts[place, 0])
    constant = constant_labels(data.labels[job.train])
    return LabelOptima(start + index, least, weights, intercepts, fit.is_converged[place], constant)
