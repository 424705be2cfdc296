"""The same for every item, several at a time, by threads that stay."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

THREADS = 64
"""That help, in this process; how many a call asks for is its own affair."""


def each(do: Callable[[T], R], items: Iterable[T], n_threads: int) -> list[R]:
    """What `do` makes of every item, in their order; at most n_threads work at a time, this one among them.

    This thread waits for no help that has not begun. So a call within a call gets on, by this thread alone if need be.

    Raises:
        BaseException: what `do` raised; of several the one of the first such item, as without threads. No item is begun
            any more once one has failed, and none is still being worked at.
    """
    turns = _Turns(do, list(items))
    n_helpers = min(n_threads, len(turns.items)) - 1
    if n_helpers < 1:
        return [do(item) for item in turns.items]
    helpers = [helping_threads().submit(turns.take) for _ in range(n_helpers)]
    try:
        turns.take()
    finally:
        turns.is_over = True
        begun = [helper for helper in helpers if not helper.cancel()]
        wait(begun)
        if turns.errors:
            raise turns.errors[min(turns.errors)]
    return [turns.results[at] for at in range(len(turns.items))]


@cache
def helping_threads() -> ThreadPoolExecutor:
    """Made when they are first needed, and anew in a forked process, which has none of its parent's."""
    return ThreadPoolExecutor(THREADS, "dvme-cache")


@cache
def waiting_threads() -> ThreadPoolExecutor:
    """For Zarr's requests alone: helping threads wait for these, and these for nobody."""
    return ThreadPoolExecutor(THREADS, "dvme-zarr")


os.register_at_fork(after_in_child=helping_threads.cache_clear)
os.register_at_fork(after_in_child=waiting_threads.cache_clear)


class _Turns(Generic[T, R]):
    """Items, taken one after the other by whoever is free."""

    def __init__(self, do: Callable[[T], R], items: Sequence[T]) -> None:
        self._do = do
        self.items = items
        self.results: dict[int, R] = {}
        self.errors: dict[int, BaseException] = {}
        self.is_over = False
        self._at, self._one_at_a_time = iter(range(len(items))), threading.Lock()

    def take(self) -> None:
        """Work until none is left, or one fails."""
        while (at := self._next()) is not None:
            try:
                self.results[at] = self._do(self.items[at])
            except BaseException as error:
                self.errors[at] = error
                self.is_over = True
                raise

    def _next(self) -> int | None:
        with self._one_at_a_time:
            return None if self.is_over else next(self._at, None)
