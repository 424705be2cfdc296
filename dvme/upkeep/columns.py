"""What a cache's columns may hold, checked before the cache is opened for writing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data import MISSING
from dvme.data.findings import tells_findings
from dvme.data.order import CLASS_ORDER, checked_order
from dvme.data.samples import SPLIT_NAMES, canonical_split
from dvme.errors import DataError
from dvme.text import counted, first_few
from dvme_cache import EmbeddingCache


def canonical_splits(values: Sequence[str], *, source: str) -> list[str]:
    """`train`, `val`, `test` or "" for every value.

    Raises:
        DataError: if there are other values.
    """
    unknown = [value for value in values if value != MISSING and value.strip().lower() not in SPLIT_NAMES]
    if unknown:
        message = (
            f"{source} has {counted(len(unknown), 'row')} whose split is not known: {first_few(sorted(set(unknown)))}; "
            f"use {', '.join(sorted(SPLIT_NAMES))}, or leave the cell empty"
        )
        raise DataError(message)
    return [MISSING if value == MISSING else canonical_split(value) for value in values]


def check_order(
    cache: EmbeddingCache | None,
    columns: Mapping[str, NDArray[Any]],
    class_order: Sequence[str] | None,
    source: str = CLASS_ORDER,
) -> None:
    """Refuse an order of classes that lacks a label of the cache or of the columns that come into it.

    Args:
        cache: None where it is yet to be made.
        columns: name to (N,) values.
        class_order: the new order; None: the cache's.
        source: where the new order is from, for the message.

    Raises:
        OptionError, DataError: naming what is wrong; the cache is as it was.
    """
    labels = [*columns.get("label", ()), *([] if cache is None else cache.column("label"))]
    if class_order is not None:
        checked_order(class_order, labels, source=source)
    elif cache is not None:
        what = "list of findings" if tells_findings(labels) else "class order"
        checked_order(cache.class_order, labels, source=f"the {what} of {cache.location}")


def fill_columns(
    cache: EmbeddingCache,
    rows: NDArray[Any],
    columns: Mapping[str, NDArray[Any]],
    n_before: int,
    class_order: Sequence[str] | None,
) -> int:
    """Give columns to the new rows, and to old ones that have no value in any column; what a row has, it keeps.

    An old row whose file now holds another image stays without: an older export does not know of that.

    Args:
        cache: open for writing.
        rows: (N,) distinct row indices.
        columns: name to (N,) object array of str.
        n_before: rows from this one on are new.
        class_order: of the labels; () takes it away, None keeps the cache's.

    Returns:
        How many rows keep columns that differ from these.
    """
    known = cache.columns()
    is_blank = np.ones(len(rows), dtype=bool)
    for values in known.values():
        is_blank &= values[rows] == MISSING
    if "path" in known and "path" in columns:
        taken = set(known["path"].tolist()) - {MISSING}
        is_blank &= np.array([path not in taken for path in columns["path"].tolist()], dtype=bool)
    is_blank |= rows >= n_before
    filled = {name: values[is_blank] for name, values in columns.items()} if is_blank.any() else {}
    if filled or class_order is not None:
        cache.update_columns(rows[is_blank], filled, class_order=class_order)
    nothing = np.full(cache.n_rows, MISSING, dtype=object)
    is_other = np.zeros(len(rows), dtype=bool)
    for name, values in columns.items():
        is_other |= known.get(name, nothing)[rows] != values
    return int((is_other & ~is_blank).sum())
