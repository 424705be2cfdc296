"""Rows of embeddings as vectors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray


def finite_rows(features: NDArray[Any]) -> NDArray[np.bool_]:
    """(N,) whether all of a row's values are finite as float32, which most of what comes after computes in."""
    with np.errstate(over="ignore"):
        finite: NDArray[np.bool_] = np.isfinite(features.astype(np.float32, copy=False))
    return np.asarray(np.logical_and.reduce(finite, axis=1))


def unit_rows(features: NDArray[Any]) -> NDArray[Any]:
    """(N, D) float32 rows of length 1; a row of zeros stays zero.

    A row is divided by its largest value first: squares of 1e20, and of 1e-23, leave the range of float32.
    """
    features = np.ascontiguousarray(features, dtype=np.float32)
    largest = np.abs(features).max(axis=1, keepdims=True, initial=0.0)
    scaled = features / np.where(largest > 0, largest, 1.0)
    lengths = np.linalg.norm(scaled, axis=1, keepdims=True)
    return scaled / np.where(lengths > 0, lengths, 1.0)


def spans(n: int, width: int, most: int) -> Iterator[slice]:
    """Consecutive pieces of n rows of this width, each of so many values at most; a single row may exceed it."""
    size = max(1, most // max(1, width))
    return (slice(start, start + size) for start in range(0, n, size))
