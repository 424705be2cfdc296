"""A backbone's embeddings in a cache as an array whose rows are read, and proven, whenever they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme_cache.embeddings import Embeddings


@dataclass(frozen=True)
class CachedRows:
    """A `RowArray` of all rows of a cache; of such as have no embedding asking is an error."""

    table: Embeddings
    """Open."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, D)."""
        return len(self), self.table.dim

    @property
    def dtype(self) -> np.dtype[Any]:
        """As stored."""
        return np.dtype(self.table.dtype)

    def __len__(self) -> int:
        return self.table.n_rows

    def __getitem__(self, rows: NDArray[Any]) -> NDArray[Any]:
        """See `Embeddings.read`, which says what it raises."""
        return self.table.read(rows)
