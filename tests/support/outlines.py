"""Scores of outlines, slowly: each pixel's neighbours one by one, and the distances of all pairs of pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def slow_outline_scores(predicted: NDArray[Any], truth: NDArray[Any], tolerance: float) -> tuple[float, float]:
    """HD95 and boundary Dice of two (H, W) masks of True and False."""
    one, two = _outline(predicted), _outline(truth)
    if not len(one) or not len(two):
        return (math.inf, 0.0) if len(one) or len(two) else (math.nan, math.nan)
    apart = np.sqrt(((one[:, None] - two[None]) ** 2).sum(axis=2))
    ways = apart.min(axis=1), apart.min(axis=0)
    n_near = sum(int((way <= tolerance).sum()) for way in ways)
    return max(float(np.percentile(way, 95)) for way in ways), n_near / (len(one) + len(two))


def _outline(mask: NDArray[Any]) -> NDArray[np.float64]:
    """(n, 2) rows and columns."""
    n_rows, n_columns = mask.shape
    found = []
    for row, column in np.argwhere(mask).tolist():
        beside = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
        if not all(0 <= y < n_rows and 0 <= x < n_columns and mask[y, x] for y, x in beside):
            found.append((row, column))
    return np.array(found, dtype=np.float64).reshape(-1, 2)
