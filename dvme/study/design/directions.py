"""Lengths and directions of rows, and cosines of pairs of them, block by block in float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

PAIRS_AT_ONCE, ROWS_AT_ONCE = 64, 256


def lengths_of(values: NDArray[Any]) -> NDArray[np.float64]:
    """(N,) of the rows, in float64: squares of 1e20, and of 1e-23, leave the range of float32."""
    squares = np.empty(len(values))
    for part in parts(len(values), ROWS_AT_ONCE):
        some = values[part].astype(np.float64)
        squares[part] = np.einsum("nd,nd->n", some, some)
    return np.sqrt(squares)


def unit_of(values: NDArray[Any], lengths: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n, D) some rows at length 1, in float64."""
    unit: NDArray[np.float64] = values[rows] / lengths[rows, None]
    return unit


def cosines_of(
    values: NDArray[Any], lengths: NDArray[np.float64], one: NDArray[np.int64], two: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(P,) of pairs of rows, in float64."""
    cosines = np.empty(len(one))
    for part in parts(len(one), PAIRS_AT_ONCE):
        first, second = one[part], two[part]
        products = np.einsum("pd,pd->p", values[first].astype(np.float64), values[second].astype(np.float64))
        cosines[part] = products / lengths[first] / lengths[second]
    return cosines


def rounding_of(dim: int) -> float:
    """More than a product of two unit rows in float32 is wrong by: all terms may be rounded to one side."""
    return 1e-5 + dim * float(np.finfo(np.float32).eps) / 2


def parts(n: int, at_once: int) -> Iterator[slice]:
    """Of n rows."""
    return (slice(start, start + at_once) for start in range(0, n, at_once))
