"""Rows of embeddings in blocks, from arrays that need not be in memory: a file's, or what a cache reads when asked."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dvme.vectors import finite_rows

READ_VALUES = 1 << 22
"""Values that are read at a time: 8 MiB in float16."""
BLOCK_VALUES = 1 << 19
"""Values of a block: 4 MiB in float64, which caches hold; products of four times as many are three times as slow."""


class RowArray(Protocol):
    """An (N, D) array of which rows are asked for; np.ndarray and np.memmap are such."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, D)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of its values."""

    def __len__(self) -> int:
        """N."""

    def __getitem__(self, rows: Any, /) -> NDArray[Any]:
        """(n, D) at (n,) row indices, or at a slice, in memory or as a view."""


Rows = TypeVar("Rows", bound=RowArray)


@runtime_checkable
class ReadsBlocks(Protocol):
    """A head that takes embeddings which are not in memory, for it never asks for all rows at once."""

    @property
    def reads_blocks(self) -> bool:
        """Whether it does."""


@dataclass(frozen=True)
class RowsOf:
    """Some rows of an array, which are read when they are asked for."""

    source: RowArray
    """(N, D)."""
    rows: NDArray[Any]
    """(n,) indices into it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, D)."""
        return len(self.rows), self.source.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """See RowArray."""
        return self.source.dtype

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        """See RowArray."""
        return self.source[self.rows[rows]]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All of them, in memory."""
        del copy  # what is read is a copy already
        return np.asarray(self[:], dtype=dtype)


def selected(features: RowArray, rows: NDArray[Any] | slice) -> Any:
    """(n, D) rows: of an np.ndarray those, of what reads when it is asked a `RowsOf`."""
    if isinstance(features, np.ndarray):
        return features[rows]
    return RowsOf(features, np.arange(features.shape[0])[rows] if isinstance(rows, slice) else rows)


def row_blocks(
    features: RowArray, rows: NDArray[Any] | None = None, n_values: int = BLOCK_VALUES
) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Rows in order, block by block, the next one read while the last is worked on.

    Of a file that is mapped into memory no page stays mapped, so that memory does not grow with what was read.

    Args:
        features: (N, D).
        rows: (n,) indices; ascending ones are read fastest. None: all.
        n_values: of a block, at most, but at least one row.

    Yields:
        Which of the n rows, and their (B, D) values.
    """
    n_rows = features.shape[0] if rows is None else len(rows)
    step = max(1, n_values // max(1, features.shape[1]))
    if n_rows <= step or _is_in_memory(features):
        yield from ((part, _read(features, rows, part)) for part in _parts(n_rows, step))
        return
    reads = _parts(n_rows, step * max(1, READ_VALUES // n_values))
    with ThreadPoolExecutor(1) as reader:
        coming = [reader.submit(_read, features, rows, reads[0])]
        for position, read in enumerate(reads):
            values = coming.pop().result()
            if position + 1 < len(reads):
                coming.append(reader.submit(_read, features, rows, reads[position + 1]))
            for part in _parts(len(values), step):
                yield slice(read.start + part.start, read.start + part.stop), values[part]


def n_not_finite(features: RowArray, rows: NDArray[Any]) -> int:
    """How many of (n,) rows have a value that is not finite as float32."""
    return sum(int((~finite_rows(block)).sum()) for _, block in row_blocks(features, rows))


def _parts(n_rows: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step)]


def _read(features: RowArray, rows: NDArray[Any] | None, part: slice) -> NDArray[Any]:
    """The rows of a part; of a mapped file copied, and the file's pages let go."""
    own = part if rows is None else _as_slice(rows[part])
    mapped = _mapping(features)
    if mapped is None:
        return features[own]
    block = np.array(features[own])
    mapped.madvise(mmap.MADV_DONTNEED)
    return block


def _as_slice(rows: NDArray[Any]) -> NDArray[Any] | slice:
    """Consecutive rows as a slice, which copies nothing."""
    is_run = len(rows) > 0 and int(rows[0]) >= 0 and bool((np.diff(rows) == 1).all())
    return slice(int(rows[0]), int(rows[-1]) + 1) if is_run else rows


def _is_in_memory(features: RowArray) -> bool:
    return isinstance(features, np.ndarray) and _mapping(features) is None


def _mapping(features: RowArray) -> mmap.mmap | None:
    """What maps the file that an array lies in; None of other arrays, and where changes are in memory alone."""
    if not isinstance(features, np.memmap) or features.mode == "c" or not hasattr(mmap, "MADV_DONTNEED"):
        return None
    base: Any = features
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) else None
