"""Stratification where an image has several labels, or none of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def iterative_split(
    has_label: NDArray[np.bool_], units: NDArray[Any], shares: Sequence[float], rng: np.random.Generator
) -> NDArray[Any]:
    """Deal rows out to parts so that every part has its share of every label, rarest label first.

    Args:
        has_label: (N, L).
        units: (N,) rows of equal value go to one part: a patient's images.
        shares: of the parts; they sum to 1.
        rng: for ties.

    Returns:
        (N,) the part of each row.

    Source: Sechidis et al. 2011, algorithm 1; units of several rows count with all of them.
    """
    names, unit_of = np.unique(units, return_inverse=True)
    amounts = np.zeros((len(names), has_label.shape[1] + 1))  # rows of each label, and rows
    np.add.at(amounts, unit_of, np.column_stack([has_label, np.ones(len(units))]))
    wanted = np.outer(shares, amounts.sum(axis=0))  # (P, L + 1), what each part still lacks
    part_of = np.full(len(names), -1)
    while (part_of < 0).any():
        waiting = np.flatnonzero(part_of < 0)
        left = amounts[waiting, :-1].sum(axis=0)
        label = int(np.where(left > 0, left, np.inf).argmin()) if (left > 0).any() else -1
        some = rng.permutation(waiting[amounts[waiting, label] > 0])
        some = some[np.argsort(-amounts[some, label], kind="stable")]  # large units first, while there is room
        for unit in some:
            need = wanted[:, label]
            best = np.flatnonzero(need >= need.max() - 1e-9)
            rows_left = wanted[best, -1]
            best = best[rows_left >= rows_left.max() - 1e-9]
            chosen = int(rng.choice(best))
            part_of[unit] = chosen
            wanted[chosen] -= amounts[unit]
    dealt: NDArray[Any] = part_of[unit_of]
    return dealt


def nested_label_order(has_label: NDArray[np.bool_], sizes: Sequence[int], rng: np.random.Generator) -> NDArray[Any]:
    """A random order of rows of which the beginnings of the given sizes are stratified.

    Args:
        has_label: (n, L).
        sizes: of the beginnings.
        rng: of the draws.

    Returns:
        (n,) positions.
    """
    inside = rng.permutation(len(has_label))
    outer: list[NDArray[Any]] = []
    for size in sorted({size for size in sizes if 0 < size < len(has_label)}, reverse=True):
        share = size / len(inside)
        part = iterative_split(has_label[inside], np.arange(len(inside)), [share, 1.0 - share], rng)
        # Rounding may leave a row too many on one side; it changes places at random.
        both = np.concatenate([inside[part == 0], inside[part == 1]])
        inside = both[:size]
        outer.append(rng.permutation(both[size:]))
    order: NDArray[Any] = np.concatenate([rng.permutation(inside), *outer[::-1]])
    return order
