"""The linear probe: exact logistic regression over a path of strengths, one of them chosen on validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dvme.heads.jobs import FittedHead, Job
from dvme.heads.logistic import fit_logistic

STRENGTHS = tuple(float(10.0 ** (exponent / 2)) for exponent in range(-12, -1))
"""Penalties per training row, relative to the rows' mean squared distance from their mean: 1e-6 to 1e-1.

Relative, so that one path serves every backbone whatever the scale of its features; a job's own
training rows set the scale. The features themselves are not rescaled, as in the usual protocols
(Kornblith et al. 2019, appendix B; Ericsson et al. 2021, section 3).
"""

MEMORY_BUDGET = 1 << 30
"""Bytes of logits that one batched fit may hold."""


@dataclass(frozen=True)
class FittedLinear:
    """softmax(x W + b)."""

    weights: NDArray[Any]
    """(D, C) float64."""
    intercepts: NDArray[Any]
    """(C,) float64; -inf for a class that training lacked."""
    chosen: Mapping[str, Any]
    """`strength`, and whether it `is_converged`."""

    def predict_proba(self, features: NDArray[Any]) -> NDArray[Any]:
        """(B, C) probabilities of (B, D) features."""
        logits = features.astype(np.float64) @ self.weights + self.intercepts
        logits -= logits.max(axis=1, keepdims=True)
        odds = np.exp(logits)
        probabilities: NDArray[Any] = odds / odds.sum(axis=1, keepdims=True)
        return probabilities


@dataclass(frozen=True)
class Linear:
    """Exact L2 logistic regression; the strength with the lowest validation log loss wins."""

    strengths: Sequence[float] = STRENGTHS
    """The path, see STRENGTHS."""
    name: str = "linear"

    def fit(
        self, features: NDArray[Any], labels: NDArray[Any], n_classes: int, jobs: Sequence[Job]
    ) -> list[FittedHead]:
        """Fit all jobs and strengths together, in groups that fit the memory budget."""
        bytes_per_job = 8 * len(features) * n_classes * len(self.strengths) * 8  # eight arrays of float64 logits
        size = max(1, MEMORY_BUDGET // bytes_per_job)
        fitted: list[FittedHead] = []
        for start in range(0, len(jobs), size):
            fitted += self._fit_group(features, labels, n_classes, jobs[start : start + size])
        return fitted

    def _fit_group(
        self, features: NDArray[Any], labels: NDArray[Any], n_classes: int, jobs: Sequence[Job]
    ) -> list[FittedHead]:
        rows = np.unique(np.concatenate([np.concatenate([job.train, job.validation]) for job in jobs]))
        shared = torch.from_numpy(features[rows].astype(np.float64))
        targets = torch.from_numpy(labels[rows])
        masks = torch.stack([torch.from_numpy(np.isin(rows, job.train)) for job in jobs])
        scales = torch.stack([_mean_squared_distance(shared[mask]) * mask.sum() for mask in masks])
        n_strengths = len(self.strengths)
        l2 = (scales[:, None] * torch.tensor(self.strengths, dtype=torch.float64)).flatten()
        fit = fit_logistic(shared, targets, masks.repeat_interleave(n_strengths, dim=0), l2, n_classes)
        heads: list[FittedHead] = []
        for index, job in enumerate(jobs):
            validation = torch.from_numpy(np.searchsorted(rows, job.validation))
            path = slice(index * n_strengths, (index + 1) * n_strengths)
            losses = _log_losses(fit.logits[path][:, validation], targets[validation])
            best = int(losses.argmin())
            position = path.start + best
            chosen = {"strength": self.strengths[best], "is_converged": bool(fit.is_converged[position])}
            heads.append(FittedLinear(fit.weights[position].numpy(), fit.intercepts[position].numpy(), chosen))
        return heads


def _mean_squared_distance(rows: Tensor) -> Tensor:
    """Mean squared distance of (n, D) rows from their mean; 1 where all rows are equal."""
    distance = (rows - rows.mean(dim=0)).square().sum(dim=1).mean()
    return torch.where(distance > 0, distance, 1.0)


def _log_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """(S,) mean log losses of (S, v, C) logits; a class that training lacked costs a bounded amount."""
    log_probabilities = torch.log_softmax(logits, dim=-1).clamp_min(np.log(1e-15))
    return -log_probabilities[:, torch.arange(len(targets)), targets].mean(dim=1)
