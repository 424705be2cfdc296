"""What a map keeps of its embedding, and what the embedding itself says about the labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data import MISSING
from dvme.heads.neighbours.votes import votes
from dvme.vectors import spans

NEIGHBOURS = 15
ALL_POINTS, SAMPLE = 5000, 2000
"""Of more points than the first, as many as the second stand for all, each compared with all."""
SILHOUETTE_SAMPLE = 2000
"""A silhouette compares every point with every other."""
BLOCK = 1 << 24
"""Similarities that are held at once."""


@dataclass(frozen=True)
class MapQuality:
    """How far a map can be trusted, and how well the embedding itself separates the labels.

    The first two are of the map; silhouette and kNN accuracy are of the embedding, so they are the same for every
    method. All are nan where there is nothing to measure.
    """

    trustworthiness: float
    """1 where all map neighbours are near in the embedding, about 0.5 for a random map (Venna and Kaski 2001)."""
    preservation: float
    """Share of the nearest in the embedding that are among the nearest in the map, 0 to 1."""
    silhouette: float
    """Mean over labelled asked points, by label and cosine distance, -1 to 1 (Rousseeuw 1987)."""
    knn_accuracy: float
    """Share of asked points whose label wins the vote of their nearest known ones, 0 to 1."""
    n_neighbours: int
    """Neighbours that the first two are about."""
    n_asked: int
    """Points that the kNN accuracy is over."""
    n_laid_out: int | None = None
    """Points that the map was made of, where the others were placed beside them; None: all."""
    n_measured: int | None = None
    """Points that were drawn to stand for all, of which these numbers ask as many as of a map of so many; None: all."""


@dataclass(frozen=True)
class MeasuredRows:
    """Rows of many that a map is measured on: M rows, and what each is for."""

    rows: NDArray[np.intp]
    """(M,) ascending."""
    is_among: NDArray[np.bool_]
    """(M,) whether trustworthiness and preservation are among it and its like."""
    is_query: NDArray[np.bool_]
    """(M,) whose labels are asked for."""
    may_vote: NDArray[np.bool_]
    """(M,) whose labels may answer."""


def measured_rows(
    labels: NDArray[Any], is_query: NDArray[Any], may_vote: NDArray[Any], most: int, seed: int
) -> MeasuredRows:
    """Draw rows to measure a map of many on: of all rows, of those asked, and of those that vote, at most so many each.

    All three are the first of their kind in one random order, so that where everyone votes they are the same rows.
    Where few have labels, all of these are drawn.

    Args:
        labels: (N,) str, "" for none.
        is_query: (N,) bool, see `measure`.
        may_vote: (N,) bool, see `measure`.
        most: of each kind; of those asked as many as `measure` asks.
        seed: of the order.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    is_labelled = np.asarray(labels != MISSING)
    n_asked = int(np.count_nonzero(is_query & is_labelled))

    def first(is_wanted: NDArray[np.bool_], n: int) -> NDArray[np.bool_]:
        is_taken = np.zeros(len(order), dtype=bool)
        is_taken[order[is_wanted[order]][:n]] = True
        return is_taken

    is_among = first(np.ones(len(order), dtype=bool), most)
    is_asked = first(is_query & is_labelled, n_asked if n_asked <= ALL_POINTS else SAMPLE)
    votes_too = first(may_vote & is_labelled, most)
    rows = np.flatnonzero(is_among | is_asked | votes_too)
    return MeasuredRows(rows, is_among[rows], is_asked[rows], votes_too[rows])


def measure(
    unit: NDArray[Any],
    positions: NDArray[Any],
    labels: NDArray[Any],
    groups: NDArray[Any],
    *,
    is_query: NDArray[Any],
    may_vote: NDArray[Any],
    is_among: NDArray[Any] | None = None,
    seed: int,
) -> MapQuality:
    """Measure one map.

    Args:
        unit: (N, D) float32, L2-normalised; N >= 4.
        positions: (N, 2) of the map.
        labels: (N,) str, "" for none.
        groups: (N,) str, such as the patient, "" for none; those of one group do not vouch for each other.
        is_query: (N,) bool, whose labels silhouette and kNN accuracy are about, such as the test images.
        may_vote: (N,) bool, whose labels the kNN accuracy may look at, such as the training images.
        is_among: (N,) bool, of which points neighbours are kept or lost; None: of all.
        seed: of the samples, where there are too many points for all of them.
    """
    among: Any = slice(None) if is_among is None else is_among
    k = min(NEIGHBOURS, (len(labels[among]) - 1) // 2)
    is_labelled = labels != MISSING
    asked, known = np.flatnonzero(is_query & is_labelled), np.flatnonzero(may_vote & is_labelled)
    queries = _sample(np.arange(len(labels[among])), seed)
    trusted, preserved = neighbourhoods(unit[among], positions[among], k, queries)
    accuracy, n_asked = knn_accuracy(unit, labels, groups, _sample(asked, seed), known)
    return MapQuality(trusted, preserved, silhouette(unit, labels, asked, seed), accuracy, k, n_asked)


def neighbourhoods(unit: NDArray[Any], positions: NDArray[Any], k: int, queries: NDArray[Any]) -> tuple[float, float]:
    """Trustworthiness and preservation of the k nearest of some points among all.

    Both follow from one number for each of a point's map neighbours: how manieth it is by similarity. Among
    equally similar ones all have the rank of the first.

    Args:
        unit: (N, D) float32, L2-normalised.
        positions: (N, 2).
        k: 1 <= k < N / 2.
        queries: (B,) rows.

    Source: Venna and Kaski 2001, section 2, M1.
    """
    near = _nearest_in_map(positions, queries, k)
    excess, n_preserved = 0, 0
    for block in spans(len(queries), len(unit), BLOCK):
        rows = queries[block]
        similarities = unit[rows] @ unit.T  # (B, N)
        similarities[np.arange(len(rows)), rows] = -np.inf
        for column in near[block].T:
            own = similarities[np.arange(len(rows)), column]
            ranks = 1 + np.count_nonzero(similarities > own[:, None], axis=1)
            excess += int(np.maximum(ranks - k, 0).sum())
            n_preserved += int(np.count_nonzero(ranks <= k))
    n_pairs = len(queries) * k
    return 1 - 2 * excess / (n_pairs * (2 * len(unit) - 3 * k - 1)), n_preserved / n_pairs


def silhouette(unit: NDArray[Any], labels: NDArray[Any], rows: NDArray[Any], seed: int) -> float:
    """Mean silhouette of some labelled rows by label; nan with fewer than two classes, or one for each row."""
    from sklearn.metrics import silhouette_score

    if len(rows) > SILHOUETTE_SAMPLE:
        rows = _drawn(rows, SILHOUETTE_SAMPLE, seed)
    _, codes = np.unique(labels[rows].astype(str), return_inverse=True)
    n_classes = len(np.unique(codes))
    if not 2 <= n_classes < len(rows):
        return float("nan")
    return float(silhouette_score(unit[rows], codes, metric="cosine"))


def knn_accuracy(
    unit: NDArray[Any], labels: NDArray[Any], groups: NDArray[Any], asked: NDArray[Any], known: NDArray[Any]
) -> tuple[float, int]:
    """Share of asked rows whose own label wins among the nearest known rows, and how many could be asked.

    Neighbours vote as in the kNN head. A point is not its own neighbour, nor is one of its group. A row that has no
    neighbour left is not asked.

    Args:
        unit: (N, D) float32, L2-normalised.
        labels: (N,) str.
        groups: (N,) str, "" for none.
        asked: rows, each with a label.
        known: rows, each with a label.
    """
    if not len(known):
        return float("nan"), 0
    classes, codes = np.unique(labels[known].astype(str), return_inverse=True)
    _, group_codes = np.unique(groups.astype(str), return_inverse=True)
    group_codes = np.where(groups == MISSING, -1 - np.arange(len(groups)), group_codes)  # each a group of its own
    bank, k = unit[known], min(NEIGHBOURS, len(known))
    n_right = n_asked = 0
    for block in spans(len(asked), len(known), BLOCK):
        rows = asked[block]
        similarities = unit[rows] @ bank.T  # (B, n)
        similarities[group_codes[rows][:, None] == group_codes[known]] = -np.inf
        found = np.argpartition(similarities, -k, axis=1)[:, -k:]
        near = np.take_along_axis(similarities, found, axis=1)
        order = np.argsort(-near, axis=1, kind="stable")
        near, found = np.take_along_axis(near, order, axis=1), np.take_along_axis(found, order, axis=1)
        can_answer = np.isfinite(near[:, 0])
        shares = votes(near[can_answer], codes[found[can_answer]], len(classes))
        n_right += int(np.count_nonzero(classes[shares.argmax(axis=1)] == labels[rows[can_answer]].astype(str)))
        n_asked += int(np.count_nonzero(can_answer))
    return (n_right / n_asked if n_asked else float("nan")), n_asked


def _nearest_in_map(positions: NDArray[Any], queries: NDArray[Any], k: int) -> NDArray[Any]:
    """(B, k) rows nearest to each query, without itself, which need not be the first where points coincide."""
    from scipy.spatial import KDTree

    _, found = KDTree(positions).query(positions[queries], k + 1, workers=-1)
    itself_last = np.argsort(found == queries[:, None], axis=1, kind="stable")
    nearest: NDArray[Any] = np.take_along_axis(found, itself_last, axis=1)[:, :k]
    return nearest


def _sample(rows: NDArray[Any], seed: int) -> NDArray[Any]:
    """All rows, or a seeded sample of many."""
    return rows if len(rows) <= ALL_POINTS else _drawn(rows, SAMPLE, seed)


def _drawn(rows: NDArray[Any], n: int, seed: int) -> NDArray[Any]:
    """As many of the rows, in their order."""
    return np.sort(np.random.default_rng(seed).choice(rows, n, replace=False))
