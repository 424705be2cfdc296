"""The images that a page shows: their names, what is known of them, and their thumbnails."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data import MISSING
from dvme.data.findings import are_findings
from dvme.data.names import named_images
from dvme.data.samples import MASK
from dvme.maps.map_store import Kept
from dvme.report.finding_columns import check_finding, finding_columns
from dvme.report.html.explorer import Column, Measured, Points, measured_or_named, short_ids
from dvme.report.html.thumbnails import thumbnails
from dvme.report.options import PageOptions
from dvme.runtime import Progress, silent
from dvme_cache import EmbeddingCache

STANDARD = ("path", "label", "split", "group", MASK)
DIGITS = 12
SECRET_ROWS = 64
"""Images whose embeddings make the key of an anonymous page's names."""


def points_of(
    store: EmbeddingCache,
    rows: NDArray[Any],
    added: Mapping[str, Column],
    options: PageOptions,
    *,
    own: Mapping[str, NDArray[Any]],
    kept: Kept,
    progress: Progress = silent,
) -> Points:
    """Describe the images of some rows.

    Args:
        store: the cache.
        rows: (N,) its rows.
        added: further columns, shown after the label, or the findings.
        options: what is shown.
        own: (N,) each: columns in place of the cache's of these names.
        kept: where thumbnails are looked for and put.
        progress: told (stage, done, total).
    """
    columns = {name: values[rows] for name, values in store.columns().items()} | dict(own)
    none = np.full(len(rows), MISSING, dtype=object)
    groups = columns.get("group", none)
    labels = columns.get("label", none)
    check_finding(options.finding, labels)
    several = finding_columns(labels, options.finding) if are_findings(labels) else {"label": labels}
    found: dict[str, Column] = {**several, **added}
    if options.anonymous:
        found["group"] = numbered(groups, _secret(store, rows))
    else:
        own = {"split": columns.get("split", none), "group": groups}
        own |= {name: measured_or_named(values) for name, values in columns.items() if name not in STANDARD}
        found |= {name if name not in found else f"{name} (cache)": values for name, values in own.items()}
    shown = {name: values for name, values in found.items() if name == "label" or _is_told(values)}
    paths, ids = columns.get("path", none).tolist(), store.samples.ids[rows]
    small = thumbnails(paths, ids, kept=kept, progress=progress) if options.thumbnails else None
    return Points(names_of(store, rows, is_anonymous=options.anonymous), shown, small, store.class_order)


def names_of(store: EmbeddingCache, rows: NDArray[Any], *, is_anonymous: bool) -> list[str]:
    """What images are called on a page: by their paths, or by digests that only who has the cache can find again."""
    if not is_anonymous:
        _, names = named_images(store.samples.paths, store.column("path"), rows)
        return short_ids(names.tolist())
    secret = _secret(store, rows)
    return [_digest(secret, row.tobytes())[:DIGITS] for row in store.samples.ids[rows]]


def numbered(groups: NDArray[Any], secret: bytes) -> NDArray[Any]:
    """(N,) groups by numbers, in an order that says nothing of their names."""
    names = sorted(set(groups) - {MISSING}, key=lambda name: _digest(secret, str(name).encode()))
    number = {name: str(position) for position, name in enumerate(names, start=1)} | {MISSING: MISSING}
    return np.array([number[name] for name in groups], dtype=object)


def _secret(store: EmbeddingCache, rows: NDArray[Any]) -> bytes:
    """What nobody can guess without the cache.

    Names of patients and files have too few possibilities to be hashed bare, and the content id of an imported
    embedding may itself be the hash of a name.
    """
    own = store.embeddings(store.backbones[0]).read(np.sort(rows)[:SECRET_ROWS])
    return hashlib.blake2b(own.tobytes(), digest_size=32).digest()


def _digest(secret: bytes, value: bytes) -> str:
    return hashlib.blake2b(value, key=secret, digest_size=16).hexdigest()


def _is_told(values: Column) -> bool:
    """Whether a column says anything."""
    if isinstance(values, Measured):
        return bool(np.isfinite(values.values).any())
    return bool((values != MISSING).any())
