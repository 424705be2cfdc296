"""Fewer points on a curve that looks the same."""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_POINTS = 200


def thinned(
    x: NDArray[Any], y: NDArray[Any], at_most: int = MOST_POINTS, *, tolerance: float = 1e-9
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The ends of a curve and those points between them that its shape needs most.

    The stretch whose farthest point lies farthest from its chord is split there, again and again.

    Args:
        x: (N,), finite, in a range of about 1, as y.
        y: (N,).
        at_most: points kept, >= 2.
        tolerance: distance from a chord that does not matter.

    Returns:
        At most `at_most` of the points, in their order.

    Source: Ramer 1972; Douglas and Peucker 1973; best first in place of recursive.
    """
    if len(x) <= 2:
        return x, y
    kept = {0, len(x) - 1}
    waiting = [_farthest(x, y, 0, len(x) - 1)]
    while waiting and len(kept) < at_most:
        distance, start, split, end = heapq.heappop(waiting)
        if -distance <= tolerance:
            break
        kept.add(split)
        for part in ((start, split), (split, end)):
            if part[1] - part[0] > 1:
                heapq.heappush(waiting, _farthest(x, y, *part))
    order = np.array(sorted(kept))
    return x[order], y[order]


def _farthest(x: NDArray[Any], y: NDArray[Any], start: int, end: int) -> tuple[float, int, int, int]:
    """(-distance, start, point, end) of the point between the ends that is farthest from their chord."""
    across, up = x[end] - x[start], y[end] - y[start]
    dx, dy = x[start + 1 : end] - x[start], y[start + 1 : end] - y[start]
    length = float(np.hypot(across, up))
    distances = np.abs(across * dy - up * dx) / length if length > 0 else np.hypot(dx, dy)
    place = int(distances.argmax())
    return -float(distances[place]), start, start + 1 + place, end
