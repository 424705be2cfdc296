"""Embeddings made elsewhere, in tables: Parquet, CSV and TSV, with a list column or many numeric columns."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dvme.errors import DataError
from dvme.exchange import csv_, parquet
from dvme.exchange.bundle import Blocks, text_array
from dvme.exchange.durable import reading
from dvme.exchange.elsewhere import COLUMNS, Elsewhere, check_ids, chosen, id_candidates
from dvme.wording import first_few

NUMBERED = re.compile(r"(.*?)(\d+)", re.DOTALL)
MIN_NUMBERED = 2


def read_tables(path: Path, *, features: str | None, ids: str | None) -> Elsewhere:
    """Choose the features and the ids of a table.

    Args:
        path: .parquet, .csv or .tsv.
        features: a column of lists, or how the names of the numeric columns begin; by default the only column of
            lists, or the only run of columns that are numbered, such as f0, f1, f2.
        ids: the column of ids; by default `image`, or the only one of text that is not label, split or group.

    Raises:
        DataError: if the file cannot be read, or its columns are not clear.
    """
    is_parquet = path.suffix.lower() == ".parquet"
    with reading(path):
        schema = pq.read_schema(path) if is_parquet else csv_.schema(path)
    repeated = [name for name, count in Counter(schema.names).items() if count > 1]
    if repeated:
        raise DataError(f"{path} has more than one column {first_few(map(repr, repeated))}; give each its own name")
    held = {field.name: str(field.type) for field in schema}
    texts = [field.name for field in schema if _is_text(field.type)]
    id_column = chosen(ids, id_candidates(texts), held, source=path, what="columns of ids", option="--ids")
    along = [name for name in COLUMNS if name in held and name != id_column]
    columns = _parquet_texts(path, [id_column, *along]) if is_parquet else _csv_texts(path, [id_column, *along])
    identities = columns.pop(id_column).tolist()
    if not identities:
        raise DataError(f"{path} has no rows; there is nothing to import")
    check_ids(identities, len(identities), path)
    names = _feature_columns(path, [field for field in schema if field.name not in {id_column, *COLUMNS}], features)
    blocks, dtype = _parquet_features(path, names, schema) if is_parquet else _csv_features(path, names)
    return Elsewhere(identities, next(blocks()).shape[1], dtype, blocks, columns)


def _feature_columns(path: Path, fields: Sequence[pa.Field], given: str | None) -> list[str]:
    """The column of lists, or the numeric columns in the order of their axes."""
    lists = [field.name for field in fields if _is_list(field.type)]
    numbers = [field.name for field in fields if _is_number(field.type)]
    if given is not None and given in lists:
        return [given]
    if given is not None:
        beginning = [name for name in numbers if name.startswith(given)]
        if beginning:
            return _in_order(beginning, given)
    runs = _numbered_runs(numbers)
    choices = {name: [name] for name in lists} | runs
    held = {field.name: str(field.type) for field in fields if field.name in {*lists, *numbers}}
    described = {name: f"({len(names)} columns)" for name, names in runs.items()} | held
    what = "columns that can be the features"
    name = chosen(given, list(choices), described, source=path, what=what, option="--features")
    return choices[name]


def _numbered_runs(names: Sequence[str]) -> dict[str, list[str]]:
    """What numbered names begin with, to the names in the order of their numbers, where no number is missing."""
    found: dict[str, dict[int, str]] = defaultdict(dict)
    for name in names:
        match = NUMBERED.fullmatch(name)
        if match is not None:
            found[match[1]][int(match[2])] = name
    return {
        prefix: [by_number[number] for number in sorted(by_number)]
        for prefix, by_number in found.items()
        if len(by_number) >= MIN_NUMBERED and max(by_number) - min(by_number) == len(by_number) - 1
    }


def _in_order(names: list[str], prefix: str) -> list[str]:
    """Numbered columns by their numbers, others as they stand in the file."""
    rests = [name.removeprefix(prefix) for name in names]
    if not all(rest.isascii() and rest.isdigit() for rest in rests):
        return names
    return [name for _, name in sorted(zip(map(int, rests), names, strict=True))]


def _parquet_features(path: Path, names: list[str], schema: pa.Schema) -> tuple[Blocks, str]:
    """The features, and what numbers they are."""
    types = [schema.field(name).type for name in names]
    if _is_list(types[0]):
        return parquet.list_blocks(path, names[0]), np.dtype(types[0].value_type.to_pandas_dtype()).name
    dtype = np.result_type(*(np.dtype(kind.to_pandas_dtype()) for kind in types))
    return parquet.column_blocks(path, names), dtype.name


def _csv_features(path: Path, names: list[str]) -> tuple[Blocks, str]:
    return csv_.number_blocks(path, names, pa.float64()), "decimals"


def _parquet_texts(path: Path, names: list[str]) -> dict[str, NDArray[Any]]:
    with reading(path), pq.ParquetFile(path) as file:
        table = file.read(columns=names)
        return {name: _as_texts(table.column(name)) for name in names}


def _csv_texts(path: Path, names: list[str]) -> dict[str, NDArray[Any]]:
    values: dict[str, list[str]] = {name: [] for name in names}
    with reading(path):
        for batch in csv_.batches(path, dict.fromkeys(names, pa.string())):
            for name in names:
                values[name] += [value.strip() for value in batch.column(name).to_pylist()]
    return {name: text_array(column) for name, column in values.items()}


def _as_texts(column: pa.ChunkedArray) -> NDArray[Any]:
    """A column as stripped text; whole numbers stay without a decimal point, a missing value is ""."""
    if pa.types.is_dictionary(column.type):
        column = pc.cast(column, column.type.value_type)
    if pa.types.is_floating(column.type) and pc.all(pc.equal(column, pc.floor(column))).as_py() is not False:
        column = pc.cast(column, pa.int64())
    texts = pc.fill_null(pc.cast(column, pa.string()), "")
    return text_array([value.strip() for value in texts.to_pylist()])


def _is_list(kind: pa.DataType) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return is_list and _is_number(kind.value_type)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
