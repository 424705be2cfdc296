"""A column of any type as text: exact, and spelled alike wherever a column comes from."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from dvme.data.samples import MISSING
from dvme.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

LARGEST_EXACT_INTEGER = 2.0**53
MIDNIGHT = re.compile(r" 00:00:00(\.0+)?(Z?)$")
FRACTION_OF_NOTHING = re.compile(r"\.0+(?=Z?$)")


def as_texts(column: pa.ChunkedArray, name: str = "", source: object = "") -> list[str]:
    """A column as stripped text; a missing value, NaN among them, is "".

    Integers are exact. Whole numbers stay without a decimal point, even where a missing value made the column
    floating. Booleans are True and False, dates 2024-01-31, and categories what they stand for.

    Raises:
        DataError: if the values are lists, or bytes that are no text.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    column, kind = _plain(column)
    if pa.types.is_floating(kind):
        return _floats(column)
    if pa.types.is_decimal(kind):
        return _decimals(column.to_pylist())
    if pa.types.is_boolean(kind):
        return [MISSING if value is None else str(value) for value in column.to_pylist()]
    try:
        texts = pc.cast(column, pa.string()).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError) as error:
        raise DataError(f"{source} has a column {name!r} of {kind}, which is no text; choose another") from error
    if pa.types.is_timestamp(kind):
        texts = _timestamps(texts)
    return [MISSING if text is None else text.strip() for text in texts]


def python_texts(values: Sequence[Any], name: str = "", source: object = "") -> list[str]:
    """Values of any of Python's types as stripped text, each by itself: 12.0 is 12, and None and NaN are "".

    Raises:
        DataError: if one is a list, a mapping or bytes.
    """
    has_times = any(isinstance(value, datetime) and value.time() != time() for value in values)
    return [_python_text(value, has_times, name, source) for value in values]


def _python_text(value: Any, has_times: bool, name: str, source: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return MISSING
    if isinstance(value, float) and value.is_integer() and abs(value) < LARGEST_EXACT_INTEGER:
        return str(int(value))
    if isinstance(value, datetime):
        return value.isoformat(" ") if has_times else f"{value.date()}"
    if isinstance(value, str | bool | int | float | date | time | timedelta):
        return str(value).strip()
    kind = type(value).__name__
    raise DataError(f"{source} has a column {name!r} with a value of type {kind}, which is no text; choose another")


def _plain(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, pa.DataType]:
    """The values of categories, runs and extension types, and their type."""
    import pyarrow as pa
    import pyarrow.compute as pc

    while True:
        kind = column.type
        if isinstance(kind, pa.BaseExtensionType):
            column = pa.chunked_array([chunk.storage for chunk in column.chunks], type=kind.storage_type)
        elif pa.types.is_dictionary(kind):
            column = pa.chunked_array([chunk.dictionary_decode() for chunk in column.chunks], type=kind.value_type)
        elif pa.types.is_run_end_encoded(kind):
            column = pc.run_end_decode(column)
        else:
            return column, kind


def _floats(column: pa.ChunkedArray) -> list[str]:
    values = [np.nan if value is None else value for value in column.to_pylist()]
    numbers: Any = np.array(values, dtype=column.type.to_pandas_dtype())
    known = numbers[~np.isnan(numbers)]
    is_whole = bool((np.isfinite(known) & (np.trunc(known) == known) & (np.abs(known) < LARGEST_EXACT_INTEGER)).all())
    return [MISSING if np.isnan(number) else str(int(number)) if is_whole else str(number) for number in numbers]


def _decimals(values: list[Decimal | None]) -> list[str]:
    is_whole = all(value is None or value == value.to_integral_value() for value in values)
    return [MISSING if value is None else str(int(value)) if is_whole else f"{value:f}" for value in values]


def _timestamps(texts: list[str | None]) -> list[str | None]:
    """Without what every one of them has in common: midnight, or fractions of zero."""
    known = [text for text in texts if text is not None]
    shorter = MIDNIGHT if all(map(MIDNIGHT.search, known)) else FRACTION_OF_NOTHING
    if not all(map(shorter.search, known)):
        return texts
    return [None if text is None else shorter.sub("", text) for text in texts]
