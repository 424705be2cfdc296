"""A bundle as one flat table, which Parquet and CSV share: names of the fields, texts, states."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dvme.errors import DataError
from dvme.upkeep.formats.bundle import BackboneHeader, Blocks, Bundle, EmbeddedRows, Header, row_slices, text_array
from dvme_cache import RowState
from dvme_cache.identity import CONTENT_ID_BYTES

CONTENT_ID, FIRST_SEEN = "content_id", "first_seen"
STATES = np.array([state.name.lower() for state in RowState], dtype=object)
"""By their number in the cache."""

FeatureBlocks = Callable[[BackboneHeader], Blocks]
"""From a backbone to its features."""
FeatureArrays = Callable[[NDArray[Any], BackboneHeader], Iterable[pa.Array]]
"""From a block of a backbone's features (B, D) to what stands in their fields."""


def column_field(name: str) -> str:
    """A column's field: its own name, unless another field could have it too."""
    return f"column:{name}" if ":" in name or name in {CONTENT_ID, FIRST_SEEN} else name


def state_field(backbone: str) -> str:
    """The field that says pending, done or failed."""
    return f"{backbone}:state"


def reason_field(backbone: str) -> str:
    """The field that says why a row failed."""
    return f"{backbone}:reason"


def text_fields(header: Header) -> list[str]:
    """The fields that hold no features, in their order."""
    fields = [CONTENT_ID, FIRST_SEEN, *map(column_field, header.columns)]
    for backbone in header.backbones:
        fields += [state_field(backbone.name), reason_field(backbone.name)]
    return fields


def check_distinct(fields: Sequence[str]) -> None:
    """Refuse to write a table of which two fields have one name.

    Raises:
        DataError: naming the field.
    """
    if len(set(fields)) < len(fields):
        twice = next(field for field in fields if fields.count(field) > 1)
        raise DataError(f"two columns would be called {twice!r} in one table; export to .h5 or .npz")


def record_batches(bundle: Bundle, schema: pa.Schema, feature_arrays: FeatureArrays) -> Iterator[pa.RecordBatch]:
    """All rows, a block at a time: the fields that hold no features, then those that do."""
    backbones = bundle.header.backbones
    streams = [bundle.embeddings[backbone.name].blocks() for backbone in backbones]
    blocks = zip(*streams, strict=True) if streams else repeat(())
    windows = row_slices(bundle.header.n_rows, bundle.header.longest_row)
    for window, features in zip(windows, blocks, strict=bool(streams)):
        arrays = _text_columns(bundle, window)
        for block, backbone in zip(features, backbones, strict=True):
            arrays += feature_arrays(block, backbone)
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _text_columns(bundle: Bundle, window: slice) -> list[pa.Array]:
    """Some rows of the fields that hold no features."""
    digests = [row.tobytes().hex() for row in bundle.content_ids[window]]
    texts = [digests, bundle.paths[window], *(values[window] for values in bundle.columns.values())]
    for backbone in bundle.header.backbones:
        rows = bundle.embeddings[backbone.name]
        texts += [STATES[rows.states[window]], rows.reasons[window]]
    return [pa.array(values, type=pa.string()) for values in texts]


def from_texts(header: Header, texts: Mapping[str, NDArray[Any]], blocks: FeatureBlocks) -> Bundle:
    """The bundle of a table's texts and features.

    Raises:
        ValueError: if an id or a state is not one.
        KeyError: if a field is missing.
    """
    embeddings = {}
    for backbone in header.backbones:
        states, reasons = texts[state_field(backbone.name)], texts[reason_field(backbone.name)]
        embeddings[backbone.name] = EmbeddedRows(_state_numbers(states), text_array(reasons), blocks(backbone))
    digests = b"".join(bytes.fromhex(digest) for digest in texts[CONTENT_ID])
    return Bundle(
        header=header,
        content_ids=np.frombuffer(digests, dtype=np.uint8).reshape(-1, CONTENT_ID_BYTES),
        paths=text_array(texts[FIRST_SEEN]),
        columns={name: text_array(texts[column_field(name)]) for name in header.columns},
        embeddings=embeddings,
    )


def _state_numbers(names: NDArray[Any]) -> NDArray[np.uint8]:
    number = {str(name): state for state, name in enumerate(STATES)}
    unknown = set(names) - set(number)
    if unknown:
        raise ValueError(f"{sorted(unknown)[0]!r} is not a state")
    return np.array([number[name] for name in names], dtype=np.uint8)
