"""What the columns of such a table are: images, classes with names, or plain values."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dvme.data.cells import as_texts
from dvme.data.findings import BETWEEN, OF, joined
from dvme.data.samples import MISSING
from dvme.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

METADATA = b"huggingface"
"""Where a schema keeps what `datasets` knows of its columns, as JSON."""


@dataclass(frozen=True)
class Schema:
    """The columns of a table."""

    columns: Mapping[str, pa.DataType]
    features: Mapping[str, Mapping[str, Any]]
    """What `datasets` says of each; nothing where another tool wrote the table."""

    def images(self) -> list[str]:
        """The columns of images."""
        return [name for name in self.columns if self.is_image(name)]

    def is_image(self, name: str) -> bool:
        """Whether a column holds image files, or where they are."""
        import pyarrow as pa

        kind, said = self.columns[name], self.features.get(name, {}).get("_type")
        if pa.types.is_struct(kind) and (at := kind.get_field_index("bytes")) >= 0:
            return said in {None, "Image"} and _is_binary(kind.field(at).type)
        return said == "Image" and bool(_is_binary(kind) or pa.types.is_string(kind))

    def called(self, name: str) -> str:
        """What a column is, for messages: `Array2D`, `list<item: int64>`."""
        said = self.features.get(name, {}).get("_type")
        return str(self.columns[name]) if said in {None, "Value"} else str(said)

    def is_list(self, name: str) -> bool:
        """Whether a column has lists, such as the findings of each image."""
        import pyarrow as pa

        kind = self.columns[name]
        return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))

    def class_names(self, name: str) -> Sequence[str]:
        """What the numbers of a column, or in its lists, stand for; nothing where they are no classes."""
        feature = self.features.get(name, {})
        inner = feature.get("feature")
        feature = inner if isinstance(inner, Mapping) else feature
        return feature.get("names") or () if feature.get("_type") == "ClassLabel" else ()

    def classes(self) -> list[str]:
        """The columns of classes with names."""
        return [name for name in self.columns if self.class_names(name) and not self.is_list(name)]


def schema_of(schema: pa.Schema) -> Schema:
    """What a table's schema says."""
    try:
        features = json.loads((schema.metadata or {}).get(METADATA, b"{}"))["info"]["features"]
    except (KeyError, TypeError, ValueError):
        features = {}
    told = {name: each for name, each in features.items() if isinstance(each, Mapping)} if features else {}
    return Schema({field.name: field.type for field in schema}, told)


def texts_of(column: pa.ChunkedArray, name: str, schema: Schema, source: Path) -> list[str]:
    """A column as text: classes by their names, findings as a cache keeps them, anything else as it is spelled.

    Raises:
        DataError: if it is no text, or a number has no name.
    """
    names = schema.class_names(name)
    if schema.is_list(name):
        return _findings(column, names, name, source)
    if not names:
        return as_texts(column, name, source)
    return [_class(number, names, name, source) for number in column.to_pylist()]


def binaries(column: pa.Array) -> tuple[pa.Array | None, pa.Array | None]:
    """The files of an array of images, and the paths of those whose files are not inside."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if not pa.types.is_struct(kind):
        return (None, column) if pa.types.is_string(kind) else (column, None)
    has_paths = kind.get_field_index("path") >= 0
    return pc.struct_field(column, "bytes"), pc.struct_field(column, "path") if has_paths else None


def _class(number: int | None, names: Sequence[str], name: str, source: Path) -> str:
    if number is None or number == -1:  # what `datasets` writes for an image without a label
        return MISSING
    if not 0 <= number < len(names):
        raise DataError(f"{source}: column {name!r} has the class {number}, and names for {len(names)}; save it again")
    return names[number]


def _findings(column: pa.ChunkedArray, names: Sequence[str], name: str, source: Path) -> list[str]:
    """Lists as findings: those in the list are there, an empty one is an image without any."""
    spelled: Callable[[Any], str] = (lambda number: _class(number, names, name, source)) if names else str
    found = []
    for cell in column.to_pylist():
        each = [] if cell is None else [spelled(value).strip() for value in cell]
        odd = [finding for finding in each if not finding or {BETWEEN, OF} & set(finding)]
        if odd:
            raise DataError(
                f"{source}: column {name!r} has a finding {odd[0]!r} that a cache cannot keep, for {BETWEEN} and {OF} "
                "stand between findings there; rename it"
            )
        found.append(MISSING if cell is None else joined(list(dict.fromkeys(each))))
    return found


def _is_binary(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))
