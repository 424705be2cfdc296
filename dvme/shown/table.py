"""A table as papers have it: names on the left, numbers beside them, the best of a column in bold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import isnan
from numbers import Integral, Real
from typing import Any

from dvme.text import first_few

MOST_VALUES = 5
"""Of a list in a cell."""


@dataclass(frozen=True)
class Entry:
    """One number of a table."""

    text: str
    """Such as `0.815 ± 0.012`."""
    mark: str = ""
    """What a test says of it, such as `*`."""
    is_best: bool = False
    """Whether it is set in bold."""
    below: str = ""
    """In small print where there is room, such as its interval."""


@dataclass(frozen=True)
class Row:
    """One line."""

    names: tuple[str, ...]
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Table:
    """Lines under headings."""

    names: tuple[str, ...]
    """Headings of the columns of names."""
    numbers: tuple[str, ...]
    """Headings of the columns of numbers, which stand on the right."""
    rows: tuple[Row, ...]
    caption: str = ""


def table_of(records: Sequence[Mapping[str, Any]], caption: str = "") -> Table:
    """Records as a table: columns of texts on the left, and those of numbers on the right; none of nothing at all."""
    given = ((key, value) for record in records for key, value in record.items())
    keys = list(dict.fromkeys(key for key, value in given if value is not None and value != ""))
    numbers = tuple(key for key in keys if all(_is_number(record.get(key)) for record in records))
    names = tuple(key for key in keys if key not in numbers)
    rows = tuple(
        Row(
            tuple(value_text(record.get(key)) for key in names),
            tuple(Entry(value_text(record.get(key))) for key in numbers),
        )
        for record in records
    )
    return Table(names, numbers, rows, caption)


def record_of(item: Any) -> dict[str, Any]:
    """The fields of a dataclass that hold one value each: a text, a number, yes or no, or None."""
    values = {field.name: getattr(item, field.name) for field in fields(item)}
    return {name: value for name, value in values.items() if value is None or isinstance(value, str | Real)}


def value_text(value: Any) -> str:
    """`1,200`, `0.8151`, `yes`, `a, b`; `-` where there is nothing."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Integral):
        return f"{int(value):,}"
    if isinstance(value, Real):  # also numbers of NumPy
        return "-" if isnan(value) else f"{float(value):,.4g}"
    return first_few(value, MOST_VALUES) if isinstance(value, list | tuple) else str(value)


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, Real) and not isinstance(value, bool))
