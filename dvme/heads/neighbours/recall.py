"""How many lists a search probes, by how many of the true neighbours of a sample it then finds."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.heads.neighbours.inverted_lists import InvertedLists
from dvme.heads.neighbours.of_rows import search
from dvme.metrics.calibration import Z
from dvme.notices import Aside
from dvme.stats.t_comparison import wilson

RECALL = 0.99
"""What the lower end of the interval has to reach."""
SAMPLE = 500
"""Queries that it is measured on: fewer than 381 that miss nothing would still leave a lower end below RECALL."""
MOST = 0.5
"""Share of the lists that are probed at most: beyond, an exact search takes hardly longer."""
KEY = "recall"
TIMED = 1000


@dataclass(frozen=True)
class Recall:
    """Measured on a sample of queries: the share of the k nearest rows that a search finds."""

    k: int
    mean: float
    low: float
    """The lower end of its 95% interval over queries."""
    n_queries: int
    """Validation images; where there are few of them, training images, each without itself."""
    n_probes: int
    n_lists: int
    exact_seconds: float
    """An exact search of TIMED queries, estimated from that of the sample."""

    @property
    def is_low(self) -> bool:
        """Whether less than RECALL is certain, even with the most probes."""
        return self.low < RECALL

    def described(self) -> dict[str, Any]:
        """Plain values for what a head has chosen; the time only where an exact search is worth a thought."""
        values = {
            KEY: self.mean,
            "recall_low": self.low,
            "recall_at": self.k,
            "recall_queries": self.n_queries,
            "n_probes": self.n_probes,
            "n_lists": self.n_lists,
        }
        return values | ({"exact_seconds": self.exact_seconds} if self.is_low else {})


def with_recall(
    lists: InvertedLists, queries: NDArray[Any], k: int, own: NDArray[Any] | None = None
) -> tuple[InvertedLists, Recall]:
    """The lists with as few probes as reach RECALL, and the recall that they have.

    The true neighbours come from a search of all lists. A query that probes p lists finds those of them whose list is
    among its p nearest, so a single search tells the recall of every p. It grows with p: with certainty 97.5% that of
    the first p whose lower end reaches RECALL is RECALL or more.

    Args:
        lists: of a bank of n rows.
        queries: (Q, D) float32, L2-normalised, as those that will be searched for.
        k: 1 <= k <= n, or < n where queries are rows of the bank.
        own: (Q,) which row of the bank each query is, and is not to count as its own neighbour; None: they are none.
    """
    start = time.perf_counter()
    found = search(queries, replace(lists, n_probes=lists.n_lists), k if own is None else k + 1)[1]
    exact_seconds = (time.perf_counter() - start) * TIMED / len(queries)
    if own is not None:
        others = np.argsort(found == own[:, None], axis=1, kind="stable")[:, :k]
        found = np.take_along_axis(found, others, axis=1)
    shares = found_shares(lists, queries, found)
    most = max(1, int(MOST * lists.n_lists))
    for n_probes in range(1, most + 1):
        mean, low = _interval(shares[:, n_probes - 1], k)
        if low >= RECALL:
            break
    recall = Recall(k, mean, low, len(queries), n_probes, lists.n_lists, exact_seconds)
    return replace(lists, n_probes=n_probes), recall


def found_shares(lists: InvertedLists, queries: NDArray[Any], true: NDArray[Any]) -> NDArray[np.float64]:
    """(Q, L) the share of the (Q, k) true neighbours that each query finds with 1, 2, ... L probes."""
    order = np.argsort(-(queries @ lists.centroids.T), axis=1, kind="stable")
    ranks = np.argsort(order, axis=1)  # (Q, L) of each list
    rank = np.take_along_axis(ranks, lists.lists_of(true), axis=1)
    counts = np.zeros(ranks.shape)
    np.add.at(counts, (np.arange(len(queries))[:, None], rank), 1.0)
    shares: NDArray[np.float64] = counts.cumsum(axis=1) / true.shape[1]
    return shares


def search_notices(fits: Iterable[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """A line for each head whose search was approximate, from the name of each fit's head and what it chose."""
    return [_notice(head, chosen) for head, chosen in least_recall(fits).items()]


def least_recall(fits: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, Mapping[str, Any]]:
    """By head, of its fits whose search was approximate, what the one with the lowest recall chose."""
    least: dict[str, Mapping[str, Any]] = {}
    for head, chosen in fits:
        if KEY in chosen and (head not in least or chosen["recall_low"] < least[head]["recall_low"]):
            least[head] = chosen
    return least


def _notice(head: str, chosen: Mapping[str, Any]) -> str:
    measured = f"recall {chosen[KEY]:.3f} at {chosen['recall_at']:,}, at least {chosen['recall_low']:.3f}"
    probed = f"{chosen['n_probes']:,} of {chosen['n_lists']:,} lists searched"
    line = f"{head} is approximate: {measured} on a sample of {chosen['recall_queries']:,} images, {probed}"
    if "exact_seconds" not in chosen:
        return Aside(line)
    seconds = f"{chosen['exact_seconds']:,.0f} s for {TIMED:,} images"
    return f"{line}; that is low: {head.partition('@')[0]}@search=exact finds all, in about {seconds}"


def _interval(shares: NDArray[np.float64], k: int) -> tuple[float, float]:
    """Mean and lower end of (Q,) shares, each of the k neighbours of a query, which may be missed together."""
    n, mean = float(len(shares)), float(shares.mean())
    variance = float(shares.var(ddof=1)) / n if n > 1 else 0.0
    return mean, wilson(mean, variance, (k * n, n), Z)[0]
