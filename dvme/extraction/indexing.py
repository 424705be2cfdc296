"""From image files to cache rows: hashing, duplicates, and columns that contradict each other."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data import MISSING, Samples
from dvme.data.order import checked_order
from dvme.data.samples import STANDARD
from dvme_cache import EmbeddingCache, content_id, unreadable_id

HASH_BATCH = 256


@dataclass(frozen=True)
class Changes:
    """Rows by column; a column in which there are none is left out."""

    replaced: dict[str, int]
    """Rows that had a value and got another."""
    removed: dict[str, int]
    """Rows that had a value and have none now: the source has the column, and nothing in it for them."""
    kept: dict[str, int]
    """Rows that keep their value, for the source has no such column."""


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
    changes: Changes
    """What became of labels, splits and groups that the cache had."""
    n_unlisted: int
    """Labelled rows of the cache that are not among the files."""
    n_moved: int
    """Rows that the cache knew under another path."""


def index_samples(
    cache: EmbeddingCache,
    samples: Samples,
    workers: int,
    tell: Callable[[int, int], None],
    class_order: Sequence[str] | None = None,
    digests: Sequence[bytes] | None = None,
) -> Index:
    """Give every image content a row, and write labels, splits, groups and paths to the cache's tables.

    A column that the source does not have, such as the groups where the source is a folder, stays as the cache has
    it; in one that it has, a missing value takes the cache's away. Copies of one image share a row. Where copies
    disagree on label, split or group, nobody knows which is right: the row keeps none of the three, so that it takes
    no part in training or testing.

    Args:
        cache: open for writing.
        samples: the files.
        workers: threads that read.
        tell: called with (files hashed, files in all).
        class_order: of the labels; () takes the cache's away, None keeps it.
        digests: content ids of the files, where they are known; None: the files are read.

    Raises:
        DataError: if the order lacks a label; the cache is unchanged.
    """
    digests = hash_files(samples, workers, tell) if digests is None else digests
    check_order(cache, samples, digests, class_order)
    n_before = cache.n_rows
    rows = cache.samples.add(digests, samples.ids)
    members: dict[int, list[int]] = defaultdict(list)
    for index, row in enumerate(rows.tolist()):
        members[row].append(index)
    distinct = np.array(sorted(members), dtype=np.int64)
    paths = [os.path.realpath(samples.paths[members[row][0]]) for row in distinct.tolist()]
    _forget_replaced(cache, set(members), {os.path.realpath(path) for path in samples.paths})
    told, is_contradictory = _merged(samples, [members[row] for row in distinct.tolist()])
    known = {name: cache.column(name)[distinct] for name in STANDARD}
    columns = {name: told.get(name, np.where(is_contradictory, MISSING, known[name])) for name in STANDARD}
    current = cache.column("path")[distinct]
    n_moved = int(((current != MISSING) & (current != np.array(paths, dtype=object))).sum())
    cache.update_columns(distinct, {"path": paths, **columns}, class_order=class_order)
    is_labelled = cache.column("label") != MISSING
    is_labelled[distinct] = False
    return Index(
        rows=distinct,
        n_files=len(samples),
        n_new=cache.n_rows - n_before,
        contradictory=[samples.ids[index] for row in distinct[is_contradictory].tolist() for index in members[row]],
        changes=_changes(known, columns, told.keys()),
        n_unlisted=int(is_labelled.sum()),
        n_moved=n_moved,
    )


def order_of(cache: str | Path, samples: Samples, class_order: Sequence[str] | None) -> tuple[str, ...]:
    """The order of classes of a run: the one that is given, else the cache's; checked before any file is read.

    Raises:
        OptionError, DataError: if it is none, or lacks a label of these images.
    """
    if class_order is not None:
        return checked_order(class_order, samples.labels)
    kept = EmbeddingCache.open(cache).class_order if EmbeddingCache.exists(cache) else ()
    return checked_order(kept, samples.labels, source=f"the class order of {cache}")


def check_order(
    cache: EmbeddingCache, samples: Samples, digests: Sequence[bytes], class_order: Sequence[str] | None
) -> None:
    """Refuse an order that lacks a label which the cache would hold: of these files, or of a row that keeps its own.

    Args:
        cache: its tables are read.
        samples: the files.
        digests: their content ids.
        class_order: the new order; None: the cache's.

    Raises:
        DataError: naming the labels.
    """
    order = cache.class_order if class_order is None else class_order
    if not order:
        return
    labels, paths = cache.column("label"), cache.column("path").tolist()
    listed, replaced = set(digests), {os.path.realpath(path) for path in samples.paths}
    is_told = "label" in samples.given
    stays = [
        not (is_told if content in listed else path in replaced)
        for content, path in zip(cache.samples.content_ids, paths, strict=True)
    ]
    source = f"the class order of {cache.location}" if class_order is None else "--class-order"
    checked_order(order, [*samples.labels, *labels[np.array(stays, dtype=bool)]], source=source)


def _merged(samples: Samples, members: list[list[int]]) -> tuple[dict[str, NDArray[Any]], NDArray[np.bool_]]:
    """What copies say together.

    Args:
        samples: the files.
        members: for each of R rows, the files that are copies of it.

    Returns:
        Column that the source has to (R,) values; (R,) whether copies disagree, and so keep no value.
    """
    sources = {"label": samples.labels, "split": samples.splits, "group": samples.groups}
    is_contradictory = np.zeros(len(members), dtype=bool)
    merged = {name: np.full(len(members), MISSING, dtype=object) for name in STANDARD if name in samples.given}
    for name, values in merged.items():
        for position, files in enumerate(members):
            found = {sources[name][file] for file in files} - {MISSING}
            is_contradictory[position] |= len(found) > 1
            values[position] = next(iter(found), MISSING)
    for values in merged.values():
        values[is_contradictory] = MISSING
    return merged, is_contradictory


def _changes(known: Mapping[str, NDArray[Any]], columns: Mapping[str, NDArray[Any]], given: Collection[str]) -> Changes:
    """What writing columns does to those that the cache knew."""
    had = {name: known[name] != MISSING for name in STANDARD}
    has = {name: columns[name] != MISSING for name in STANDARD}
    replaced = {name: had[name] & has[name] & (columns[name] != known[name]) for name in STANDARD}
    removed = {name: had[name] & ~has[name] for name in STANDARD}
    kept = {name: had[name] & has[name] for name in STANDARD if name not in given}
    return Changes(
        *({name: int(rows.sum()) for name, rows in found.items() if rows.any()} for found in (replaced, removed, kept))
    )


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
