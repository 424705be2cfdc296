"""Embeddings that other tools made: what is needed of them, and which of a file's parts it is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from dvme.data.manifest import columns_used
from dvme.data.tables import check_table_name, find_column, read_table
from dvme.errors import DataError, parameter
from dvme.text import CHOICES, first_few
from dvme.upkeep.formats.bundle import Blocks, text_array

IDS, IMAGE = "ids", "image"
COLUMNS = ("label", "split", "group")
"""What comes along under these names."""
NO_TEXT = re.compile(r"[\0\ud800-\udfff]")
"""NUL, and half of a surrogate pair, which UTF-8 does not have."""


@dataclass(frozen=True)
class Elsewhere:
    """Embeddings as another tool left them: N ids and (N, D) features."""

    ids: list[str]
    dim: int
    dtype: str
    """Of the features as they are in the file."""
    blocks: Blocks
    columns: Mapping[str, NDArray[Any]]
    """Those of label, split and group that the file has: name to (N,) object array of str."""
    remarks: tuple[str, ...] = ()
    """Which columns of a table were used."""


def chosen(
    given: str | None, candidates: Sequence[str], held: Mapping[str, object], *, source: Path, what: str, option: str
) -> str:
    """The part of a file that is asked for, or the only one that fits.

    Args:
        given: its name, if the user named one.
        candidates: the names of those that fit.
        held: name to a description, of everything that the file has.
        source: the file.
        what: such as `arrays of ids`.
        option: by which the user can name one.

    Raises:
        DataError: listing what the file has.
    """
    if given is None and len(candidates) == 1:
        return candidates[0]
    found = None if given is None else find_column(list(held), given, source)
    if found is not None:
        return found
    problem = f"{len(candidates) or 'no'} {what}" if given is None else f"no {given!r}"
    parts = first_few((f"{name} {description}".strip() for name, description in held.items()), CHOICES)
    raise DataError(f"{source} has {problem}; it has: {parts}; name one with " + option)


def check_ids(ids: Sequence[str], n_rows: int, source: Path) -> None:
    """Refuse ids that are too few, too many, or empty.

    Raises:
        DataError: saying which.
    """
    if len(ids) != n_rows:
        message = f"{source} has {n_rows} rows of features for {len(ids)} ids; each row needs its id, in the same order"
        raise DataError(f"{message}; name other parts with " + parameter("features") + " and " + parameter("ids"))
    empty = [row for row, name in enumerate(ids, start=1) if not name.strip()]
    if empty:
        raise DataError(f"{source} has {len(empty)} rows without an id: rows {first_few(empty)}; name the images there")
    bad = [ascii(name) for name in ids if NO_TEXT.search(name)]
    if bad:
        raise DataError(f"{source} has {len(bad)} ids that are no text: {first_few(bad)}; rename these images")


def read_id_table(table: Path, ids: str | None) -> tuple[list[str], dict[str, NDArray[Any]], str]:
    """The ids of a table beside the features, its label, split and group, and which columns that were.

    Args:
        table: a table with a row for each row of features.
        ids: the column of ids; `image` by default, or the only one that is not label, split or group.

    Raises:
        DataError: if it cannot be read, or the column is not clear.
    """
    check_table_name(table, "a table", by=" with " + parameter("table"))
    read = read_table(table)
    held = dict.fromkeys(filter(None, read.names), "")
    used = used_columns(ids, held, source=table, texts=list(held), scalars=list(held))
    columns = {name: text_array(read.texts(column)) for name, column in used.items() if name != IDS}
    return read.texts(used[IDS]), columns, "; ".join((columns_used(read.source, used), *read.remarks))


def used_columns(
    given: str | None, held: Mapping[str, object], *, source: Path, texts: Sequence[str], scalars: Sequence[str]
) -> dict[str, str]:
    """`ids`, and label, split and group as far as there are any, to the columns that hold them; in any capitals.

    Args:
        given: the column of ids, if the user named one.
        held: name to a description, of every column.
        source: the file.
        texts: the columns that may hold ids where none is called `image`.
        scalars: those of which one may be called `image`.

    Raises:
        DataError: if the column of ids is not clear.
    """
    found = {name: find_column(list(held), name, source) for name in COLUMNS}
    image = find_column(scalars, IMAGE, source)
    candidates = [name for name in texts if name not in found.values()] if image is None else [image]
    ids = chosen(given, candidates, held, source=source, what="columns of ids", option=parameter("ids"))
    return {IDS: ids} | {name: column for name, column in found.items() if column is not None and column != ids}
