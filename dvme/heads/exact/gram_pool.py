"""Inner products of all rows that several jobs name: computed once, for the jobs share most of their rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dvme.heads.exact.logistic import is_spanned
from dvme.heads.fitting.jobs import Job
from dvme.heads.fitting.row_blocks import RowArray
from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = deferred("torch")

ROWS_AT_ONCE = 32
"""Of a block, so that they are still in a core's cache when they are worked on again."""


@dataclass(frozen=True)
class GramPool:
    """All P rows that some jobs name, and their inner products."""

    members: NDArray[np.int64]
    """(P,) row numbers, ascending."""
    centre: Tensor
    """(D,)."""
    rows: Tensor
    """(P, D) float64, centred."""
    gram: NDArray[np.float64]
    """(P, P)."""

    @property
    def n_bytes(self) -> int:
        """Of the rows, their products, and as many again while a block is taken out."""
        return self.rows.nbytes + 2 * self.gram.nbytes

    def positions(self, rows: NDArray[np.int64]) -> Tensor:
        """Where row numbers lie in the pool."""
        return torch.from_numpy(np.searchsorted(self.members, rows))

    def block(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Tensor:
        """(n, m) inner products."""
        return torch.from_numpy(self._taken(rows, columns))

    def centred(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """(n, n) inner products about the mean of these rows, and (n,) means of the columns before that."""
        block = self._taken(rows, rows)
        means = block.mean(axis=1)
        above = means - means.mean()
        for part in _parts(len(rows)):
            block[part] -= means
            block[part] -= above[part, None]
        return torch.from_numpy(block), torch.from_numpy(means)

    def _taken(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float64]:
        row_places, column_places = (np.searchsorted(self.members, each) for each in (rows, columns))
        taken = np.empty((len(rows), len(columns)))
        for part in _parts(len(rows)):
            # another mode would write to a buffer first
            np.take(self.gram[row_places[part]], column_places, axis=1, out=taken[part], mode="clip")
        return taken


def _parts(n_rows: int) -> list[slice]:
    """Slices of `ROWS_AT_ONCE` rows."""
    return [slice(start, start + ROWS_AT_ONCE) for start in range(0, n_rows, ROWS_AT_ONCE)]


def pooled(jobs: Sequence[Job], features: RowArray, budget: int) -> GramPool | None:
    """The pool of the jobs that are solved from Gram matrices, if it has fewer products than they on their own."""
    dim = features.shape[1]
    few = [job for job in jobs if is_spanned(len(job.train), dim)]
    if not few:
        return None
    members = np.unique(np.concatenate([rows for job in few for rows in (job.train, job.validation)]))
    n_rows = len(members)
    if n_rows**2 >= sum(len(job.train) ** 2 for job in few) or 8 * n_rows * (2 * n_rows + 3 * dim) > budget:
        return None
    rows = features[members].astype(np.float64)
    centre = rows.mean(axis=0)
    rows -= centre
    gram = rows @ rows.T  # NumPy sees the symmetry, which halves the work
    return GramPool(members, torch.from_numpy(centre), torch.from_numpy(rows), gram)
