"""From the names by which users know images to the rows of a cache."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dvme.data import MISSING
from dvme.data.addresses import folded, spellings
from dvme.data.hashing import hash_file
from dvme.errors import DataError
from dvme.text import counted, first_few
from dvme_cache import EmbeddingCache

NEW = -1
CONTENT_ID = re.compile(r"[0-9a-fA-F]{32}")


def rows_by_name(
    cache: EmbeddingCache,
    names: Sequence[str],
    *,
    source: str,
    image_root: Path | None = None,
    are_distinct: bool = True,
    may_be_new: bool = False,
    hint: str = "",
    hash_one: Callable[[Path], bytes | OSError] = hash_file,
) -> NDArray[np.int64]:
    """The row of each named image.

    A name is a content id (32 hexadecimal digits), the path at which an image lies now, or, where no file of that
    name is there, the path under which it was first seen. Rows whose image was pruned have no name. Where no name may
    be new, one may differ from these paths in separators, capitals, Unicode's forms of letters and a missing suffix.

    Args:
        cache: its samples and tables are read, no embedding is.
        names: N names.
        source: the file that names them, for messages.
        image_root: where relative current paths start; without it, relative names are first-seen paths.
        are_distinct: whether two names of one row are refused.
        may_be_new: whether a name may be of no row.
        hint: what else can be done about a name of no row, for the message.
        hash_one: gives a file's content id, or why it cannot be read; for one who remembers them.

    Returns:
        (N,) row indices, in the order of the names; -1 for a new one.

    Raises:
        DataError: if a name is unknown or ambiguous, or two names are of one row that must not be.
    """
    find = _finder(cache, image_root, hash_one)
    if not may_be_new:
        find = _forgiving(cache, image_root, find)
    found = [find(name) for name in names]
    unknown = [name for name, rows in zip(names, found, strict=True) if not rows]
    if unknown and not may_be_new:
        message = (
            f"{source} names {counted(len(unknown), 'image')} that {cache.location} does not hold: "
            f"{first_few(unknown)}; correct the names or leave these out "
            f"(copies of an image share the row of the one that was seen first)" + hint
        )
        raise DataError(message)
    ambiguous = [name for name, rows in zip(names, found, strict=True) if len(rows) > 1]
    if ambiguous:
        message = (
            f"{source} has {counted(len(ambiguous), 'name')} that more than one image of {cache.location} goes by: "
            f"{first_few(ambiguous)}; name such images by their content ids"
        )
        raise DataError(message)
    known = [(name, next(iter(rows))) for name, rows in zip(names, found, strict=True) if rows]
    if are_distinct:
        check_distinct([row for _, row in known], [name for name, _ in known], source=source)
    return np.array([next(iter(rows), NEW) for rows in found], dtype=np.int64)


def check_distinct(
    keys: Iterable[Hashable],
    names: Sequence[str],
    *,
    source: str,
    step: str = "keep one entry for each image (copies are one image)",
) -> None:
    """Refuse two names of one image: of N rows or content ids, each is there once.

    Raises:
        DataError: naming the first few.
    """
    first: dict[Hashable, str] = {}
    repeated = []
    for key, name in zip(keys, names, strict=True):
        if key in first:
            repeated.append(name if name == first[key] else f"{name} (the same as {first[key]})")
        else:
            first[key] = name
    if repeated:
        message = f"{source} names {counted(len(repeated), 'image')} more than once: {first_few(repeated)}; {step}"
        raise DataError(message)


def _finder(
    cache: EmbeddingCache, image_root: Path | None, hash_one: Callable[[Path], bytes | OSError]
) -> Callable[[str], list[int]]:
    """From a name to the rows that it may mean; more than one where nothing decides between them."""
    rows = np.flatnonzero(~cache.samples.is_pruned).tolist()
    digests, first_seen, current = cache.samples.content_ids, cache.samples.paths, cache.column("path").tolist()
    by_digest = {digests[row]: row for row in rows}
    by_current, by_first_seen = defaultdict[str, set[int]](set), defaultdict[str, set[int]](set)
    for row in rows:
        by_first_seen[first_seen[row]].add(row)
        if current[row] != MISSING:
            by_current[current[row]].add(row)

    def find(name: str) -> list[int]:
        if CONTENT_ID.fullmatch(name) and bytes.fromhex(name) in by_digest:
            return [by_digest[bytes.fromhex(name)]]
        real = real_path(name, image_root)
        if real in by_current:
            return list(by_current[real])
        digest = hash_one(Path(real)) if image_root is not None else None
        if isinstance(digest, bytes):  # a file of its own, which may only have the name of another
            return [by_digest[digest]] if digest in by_digest else []
        found = by_current.get(name, set()) | by_first_seen.get(name, set())
        present = [row for row in found if current[row] != MISSING]
        return present if present and len(found) > 1 else list(found)

    return find


def _forgiving(
    cache: EmbeddingCache, image_root: Path | None, find: Callable[[str], list[int]]
) -> Callable[[str], list[int]]:
    """The same, which also knows names that other machines and programs have for an image."""
    alike = defaultdict[str, set[int]](set)

    def collect() -> None:
        current = cache.column("path").tolist()
        for row in np.flatnonzero(~cache.samples.is_pruned).tolist():
            for name in filter(None, (cache.samples.paths[row], current[row])):
                whole = folded(name)
                alike[whole].add(row)
                alike[f"{os.path.splitext(whole)[0]}/"].add(row)  # noqa: PTH122 - for a million names

    def find_alike(name: str) -> list[int]:
        written = (name, *spellings(name))
        for each in written:
            found = find(each)
            if found or (image_root is not None and os.path.exists(real_path(each, image_root))):  # noqa: PTH110
                return found  # none: a file of its own
        if not alike:
            collect()
        keys = [folded(key) for each in written for key in (each, real_path(each, image_root))]
        return list(next((alike[key] for key in (*keys, *(f"{key}/" for key in keys)) if key in alike), ()))

    return find_alike


def real_path(name: str, image_root: Path | None) -> str:
    """The path as the cache keeps it; the name itself where it is relative to nothing."""
    if "\0" in name or (image_root is None and not os.path.isabs(name)):  # noqa: PTH117 - for a million names
        return name
    return os.path.realpath(name if image_root is None else os.path.join(image_root, name))  # noqa: PTH118
