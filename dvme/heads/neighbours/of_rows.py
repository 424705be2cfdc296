"""Neighbours among the rows of a bank, searched by FAISS; equally similar ones in the order of the bank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.heads.neighbours.brute_force import nearest
from dvme.heads.neighbours.inverted_lists import InvertedLists
from dvme.vectors import spans

TIED = 8 * float(np.finfo(np.float32).eps)
"""Where the k-th and the next similarity differ by at most this, float64 decides: a matrix product gives rows that are
the same to the bit similarities of up to 5 eps apart, measured on up to 4,096 values."""
FOUND = 1 << 24
"""Neighbours, or values of theirs, that are looked at together; a single query may exceed it."""


def search(
    queries: NDArray[Any],
    bank: NDArray[Any] | InvertedLists,
    k: int | Sequence[int],
    *,
    device: str = "cpu",
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The k most similar bank rows of every query: exactly, or of inverted lists those of the lists that are probed.

    FAISS leaves open which of equally similar rows it finds. Here it is always the first of the bank: where the k-th
    and the next similarity are equal up to TIED, the query is searched deeper until all rows are found that may be
    among the k. These are sorted by their similarity in float64, and of equal ones by the order of the bank.

    Args:
        queries: (B, D) float32, L2-normalised.
        bank: (n, D) float32, L2-normalised; or its inverted lists.
        k: 1 <= k <= n, or several of them: then the first k are those of each.
        device: `cuda` or `cuda:INDEX`, with faiss-gpu only; else `cpu`.

    Returns:
        Cosine similarities (B, k), descending up to rounding, and bank indices (B, k), of the largest k.
    """
    cuts = np.atleast_1d(k)
    most = int(cuts.max())
    similarities, neighbours = _found(queries, bank, min(most + 1, len(bank)), device)
    inner = cuts[cuts < len(bank)]
    is_open = (similarities[:, inner - 1] - similarities[:, inner] <= TIED).any(axis=1)
    similarities, neighbours = np.array(similarities[:, :most]), np.array(neighbours[:, :most])
    unsettled, depth = np.flatnonzero(is_open), min(most + 1, len(bank))
    while len(unsettled):
        still, size = [], max(1, FOUND // (depth * bank.shape[1]))
        for some in np.split(unsettled, range(size, len(unsettled), size)):
            near, found = _found(queries[some], bank, depth, device)
            is_settled = (near[:, most - 1] - near[:, -1] > TIED) | (depth == len(bank))
            still.append(some[~is_settled])
            done = some[is_settled]
            similarities[done], neighbours[done] = _sorted(queries[done], bank, found[is_settled], most)
        unsettled, depth = np.concatenate(still), min(2 * depth, len(bank))
    return similarities, neighbours


def _sorted(
    queries: NDArray[Any], bank: NDArray[Any] | InvertedLists, found: NDArray[Any], k: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The first k of the (B, K) rows that were found, by similarity in float64, then by the order of the bank."""
    # Not a matrix product: rows that are the same to the bit get the same similarity, wherever they are.
    exact, wide = np.empty(found.shape), queries.astype(np.float64)
    for columns in spans(found.shape[1], queries.size, FOUND):
        exact[:, columns] = np.einsum("bd,bkd->bk", wide, bank[found[:, columns]].astype(np.float64))
    order = np.lexsort((found, -exact))[:, :k]
    return np.take_along_axis(exact, order, axis=1), np.take_along_axis(found, order, axis=1)


def _found(
    queries: NDArray[Any], bank: NDArray[Any] | InvertedLists, k: int, device: str
) -> tuple[NDArray[Any], NDArray[Any]]:
    """(B, k) similarities, descending, and bank indices; equal ones in any order."""
    if isinstance(bank, InvertedLists):
        return bank.nearest(queries, k)
    return nearest(queries, bank, k, device)
