"""Pieces of containers that were read last, in bounded memory: each is read once, whoever asks for it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from threading import Lock
from typing import Any, Protocol, TypeVar

MOST_BYTES = 1 << 30
"""Of all containers together; arrays that are smaller are read from disk once."""
_OWNERS = count()


class Sized(Protocol):
    """A piece, which knows how many bytes it takes."""

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""


Piece = TypeVar("Piece", bound=Sized)


class Blocks:
    """Pieces by their keys, the ones used last at the end."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes = most_bytes
        self.n_bytes = 0
        """What the pieces take that have been read."""
        self._kept: OrderedDict[tuple[int, Hashable], Future[Any]] = OrderedDict()
        self._lock = Lock()
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="ahead")

    def take(self, owner: int, name: Hashable, load: Callable[[], Piece]) -> Piece:
        """A piece: kept, or read now; of threads that ask at the same time one reads, and the others wait for it.

        Raises:
            Whatever `load` raises, to all who wait; the next one tries again.
        """
        key = owner, name
        with self._lock:
            found = self._kept.get(key)
            future: Future[Any] = found if found is not None else Future()
            self._kept[key] = future
            self._kept.move_to_end(key)
        if found is None:
            try:
                value = load()
            except BaseException as error:
                with self._lock:
                    self._kept.pop(key, None)
                future.set_exception(error)
                raise
            future.set_result(value)
            self._count(key, value.nbytes)
        result: Piece = future.result()
        return result

    def take_ahead(self, owner: int, name: Hashable, load: Callable[[], Sized]) -> None:
        """Have a piece read meanwhile; whoever takes it is told of a failure."""
        with self._lock:
            is_wanted = (owner, name) not in self._kept
        if is_wanted:
            self._reader.submit(self.take, owner, name, load)

    def drop(self, owner: int) -> None:
        """Let go of everything that is of one owner."""
        with self._lock:
            for key in [key for key in self._kept if key[0] == owner]:
                self._let_go(key)

    def _count(self, key: tuple[int, Hashable], n_bytes: int) -> None:
        """Count what was read, and let go of the pieces that were used longest ago."""
        with self._lock:
            if key not in self._kept:
                return
            self.n_bytes += n_bytes
            for old in list(self._kept):
                if self.n_bytes <= self.most_bytes:
                    break
                if old != key and self._kept[old].done():
                    self._let_go(old)

    def _let_go(self, key: tuple[int, Hashable]) -> None:
        future = self._kept.pop(key)
        if future.done() and future.exception() is None:
            self.n_bytes -= future.result().nbytes


BLOCKS = Blocks()


def new_owner() -> int:
    """A number for a container that is opened."""
    return next(_OWNERS)
