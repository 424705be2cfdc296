"""A compressed stream read from anywhere: forwards in order, and back to places that were passed before."""

from __future__ import annotations

import zlib
from bisect import bisect_right
from dataclasses import dataclass
from errno import EIO
from threading import Lock
from typing import Any

from dvme.data.sources.arrays.rows import pread

PIECE = 64 << 10
"""Compressed bytes that are read at a time."""
MOST_MARKS = 512
"""Places of a stream that are kept, each with 32 KiB of what went before."""
LEAST_SPACING = 4 << 20
RAW = -15
"""Window bits of a deflate stream without a header, as zip archives have it."""


@dataclass(frozen=True)
class Packed:
    """Where a stream lies."""

    file: int
    """Descriptor."""
    start: int
    n_packed: int
    """Bytes in the file."""
    n_bytes: int
    """Bytes of what it holds."""
    crc: int
    """CRC-32 of that."""


@dataclass
class _Place:
    """A point of the stream, from which it can be read on."""

    packed: int
    plain: int
    inflater: Any

    def copied(self) -> _Place:
        return _Place(self.packed, self.plain, self.inflater.copy())


class Inflated:
    """What a deflate stream holds, by the place in it; one thread reads at a time, and others wait."""

    def __init__(self, packed: Packed) -> None:
        self._packed = packed
        self._at = _Place(0, 0, zlib.decompressobj(RAW))
        self._marks = [self._at.copied()]
        self._crc, self._n_checked = 0, 0
        self._spacing = max(LEAST_SPACING, packed.n_bytes // MOST_MARKS)
        self._lock = Lock()
        self._damage = ""

    def read(self, start: int, n_bytes: int) -> bytes:
        """Bytes from a place on.

        Raises:
            OSError: if the stream is damaged, or ends before.
        """
        with self._lock:
            if self._damage:
                raise OSError(EIO, self._damage)
            try:
                self._seek(start)
                return self._taken(n_bytes)
            except zlib.error as error:
                self._damage = f"the compressed array is damaged: {error}"
                raise OSError(EIO, self._damage) from error

    def _seek(self, start: int) -> None:
        """Go to a place: on from here, or from a mark that is nearer."""
        mark = self._marks[bisect_right(self._marks, start, key=lambda mark: mark.plain) - 1]
        if self._at.plain > start or self._at.plain < mark.plain:
            self._at = mark.copied()
        while self._at.plain < start:
            self._taken(min(PIECE, start - self._at.plain))

    def _taken(self, n_bytes: int) -> bytes:
        """The next bytes."""
        found, at, packed = bytearray(), self._at, self._packed
        while len(found) < n_bytes:
            piece = pread(packed.file, min(PIECE, packed.n_packed - at.packed), packed.start + at.packed)
            got = at.inflater.decompress(piece, n_bytes - len(found))
            if not got and (at.inflater.eof or not piece):
                raise OSError(EIO, "the compressed array ends early")
            at.packed += len(piece) - len(at.inflater.unconsumed_tail)
            self._check(got)
            found += got
        return bytes(found)

    def _check(self, got: bytes) -> None:
        """Move on, keep a mark every while, and compare the checksum once all has been seen."""
        at = self._at
        if at.plain <= self._n_checked < at.plain + len(got):
            new = memoryview(got)[self._n_checked - at.plain :]
            self._crc, self._n_checked = zlib.crc32(new, self._crc), at.plain + len(got)
            if self._n_checked == self._packed.n_bytes and self._crc != self._packed.crc:
                self._damage = "the compressed array is damaged: its checksum does not fit"
                raise OSError(EIO, self._damage)
        at.plain += len(got)
        if at.plain - self._marks[-1].plain >= self._spacing:
            self._marks.append(at.copied())
