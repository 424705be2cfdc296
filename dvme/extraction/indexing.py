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
from dvme.data.listing import file_bytes, why
from dvme.data.samples import STANDARD
from dvme.errors import DataError
from dvme.extraction.checks import check_names, check_order
from dvme.text import counted
from dvme_cache import EmbeddingCache, content_id, unreadable_id

HASH_BATCH = 256
UNREAD = b""
"""Stands for the content of a file that cannot be read."""


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
    ids: list[list[str]]
    """R lists: the files of each row, as the user knows them; copies of an image are one row."""
    unread: dict[str, str]
    """Files that could not be read just now, and why; they have no row."""
    same_files: list[list[str]]
    """Names of one and the same file, by links or by other spellings of its path."""
    remarks: list[str]
    """What is odd about names beside those in the cache."""


def index_samples(
    cache: EmbeddingCache,
    samples: Samples,
    digests: list[bytes],
    unread: Mapping[int, str],
    class_order: Sequence[str] | None = None,
) -> Index:
    """Give every image content a row, and write labels, splits, groups and paths to the cache's tables.

    A column that the source does not have, such as the groups where the source is a folder, stays as the cache has
    it; in one that it has, a missing value takes the cache's away. Copies of one image share a row. Where copies
    disagree on label, split or group, nobody knows which is right: the row keeps none of the three, so that it takes
    no part in training or testing.

    Args:
        cache: open for writing.
        samples: the files.
        digests: what `hash_files` made of them.
        unread: what `unread_files` says of those.
        class_order: of the labels; () takes the cache's away, None keeps it.

    Raises:
        DataError: if the order lacks a label; the cache is unchanged.
    """
    unknown = [*map(Path, samples.unlisted), *(samples.paths[index] for index in unread)]
    unread_ids = {samples.ids[index]: reason for index, reason in unread.items()}
    samples, digests = only_readable(samples, digests, unread)
    check_order(cache, samples, digests, class_order)
    remarks = check_names(cache, samples, digests)
    paths = samples.real_paths
    _forget_stand_ins(cache, paths)
    n_before = cache.n_rows
    rows = cache.samples.add(digests, samples.ids)
    members: dict[int, list[int]] = defaultdict(list)
    for index, row in enumerate(rows.tolist()):
        members[row].append(index)
    distinct = np.array(sorted(members), dtype=np.int64)
    files = [members[row] for row in distinct.tolist()]
    _forget_replaced(cache, set(members), set(paths))
    told, is_contradictory = _merged(samples, files)
    known = {name: cache.column(name)[distinct] for name in STANDARD}
    columns = {name: told.get(name, np.where(is_contradictory, MISSING, known[name])) for name in STANDARD}
    current, now = cache.column("path")[distinct], [paths[first] for first, *_ in files]
    n_moved = int(((current != MISSING) & (current != np.array(now, dtype=object))).sum())
    cache.update_columns(distinct, {"path": now, **columns}, class_order=class_order)
    is_labelled = cache.column("label") != MISSING
    is_labelled[distinct] = False
    is_labelled &= ~is_below(cache.column("path").tolist(), unknown)
    return Index(
        rows=distinct,
        n_new=cache.n_rows - n_before,
        contradictory=[samples.ids[index] for row in distinct[is_contradictory].tolist() for index in members[row]],
        changes=_changes(known, columns, told.keys()),
        n_unlisted=int(is_labelled.sum()),
        n_moved=n_moved,
        ids=[[samples.ids[index] for index in some] for some in files],
        unread=unread_ids,
        same_files=[names for some in files if len(some) > 1 for names in _same_files(samples, some)],
        remarks=remarks,
    )


def is_below(paths: Sequence[str], links: Sequence[Path]) -> NDArray[np.bool_]:
    """(N,) whether a path is one of some places, or below one: nobody knows whether its image is still there."""
    exact = {os.path.realpath(link) for link in links} | {str(link.parent.resolve() / link.name) for link in links}
    below = tuple(f"{place}/" for place in exact)
    return np.array([path in exact or path.startswith(below) for path in paths], dtype=bool)


def _forget_stand_ins(cache: EmbeddingCache, paths: Sequence[str]) -> None:
    """Take out rows that older versions gave to files which could not be read, now that they can be."""
    stand_ins = {unreadable_id(path) for path in paths}
    rows = [row for row, content in enumerate(cache.samples.content_ids) if content in stand_ins]
    if rows:
        cache.prune(np.array(rows))


def _same_files(samples: Samples, copies: Sequence[int]) -> list[list[str]]:
    """Of files with one content, the names of those that are one file."""
    names: dict[tuple[int, int], list[str]] = defaultdict(list)
    for index in copies:
        found = samples.paths[index].stat()
        names[found.st_dev, found.st_ino].append(samples.ids[index])
    return [same for same in names.values() if len(same) > 1]


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
    """A content id per file; UNREAD for one that cannot be read, of which `unread_files` says why."""

    def digest(path: Path) -> bytes:
        try:
            return content_id(file_bytes(path))
        except OSError:
            return UNREAD

    digests: list[bytes] = []
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(samples), HASH_BATCH):
            digests += pool.map(digest, samples.paths[start : start + HASH_BATCH])
            tell(len(digests), len(samples))
    return digests


def unread_files(samples: Samples, digests: Sequence[bytes]) -> dict[int, str]:
    """The files that could not be read when they were hashed, and why.

    Args:
        samples: the files.
        digests: what `hash_files` made of them.
    """
    return {index: _why_unread(samples.paths[index]) for index, digest in enumerate(digests) if digest == UNREAD}


def only_readable(samples: Samples, digests: list[bytes], unread: Mapping[int, str]) -> tuple[Samples, list[bytes]]:
    """The files that could be read, and their content ids.

    Raises:
        DataError: if there are none.
    """
    if len(unread) == len(samples):
        first, reason = next(iter(unread.items()))
        raise DataError(f"none of {counted(len(samples), 'file')} can be used; {samples.ids[first]}: {reason}")
    positions = [index for index in range(len(samples)) if index not in unread]
    return (samples.only(positions), [digests[index] for index in positions]) if unread else (samples, digests)


def _why_unread(path: Path) -> str:
    try:
        file_bytes(path)
    except OSError as error:
        return f"cannot be read: {why(error)}; run again once it can"
    return "could not be read a moment ago; run again"
