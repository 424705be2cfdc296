"""The linear probe: exact logistic regression over a path of strengths, one of them chosen on validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dvme.heads.jobs import Embedded, FittedHead, Job, by_backbones, only_block
from dvme.heads.logistic import LogisticFit, fit_logistic, is_spanned
from dvme.runtime import Progress, Runtime

STRENGTHS = tuple(float(10.0 ** (exponent / 2)) for exponent in range(-12, -1))
"""Penalties per training row, relative to the rows' mean squared distance from their mean: 1e-6 to 1e-1.

Relative, so that one path serves every backbone whatever the scale of its features; a job's own
training rows set the scale. The features themselves are not rescaled, as in the usual protocols
(Kornblith et al. 2019, appendix B; Ericsson et al. 2021, section 3).
"""

PADDING, SMALL_JOB, LARGEST_GROUPED = 1.3, 40, 512
"""Jobs share a batch up to this ratio of training rows, or up to so few rows; larger jobs fill the cores alone."""
ITERATION_ARRAYS = 30
"""Arrays of parameters or logits that an iteration holds: ten pairs of L-BFGS and the work in progress."""
EQUAL = 1e-28
"""Squared distance, relative to the squared length, below which rows differ by rounding only."""


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
    def fit_together(jobs: Sequence[Job], data: Embedded, runtime: Runtime, progress: Progress) -> list[FittedHead]:
        """Fit jobs of like size and all strengths together, in groups that fit the memory budget."""
        fitted: dict[int, FittedHead] = {}
        for (backbones, head), members in by_backbones(jobs).items():
            assert isinstance(head, Linear)
            features = only_block(data.blocks(backbones, slice(None)))
            sizes = {index: len(jobs[index].train) for index in members}
            bytes_of = _Footprint(features.shape[1], data.n_classes, len(head.strengths))
            for group in _alike(sizes, bytes_of, runtime.memory_budget("cpu")):
                heads = _fit_group([jobs[index] for index in group], features, data, head.strengths)
                fitted |= dict(zip(group, heads, strict=True))
                progress("fit linear", len(fitted), len(jobs))
        return [fitted[index] for index in range(len(jobs))]


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


def _fit_group(
    jobs: Sequence[Job], features: NDArray[Any], data: Embedded, strengths: tuple[float, ...]
) -> list[FittedHead]:
    """Gather each job's own rows, fit, and choose on its validation rows."""
    rows = [torch.from_numpy(features[job.train]).double() for job in jobs]
    targets = [torch.from_numpy(data.labels[job.train].astype(np.int64)) for job in jobs]
    path = torch.tensor(strengths, dtype=torch.float64)
    fits = fit_logistic(rows, targets, [_squared_distance(own) * path for own in rows], data.n_classes)
    heads: list[FittedHead] = []
    for job, fit in zip(jobs, fits, strict=True):
        best = len(strengths) // 2
        if len(job.validation):
            best = int(_log_losses(fit, features[job.validation], data.labels[job.validation]).argmin())
        chosen = {"strength": strengths[best], "is_converged": bool(fit.is_converged[best])}
        weights = fit.weights[best].numpy().copy()  # not a view that keeps the whole path
        heads.append(FittedLinear(weights, fit.intercepts[best].numpy().copy(), chosen))
    return heads


def _squared_distance(rows: Tensor) -> Tensor:
    """Summed squared distance of (n, D) rows from their mean; n where all rows are equal, up to rounding."""
    distance = (rows - rows.mean(dim=0)).square().sum()
    return torch.where(distance > EQUAL * rows.square().sum(), distance, float(len(rows)))


def _log_losses(fit: LogisticFit, features: NDArray[Any], labels: NDArray[Any]) -> Tensor:
    """(S,) mean log losses of (v, D) rows; a class that training lacked costs a bounded amount."""
    logits = torch.from_numpy(features).double() @ fit.weights + fit.intercepts[:, None]
    log_probabilities = torch.log_softmax(logits, dim=-1).clamp_min(np.log(1e-15))
    targets = torch.from_numpy(labels.astype(np.int64))
    return -log_probabilities[:, torch.arange(len(targets)), targets].mean(dim=1)
