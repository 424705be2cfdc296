"""Logistic regression on rows beyond memory: the same optimum, from passes over blocks that all strengths share.

The optimum of a sample in memory is where it starts; a handful of passes over all rows does the rest, see
`streamed_problem`. It ends by the criterion of `newton.polish`, so it is not an approximation. A job of several labels,
or of classes in order by one score, is not streamed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dvme.errors import OptionError, parameter
from dvme.heads.exact.choice import (
    Optimum,
    Path,
    best_of,
    check_finite,
    from_middle,
    log_losses,
    targets_of,
    weights_of,
)
from dvme.heads.exact.footprint import GIB, LOGIT_ARRAYS, Footprint
from dvme.heads.exact.logistic import LogisticFit, is_spanned
from dvme.heads.exact.minimise import Stop, minimise
from dvme.heads.exact.newton import TOLERANCE
from dvme.heads.exact.streamed_problem import StreamedProblem
from dvme.heads.exact.streamed_rows import StreamedRows
from dvme.heads.fitting.counting import STREAM
from dvme.heads.fitting.jobs import Embedded, Job
from dvme.heads.fitting.row_blocks import BLOCK_VALUES, row_blocks
from dvme.runtime import Progress
from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = deferred("torch")

OPTIMUM = Stop(tolerance=TOLERANCE, rise=1e-7, max_iterations=100)
USUAL_PASSES = 9
"""What is told as the total until more are needed."""
LARGEST_SAMPLE, SHARE_OF_ROWS = 100_000, 20
"""Rows of a sample: one in so many of all, up to so many, where memory allows."""
WANTED, LEAST_PER_VALUE = 20, 5
"""Rows of a sample: for each parameter for a useful Hessian, and for each of D values for one that is better than none.
"""
ROW_BYTES = 48
"""Of row numbers, labels, and what finds a sample among them."""
BLOCK_SHARE, LEAST_BLOCK = 8, 64
"""A block takes at most one part in so many of the memory, and has at least so many rows."""


@dataclass(frozen=True)
class StreamPlan:
    """What is held at a time."""

    n_sample: int
    """Rows in memory."""
    n_block: int
    """Rows of a block."""

    @classmethod
    def of(cls, footprint: Footprint, n_rows: int, n_strengths: int, budget: int) -> StreamPlan | None:
        """The largest that a budget holds; None where rows that fit it would be as many as there are.

        Args:
            footprint: of a fit in memory.
            n_rows: n.
            n_strengths: S, all at once.
            budget: bytes.

        Raises:
            OptionError: if streaming needs less than a fit in memory, and more than the budget.
        """
        if footprint(n_rows, 1) <= budget or is_spanned(n_rows, footprint.dim):
            return None
        own = cls(0, cls._rows_of_block(footprint, n_rows, n_strengths, budget))
        least = min(n_rows, LEAST_PER_VALUE * footprint.dim)
        needed = replace(own, n_sample=least).n_bytes(footprint, n_rows, n_strengths)
        if needed >= footprint(n_rows, 1):
            return None
        if needed > budget:
            more = math.ceil(100 * (needed - budget) / GIB) / 100
            raise OptionError(
                f"a linear fit of {n_rows:,} rows of {footprint.dim:,} values in {footprint.n_classes:,} classes needs "
                f"{footprint(n_rows, 1):,} bytes, or {needed:,} where its rows are streamed, and may hold {budget:,}; "
                "pass " + parameter("memory") + f", {more:g} GiB more"
            )
        n_parameters = footprint.dim * (footprint.n_classes if footprint.n_classes > 2 else 1)
        useful = max(WANTED * n_parameters, min(LARGEST_SAMPLE, n_rows // SHARE_OF_ROWS))
        room = budget - own.n_bytes(footprint, n_rows, n_strengths)
        per_row = footprint(n_rows, n_strengths) - footprint(n_rows - 1, n_strengths)
        return replace(own, n_sample=max(least, min(n_rows, useful, room // per_row)))

    @staticmethod
    def _rows_of_block(footprint: Footprint, n_rows: int, n_strengths: int, budget: int) -> int:
        columns = n_strengths * footprint.n_classes
        usual = BLOCK_VALUES // (footprint.dim + columns)
        fitting = budget // BLOCK_SHARE // (8 * (3 * footprint.dim + LOGIT_ARRAYS * columns))
        return min(n_rows, max(LEAST_BLOCK, min(usual, fitting)))

    def n_bytes(self, footprint: Footprint, n_rows: int, n_strengths: int) -> int:
        """Of a fit to n rows."""
        columns = n_strengths * footprint.n_classes
        block = 8 * self.n_block * (3 * footprint.dim + LOGIT_ARRAYS * columns)
        return footprint(max(self.n_sample, footprint.dim + 1), n_strengths) + block + ROW_BYTES * n_rows


def streamed_optimum(
    job: Job, data: Embedded, path: Path, plan: StreamPlan, progress: Progress
) -> tuple[Optimum, dict[str, Any]]:
    """The best of a job's optima.

    Args:
        job: of one class each.
        data: labels, and embeddings that need not be in memory.
        path: strengths, which share each pass.
        plan: what is held.
        progress: told ("stream ...", passes done, passes).

    Returns:
        It, and what streaming took: `n_passes` over the training rows, of `n_bytes` each.

    Raises:
        DataError: if it is finite at no strength.
    """
    streamed = StreamedRows(data, job, plan.n_block * data.dims(job.backbones)[0])
    stage = f"{STREAM} {len(job.train):,} rows, {streamed.n_bytes / 1e9:,.2g} GB a pass"
    n_passes = 0

    def tell(*, is_over: bool = False) -> None:
        nonlocal n_passes
        n_passes += not is_over
        progress(stage, n_passes, n_passes if is_over else max(USUAL_PASSES, n_passes + 1))

    progress(stage, 0, USUAL_PASSES)
    centre, spread = streamed.moments
    tell()
    strengths = spread * torch.tensor(path.strengths, dtype=torch.float64)
    fit = _fit(streamed, strengths, data.n_classes, plan.n_sample, tell)
    fit = replace(fit, intercepts=fit.intercepts - centre @ fit.weights)
    tell(is_over=True)
    optimum = best_of(fit, _losses(fit, job, data, path, streamed.n_values))
    check_finite(job, optimum.loss)
    return optimum, {"n_passes": n_passes, "n_bytes": streamed.n_bytes}


def _fit(
    streamed: StreamedRows, strengths: Tensor, n_classes: int, n_sample: int, tell: Callable[[], None]
) -> LogisticFit:
    """Optima at (S,) strengths, of centred rows."""
    classes, dim = torch.from_numpy(streamed.classes), len(streamed.moments[0])
    weights = strengths.new_zeros(len(strengths), dim, n_classes)
    intercepts = strengths.new_full((len(strengths), n_classes), -torch.inf)
    intercepts[:, classes] = 0.0
    if len(classes) == 1:
        return LogisticFit(weights, intercepts, torch.zeros_like(strengths), torch.ones_like(strengths).bool())
    halved = 0.5 if len(classes) == 2 < n_classes else 1.0  # see `logistic`
    problem = StreamedProblem(streamed, n_sample, halved * strengths[None], tell)
    optima = minimise(problem, OPTIMUM)
    own = problem.in_features(optima.parameters)[0, :, 0]  # (S, Q, D + 1)
    own = torch.cat([-0.5 * own, 0.5 * own], dim=1) if len(classes) == 2 else own
    weights[:, :, classes], intercepts[:, classes] = own[..., :-1].mT, own[..., -1]
    return LogisticFit(weights, intercepts, optima.objectives[0], optima.is_converged[0])


def _losses(fit: LogisticFit, job: Job, data: Embedded, path: Path, n_values: int) -> list[float]:
    """Mean log losses of the strengths on the validation rows, block by block."""
    if not len(job.validation):
        return from_middle(path, 0, len(fit.weights))
    rows = np.sort(job.validation)
    total, count = np.zeros(len(fit.weights)), 0.0
    for part, block in row_blocks(data.embeddings[job.backbones[0]], rows, n_values):
        inputs, targets = torch.from_numpy(np.asarray(block, dtype=np.float64)), targets_of(data, rows[part])
        weights = weights_of(data, rows[part])
        weights = torch.ones(len(inputs), dtype=torch.float64) if weights is None else weights
        for index, (own, shift) in enumerate(zip(fit.weights, fit.intercepts, strict=True)):
            total[index] += float(log_losses(inputs @ own + shift, targets) @ weights)
        count += float(weights.sum())
    losses: list[float] = (total / count).tolist()
    return losses
