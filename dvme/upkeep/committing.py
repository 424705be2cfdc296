"""Features that come as a stream, in any order, into a cache a shard at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError
from dvme.upkeep.formats.bundle import Blocks, row_slices
from dvme_cache import Embeddings


def commit_blocks(
    embeddings: Embeddings,
    rows: NDArray[np.int64],
    blocks: Blocks,
    *,
    is_wanted: NDArray[np.bool_],
    reasons: Mapping[int, str],
) -> Iterator[int]:
    """Commit features of a stream; every shard is written once, and few rows are in memory at a time.

    Rows that do not ascend go through a scratch file that puts them in order.

    Args:
        embeddings: of a cache that is open for writing.
        rows: (N,) the row of each entry of the stream, distinct.
        blocks: (B, D) features in the stored dtype, N in all.
        is_wanted: (N,) which entries to commit.
        reasons: row to why it failed; its features are ignored.

    Yields:
        How many rows are committed so far, after every shard.
    """
    targets, features = rows[is_wanted], wanted_entries(blocks, is_wanted)
    if (np.diff(targets) < 0).any():
        targets, features = np.sort(targets), _reordered(embeddings, targets, features)
    yield from _commit(embeddings, targets, features, reasons)


def wanted_entries(blocks: Blocks, is_wanted: NDArray[np.bool_]) -> Iterator[NDArray[Any]]:
    """The entries of a stream that are wanted, of N in all."""
    start = 0
    for block in blocks():
        yield block[is_wanted[start : start + len(block)]]
        start += len(block)


def _commit(
    embeddings: Embeddings, rows: NDArray[np.int64], features: Iterator[NDArray[Any]], reasons: Mapping[int, str]
) -> Iterator[int]:
    """Commit ascending rows, cutting the stream where shards end."""
    starts = np.flatnonzero(np.diff(rows // embeddings.shard_rows, prepend=-1))
    sizes = np.diff(starts, append=len(rows)).tolist()
    for start, block in zip(starts.tolist(), _recut(features, sizes), strict=True):
        window = rows[start : start + len(block)]
        failed = {row: reasons[row] for row in window.tolist() if row in reasons}
        embeddings.commit(window, np.ascontiguousarray(block), failed)
        yield start + len(block)


def _recut(blocks: Iterator[NDArray[Any]], sizes: Iterable[int]) -> Iterator[NDArray[Any]]:
    """The rows of the blocks, in blocks of these sizes."""
    rest: NDArray[Any] | None = None
    for size in sizes:
        parts: list[NDArray[Any]] = []
        missing = size
        while missing:
            if rest is None or not len(rest):
                rest = next(blocks, None)
                if rest is None:
                    raise DataError("the file became shorter while it was imported; import it again")
            parts.append(rest[:missing])
            rest, missing = rest[missing:], missing - len(parts[-1])
        yield parts[0] if len(parts) == 1 else np.concatenate(parts)


def _reordered(
    embeddings: Embeddings, rows: NDArray[np.int64], features: Iterator[NDArray[Any]]
) -> Iterator[NDArray[Any]]:
    """The same features in the order of their rows, by way of a file in the folder for temporary files."""
    places = np.empty(len(rows), dtype=np.int64)
    places[np.argsort(rows)] = np.arange(len(rows))
    dtype = np.dtype(embeddings.dtype)
    row_bytes = embeddings.dim * dtype.itemsize
    with tempfile.TemporaryFile() as scratch:
        done = 0
        for block in features:
            for place, row in zip(places[done : done + len(block)].tolist(), block, strict=True):
                scratch.seek(place * row_bytes)
                scratch.write(row.tobytes())
            done += len(block)
        scratch.seek(0)
        for window in row_slices(len(rows), row_bytes):
            data = scratch.read((window.stop - window.start) * row_bytes)
            yield np.frombuffer(data, dtype=dtype).reshape(-1, embeddings.dim)
