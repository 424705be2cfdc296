"""The same for every item, several at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def each(do: Callable[[T], None], items: Iterable[T], n_threads: int) -> None:
    """Call `do` with every item; with one thread, in this one. What it raises is raised."""
    if n_threads == 1:
        for item in items:
            do(item)
    else:
        with ThreadPoolExecutor(n_threads) as pool:
            list(pool.map(do, items))
