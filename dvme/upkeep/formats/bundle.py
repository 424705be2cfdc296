"""What an exchange file holds, whatever its format: all rows of a cache, and the features as a stream."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError

FORMAT, FORMAT_VERSION = "dvme-export", 1
BLOCK_ROWS, BLOCK_BYTES = 4096, 1 << 27
"""At most, of features that are in memory at a time; of longer rows fewer, but one at least."""
DTYPES = ("float32", "float16")
BYTES = "uint8"
"""The type of rows that are no numbers each, such as dense features with a scale for each token."""

Blocks = Callable[[], Iterator[NDArray[Any]]]
"""Features in row order, (B, D) at a time; every call begins anew."""


@dataclass(frozen=True)
class BackboneHeader:
    """What made the embeddings of one backbone."""

    name: str
    dim: int
    dtype: str
    fingerprint: dict[str, Any]
    provenance: dict[str, Any]

    @property
    def row_bytes(self) -> int:
        """Of the features of a row."""
        return self.dim * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Header:
    """What an exchange file says about itself, in every format the same JSON."""

    n_rows: int
    columns: tuple[str, ...]
    backbones: tuple[BackboneHeader, ...]
    class_order: tuple[str, ...] = ()
    """Labels from the lowest to the highest, where the user gave an order; a file without one does not name it."""

    @property
    def longest_row(self) -> int:
        """Bytes of the features of a row, of the backbone that has the most."""
        return max((backbone.row_bytes for backbone in self.backbones), default=0)

    def to_json(self) -> str:
        """The header with format, version and a seal, by which a flipped bit is found."""
        fields = {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(self)}
        if not self.class_order:
            del fields["class_order"]
        return json.dumps(fields | {"seal": _seal(fields)})

    @classmethod
    def from_json(cls, text: str | bytes, source: str) -> Header:
        """Read a header; messages name the source.

        Raises:
            DataError: if it is damaged, or of a newer version.
        """
        try:
            fields = json.loads(text)
            version = int(fields["format_version"])
            if fields["format"] != FORMAT or version < 1:
                raise ValueError(f"format {fields['format']!r}, version {version}")
            if version > FORMAT_VERSION:
                message = f"{source} is a dvme export of version {version}, this dvme reads up to {FORMAT_VERSION}"
                raise DataError(f"{message}; update dvme")
            if fields.pop("seal") != _seal(fields):
                raise ValueError("it is not what was written")
            backbones = tuple(_backbone(entry) for entry in fields["backbones"])
            order = tuple(map(str, fields.get("class_order", ())))
            return cls(int(fields["n_rows"]), tuple(map(str, fields["columns"])), backbones, order)
        except DataError:
            raise
        except (ValueError, KeyError, TypeError) as error:
            message = f"{source} is a dvme export with a damaged header ({error}); export it again"
            raise DataError(message) from error


@dataclass(frozen=True)
class EmbeddedRows:
    """The embeddings of one backbone for all rows."""

    states: NDArray[np.uint8]
    """(N,) of RowState."""
    reasons: NDArray[Any]
    """(N,) object array of str: why a row failed, "" elsewhere."""
    blocks: Blocks
    """Of (B, D) features in the stored dtype, NaN, or 0 of bytes, where a row is not done.

    Those of all backbones end with the same rows, in an export that is being written."""


@dataclass(frozen=True)
class Bundle:
    """A cache's rows and embeddings. Only the features are too large for memory, so only they are a stream."""

    header: Header
    content_ids: NDArray[np.uint8]
    """(N, 16)."""
    paths: NDArray[Any]
    """(N,) object array of str: relative paths under which the images were first seen."""
    columns: Mapping[str, NDArray[Any]]
    """Name to (N,) object array of str, in the header's order."""
    embeddings: Mapping[str, EmbeddedRows]
    """By backbone, in the header's order."""


def text_array(values: Any) -> NDArray[Any]:
    """(N,) object array of str."""
    array = np.empty(len(values), dtype=object)
    array[:] = [str(value) for value in values]
    return array


def file_name(name: str) -> str:
    """A column's or backbone's name as one part of a path inside a file."""
    encoded = name.replace("%", "%25").replace("/", "%2F")
    return encoded.replace(".", "%2E", 1) if encoded.startswith(".") else encoded


def row_slices(n_rows: int, row_bytes: int = 0) -> Iterator[slice]:
    """Runs of `block_rows` rows; the last one may be shorter."""
    size = block_rows(row_bytes)
    for start in range(0, n_rows, size):
        yield slice(start, min(start + size, n_rows))


def block_rows(row_bytes: int) -> int:
    """How many rows of so many bytes are in memory at a time, a power of two."""
    fitting = max(1, BLOCK_BYTES // max(row_bytes, 1))
    return min(BLOCK_ROWS, 1 << (fitting.bit_length() - 1))


def _seal(fields: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(fields, sort_keys=True).encode(), digest_size=16).hexdigest()


def _backbone(entry: Mapping[str, Any]) -> BackboneHeader:
    header = BackboneHeader(
        name=str(entry["name"]),
        dim=int(entry["dim"]),
        dtype=str(entry["dtype"]),
        fingerprint=dict(entry["fingerprint"]),
        provenance=dict(entry["provenance"]),
    )
    if header.dtype not in (*DTYPES, BYTES) or header.dim < 1 or not header.name:
        raise ValueError(f"backbone {header.name!r} of dtype {header.dtype!r}, {header.dim} dims")
    return header
