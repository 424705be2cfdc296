"""The images that a page shows: their names, what is known of them, and their thumbnails."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data import MISSING
from dvme.mapping.kept import Kept
from dvme.page.explorer import Points, measured_or_named, short_ids
from dvme.page.thumbnails import thumbnails
from dvme.report.options import PageOptions
from dvme.runtime import Progress, silent
from dvme_cache import EmbeddingCache

STANDARD = ("path", "label", "split", "group")
DIGITS = 10


def points_of(
    store: EmbeddingCache,
    rows: NDArray[Any],
    added: Mapping[str, NDArray[Any]],
    options: PageOptions,
    *,
    kept: Kept,
    progress: Progress = silent,
) -> Points:
    """Describe the images of some rows.

    Args:
        store: the cache.
        rows: (N,) its rows.
        added: further columns, shown after the label; one of a standard column's name takes its place.
        options: what is shown.
        kept: where thumbnails are looked for and put.
        progress: told (stage, done, total).
    """
    columns = store.columns()
    paths, ids = columns.get("path", np.array(store.samples.paths, dtype=object))[rows], store.samples.ids[rows]
    texts = {name: columns[name][rows] for name in columns if name != "path"}
    if options.anonymous:
        texts = {name: values for name, values in texts.items() if name in STANDARD}
        texts |= {"group": _numbered(texts["group"])} if "group" in texts else {}
    found = {"label": texts.get("label", np.full(len(rows), MISSING, dtype=object)), **added}
    for name in ("split", "group", *(each for each in texts if each not in STANDARD)):
        if name in texts and name not in found:
            found[name] = measured_or_named(texts[name]) if name not in STANDARD else texts[name]
    shown = {name: values for name, values in found.items() if name == "label" or _is_told(values)}
    small = thumbnails(paths.tolist(), ids, kept=kept, progress=progress) if options.thumbnails else None
    return Points(names_of(paths, ids, is_anonymous=options.anonymous), shown, small)


def names_of(paths: NDArray[Any], ids: NDArray[np.uint8], *, is_anonymous: bool) -> list[str]:
    """What images are called on a page.

    Args:
        paths: (N,) their files.
        ids: (N, 16) content ids.
        is_anonymous: by a digest of their content, which only who has the image can find again.
    """
    if not is_anonymous:
        return short_ids([str(path) for path in paths])
    return [hashlib.blake2b(row.tobytes(), digest_size=16).hexdigest()[:DIGITS] for row in ids]


def _numbered(groups: NDArray[Any]) -> NDArray[Any]:
    """Groups by numbers, in an order that says nothing of their names."""
    names = sorted(set(groups) - {MISSING}, key=lambda name: hashlib.blake2b(str(name).encode()).digest())
    number = {name: str(position) for position, name in enumerate(names, start=1)} | {MISSING: MISSING}
    return np.array([number[name] for name in groups], dtype=object)


def _is_told(values: NDArray[Any]) -> bool:
    """Whether a column says anything."""
    return bool(np.isfinite(values).any()) if values.dtype.kind == "f" else bool((values != MISSING).any())
