"""Labels of images that may have several: a cell is what is known of one label of one image, nan if nothing is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError

UNKNOWN = 0.5
"""The probability of a label of which training knows nothing."""


def check_cells(cells: NDArray[Any], n_labels: int) -> None:
    """Refuse what cannot be learned from.

    Args:
        cells: (N, L) of rows that are looked at.
        n_labels: L.

    Raises:
        DataError: if the shape is another, or a cell is neither from 0 to 1 nor nan.
    """
    if cells.shape[1] != n_labels:
        raise DataError(f"labels are {cells.shape}, and there are {n_labels} of them; pass a column for each")
    n_bad = int((~(np.isnan(cells) | ((cells >= 0.0) & (cells <= 1.0)))).sum())
    if n_bad:
        raise DataError(f"{n_bad} of {cells.size} cells are not from 0 to 1; pass nan for what is not known")


def constants(cells: NDArray[Any]) -> NDArray[np.float64]:
    """(L,) the value of labels of which (n, L) cells know only one, UNKNOWN where they know none, else nan."""
    is_known = ~np.isnan(cells)
    lowest = np.where(is_known, cells, np.inf).min(axis=0).astype(np.float64)
    highest = np.where(is_known, cells, -np.inf).max(axis=0)
    return np.where(is_known.any(axis=0), np.where(lowest == highest, lowest, np.nan), UNKNOWN)


def constant_labels(cells: NDArray[Any]) -> list[int]:
    """Positions of the labels of which (n, L) cells know one value only, or none."""
    listed: list[int] = np.flatnonzero(~np.isnan(constants(cells))).tolist()
    return listed


def frequencies(cells: NDArray[Any], weights: NDArray[Any] | None = None) -> NDArray[np.float64]:
    """(L,) mean of the known of (n, L) cells, by (n,) weights if there are any; UNKNOWN where none is."""
    counts = ~np.isnan(cells) * (np.ones(len(cells)) if weights is None else weights)[:, None]
    total = counts.sum(axis=0)
    sums = (np.nan_to_num(cells) * counts).sum(axis=0)
    means: NDArray[np.float64] = np.divide(sums, total, out=np.full(cells.shape[1], UNKNOWN), where=total > 0)
    return means


def rarest(cells: NDArray[Any], weights: NDArray[Any] | None = None) -> NDArray[np.int64]:
    """(n,) the rarest label that each row has; L where it has none, or none is known.

    Args:
        cells: (n, L); at least a half is taken for having it.
        weights: (n,) how often each row counts; None: once.
    """
    has = cells >= 0.5  # nan is not
    counts = has.sum(axis=0) if weights is None else weights @ has
    order = np.argsort(counts, kind="stable")
    first = order[has[:, order].argmax(axis=1)]
    own: NDArray[np.int64] = np.where(has.any(axis=1), first, cells.shape[1]).astype(np.int64)
    return own


def check_weights(weights: NDArray[Any] | None) -> None:
    """Refuse weights of rows that are none.

    Raises:
        DataError: saying how many.
    """
    n_bad = 0 if weights is None else int((~(np.isfinite(weights) & (weights > 0))).sum())
    if weights is not None and n_bad:
        raise DataError(f"{n_bad} of {len(weights)} weights are negative or not finite; a weight is 0 or more")
