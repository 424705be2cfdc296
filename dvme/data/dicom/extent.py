"""Percentiles of a picture, also of one that is known as a table of values and how often each occurs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Extent:
    """The values of a picture, ascending, and up to which position in its order each goes."""

    values: NDArray[np.float64]
    """(K,)"""
    ends: NDArray[Any]
    """(K,) how many pixels are at most as large."""

    def at(self, percent: float) -> float:
        """The percentile as `numpy.percentile` has it, in between two pixels linearly; 0 of a picture of none."""
        if not len(self.values):
            return 0.0
        position = (int(self.ends[-1]) - 1) * percent / 100
        low, high = (self._of(int(rank)) for rank in (np.floor(position), np.ceil(position)))
        return low + (high - low) * (position - np.floor(position))

    def _of(self, rank: int) -> float:
        return float(self.values[np.searchsorted(self.ends, rank, side="right")])


def extent_of(values: NDArray[np.float64], counts: NDArray[Any] | None) -> Extent:
    """Of values of any shape, each of which occurs as often as counted, or once."""
    if counts is not None:
        values, counts = values[counts > 0], counts[counts > 0]
    order = np.argsort(values, axis=None)
    ends = np.arange(1, values.size + 1) if counts is None else np.cumsum(counts[order])
    return Extent(values.ravel()[order], ends)
