"""Embeddings made elsewhere, in tables: Parquet, CSV and TSV, with a list column or many numeric columns."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dvme.data.cells import as_texts
from dvme.data.manifest import columns_used
from dvme.data.tables import clean_names
from dvme.errors import DataError, parameter
from dvme.files import reading
from dvme.upkeep.formats import csv_, parquet
from dvme.upkeep.formats.bundle import Blocks, text_array
from dvme.upkeep.formats.elsewhere import IDS, Elsewhere, check_ids, chosen, used_columns

NUMBERED = re.compile(r"(.*?)(\d+)", re.DOTALL)
MIN_NUMBERED = 2


def read_tables(path: Path, *, features: str | None, ids: str | None) -> Elsewhere:
    """As `read_elsewhere`, of .parquet, .csv or .tsv.

    Args:
        path: the table.
        features: a column of lists, or how the names of the numeric columns begin; by default the only column of
            lists, or the only run of columns that are numbered, such as f0, f1, f2.
        ids: the column of ids; by default `image`, or the only one of text that is not label, split or group.
    """
    is_parquet = path.suffix.lower() == ".parquet"
    with reading(path):
        schema = pq.read_schema(path) if is_parquet else csv_.schema(path)
    originals = clean_names(schema.names, path)
    fields = [schema.field(original).with_name(name) for name, original in originals.items()]
    held = {field.name: str(field.type) for field in fields}
    texts = [field.name for field in fields if _is_text(field.type)]
    scalars = [field.name for field in fields if not _is_list(field.type)]
    used = used_columns(ids, held, source=path, texts=texts, scalars=scalars)
    wanted = {name: originals[column] for name, column in used.items()}
    columns = _parquet_texts(path, wanted) if is_parquet else _csv_texts(path, wanted)
    identities = columns.pop(IDS).tolist()
    if not identities:
        raise DataError(f"{path} has no rows; there is nothing to import")
    check_ids(identities, len(identities), path)
    rest = [field for field in fields if field.name not in used.values()]
    names = [originals[name] for name in _feature_columns(path, rest, features)]
    blocks, dtype = _parquet_features(path, names, schema) if is_parquet else _csv_features(path, names)
    return Elsewhere(identities, next(blocks()).shape[1], dtype, blocks, columns, (columns_used(path, used),))


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
    name = chosen(given, list(choices), described, source=path, what=what, option=parameter("features"))
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
        dtype = np.dtype(types[0].value_type.to_pandas_dtype())
        return partial(parquet.list_blocks, path, names[0]), dtype.name
    dtype = np.result_type(*(np.dtype(kind.to_pandas_dtype()) for kind in types))
    return partial(parquet.column_blocks, path, names), dtype.name


def _csv_features(path: Path, names: list[str]) -> tuple[Blocks, str]:
    return partial(csv_.number_blocks, path, names, pa.float64()), "decimals"


def _parquet_texts(path: Path, columns: Mapping[str, str]) -> dict[str, NDArray[Any]]:
    """What is wanted, each by the column that holds it."""
    with reading(path), pq.ParquetFile(path) as file:
        table = file.read(columns=list(columns.values()))
        return {name: text_array(as_texts(table.column(held), held, path)) for name, held in columns.items()}


def _csv_texts(path: Path, columns: Mapping[str, str]) -> dict[str, NDArray[Any]]:
    values: dict[str, list[str]] = {name: [] for name in columns}
    with reading(path):
        for batch in csv_.batches(path, dict.fromkeys(columns.values(), pa.string())):
            for name, held in columns.items():
                values[name] += [value.strip() for value in batch.column(held).to_pylist()]
    return {name: text_array(column) for name, column in values.items()}


def _is_list(kind: pa.DataType) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return is_list and _is_number(kind.value_type)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
