"""Points in cells about k-means centres, and the further cells in which a point's near neighbours may lie."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.cores import available_cores
from dvme.heads.neighbours.brute_force import faiss_module

PER_ROOT = 2.0
"""Cells for each root of N: a point is then compared with about as many centres as with other points."""
LEARNT_FROM, ROUNDS = 64, 10
"""Points of a sample for each centre, and rounds of k-means."""
ROWS_AT_ONCE, TILE = 256, 2048
CELLS_AT_ONCE = 4
"""Of each core: what they find is in memory."""
ROUNDING = 1e-5
"""More than rounding changes of a product of two unit vectors in float32, and of half a squared length."""
SAMPLED_POINTS = 4096
LOW = np.int64(0xFFFFFFFF)

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True, eq=False)
class Cells:
    """n points divided among K cells."""

    centres: NDArray[np.float32]
    """(K, k)."""
    home: NDArray[np.int32]
    """(n,) the cell of each point, that of its nearest centre."""
    visits: NDArray[np.int64]
    """(V,) in order, a cell times 2^32 plus a point whose partner may lie there; only cells of a number above that of
    its own, so that a pair is seen once."""


def centres_of(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """(K, k) centres of cells by k-means on a sample.

    Args:
        points: (n, k).
    """
    n_cells = max(1, min(len(points), int(PER_ROOT * np.sqrt(len(points)))))
    rng = np.random.default_rng(0)
    rows = np.sort(rng.choice(len(points), min(len(points), LEARNT_FROM * n_cells), replace=False))
    means = faiss_module().Kmeans(
        points.shape[1],
        n_cells,
        niter=ROUNDS,
        seed=0,
        min_points_per_centroid=1,
        max_points_per_centroid=LEARNT_FROM,
    )
    means.train(np.ascontiguousarray(points[rows]))
    return np.asarray(means.centroids, dtype=np.float32)


def visits_needed(points: NDArray[np.float32], centres: NDArray[np.float32], reach: float) -> float:
    """Further cells in which a point's partners may lie, on average over a sample.

    Args:
        points: (n, k), of a length of at most 1.
        centres: (K, k).
        reach: the largest distance of two partners.
    """
    rows = np.random.default_rng(0).choice(len(points), min(len(points), SAMPLED_POINTS), replace=False)
    return len(cells_of(points[np.sort(rows)], centres, reach).visits) / len(rows)


def cells_of(
    points: NDArray[np.float32], centres: NDArray[np.float32], reach: float, *, most: int | None = None
) -> Cells:
    """Each point in the cell of its nearest centre, and in which others it may have a partner.

    Let a be the nearest centre of x, and b that of y. Then the plane between a and b parts them, and x is as far from
    it as (|x - b|^2 - |x - a|^2) / (2 |a - b|). So y can be within `reach` of x only if that is at most `reach`.

    Args:
        points: (n, k), of a length of at most 1.
        centres: (K, k), of a length of at most 1.
        reach: the largest distance of two partners.
        most: cells at most that a point visits, those whose border is nearest to it; then partners may be missed.
    """
    halves = 0.5 * np.einsum("ck,ck->c", centres, centres)
    squares = 2.0 * (halves[:, None] + halves - centres @ centres.T)
    reaches = reach * np.sqrt(np.maximum(squares, 0.0, out=squares)) + ROUNDING  # (K, K) by which scores may differ
    widest = reaches.max(axis=1)
    assign = partial(_assigned, points, np.ascontiguousarray(centres.T), halves, reaches, widest, most)
    starts = range(0, len(points), ROWS_AT_ONCE)
    home, visits = np.empty(len(points), dtype=np.int32), [np.empty(0, dtype=np.int64)]
    with _lanes() as (pool, _):
        for start, (nearest, keys) in zip(starts, pool.map(assign, starts), strict=True):
            home[start : start + len(nearest)] = nearest
            visits.append(keys)
    every = np.concatenate(visits)
    every.sort()
    return Cells(centres, home, every)


def _assigned(
    points: NDArray[np.float32],
    turned: NDArray[np.float32],
    halves: NDArray[np.float32],
    reaches: NDArray[np.float32],
    widest: NDArray[np.float32],
    most: int | None,
    start: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Homes and visits of a block of points; scores are half of what a squared distance lacks to |x|^2."""
    scores = points[start : start + ROWS_AT_ONCE] @ turned
    scores -= halves
    home = scores.argmax(axis=1)
    best = scores[np.arange(len(scores)), home]
    row, cell = np.divmod(np.flatnonzero(scores >= (best - widest[home])[:, None]), scores.shape[1])
    behind = best[row] - scores[row, cell]
    allowed = reaches[home[row], cell]
    is_near = (behind <= allowed) & (cell > home[row])
    row, cell = row[is_near], cell[is_near]
    if most is not None and len(row):
        distance = behind[is_near] / allowed[is_near]
        order = np.lexsort((distance, row))
        row, cell = row[order], cell[order]
        is_kept = np.arange(len(row)) - np.searchsorted(row, row) < most
        row, cell = row[is_kept], cell[is_kept]
    return home, (cell << 32) | (row + start)


def candidates(points: NDArray[np.float32], cells: Cells, least: float) -> Iterator[Pairs]:
    """Pairs of points of one cell, or of which one visits the other's, with a product above `least`; each pair once.

    Args:
        points: (n, k); they are put into the order of their cells.
        cells: of these points.
        least: of a product.
    """
    n, n_cells = len(points), len(cells.centres)
    order = np.argsort(cells.home, kind="stable")
    place = np.empty(n, dtype=np.int32)
    place[order] = np.arange(n, dtype=np.int32)
    for axis in range(points.shape[1]):  # a copy of all axes at once would take as much memory again
        points[:, axis] = points[order, axis]
    ends = np.searchsorted(cells.home, np.arange(n_cells + 1), sorter=order)
    bounds = np.searchsorted(cells.visits, np.arange(n_cells + 1, dtype=np.int64) << 32)

    def pairs_of(cell: int) -> Iterator[Pairs]:
        guests = place[cells.visits[bounds[cell] : bounds[cell + 1]] & LOW]
        return _above(points, np.arange(ends[cell], ends[cell + 1]), guests, least)

    sizes = np.diff(ends)
    with _lanes() as (pool, n_lanes):
        at_once = CELLS_AT_ONCE * n_lanes
        for start in range(0, n_cells, at_once):
            several = range(start, min(start + at_once, n_cells))
            some = map(pairs_of, several)
            found = some if sizes[several].max() > TILE else pool.map(list, some)
            for one, other in chain.from_iterable(found):
                yield order[one], order[other]


def _above(points: NDArray[np.float32], own: NDArray[Any], guests: NDArray[Any], least: float) -> Iterator[Pairs]:
    """Pairs among the points of a cell, and of these with its guests, tile by tile."""
    for start in range(0, len(own), TILE):
        rows = own[start : start + TILE]
        block = points[rows[0] : rows[-1] + 1]
        for other in range(start, len(own), TILE):
            others = own[other : other + TILE]
            products = block @ points[others[0] : others[-1] + 1].T
            if start == other:
                np.fill_diagonal(products, -1.0)  # a row is no partner of its own
            one, two = _where(products, least)
            one, two = rows[one], others[two]
            yield (one, two) if start != other else (one[one < two], two[one < two])
        for other in range(0, len(guests), TILE):
            others = guests[other : other + TILE]
            one, two = _where(block @ points[others].T, least)
            yield rows[one], others[two]


def _where(products: NDArray[np.float32], least: float) -> Pairs:
    """Where they are larger; most rows have none."""
    rows = np.flatnonzero(products.max(axis=1) > least)
    one, two = np.nonzero(products[rows] > least)
    return rows[one], two


@contextmanager
def _lanes() -> Iterator[tuple[ThreadPoolExecutor, int]]:
    """Threads, of which each multiplies by itself: small products do not gain by threads of their own."""
    from threadpoolctl import threadpool_limits

    n_lanes = available_cores()
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(n_lanes) as pool:
        yield pool, n_lanes
