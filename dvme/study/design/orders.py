"""Orders of rows whose beginnings are the subsets: what a small subset holds, every larger one holds too."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Balance = Literal["balanced", "stratified", "natural"]
"""`balanced`: as many of each class; `stratified`: as in the whole; `natural`: as chance has it."""


def nested_order(labels: NDArray[Any], balance: Balance, rng: np.random.Generator) -> NDArray[Any]:
    """A random order of rows of which every beginning is balanced as asked.

    `balanced` takes from the classes in turn; one that has no more is passed over, so that a beginning has as
    many of every class as there are, up to the most equal share. `stratified` keeps every class less than one row
    from its share.

    Args:
        labels: (n,) class indices.
        balance: see Balance.
        rng: of the draws.

    Returns:
        (n,) positions.

    Source: Truong et al. 2021, section 5.3 and appendix A, for `balanced`; see `_turns` for `stratified`.
    """
    if balance == "natural" or not len(labels):
        return rng.permutation(len(labels))
    classes, own = np.unique(labels, return_inverse=True)
    counts = np.bincount(own)
    queues = [rng.permutation(np.flatnonzero(own == c)) for c in range(len(classes))]
    if balance == "balanced":
        # The k-th of every class is due in round k; within a round the classes come in random order.
        due = np.concatenate([np.arange(count) + rng.random(count) * 0.999 for count in counts])
        order: NDArray[Any] = np.concatenate(queues)[np.argsort(due, kind="stable")]
        return order
    order = np.empty(len(labels), dtype=np.int64)
    order[np.argsort(_turns(counts, rng), kind="stable")] = np.concatenate(queues)
    return order


def _turns(counts: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Whose turn it is at every place, so that among any first n a class of share p has n p rows, up to less than one.

    The k-th of a class may not come before n p exceeds k - 1, and has to before n p exceeds k; of those that may, the
    one comes that has to soonest. To give every class its rows at even distances is not enough: ten classes of one
    row each would all be due in the middle.

    Args:
        counts: (C,) rows of each class, none 0.
        rng: for ties.

    Returns:
        (n,) class indices.

    Source: Tijdeman 1980, who shows that it is always possible; Baruah et al. 1996, theorem 1, as a schedule.
    """
    n = int(counts.sum())
    waiting = [(0, c) for c in range(len(counts))]
    heapify(waiting)
    ready: list[tuple[int, float, int]] = []
    taken = [0] * len(counts)
    turns = np.empty(n, dtype=np.int64)
    for place in range(n):
        while waiting and waiting[0][0] <= place:
            c = heappop(waiting)[1]
            heappush(ready, (-(-(taken[c] + 1) * n // int(counts[c])), rng.random(), c))
        c = turns[place] = heappop(ready)[2]
        taken[c] += 1
        if taken[c] < counts[c]:
            heappush(waiting, (taken[c] * n // int(counts[c]), c))
    return turns
