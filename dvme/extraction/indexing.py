"""From image files to cache rows: duplicates, and columns that contradict each other."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data import MISSING, Samples
from dvme.data.hashing import Identified
from dvme.data.masks.cell import what_is_shown
from dvme.data.merging import merged_labels, rows_to_write
from dvme.data.samples import MASK, STANDARD
from dvme.data.sources import file_of
from dvme.data.spool import Spool
from dvme.extraction.checks import Held, check_masks, check_names, check_order
from dvme.extraction.decoding import Work
from dvme.text import counted
from dvme_cache import EmbeddingCache, unreadable_id


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
    files: list[Path]
    """R places from which to read each row's image: of copies, the first file."""
    digests: list[bytes]
    """R content ids."""
    columns: Mapping[str, NDArray[Any]]
    """Label, split, group and the source's further columns to (R,) values, as the cache has them now."""
    class_order: tuple[str, ...]
    """The user's, as the cache has it now; () without one."""
    n_new: int
    """Rows that the cache did not have before."""
    contradictory: list[str]
    """Ids of duplicates that disagree on label, split, group or mask; they lost all of these."""
    changes: Changes
    """What became of labels, splits, groups and further columns that the cache had."""
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
    """What is odd about names beside those in the cache, and of what copies disagree."""
    kinds: frozenset[str]
    """As `Identified.kinds`."""
    spool: Spool | None = None
    """As `Identified.spool`."""

    def work(self, rows: Sequence[int]) -> list[Work]:
        """Some of the rows, as what is to be read and decoded."""
        places = np.searchsorted(self.rows, rows).tolist()
        return [Work(row, self.files[at], self.digests[at], self.spool) for row, at in zip(rows, places, strict=True)]

    def names(self, row: int) -> list[str]:
        """The files of a row, as the user knows them."""
        return self.ids[int(np.searchsorted(self.rows, row))]


def index_samples(
    cache: EmbeddingCache, found: Identified, class_order: Sequence[str] | None = None, *, is_shared: bool = False
) -> Index:
    """Give every image content a row, and write labels, splits, groups and paths to the cache's tables.

    A column that the source does not have, such as the groups where the source is a folder, stays as the cache has
    it; in one that it has, a missing value takes the cache's away. Copies of one image share a row. Where copies
    disagree on label, split, group or mask, nobody knows which is right: the row keeps none of them, so that it takes
    no part in training or testing. Of a further column on which they disagree the row keeps nothing, and takes part.
    Findings that the source does not ask about stay as the cache has them, by `merged_labels`.

    The cache is open for writing; where it is shared, parts of an extraction write embeddings meanwhile. Of orders of
    classes, () takes the cache's away, None keeps it.

    Raises:
        DataError: if the order lacks a label; the cache is unchanged.
    """
    samples, held = found.samples, Held.by(cache, found.samples.kept)
    check_order(held, found, class_order)
    check_masks(held, found)
    remarks = check_names(held, found)
    if not is_shared and _forget_stand_ins(cache, held, samples):
        held = Held.by(cache, samples.kept)
    n_before, order = len(held.contents), held.class_order
    rows = cache.samples.add(found.digests, samples.ids)
    members: dict[int, list[int]] = defaultdict(list)
    for index, row in enumerate(rows.tolist()):
        members[row].append(index)
    distinct = np.array(sorted(members), dtype=np.int64)
    files = [members[row] for row in distinct.tolist()]
    before, replaced = _before(cache, held, set(members), set(samples.real_paths))
    remarks += _replaced_line(held, replaced, samples)
    n_unlisted = _count_unlisted(before, distinct, found)
    told, is_contradictory, disputed = _merged(samples, files)
    remarks += disputed
    known = {name: before[name][distinct] for name in (*STANDARD, *samples.kept)}
    columns = {name: told.get(name, np.where(is_contradictory, MISSING, before)) for name, before in known.items()}
    merged = None
    if "label" in told:
        merged = merged_labels(before["label"], distinct, told["label"], asked=samples.findings, order=order)
        merged.labels[distinct[is_contradictory]] = MISSING
        columns["label"], order = merged.labels[distinct], merged.order
        remarks += merged.remarks
    order = order if class_order is None else tuple(class_order)
    paths = np.array([samples.real_paths[first] for first, *_ in files], dtype=object)
    n_moved = int(((before["path"][distinct] != MISSING) & (before["path"][distinct] != paths)).sum())
    written: tuple[NDArray[Any], Mapping[str, NDArray[Any]]] = distinct, {"path": paths, **columns}
    if merged is not None:
        written = rows_to_write(*written, before, merged.labels)
    del held, before, merged  # the cache is about to hold its columns as well
    cache.update_columns(*written, class_order=order)
    return Index(
        rows=distinct,
        files=[samples.paths[first] for first, *_ in files],
        digests=[found.digests[first] for first, *_ in files],
        columns=columns,
        class_order=order,
        n_new=cache.n_rows - n_before,
        contradictory=[samples.ids[index] for row in distinct[is_contradictory].tolist() for index in members[row]],
        changes=_changes(known, columns, told.keys()),
        n_unlisted=n_unlisted,
        n_moved=n_moved,
        ids=[[samples.ids[index] for index in some] for some in files],
        unread=found.unread,
        same_files=[names for some in files if len(some) > 1 for names in _same_files(samples, some)],
        remarks=remarks,
        kinds=found.kinds,
        spool=found.spool,
    )


def _count_unlisted(before: Mapping[str, NDArray[Any]], rows: NDArray[Any], found: Identified) -> int:
    """Rows with a label or a mask that are not among some, unless nobody knows whether their files are there."""
    says = [before[name] != MISSING for name in ("label", MASK) if name in before]
    is_unlisted = np.any(says, axis=0) & ~is_below(before["path"].tolist(), unknown_places(found))
    is_unlisted[rows] = False
    return int(is_unlisted.sum())


def unknown_places(found: Identified) -> list[Path]:
    """Files that could not be read, and folders that could not be listed."""
    return [*map(Path, found.samples.unlisted), *found.unread_paths]


def is_below(paths: Sequence[str], links: Sequence[Path]) -> NDArray[np.bool_]:
    """(N,) whether a path is one of some places, or below one: nobody knows whether its image is still there."""
    exact = {os.path.realpath(link) for link in links} | {str(link.parent.resolve() / link.name) for link in links}
    below = tuple(f"{place}/" for place in exact)
    return np.array([path in exact or path.startswith(below) for path in paths], dtype=bool)


def _forget_stand_ins(cache: EmbeddingCache, held: Held, samples: Samples) -> bool:
    """Take out rows that older versions gave to files which could not be read, now that they can be; whether any."""
    stand_ins = {unreadable_id(path) for path in samples.real_paths}
    rows = [row for row, content in enumerate(held.contents) if content in stand_ins]
    if rows:
        cache.prune(np.array(rows))
    return bool(rows)


def _before(
    cache: EmbeddingCache, held: Held, rows: set[int], paths: set[str]
) -> tuple[dict[str, NDArray[Any]], list[int]]:
    """Column to what the cache knows of each row before it is told anew: nothing of a row that was just added.

    Rows whose file now holds another image lose their columns: their embeddings are not of it. They are returned too.
    """
    added = np.full(cache.n_rows - len(held.contents), MISSING, dtype=object)
    before = {name: np.concatenate([values, added]) for name, values in held.columns.items()}
    replaced = [row for row, path in enumerate(held.columns["path"].tolist()) if path in paths and row not in rows]
    if replaced:
        nothing = [MISSING] * len(replaced)
        cache.update_columns(np.array(replaced), dict.fromkeys(cache.tables.columns, nothing))
        for values in before.values():
            values[replaced] = MISSING
    return before, replaced


def _replaced_line(held: Held, replaced: Sequence[int], samples: Samples) -> list[str]:
    """Which files hold another image than before, and what that costs; nothing where none said anything."""
    told = [name for name in (*STANDARD, MASK) if name in held.columns]
    lost = [name for name in told if any(held.columns[name][row] != MISSING for row in replaced)]
    if not lost:
        return []
    first = samples.ids[samples.real_paths.index(held.columns["path"][replaced[0]])]
    holds = "holds" if len(replaced) == 1 else "hold"
    line = f"{counted(len(replaced), 'file')} {holds} another image than before, such as {first}; the old one lost its "
    unsaid = [name for name in lost if name not in samples.given]
    kept = f"; this source says nothing of the new one's {', '.join(unsaid)}" if unsaid else ""
    return [line + ", ".join(lost) + kept]


def _same_files(samples: Samples, copies: Sequence[int]) -> list[list[str]]:
    """Of files with one content, the names of those that are one file."""
    names: dict[tuple[int, int, str], list[str]] = defaultdict(list)
    for index in copies:
        path = samples.paths[index]
        container = file_of(path)
        found = container.stat()
        member = "" if container == path else path.relative_to(container).as_posix()
        names[found.st_dev, found.st_ino, member].append(samples.ids[index])
    return [same for same in names.values() if len(same) > 1]


def _merged(samples: Samples, members: list[list[int]]) -> tuple[dict[str, NDArray[Any]], NDArray[np.bool_], list[str]]:
    """What copies say together; `members` are, for each of R rows, the files that are copies of it.

    Returns:
        Column that the source has to (R,) values; (R,) whether copies disagree on label, split, group or mask, and so
        keep none of them; a line for each further column on which some disagree, and of which these keep nothing.
    """
    standard = {"label": samples.labels, "split": samples.splits, "group": samples.groups}
    sources = {name: standard[name] for name in STANDARD if name in samples.given} | dict(samples.kept)
    firsts = np.array([first for first, *_ in members], dtype=np.int64)
    copies = [(position, files) for position, files in enumerate(members) if len(files) > 1]
    merged = {name: np.array(values, dtype=object)[firsts] for name, values in sources.items()}
    disagree = {name: np.zeros(len(members), dtype=bool) for name in sources}
    for name, values in merged.items():
        for position, files in copies:
            found = {sources[name][file] for file in files} - {MISSING}
            disagree[name][position] = len(set(map(what_is_shown, found)) if name == MASK else found) > 1
            values[position] = min(found, default=MISSING)
    is_contradictory = np.zeros(len(members), dtype=bool)
    standing = (samples.given | {MASK}) & disagree.keys()
    for name in standing:
        is_contradictory |= disagree[name]
    for name, values in merged.items():
        values[is_contradictory if name in standing else disagree[name]] = MISSING
    lines = [
        f"copies of {counted(int(disagree[name].sum()), 'image')} disagree on {name!r} and keep none of it"
        for name in disagree.keys() - standing
        if disagree[name].any()
    ]
    return merged, is_contradictory, lines


def _changes(known: Mapping[str, NDArray[Any]], columns: Mapping[str, NDArray[Any]], given: Collection[str]) -> Changes:
    """What writing columns does to those that the cache knew."""
    had = {name: values != MISSING for name, values in known.items()}
    has = {name: values != MISSING for name, values in columns.items()}
    replaced = {name: had[name] & has[name] & _differ(name, columns[name], known[name]) for name in known}
    removed = {name: had[name] & ~has[name] for name in known}
    kept = {name: had[name] & has[name] for name in known if name not in given}
    return Changes(
        *({name: int(rows.sum()) for name, rows in found.items() if rows.any()} for found in (replaced, removed, kept))
    )


def _differ(name: str, one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.bool_]:
    """(N,) where a column says something else; of masks what they show counts, and not where their files lie."""
    differs: NDArray[np.bool_] = one != other
    if name == MASK:
        for row in np.flatnonzero(differs):
            differs[row] = what_is_shown(str(one[row])) != what_is_shown(str(other[row]))
    return differs
