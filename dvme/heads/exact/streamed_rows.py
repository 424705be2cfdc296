"""Training rows that do not fit in memory: their mean and spread, a sample of them, and passes over them in blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme.heads.exact.choice import weights_of
from dvme.heads.exact.spreads import EQUAL
from dvme.heads.fitting.jobs import Embedded, Job
from dvme.heads.fitting.row_blocks import row_blocks
from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = deferred("torch")


EVEN_SHARE = 0.2
"""Of a sample by surprise, what is drawn evenly from the classes."""


@dataclass(frozen=True)
class Taught:
    """Some rows with what they teach, as a `LogisticProblem` takes them."""

    matrix: Tensor
    """(B, D) float64, centred."""
    targets: Tensor
    """(1, Q, B); Q = 1 of two classes."""
    weights: Tensor
    """(1, B)."""


@dataclass(frozen=True)
class StreamedRows:
    """The n training rows of a job, read in ascending order; what is held does not grow with n x D."""

    data: Embedded
    job: Job
    n_values: int
    """Of a block."""

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """(n,) ascending, for files are read fastest in their order, and a sum has none."""
        rows: NDArray[np.int64] = np.sort(self.job.train)
        return rows

    @cached_property
    def classes(self) -> NDArray[np.int64]:
        """The classes that have a row, ascending."""
        classes: NDArray[np.int64] = np.unique(self.data.labels[self.rows]).astype(np.int64)
        return classes

    @property
    def n_bytes(self) -> int:
        """Of all rows, as they are stored."""
        features = self.data.embeddings[self.job.backbones[0]]
        return len(self.rows) * features.shape[1] * features.dtype.itemsize

    @cached_property
    def moments(self) -> tuple[Tensor, Tensor]:
        """(D,) mean, and the summed squared distance from it by weights; see `spread_of_rows`. A pass over the rows."""
        count, origin = 0.0, torch.zeros(())
        total = weighted = square = distance = torch.zeros((), dtype=torch.float64)
        for part, block in self._blocks(self.rows):
            if part.start == 0:
                origin = block.mean(dim=0)
            weights = weights_of(self.data, self.rows[part])
            weights = torch.ones(len(block), dtype=torch.float64) if weights is None else weights
            square = square + weights @ block.square().sum(1)
            away = block.sub_(origin)
            count, total, weighted = count + float(weights.sum()), total + away.sum(0), weighted + weights @ away
            distance = distance + weights @ away.square().sum(1)
        distance = distance - count * (weighted / count).square().sum()
        spread = torch.where(distance > EQUAL * square, distance, count)
        return origin + total / len(self.rows), spread

    def blocks(self) -> Iterator[Taught]:
        """All rows, once."""
        for part, block in self._blocks(self.rows):
            yield self._taught(self.rows[part], block, 1.0)

    def sample(self, size: int) -> Taught:
        """Rows of all classes, as evenly as these allow, weighted so that they stand for all n; always the same."""
        labels, generator = self.data.labels[self.rows], np.random.default_rng(0)
        of_class = [np.flatnonzero(labels == label) for label in self.classes]
        shares = even_shares([len(own) for own in of_class], size)
        pairs = list(zip(of_class, shares, strict=True))
        places = np.concatenate([generator.choice(own, share, replace=False, shuffle=False) for own, share in pairs])
        scales = np.repeat([len(own) / share for own, share in pairs], shares)
        order = np.argsort(places)
        return self._gathered(places[order], scales[order])

    def surprising(self, size: int, surprise: NDArray[np.float64]) -> Taught:
        """About so many rows, drawn in proportion to (n,) surprises, and of each class some; weighted as `sample`.

        Rows that a fit is sure of say little of the optimum, and of the curvature near it.

        Source: Fithian and Hastie 2014, local case-control sampling.
        """
        labels = np.searchsorted(self.classes, self.data.labels[self.rows])
        even = 1.0 / (len(self.classes) * np.bincount(labels))[labels]
        wanted = size * ((1.0 - EVEN_SHARE) * surprise / max(surprise.sum(), 1e-300) + EVEN_SHARE * even)
        places = np.flatnonzero(np.random.default_rng(1).random(len(wanted)) < wanted)
        return self._gathered(places, 1.0 / np.minimum(wanted[places], 1.0))

    def _gathered(self, places: NDArray[np.int64], scales: NDArray[np.float64]) -> Taught:
        """Some of the n rows, ascending, in memory."""
        rows = self.rows[places]
        matrix = torch.empty(len(rows), len(self.moments[0]), dtype=torch.float64)
        for part, block in self._blocks(rows):
            matrix[part] = block
        return self._taught(rows, matrix, torch.from_numpy(scales))

    def _blocks(self, rows: NDArray[np.int64]) -> Iterator[tuple[slice, Tensor]]:
        """(B, D) float64, a copy."""
        for part, block in row_blocks(self.data.embeddings[self.job.backbones[0]], rows, self.n_values):
            own = torch.from_numpy(np.ascontiguousarray(block))
            yield part, own.to(torch.float64, copy=True)

    def _taught(self, rows: NDArray[np.int64], matrix: Tensor, scales: Tensor | float) -> Taught:
        """What is read of some rows, which is centred in place."""
        places = torch.from_numpy(np.searchsorted(self.classes, self.data.labels[rows]))
        one_hot = (places == torch.arange(len(self.classes))[:, None]).double()
        weights = weights_of(self.data, rows)
        weights = torch.ones(len(rows), dtype=torch.float64) if weights is None else weights
        matrix -= self.moments[0]
        return Taught(matrix, one_hot[None, 1:] if len(self.classes) == 2 else one_hot[None], (weights * scales)[None])


def even_shares(counts: list[int], size: int) -> list[int]:
    """How many to take of each count, `size` in all where there are as many: the same of each that has enough."""
    shares, left = [0] * len(counts), size
    order: list[Any] = np.argsort(counts, kind="stable").tolist()
    for n_done, index in enumerate(order):
        shares[index] = min(counts[index], max(1, left // (len(counts) - n_done)))
        left -= shares[index]
    return shares
