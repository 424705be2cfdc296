"""Neighbours among images of which a bank has several views: each image once, as near as its nearest view."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.vectors import spans

TIED = 8 * float(np.finfo(np.float32).eps)
"""As in the search among rows: similarities that differ by no more are told apart in float64."""
LOOKED_AT = 1 << 24
"""Similarities that are looked at together."""
Search = Callable[[NDArray[Any], NDArray[Any], Sequence[int]], tuple[NDArray[Any], NDArray[Any]]]
"""Queries (B, D), bank (n, D) and several k to similarities and rows, both (B, largest k); descending."""


def nearest_images(
    queries: NDArray[Any], bank: NDArray[Any], k: Sequence[int], n_views: int, search: Search
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The k most similar images of every query, exactly; of equally similar ones the first.

    Args:
        queries: (B, D) float32, L2-normalised.
        bank: (n_views * n, D) float32, L2-normalised: n images, then their second view, and so on.
        k: 1 <= k <= n, one or several of them: then the first k are those of each.
        n_views: of each image.
        search: the k most similar rows of a bank.

    Returns:
        Cosine similarities (B, k), descending up to rounding, and rows (B, k) of the bank, of the largest k.
    """
    n_images, most = len(bank) // n_views, max(k)
    wanted = min(most + 1, n_images)
    # Fewer than so many images have no more rows than that.
    similarities, rows = search(queries, bank, [n_views * (wanted - 1) + 1])
    is_first = _firsts(rows % n_images)
    order = np.argsort(~is_first, axis=1, kind="stable")[:, :wanted]
    similarities, rows = (np.take_along_axis(each, order, axis=1) for each in (similarities, rows))
    cuts = np.array([each for each in k if each < n_images], dtype=np.int64)
    is_open = np.flatnonzero((similarities[:, cuts - 1] - similarities[:, cuts] <= TIED).any(axis=1))
    similarities, rows = similarities[:, :most].copy(), rows[:, :most].copy()
    for part in spans(len(is_open), len(bank), LOOKED_AT):
        some = is_open[part]
        similarities[some], rows[some] = _by_float64(queries[some], bank, n_views, most)
    return similarities, rows


def _firsts(images: NDArray[Any]) -> NDArray[np.bool_]:
    """(B, K) which are the first of their number in a row of (B, K)."""
    order = np.argsort(images, axis=1, kind="stable")
    numbers = np.take_along_axis(images, order, axis=1)
    is_new = np.concatenate([np.ones((len(images), 1), dtype=bool), numbers[:, 1:] != numbers[:, :-1]], axis=1)
    found = np.empty(images.shape, dtype=bool)
    np.put_along_axis(found, order, is_new, axis=1)
    return found


def _by_float64(queries: NDArray[Any], bank: NDArray[Any], n_views: int, k: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The same by all similarities in float64, in which rows that are the same to the bit are equally similar."""
    n_images, wide = len(bank) // n_views, queries.astype(np.float64)
    every = np.empty((len(queries), len(bank)))
    for rows in spans(len(bank), max(1, queries.size), LOOKED_AT):
        # Not a matrix product, which sums in an order of its own for each place.
        every[:, rows] = np.einsum("bd,nd->bn", wide, bank[rows].astype(np.float64))
    of_views = every.reshape(len(queries), n_views, n_images)
    view = of_views.argmax(axis=1)
    nearest = np.take_along_axis(of_views, view[:, None], axis=1)[:, 0]
    images = np.broadcast_to(np.arange(n_images), nearest.shape)
    order = np.lexsort((images, -nearest))[:, :k]
    rows = view * n_images + images
    return np.take_along_axis(nearest, order, axis=1), np.take_along_axis(rows, order, axis=1)
