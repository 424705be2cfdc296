"""The test part of a seeded split: drawn at random, stratified, and of whole patients."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_PARTS, NEAREST = 20, 0.01
"""A fraction is so many of so few parts as come this near to it."""
LARGE = 1.25
"""A unit that is this many times as large as the part is never in it."""
SIZE = 4.0
"""Weight of a part's size beside the shares of its classes."""
SMALLER = 0.9
"""Where a part leaves too few units for the folds, the next one is so much smaller."""
N_DRAWS = 64
"""Parts that are tried."""
NEAR = 0.25
"""A part this far from the size that was asked for, in units of it, is near enough."""


def held_out(
    labels: NDArray[Any], units: NDArray[Any], fraction: float, *, n_folds: int, seed: int
) -> NDArray[np.intp]:
    """Rows of a random part with every class, about as large as asked for, that leaves every class units for the folds.

    The units are dealt to parts of like size and classes, in random order, and some of the parts are drawn: whatever
    its size, a unit is among them with the probability that was asked for. One that is larger than that stays out.
    Rows that are units of their own are drawn within their class, which is exact.

    Args:
        labels: (N,) class indices.
        units: (N,) integers, equal for rows that stay together.
        fraction: of the rows.
        n_folds: units of every class that are to be left, at least.
        seed: of the draws.

    Returns:
        Sorted rows. Where no part is as it should be, the nearest one to it.
    """
    rng = np.random.default_rng(seed)
    if len(np.unique(units)) == len(units):
        return _rows_within_classes(labels, fraction, n_folds, rng)
    _, of_unit = np.unique(units, return_inverse=True)
    classes = np.unique(labels)
    counts = np.zeros((int(of_unit.max()) + 1, len(classes)), dtype=np.int64)  # (U, C) rows
    np.add.at(counts, (of_unit, np.searchsorted(classes, labels)), 1)
    sizes, target = counts.sum(axis=1), fraction * len(labels)
    able = np.flatnonzero(sizes <= LARGE * target)
    if not len(able):
        able = np.arange(len(sizes))
    share = min(1.0, target / float(sizes[able].sum()))
    tried = []
    for _ in range(N_DRAWS):
        n_drawn, n_parts = _ratio(share)
        part = np.zeros(len(sizes), dtype=bool)
        part[able] = np.isin(_dealt(counts[able], n_parts, rng), np.arange(n_drawn))
        away = max(0.0, abs(float(sizes[part].sum()) - target) - NEAR * target)
        inside, beside = _lacking(counts, part, n_folds)
        tried.append((inside + beside, away, part))
        if tried[-1][:2] == (0, 0.0):
            break
        if beside and not inside:
            share *= SMALLER
    chosen = min(tried, key=lambda each: each[:2])[2]
    return np.flatnonzero(chosen[of_unit])


def _rows_within_classes(
    labels: NDArray[Any], fraction: float, n_folds: int, rng: np.random.Generator
) -> NDArray[np.intp]:
    """The fraction of every class, rounded such that all add up to it.

    One row at least, and one for each fold is left where there are more.
    """
    classes, counts = np.unique(labels, return_counts=True)
    exact, most = counts * fraction, np.maximum(counts - n_folds, 1)
    n_of = np.clip(np.floor(exact).astype(int), 1, most)
    for _ in range(round(fraction * len(labels)) - int(n_of.sum())):
        wanting = np.where(n_of < most, exact - n_of, -np.inf)
        if not np.isfinite(wanting).any():
            break
        n_of[int(wanting.argmax())] += 1
    rows = [rng.choice(np.flatnonzero(labels == c), n, replace=False) for c, n in zip(classes, n_of, strict=True)]
    return np.sort(np.concatenate(rows))


def _ratio(fraction: float) -> tuple[int, int]:
    """(k, m): the fraction as k of m parts."""
    for m in range(2, MOST_PARTS + 1):
        k = round(fraction * m)
        if 0 < k < m and abs(k / m - fraction) <= NEAREST:
            return k, m
    return min(max(1, round(fraction * MOST_PARTS)), MOST_PARTS - 1), MOST_PARTS


def _dealt(counts: NDArray[Any], n_parts: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """(U,) part of each unit: large ones first, but at random, each to the part that has least of its classes."""
    sizes = counts.sum(axis=1)
    shares = counts / np.maximum(counts.sum(axis=0), 1)
    columns = np.concatenate([shares, np.sqrt(SIZE * counts.shape[1]) * sizes[:, None] / sizes.sum()], axis=1)
    order = np.argsort(-sizes * rng.uniform(0.5, 1.0, len(counts)), kind="stable")
    filled, part_of = np.zeros((n_parts, columns.shape[1])), np.empty(len(counts), dtype=np.intp)
    for unit in order:
        part = int((filled @ columns[unit]).argmin())  # what adds least to the sum of squares
        part_of[unit] = part
        filled[part] += columns[unit]
    return rng.permutation(n_parts)[part_of]


def _lacking(counts: NDArray[Any], part: NDArray[np.bool_], n_folds: int) -> tuple[int, int]:
    """Units of classes that are missing in the part, and beside it."""
    has = counts > 0
    inside, beside = 1 - has[part].sum(axis=0), n_folds - has[~part].sum(axis=0)
    return int(np.maximum(inside, 0).sum()), int(np.maximum(beside, 0).sum())
