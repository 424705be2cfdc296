"""From image files to cache rows: hashing, duplicates, and columns that contradict each other."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data import MISSING, Samples
from dvme_cache import EmbeddingCache, content_id, unreadable_id

HASH_BATCH = 256


@dataclass(frozen=True)
class Index:
    """How this run's files map to cache rows."""

    rows: NDArray[Any]
    """(R,) distinct rows, ascending."""
    n_files: int
    """Files listed."""
    n_new: int
    """Rows that the cache did not have before."""
    contradictory: list[str]
    """Ids of duplicates that disagree on label, split or group; they lost all three."""
    n_changed: int
    """Rows whose label, split or group is another than the cache had."""
    n_unlisted: int
    """Labelled rows of the cache that are not among the files."""
    n_moved: int
    """Rows that the cache knew under another path."""


def index_samples(cache: EmbeddingCache, samples: Samples, workers: int, tell: Callable[[int, int], None]) -> Index:
    """Give every image content a row, and write labels, splits, groups and paths to the cache's tables.

    Copies of one image share a row. Where copies disagree on label, split or group, nobody knows which
    is right: the row keeps none of them, so that it takes no part in training or testing.

    Args:
        cache: open for writing.
        samples: the files.
        workers: threads that read.
        tell: called with (files hashed, files in all).
    """
    digests = hash_files(samples, workers, tell)
    n_before = cache.n_rows
    rows = cache.samples.add(digests, samples.ids)
    columns = {"label": samples.labels, "split": samples.splits, "group": samples.groups}
    members: dict[int, list[int]] = defaultdict(list)
    for index, row in enumerate(rows.tolist()):
        members[row].append(index)
    merged: dict[str, list[str]] = {name: [] for name in columns}
    contradictory = []
    distinct = sorted(members)
    for row in distinct:
        values = {name: {column[index] for index in members[row]} - {MISSING} for name, column in columns.items()}
        if any(len(found) > 1 for found in values.values()):
            contradictory += [samples.ids[index] for index in members[row]]
            values = {name: set() for name in columns}
        for name, found in values.items():
            merged[name].append(next(iter(found), MISSING))
    paths = [os.path.realpath(samples.paths[members[row][0]]) for row in distinct]
    row_array = np.array(distinct, dtype=np.int64)
    _forget_replaced(cache, set(distinct), {os.path.realpath(path) for path in samples.paths})
    n_changed = _count_changed(cache, row_array, merged)
    n_moved = _count_changed(cache, row_array, {"path": paths})
    cache.update_columns(row_array, {"path": paths, **merged})
    is_labelled = cache.column("label") != MISSING
    is_labelled[row_array] = False
    return Index(
        rows=row_array,
        n_files=len(samples),
        n_new=cache.n_rows - n_before,
        contradictory=contradictory,
        n_changed=n_changed,
        n_unlisted=int(is_labelled.sum()),
        n_moved=n_moved,
    )


def _count_changed(cache: EmbeddingCache, rows: NDArray[Any], columns: dict[str, list[str]]) -> int:
    """Rows that had a value and get another."""
    is_changed = np.zeros(len(rows), dtype=bool)
    for name, values in columns.items():
        known = cache.column(name)[rows]
        is_changed |= (known != MISSING) & (known != np.array(values, dtype=object))
    return int(is_changed.sum())


def _forget_replaced(cache: EmbeddingCache, rows: set[int], paths: set[str]) -> None:
    """Clear the columns of rows whose file now holds another image: their embeddings are not of it."""
    known = cache.column("path")
    stale = [row for row, path in enumerate(known.tolist()) if path in paths and row not in rows]
    if stale:
        nothing = [MISSING] * len(stale)
        cache.update_columns(np.array(stale), dict.fromkeys(cache.tables.columns, nothing))


def hash_files(samples: Samples, workers: int, tell: Callable[[int, int], None]) -> list[bytes]:
    """A content id per file; a file that cannot be read gets one of its own and fails later, by name."""

    def digest(path: Path) -> bytes:
        try:
            return content_id(path.read_bytes())
        except OSError:
            return unreadable_id(os.path.realpath(path))

    digests: list[bytes] = []
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(samples), HASH_BATCH):
            digests += pool.map(digest, samples.paths[start : start + HASH_BATCH])
            tell(len(digests), len(samples))
    return digests
