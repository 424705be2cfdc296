"""Tables as JSON Lines: an object a line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dvme.data.delimited import encoding_of


def read_objects(data: bytes) -> tuple[list[str], list[Mapping[str, Any]]]:
    """The names of all columns, in the order in which they come first, and the rows.

    Raises:
        UnicodeError: if it is no text.
        ValueError: naming the line that is no object.
    """
    rows = list[Mapping[str, Any]]()
    for number, line in enumerate(data.decode(encoding_of(data[:4])).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_distinct)
        except ValueError as error:
            raise ValueError(f"line {number} is no JSON ({error}); write an object on each line") from error
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is no object; write an object on each line, with a value for each column")
        rows.append(row)
    return list(dict.fromkeys(name for row in rows for name in row)), rows


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError("one name has two values")
    return row
