"""Images out of arrays: the row of a number, from bytes at a known place or from blocks that are read as a whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from errno import EIO, ENOENT
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Protocol

from dvme.data.encoded import Encoded
from dvme.data.sources.arrays.blocks import BLOCKS
from dvme.data.sources.arrays.pictures import Bytes, Form

BLOCK_BYTES = 4 << 20
"""About how much is read at a time where a row cannot be read alone."""
DIGITS = 6
"""Of the number of a row in its address, at least."""


class Rows(Protocol):
    """The values of an array, an image at a time."""

    def read(self, row: int) -> Bytes:
        """The values of an image as they lie in memory.

        Raises:
            OSError: if they cannot be read.
        """


@dataclass(frozen=True)
class StoredRows:
    """Rows that lie one behind the other in a file, as they are in memory."""

    file: int
    """Its descriptor."""
    start: int
    """Where the first one begins."""
    n_bytes: int

    def read(self, row: int) -> bytes:
        """The values of an image; OSError if the file ends before."""
        values = pread(self.file, self.n_bytes, self.start + row * self.n_bytes)
        if len(values) < self.n_bytes:
            raise OSError(EIO, f"the file ends before row {row}")
        return values


@dataclass(frozen=True)
class BlockRows:
    """Rows that are read many at a time, since they are compressed."""

    owner: int
    """The container, for `BLOCKS`."""
    name: str
    n_rows: int
    n_bytes: int
    per_block: int
    """Rows."""
    load: Callable[[int, int], memoryview]
    """The values of the rows from a first up to a last one."""

    def read(self, row: int) -> memoryview:
        """The values of an image, out of its block; with the first of a block, the next block is read meanwhile."""
        block, at = divmod(row, self.per_block)
        values = BLOCKS.take(self.owner, (self.name, block), partial(self._load, block))
        if not at and row + self.per_block < self.n_rows:
            BLOCKS.take_ahead(self.owner, (self.name, block + 1), partial(self._load, block + 1))
        return values[at * self.n_bytes : (at + 1) * self.n_bytes]

    def _load(self, block: int) -> memoryview:
        first = block * self.per_block
        return self.load(first, min(first + self.per_block, self.n_rows))


@dataclass(frozen=True)
class Pictures:
    """An array whose rows are images."""

    form: Form
    rows: Rows


class ArrayMembers:
    """A file of arrays that is open: the member `x/000123` is row 123 of the array `x`."""

    def __init__(self, find: Callable[[str], Pictures], close: Callable[[], None]) -> None:
        """Take what finds the images of an array of a name (OSError if there are none), and what closes the file."""
        self._find, self._close = find, close
        self._found: dict[str, Pictures] = {}
        self._lock = Lock()

    def read(self, member: str) -> Encoded:
        """The image of a row.

        Raises:
            OSError: if it is not there, or cannot be read.
        """
        pictures, row = self._place_of(member)
        return Encoded(pictures.form.picture(pictures.rows.read(row)))

    def holds(self, member: str) -> bool:
        """Whether there is such a row."""
        try:
            self._place_of(member)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Let go of the file."""
        self._close()

    def _place_of(self, member: str) -> tuple[Pictures, int]:
        name, _, number = member.rpartition("/")
        pictures = self._found.get(name)
        if pictures is None:
            with self._lock:
                pictures = self._found[name] = self._found.get(name) or self._find(name)
        if not (number.isascii() and number.isdecimal()) or int(number) >= pictures.form.n_rows:
            raise OSError(ENOENT, f"{name} has no row {number!r}; it has {pictures.form.n_rows:,}")
        return pictures, int(number)


def rows_at_once(n_bytes: int, step: int = 1) -> int:
    """How many rows of `n_bytes` are a block: a multiple of `step`, of BLOCK_BYTES where it fits."""
    return step * max(1, BLOCK_BYTES // max(1, n_bytes * step))


def addresses(container: Path, name: str, n_rows: int) -> list[Path]:
    """Those of all rows of an array."""
    return [container / name / f"{row:0{DIGITS}d}" for row in range(n_rows)]


def pread(file: int, n_bytes: int, start: int) -> bytes:
    """Bytes of a file at a place, for any number of threads."""
    return os.pread(file, n_bytes, start)
