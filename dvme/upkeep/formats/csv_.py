"""A bundle as CSV: a column a feature, in the shortest decimals that read back exactly; the header beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
from numpy.typing import NDArray

from dvme.backbones.description.dense import grids_of
from dvme.data.delimited import SAVE, dialect_of, not_text
from dvme.data.tables import check_file
from dvme.errors import DataError, parameter
from dvme.files import file_digest, reading, written_aside
from dvme.upkeep.formats.bundle import FORMAT, BackboneHeader, Blocks, Bundle, Header
from dvme.upkeep.formats.fields import check_distinct, from_texts, record_batches, text_fields

SIDECAR_SUFFIX = ".json"
MIN_BLOCK_BYTES, ROWS_PER_BLOCK, CHARACTERS_PER_NUMBER = 1 << 22, 256, 26


def sidecar(path: Path) -> Path:
    """Where the header of a CSV lies."""
    return path.with_name(path.name + SIDECAR_SUFFIX)


def write(path: Path, bundle: Bundle) -> None:
    """Write the bundle to a new file, without its header.

    Raises:
        DataError: if a backbone has dense features, which are too many for the columns of a table.
    """
    dense = [backbone for backbone in bundle.header.backbones if grids_of(backbone.fingerprint)]
    if dense:
        what = f"{dense[0].name} has {dense[0].dim:,} numbers an image, too many for the columns of a CSV"
        raise DataError(f"{what}; export to .h5, .npz or .parquet, or leave it out of " + parameter("backbones"))
    fields = [pa.field(name, pa.string()) for name in text_fields(bundle.header)]
    for backbone in bundle.header.backbones:
        kind = pa.float32() if backbone.dtype == "float32" else pa.float64()
        fields += [pa.field(name, kind) for name in feature_fields(backbone)]
    schema = pa.schema(fields)
    check_distinct(schema.names)
    with pc.CSVWriter(str(path), schema) as writer:
        for batch in record_batches(bundle, schema, _number_columns):
            writer.write_batch(batch)


def write_sidecar(path: Path, header: Header, data: Path) -> None:
    """Write the header of a CSV that is going to be at `path`, with the digest of the data that lie elsewhere now."""
    fields = {"digest": file_digest(data), "header": json.loads(header.to_json())}
    with written_aside(sidecar(path)) as aside:
        aside.write_text(json.dumps(fields, indent=1), encoding="utf-8")


def is_bundle(path: Path) -> bool:
    """Whether a CSV was exported by dvme."""
    with reading(path):
        return sidecar(path).is_file() and FORMAT.encode() in sidecar(path).read_bytes()


def read(path: Path) -> Bundle:
    """Read the rows of a bundle; its features are read when they are asked for.

    Raises:
        DataError: if the file is damaged, not the one that its header describes, or of a newer version.
    """
    with reading(sidecar(path)):
        fields = json.loads(sidecar(path).read_text(encoding="utf-8"))
        header, digest = Header.from_json(json.dumps(fields["header"]), str(sidecar(path))), fields["digest"]
    if digest != file_digest(path):
        message = f"{path} is not the file that {sidecar(path).name} was written for (changed since, or half an export)"
        raise DataError(f"{message}; export it again")
    texts: dict[str, list[str]] = {name: [] for name in text_fields(header)}
    with reading(path):
        for batch in batches(path, dict.fromkeys(texts, pa.string())):
            for name in texts:
                texts[name] += batch.column(name).to_pylist()
        columns = {name: np.array(values, dtype=object) for name, values in texts.items()}
        return from_texts(header, columns, partial(_backbone_blocks, path))


def feature_fields(backbone: BackboneHeader) -> list[str]:
    """The fields of a backbone's features, one an axis."""
    return [f"{backbone.name}:{axis}" for axis in range(backbone.dim)]


def schema(path: Path) -> pa.Schema:
    """The columns of any CSV or TSV, with the types that its first rows suggest.

    Raises:
        DataError: if it cannot be read, or is no text in UTF-8 or with the byte-order mark of another encoding.
    """
    with reading(path), suppress(UnicodeError), _open(path) as reader:
        if not any(pa.types.is_binary(field.type) for field in reader.schema):
            return reader.schema
    raise DataError(f"cannot read {path}: {not_text(path.read_bytes())}; {SAVE}")


def number_blocks(path: Path, names: Sequence[str], kind: pa.DataType) -> Iterator[NDArray[Any]]:
    """D numeric columns side by side, (B, D) at a time, their decimals read into one type; an empty cell is NaN."""
    with reading(path):
        for batch in batches(path, dict.fromkeys(names, kind)):
            numbers = np.empty((len(batch), len(names)), dtype=kind.to_pandas_dtype())
            for axis, name in enumerate(names):
                numbers[:, axis] = batch.column(name).to_numpy(zero_copy_only=False)
            yield numbers


def batches(path: Path, types: Mapping[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
    """Some columns of a CSV or TSV, a run of rows at a time; an empty text is ""."""
    options = {"column_types": dict(types), "include_columns": list(types), "strings_can_be_null": False}
    with _open(path, **options) as reader:
        yield from reader


def _open(path: Path, **options: Any) -> pc.CSVStreamingReader:
    """A reader whose blocks hold some hundred rows, however wide they are."""
    check_file(path)
    dialect = dialect_of(path)
    size = max(MIN_BLOCK_BYTES, ROWS_PER_BLOCK * CHARACTERS_PER_NUMBER * dialect.n_columns)
    encoding = "utf8" if dialect.encoding.startswith("utf-8") else dialect.encoding
    return pc.open_csv(
        path,
        pc.ReadOptions(block_size=size, encoding=encoding, skip_rows=dialect.n_skipped),
        pc.ParseOptions(delimiter=dialect.separator, newlines_in_values=True),
        pc.ConvertOptions(decimal_point=dialect.decimal, **options),
    )


def _number_columns(block: NDArray[Any], backbone: BackboneHeader) -> list[pa.Array]:
    numbers = _shortest(block) if backbone.dtype == "float16" else block
    return [pa.array(column) for column in np.ascontiguousarray(numbers.T)]


def _backbone_blocks(path: Path, backbone: BackboneHeader) -> Blocks:
    if backbone.dtype == "float32":
        return partial(number_blocks, path, feature_fields(backbone), pa.float32())
    wide = partial(number_blocks, path, feature_fields(backbone), pa.float64())
    return lambda: (block.astype(np.float16) for block in wide())


def _shortest(block: NDArray[np.float16]) -> NDArray[np.float64]:
    """For every half the double whose shortest decimal is also the half's: 0.1, not 0.0999755859375."""
    return _doubles_of_halves()[np.ascontiguousarray(block).view(np.uint16)]


@cache
def _doubles_of_halves() -> NDArray[np.float64]:
    """(65536,) by the bits of a half."""
    return np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(str).astype(np.float64)
