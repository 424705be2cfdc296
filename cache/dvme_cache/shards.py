"""Arrays of fixed-width rows, a file per shard: the rows as they lie in memory, then their crc32c.

These are chunks of plain Zarr arrays (codecs `bytes`, `crc32c`), written and read without going through
Zarr: a shard takes one system call, and a single row can be read without its neighbours.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme_cache.protocol import Files
from dvme_cache.sealing import CRC_BYTES, crc32c

ROWS_AT_ONCE = 256
READ_THROUGH = 16
"""Rows between two wanted ones that are read along rather than skipped."""


class TornShardError(Exception):
    """A shard's file is gone, too short or too long, or fails its checksum. Never leaves this package."""

    def __init__(self, message: str, *, is_gone: bool = False) -> None:
        super().__init__(message)
        self.is_gone = is_gone


class ShardFiles:
    """The shards of one array (N, ...) at `path`: n_rows rows in each, of shape () or (D,), stored little-endian."""

    def __init__(self, files: Files, path: str, *, n_rows: int, dtype: str, row_shape: tuple[int, ...] = ()) -> None:
        self._files = files
        self._path = path
        self.name = path.rpartition("/")[2]
        self.n_rows = n_rows
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self.row_shape = row_shape
        self.blank = blank(self.dtype)
        self.row_bytes = self.dtype.itemsize * int(np.prod(row_shape, dtype=np.int64))

    def key(self, shard: int) -> str:
        """Where a shard lies in the cache."""
        return f"{self._path}/c/{shard}" + "/0" * len(self.row_shape)

    @property
    def file_bytes(self) -> int:
        """Size of a sound shard's file."""
        return self.n_rows * self.row_bytes + CRC_BYTES

    def read(self, shard: int) -> NDArray[Any] | None:
        """(n_rows, ...) of a shard, its checksum verified; None where there is no file.

        Raises:
            TornShardError: if the file is not what was written.
        """
        data = self._files.read(self.key(shard))
        if data is None:
            return None
        if len(data) != self.file_bytes:
            raise TornShardError(f"{self.key(shard)} is torn: {len(data):,} of {self.file_bytes:,} bytes")
        rows = np.frombuffer(data, dtype=np.uint8)[:-CRC_BYTES]
        if crc32c(rows) != int.from_bytes(data[-CRC_BYTES:], "little"):
            raise TornShardError(f"{self.key(shard)} is flipped: its checksum does not match")
        return rows.view(self.dtype).reshape(self.n_rows, *self.row_shape)

    def check_whole(self, shard: int) -> None:
        """Look whether a shard's file is there and long enough, by its last row.

        Raises:
            TornShardError: if it is not.
        """
        self.read_rows(shard, np.array([self.n_rows - 1]), np.empty((1, *self.row_shape), dtype=self.dtype))

    def remains(self, shard: int, fill: float) -> NDArray[Any]:
        """(n_rows, ...) of whatever a damaged file still holds, unverified; `fill` where it holds nothing."""
        rows = np.full((self.n_rows, *self.row_shape), fill, dtype=self.dtype)
        data = self._files.read(self.key(shard)) or b""
        whole = min(len(data), self.n_rows * self.row_bytes) // self.row_bytes
        rows[:whole] = np.frombuffer(data[: whole * self.row_bytes], dtype=self.dtype).reshape(-1, *self.row_shape)
        return rows

    def read_rows(self, shard: int, places: NDArray[Any], out: NDArray[Any]) -> None:
        """Read rows at places (B,), ascending and distinct within the shard, into `out` (B, ...), unverified.

        Raises:
            TornShardError: if the file is gone or too short.
        """
        breaks = np.flatnonzero(np.diff(places) > 1) + 1
        if len(breaks) and len(places) * READ_THROUGH > places[-1] - places[0]:  # dense: one read, then a choice
            whole = np.empty((int(places[-1] - places[0]) + 1, *self.row_shape), dtype=self.dtype)
            self._read_runs(shard, [int(places[0])], [whole])
            out[...] = whole[places - places[0]]
            return
        parts = np.split(out, breaks)
        self._read_runs(shard, [int(places[index]) for index in (0, *breaks)], parts)

    def _read_runs(self, shard: int, starts: list[int], parts: list[NDArray[Any]]) -> None:
        runs = [
            (start * self.row_bytes, part.reshape(-1).view(np.uint8).data)
            for start, part in zip(starts, parts, strict=True)
        ]
        try:
            self._files.read_into(self.key(shard), runs)
        except FileNotFoundError as error:
            raise TornShardError(f"{self.key(shard)} is gone", is_gone=True) from error
        except EOFError as error:
            raise TornShardError(f"{self.key(shard)} is torn: {error}") from error

    def write(self, shard: int, rows: NDArray[Any]) -> None:
        """Write a shard whole: rows (n_rows, ...)."""
        assert rows.shape == (self.n_rows, *self.row_shape)
        raw = np.ascontiguousarray(rows, dtype=self.dtype).reshape(-1).view(np.uint8)
        self._files.write(self.key(shard), [raw.data, crc32c(raw).to_bytes(CRC_BYTES, "little")])

    def delete(self, shard: int) -> None:
        """Remove a shard, if it is there."""
        self._files.delete(self.key(shard))


def blank(dtype: np.dtype[Any] | str) -> float | int:
    """What stands where nothing was written: NaN, and 0 of a type that has none."""
    return np.nan if np.dtype(dtype).kind == "f" else 0


def finite_rows(features: NDArray[Any]) -> NDArray[np.bool_]:
    """(B,) whether all elements of a row (B, D) are, looked at in parts that stay in the processor's cache."""
    if features.dtype.kind != "f":
        return np.ones(len(features), dtype=bool)
    is_finite = np.empty(len(features), dtype=bool)
    for start in range(0, len(features), ROWS_AT_ONCE):
        is_finite[start : start + ROWS_AT_ONCE] = _finite_part(features[start : start + ROWS_AT_ONCE])
    return is_finite


def _finite_part(features: NDArray[Any]) -> NDArray[np.bool_]:
    """The same of a few rows; float16 is looked at as integers, many times faster."""
    if features.dtype.itemsize == 2:
        exponent = np.uint16(0x7C00)
        is_finite_element = (features.view(np.uint16) & exponent) != exponent
    else:
        is_finite_element = np.isfinite(features)
    return np.asarray(is_finite_element.all(axis=1))
