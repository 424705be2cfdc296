"""A bundle as Parquet: a row group a block, features as lists of fixed size, a checksum behind every page."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dvme.errors import DataError
from dvme.files import reading
from dvme.text import first_few
from dvme.upkeep.formats.bundle import BLOCK_ROWS, BYTES, FORMAT, BackboneHeader, Bundle, Header
from dvme.upkeep.formats.fields import check_distinct, from_texts, record_batches, text_fields

HEADER = FORMAT.encode()
ROWS_READ_AT_ONCE = 512
"""pyarrow needs several times the memory of what is asked for."""
BYTES_READ_AT_ONCE = 1 << 26
ARROW_TYPES = {"float32": pa.float32(), "float16": pa.float16(), BYTES: pa.uint8()}


def features_field(backbone: str) -> str:
    """The field of a backbone's features."""
    return f"{backbone}:features"


def write(path: Path, bundle: Bundle) -> None:
    """Write the bundle to a new file."""
    texts, schema = text_fields(bundle.header), _schema(bundle.header)
    check_distinct(schema.names)
    with pq.ParquetWriter(path, schema, use_dictionary=texts, write_page_checksum=True) as writer:
        for batch in record_batches(bundle, schema, _as_lists):
            writer.write_batch(batch, row_group_size=BLOCK_ROWS)


def is_bundle(path: Path) -> bool:
    """Whether a Parquet file was exported by dvme."""
    with reading(path):
        return HEADER in (pq.read_schema(path).metadata or {})


def read(path: Path) -> Bundle:
    """Read the rows of a bundle; its features are read when they are asked for.

    Raises:
        DataError: if the file is damaged or of a newer version.
    """
    with reading(path):
        schema = pq.read_schema(path)
        header = Header.from_json(schema.metadata[HEADER], str(path))
        if not schema.equals(_schema(header)):
            raise ValueError("its fields are not those of its header")
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read(columns=text_fields(header))
        texts = {name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names}
        return from_texts(header, texts, lambda item: partial(list_blocks, path, features_field(item.name)))


def list_blocks(path: Path, field: str) -> Iterator[NDArray[Any]]:
    """The rows of a column of lists, a block at a time.

    Raises:
        DataError: while reading, if the lists are not of one length.
    """
    with reading(path):
        for batch in _batches(path, [field]):
            yield _from_lists(batch.column(field), f"{field} of {path}")


def column_blocks(path: Path, names: list[str]) -> Iterator[NDArray[Any]]:
    """Numeric columns side by side, a block of rows at a time; a missing value is NaN."""
    with reading(path):
        for batch in _batches(path, names):
            yield np.stack([batch.column(name).to_numpy(zero_copy_only=False) for name in names], axis=1)


def _schema(header: Header) -> pa.Schema:
    """All fields, with the header itself."""
    fields = [(name, pa.string()) for name in text_fields(header)]
    fields += [(features_field(item.name), pa.list_(ARROW_TYPES[item.dtype], item.dim)) for item in header.backbones]
    return pa.schema(fields, metadata={HEADER: header.to_json()})


def _batches(path: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Runs of rows. A row group is asked for at a time, because pyarrow keeps all that one iterator has read."""
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        for group in range(file.num_row_groups):
            n_bytes = file.metadata.row_group(group).total_byte_size
            longest = max(1, n_bytes // max(1, file.metadata.row_group(group).num_rows))
            size = min(ROWS_READ_AT_ONCE, max(1, BYTES_READ_AT_ONCE // longest))
            yield from file.iter_batches(size, row_groups=[group], columns=columns)


def _as_lists(block: NDArray[Any], backbone: BackboneHeader) -> list[pa.Array]:
    values = pa.array(np.ascontiguousarray(block, dtype=backbone.dtype).reshape(-1))
    return [pa.FixedSizeListArray.from_arrays(values, backbone.dim)]


def _from_lists(lists: pa.Array, source: str) -> NDArray[Any]:
    """(B, D) of lists that are all of one length; a missing element is NaN."""
    lengths = lists.value_lengths().unique().to_pylist()
    if len(lengths) != 1 or not lengths[0]:
        shown = first_few(sorted("none" if length is None else str(length) for length in lengths))
        raise DataError(f"{source} has lists of different lengths ({shown}); every image needs a list of one length")
    return np.asarray(lists.flatten().to_numpy(zero_copy_only=False)).reshape(len(lists), lengths[0])
