"""Many networks of one shape, trained together by minibatches.

All jobs step together, and each has its own clock: its own epochs, its own order of rows, its own learning rate
and its own end. A job with few rows is through its epochs early and leaves, so nothing waits for the longest and
nothing is padded but the last minibatch of an epoch. What a job draws at random comes from its own seed: its
result does not depend on the jobs beside it, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.optim.adam import adam

from dvme.heads.fitting.cells import rarest
from dvme.heads.fusion.networks import Network, initial_parameters
from dvme.training.batches import epoch_order, loss_weights, resolve_sampling
from dvme.training.schedule import Schedule, TrainingProtocol

BETAS, EPSILON = (0.9, 0.999), 1e-8
"""Adam's own defaults. Source: Kingma and Ba 2015, algorithm 1."""
VALIDATION_ROWS = 512
"""Validation rows of every job that are scored at once."""


@dataclass(frozen=True)
class TrainingJob:
    """Rows, start and schedule of one network."""

    blocks: Sequence[Tensor]
    """(N, D_m) float32 of each backbone, on the device; jobs may share them."""
    labels: NDArray[Any]
    """(N,) class indices; of several labels (N, L) cells, see Embedded."""
    train: NDArray[Any]
    """(n,) rows."""
    validation: NDArray[Any]
    """(v,) rows; empty: the parameters after the last epoch are kept."""
    seed: int
    """Of the first parameters, the order of rows and the dropout."""
    protocol: TrainingProtocol
    weights: NDArray[np.float64]
    """(N,) how often each row counts, above 0."""
    truth: NDArray[Any]
    """What validation rows are scored against: `labels`, or (N, L) 1, 0, nan."""
    n_views: int = 1
    """See Embedded. Whenever a row of `train` is drawn, one of the views of its image is, each as often as another: an
    epoch is as long as without views."""


def train_together(
    network: Network,
    dims: Sequence[int],
    n_classes: int,
    jobs: Sequence[TrainingJob],
    *,
    tell: Callable[[int], None] | None = None,
) -> list[tuple[dict[str, Tensor], Schedule]]:
    """Train one network for each job, all at once.

    Args:
        network: the architecture, the same for all.
        dims: D_m of each backbone.
        n_classes: C.
        jobs: what to train on; their blocks agree in dimension and device, their protocols in the batch size.
        tell: called with the number of jobs that are through, whenever an epoch of any ends.

    Returns:
        For each job, in order, the parameters with the lowest validation loss, on the CPU and without the axis of jobs,
        and its course through the epochs.
    """
    group = _Group(network, dims, n_classes, jobs)
    while group.active:
        ended = group.step()
        if ended:
            group.close_epochs(ended)
            if tell is not None:
                tell(len(group.trained))
    return [group.trained[id(clock)] for clock in group.clocks]


class _Clock:
    """Where one job is in its epoch, and in its schedule."""

    def __init__(self, job: TrainingJob, width: int) -> None:
        self.job = job
        self.width = width
        """B, rows of a minibatch with what pads it."""
        self.device = job.blocks[0].device
        self.schedule = Schedule(job.protocol)
        self.order = np.random.default_rng(job.seed)
        self.dropout = torch.Generator(self.device).manual_seed(job.seed)
        self.labels = job.labels[job.train]
        own = job.weights[job.train]
        self.classes = self.labels if self.labels.ndim == 1 else rarest(self.labels, own)
        """(n,) what is drawn equally often, if anything is: of several labels images by the rarest that they have."""
        self.sampling = resolve_sampling(job.protocol.sampling, self.classes, own)
        self.loss_weights = loss_weights(self.classes, self.sampling, own)
        self.n_batches = -(-len(job.train) // job.protocol.batch_size)
        self.batch = 0
        self.rows = self.targets = self.weights = torch.empty(0)

    def next_batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """(B,) rows, class indices and weights, whose sum is 1 but for the rows' own; what pads a minibatch has 0.

        Of several labels (B, L) cells and weights; those of what is not known are 0.
        """
        if self.batch == 0:
            self._draw_epoch()
        now = self.batch
        self.batch = (now + 1) % self.n_batches
        return self.rows[now], self.targets[now], self.weights[now]

    def _draw_epoch(self) -> None:
        order = epoch_order(self.classes, self.sampling, self.order)
        n_rows = np.full(self.n_batches, self.width)
        n_rows[-1] = len(order) - self.width * (self.n_batches - 1)
        is_row = np.arange(self.width) < n_rows[:, None]
        rows = self.job.train[order]
        if self.job.n_views > 1:
            step = len(self.job.labels) // self.job.n_views
            rows = rows + step * self.order.integers(self.job.n_views, size=len(rows))
        order, rows = (np.resize(own, (self.n_batches, self.width)) for own in (order, rows))  # the padding's weight: 0
        self.rows = torch.from_numpy(rows).to(self.device)
        targets = self.labels[order]
        counts = _by_cell(is_row, targets) & _is_known(targets)
        shares = counts / _by_cell(np.maximum(counts.reshape(self.n_batches, -1).sum(axis=1), 1), targets)
        weights = shares * _by_cell(self.loss_weights[order], targets)
        self.targets = torch.from_numpy(np.where(counts, targets, 0).astype(targets.dtype)).to(self.device)
        self.weights = torch.from_numpy(weights.astype(np.float32)).to(self.device)


class _Group:
    """The jobs that are still training, and their parameters side by side."""

    def __init__(self, network: Network, dims: Sequence[int], n_classes: int, jobs: Sequence[TrainingJob]) -> None:
        self.network = network
        self.device = jobs[0].blocks[0].device
        longest = max(len(job.train) for job in jobs)
        self.clocks = [_Clock(job, min(job.protocol.batch_size, longest)) for job in jobs]
        self.active = list(self.clocks)
        shapes = network.shapes(dims, n_classes)
        starts = [initial_parameters(shapes, job.seed) for job in jobs]
        self.parameters = {
            name: torch.stack([start[name] for start in starts]).to(self.device).requires_grad_() for name in shapes
        }
        self.means = {name: torch.zeros_like(value) for name, value in self.parameters.items()}
        self.squares = {name: torch.zeros_like(value) for name, value in self.parameters.items()}
        self.best = {name: torch.zeros_like(value) for name, value in self.parameters.items()}
        self.trained: dict[int, tuple[dict[str, Tensor], Schedule]] = {}
        self.n_steps = 0

    def step(self) -> list[int]:
        """One minibatch of every active job; positions of those whose epoch it ended."""
        batches = [clock.next_batch() for clock in self.active]
        targets, weights = (torch.stack([batch[part] for batch in batches]) for part in (1, 2))
        blocks = _gathered(self.active, [batch[0] for batch in batches])
        with torch.enable_grad():
            logits = self.network.logits(self.parameters, blocks, self._dropped)
            loss = (_losses(logits, targets) * weights).sum()  # the jobs share no parameter: their gradients do not mix
        gradients = torch.autograd.grad(loss, list(self.parameters.values()))
        self._descend(gradients)
        return [position for position, clock in enumerate(self.active) if clock.batch == 0]

    def close_epochs(self, ended: Sequence[int]) -> None:
        """Score the jobs whose epoch ended, keep what is best, and let those leave that are through."""
        losses = self._validation_losses(ended)
        for position, loss in zip(ended, losses, strict=True):
            if self.active[position].schedule.close_epoch(loss):
                for name, value in self.parameters.items():
                    self.best[name][position] = value[position].detach()
        leaving = [position for position in ended if self.active[position].schedule.has_ended]
        if not leaving:
            return
        for position in leaving:
            best = {name: value[position].to("cpu", copy=True) for name, value in self.best.items()}
            self.trained[id(self.active[position])] = best, self.active[position].schedule
        staying = [position for position in range(len(self.active)) if position not in leaving]
        self.active = [self.active[position] for position in staying]
        for values in (self.parameters, self.means, self.squares, self.best):
            for name, value in values.items():
                values[name] = value.detach()[staying].requires_grad_(value.requires_grad)

    def _dropped(self, hidden: Tensor) -> Tensor:
        rate = self.network.dropout
        if rate == 0.0:
            return hidden
        # Masks of whole minibatches, so that a job's draws do not depend on how wide its company makes the batch.
        n_rows = self.clocks[0].job.protocol.batch_size
        keep = hidden.new_empty(len(hidden), n_rows, *hidden.shape[2:])
        for mask, clock in zip(keep, self.active, strict=True):
            mask.bernoulli_(1.0 - rate, generator=clock.dropout)
        return hidden * keep[:, : hidden.shape[1]] / (1.0 - rate)

    @torch.no_grad()
    def _descend(self, gradients: Sequence[Tensor]) -> None:
        """Adam. All jobs are at the same step; jobs of one learning rate are one fused update."""
        for start, stop, learning_rate in self._learning_rates():
            adam(
                [value[start:stop] for value in self.parameters.values()],
                [gradient[start:stop].contiguous() for gradient in gradients],  # as the fused kernel reads them
                [value[start:stop] for value in self.means.values()],
                [value[start:stop] for value in self.squares.values()],
                [],
                [torch.tensor(float(self.n_steps), device=self.device) for _ in gradients],
                fused=True,
                amsgrad=False,
                beta1=BETAS[0],
                beta2=BETAS[1],
                lr=learning_rate,
                weight_decay=0.0,
                eps=EPSILON,
                maximize=False,
            )
        self.n_steps += 1

    def _learning_rates(self) -> Iterator[tuple[int, int, float]]:
        """(start, stop, rate) of every run of neighbours with one learning rate."""
        start = 0
        for position, clock in enumerate(self.active):
            following = self.active[position + 1].schedule.learning_rate if position + 1 < len(self.active) else None
            if following != clock.schedule.learning_rate:
                yield start, position + 1, clock.schedule.learning_rate
                start = position + 1

    @torch.no_grad()
    def _validation_losses(self, ended: Sequence[int]) -> list[float | None]:
        """Mean log loss, by weight, of the jobs at these positions on their validation rows; None without any."""
        clocks = [self.active[position] for position in ended]
        n_rows = torch.tensor([len(clock.job.validation) for clock in clocks])
        is_all = len(ended) == len(self.active)
        parameters = {name: value if is_all else value[list(ended)] for name, value in self.parameters.items()}
        totals = torch.zeros(len(clocks), dtype=torch.float64)
        for start in range(0, int(n_rows.max()), VALIDATION_ROWS):
            width = min(VALIDATION_ROWS, int(n_rows.max()) - start)
            own = [clock.job.validation[start : start + width] for clock in clocks]
            rows = np.stack(
                [  # filled up with rows that may be looked at
                    np.resize(some if len(some) else clock.job.train, width)
                    for some, clock in zip(own, clocks, strict=True)
                ]
            )
            targets = np.stack([clock.job.truth[some] for clock, some in zip(clocks, rows, strict=True)])
            weights = np.stack([clock.job.weights[some] for clock, some in zip(clocks, rows, strict=True)])
            blocks = _gathered(clocks, list(torch.from_numpy(rows).to(self.device)))
            logits = self.network.logits(parameters, blocks, lambda hidden: hidden).double()
            losses = _losses(logits, torch.from_numpy(targets).to(self.device)).cpu()
            is_own = (torch.arange(start, start + width) < n_rows[:, None]).numpy()
            counts = torch.from_numpy(_by_cell(is_own, targets) & _is_known(targets))
            weighted = losses * torch.from_numpy(_by_cell(weights, targets))
            totals += torch.where(counts, weighted, 0.0).flatten(1).sum(dim=1)
        sums = [_validation_weight(clock.job) for clock in clocks]
        return [total / own if own else None for total, own in zip(totals.tolist(), sums, strict=True)]


def _losses(logits: Tensor, targets: Tensor) -> Tensor:
    """(A, B) cross entropies of (A, B) class indices, or (A, B, L) binary ones of cells; from (A, B, C) logits."""
    if targets.ndim == 3:
        return functional.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="none")
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)


def _is_known(targets: NDArray[Any]) -> NDArray[np.bool_]:
    known: NDArray[np.bool_] = targets == targets  # noqa: PLR0124  # nan is not itself
    return known


def _by_cell(values: NDArray[Any], targets: NDArray[Any]) -> NDArray[Any]:
    """Values of rows, or minibatches, in the dimensions of targets."""
    return values.reshape(values.shape + (1,) * (targets.ndim - values.ndim))


def _validation_weight(job: TrainingJob) -> float:
    """Summed over what is known on validation."""
    known = _is_known(job.truth[job.validation])
    return float((_by_cell(job.weights[job.validation], known) * known).sum())


def _gathered(clocks: Sequence[_Clock], rows: Sequence[Tensor]) -> list[Tensor]:
    """(A, B, D_m) of each backbone: every job's rows of its own embeddings."""
    first = clocks[0].job.blocks
    if all(clock.job.blocks is first for clock in clocks):
        index = torch.cat(list(rows))
        return [block.index_select(0, index).view(len(rows), -1, block.shape[1]) for block in first]
    pairs = list(zip(clocks, rows, strict=True))
    return [
        torch.stack([clock.job.blocks[m].index_select(0, index) for clock, index in pairs]) for m in range(len(first))
    ]
