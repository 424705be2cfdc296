"""What a bundle must be before it is written, and after it is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError
from dvme.text import first_few
from dvme.upkeep.formats.bundle import BackboneHeader, Bundle
from dvme_cache import RowState
from dvme_cache.identity import CONTENT_ID_BYTES


def check_texts(bundle: Bundle) -> None:
    """Refuse the one character that not every format can hold.

    Raises:
        DataError: naming the column and the first images.
    """
    reasons = [(f"{name}:reason", rows.reasons) for name, rows in bundle.embeddings.items()]
    for name, values in [("first_seen", bundle.paths), *bundle.columns.items(), *reasons]:
        bad = [bundle.paths[row] for row, value in enumerate(values) if "\0" in value]
        if bad:
            message = f"column {name!r} of {len(bad)} images holds the character NUL: {first_few(bad)}"
            raise DataError(f"{message}; set it anew with dvme cache label")


def check_rows(bundle: Bundle) -> None:
    """Refuse rows that no cache can hold.

    Raises:
        ValueError: if an array has another length than the header says, or an id, path or state is impossible.
    """
    n_rows = bundle.header.n_rows
    if bundle.content_ids.shape != (n_rows, CONTENT_ID_BYTES):
        raise ValueError(f"its content ids have shape {bundle.content_ids.shape}, its header says {n_rows} rows")
    columns = [("first_seen", bundle.paths), *bundle.columns.items()]
    for name, rows in bundle.embeddings.items():
        columns += [(f"{name}:state", rows.states), (f"{name}:reason", rows.reasons)]
    for name, values in columns:
        if values.shape != (n_rows,):
            raise ValueError(f"{name} has shape {values.shape}, its header says {n_rows} rows")
    if not n_rows:
        raise ValueError("it has no rows")
    _check_content_ids(bundle.content_ids)
    if not all(bundle.paths):
        raise ValueError("a first-seen path is empty")
    for name, rows in bundle.embeddings.items():
        if not np.isin(rows.states, tuple(RowState)).all():
            raise ValueError(f"{name} has a state that is none of pending, done, failed")


def checked_blocks(bundle: Bundle, backbone: BackboneHeader) -> Iterator[NDArray[Any]]:
    """A backbone's features, each block proven to have its dims and to be finite wherever a row is done.

    Raises:
        ValueError: if not, or if there are more or fewer rows than the header says.
    """
    rows, start = bundle.embeddings[backbone.name], 0
    for block in rows.blocks():
        stop = start + len(block)
        if block.shape[1:] != (backbone.dim,) or block.dtype != backbone.dtype or stop > bundle.header.n_rows:
            raise ValueError(f"{backbone.name} has features of another shape or dtype than its header says")
        is_done = rows.states[start:stop] == RowState.DONE
        bad = np.flatnonzero(is_done & ~np.isfinite(block).all(axis=1))
        if len(bad):
            where = bundle.paths[start + bad[0]]
            raise ValueError(f"{backbone.name} has features that are not finite for an image that is done: {where}")
        yield block
        start = stop
    if start < bundle.header.n_rows:
        raise ValueError(f"{backbone.name} has {start} rows of features, its header says {bundle.header.n_rows}")


def _check_content_ids(ids: NDArray[Any]) -> None:
    if ids.dtype != np.uint8:
        raise ValueError(f"content_id has dtype {ids.dtype}, not uint8")
    if not (ids.any(axis=1) & (ids != 0xFF).any(axis=1)).all():
        raise ValueError("a content id is all zeros or all ones, which no file has")
    if len(np.unique(ids, axis=0)) < len(ids):
        raise ValueError("a content id stands in two rows")
