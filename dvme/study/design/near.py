"""Near-duplicates of any number of rows: of many of them in cells, in bounded memory, as a rule all there are."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.study.design.cells import Cells, candidates, cells_of, centres_of, visits_needed
from dvme.study.design.crowds import between, crowds_of
from dvme.study.design.directions import lengths_of, parts
from dvme.study.design.recall import sampled_recall
from dvme.study.design.similarity import (
    BLOCK,
    CANDIDATES_AT_ONCE,
    COSINE,
    MOST_PAIRS,
    PRODUCT,
    REACH,
    SLACK,
    Close,
    Found,
    cheapest,
    close_pairs,
    confirmed,
    found_among,
    is_blind,
    listed,
    principal_axes,
    projected,
)

MANY = 100_000
"""Rows above which pairs are looked for in cells."""
MOST_LISTED = 20_000_000
"""Pairs above which none is listed, however many rows there are."""
MOST_VISITS = 8
"""Further cells of a row, on average, up to which all are looked at that can hold a partner."""
TIMED_ROWS = 8192
"""Rows by which the time of an exact search is estimated."""


def near_pairs(values: NDArray[Any], *, exact: bool = False) -> Close | None:
    """Every pair of rows with a cosine above COSINE; None if there are more than copies could explain.

    Up to MANY rows this is `close_pairs`. Of more, each row is projected as there, and the projections are divided into
    cells. A row is compared with those of its own cell, and of each cell whose border is near enough for a partner, see
    `cells_of`; so these are all pairs as well. Only where rows are near to more than MOST_VISITS borders on average,
    they are compared across the nearest of them, and the recall is measured on a sample. Pairs of rows within a crowd
    are not listed.

    In memory beside `values` are 33 values in float32 for each row, and 24 bytes for each further cell of a row.

    Args:
        values: (N, D) of one backbone, in memory or a memory map.
        exact: whether all pairs are looked for, however long it takes.
    """
    if len(values) <= MANY:
        return close_pairs(values)
    lengths = lengths_of(values)
    is_able = (lengths > 0) & np.isfinite(lengths)
    if is_blind(values, lengths, is_able):
        return None
    crowds, partners, rest = crowds_of(values, lengths, np.flatnonzero(is_able), COSINE)
    search = _search(values, lengths, rest, exact=exact) if len(rest) > MANY else None
    among = found_among(values, lengths, rest, BLOCK) if search is None else _found(values, lengths, search)
    across = between(values, lengths, crowds, partners, COSINE)
    close = listed(chain(among, across), min(MOST_LISTED, MOST_PAIRS * len(values)))
    if close is None:
        return None
    recall = None
    if search is not None and search.is_cut:
        recall = sampled_recall(values, lengths, rest, close.pairs, COSINE, _seconds_of_all(values))
    return replace(close, crowds=tuple(crowds), recall=recall)


@dataclass(eq=False)
class _Search:
    """Rows, their projections, and the cells of these."""

    rows: NDArray[np.int64]
    points: NDArray[np.float32]
    cells: Cells
    is_cut: bool
    """Whether some cells are not looked at that may hold a partner."""


def _search(
    values: NDArray[Any], lengths: NDArray[np.float64], rows: NDArray[np.int64], *, exact: bool
) -> _Search | None:
    """None where projections do not tell which rows are unlike, or cells not where all partners may be."""
    axes = principal_axes(values, lengths, rows)
    if cheapest(values, lengths, rows, axes) == PRODUCT:
        return None
    points = projected(values, lengths, rows, axes, dtype=np.float32)
    centres = centres_of(points)
    is_cut = visits_needed(points, centres, REACH) > MOST_VISITS
    if exact and is_cut:
        return None
    return _Search(rows, points, cells_of(points, centres, REACH, most=MOST_VISITS if is_cut else None), is_cut)


def _found(values: NDArray[Any], lengths: NDArray[np.float64], search: _Search) -> Iterator[Found]:
    """Positions of both and cosines, cell by cell."""
    for one, two in candidates(search.points, search.cells, COSINE - SLACK):
        for part in parts(len(one), CANDIDATES_AT_ONCE):
            yield confirmed(values, lengths, search.rows[one[part]], search.rows[two[part]])


def _seconds_of_all(values: NDArray[Any]) -> float:
    """About how long an exact search would take, by that of some rows: each is compared with each."""
    rows = np.sort(np.random.default_rng(3).choice(len(values), min(TIMED_ROWS, len(values)), replace=False))
    some = np.asarray(values[rows])
    start = time.perf_counter()
    close_pairs(some)
    return (time.perf_counter() - start) * (len(values) / len(rows)) ** 2
