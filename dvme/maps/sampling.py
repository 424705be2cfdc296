"""A sample that has every region of a cloud of points in proportion."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.heads.neighbours.brute_force import faiss_module

CELLS = 1000
"""Regions that points are divided into, at most; fewer of small samples, see POINTS_OF_A_CELL."""
POINTS_OF_A_CELL = 10
"""Drawn from a region on average, at least."""
ROUNDS = 10
"""Of Lloyd's algorithm. The regions need not be the best ones."""


def proportional_sample(points: NDArray[np.float32], n: int, seed: int) -> NDArray[np.intp]:
    """Draw points so that every region has its share, and every point the same chance.

    Points are sorted by region, the cells of k-means, and within a region along their first axis. Of this order every
    N/n-th is taken, from a random start on. A region of m points thereby has m n/N of the drawn ones, up to less than
    one; a plain draw is off by about the square root of that.

    Args:
        points: (N, K).
        n: 1 <= n <= N.
        seed: of the regions and of the start.

    Returns:
        (n,) rows, ascending.

    Source: Madow and Madow 1944, systematic sampling, of an order by strata.
    """
    regions = regions_of(points, min(CELLS, max(1, n // POINTS_OF_A_CELL)), seed)
    order = np.lexsort((points[:, 0], regions))
    start = np.random.default_rng(seed).random()
    places = ((np.arange(n) + start) * (len(points) / n)).astype(np.intp)
    return np.sort(order[np.minimum(places, len(points) - 1)])


def regions_of(points: NDArray[np.float32], n_regions: int, seed: int) -> NDArray[Any]:
    """(N,) in which of so many cells of k-means each of the (N, K) points lies."""
    points = np.ascontiguousarray(points)
    means = faiss_module().Kmeans(
        points.shape[1], n_regions, niter=ROUNDS, seed=seed % (1 << 31), min_points_per_centroid=1
    )
    means.train(points)
    _, nearest = means.index.search(points, 1)
    regions: NDArray[Any] = nearest[:, 0]
    return regions
