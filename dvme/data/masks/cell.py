"""What a cache keeps of the mask of an image: one cell of JSON with all that it takes to read the mask."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dvme.data.mask_options import LARGEST, REST
from dvme.errors import DataError, parameter
from dvme.text import some_of

BACKGROUND, NOTHING, NO_CLASS = -1, -2, -3
"""In place of the index of a class: none of them; a void value; a value that has no class."""
PRESENT, ABSENT, UNSAID = "1", "0", "?"


@dataclass(frozen=True)
class Layer:
    """Files and runs that together say where some classes are: a label image, or the masks of one structure."""

    files: tuple[str, ...] = ()
    """Addresses, absolute."""
    runs: tuple[str, ...] = ()
    """START LENGTH pairs, from 1 on, column by column."""
    values: Mapping[str, int] | None = None
    """Value of a file's pixels, or REST, to the index of its class, BACKGROUND or NOTHING; None: nothing is known."""

    @property
    def classes(self) -> list[int]:
        """Indices of the classes of which it speaks."""
        return sorted({index for index in (self.values or {}).values() if index >= 0})

    def indices(self, values: NDArray[Any]) -> NDArray[np.int16]:
        """(H, W) the class of each pixel of a file, by its value."""
        found: NDArray[np.int16] = table_of(self.values or {})[values]
        return found


@dataclass(frozen=True)
class Cell:
    """The mask of one image."""

    names: tuple[str, ...]
    """L classes."""
    is_exclusive: bool
    """Whether a pixel has one class at most."""
    size: tuple[int, int]
    """(H, W) in pixels."""
    presence: str
    """L letters: PRESENT, ABSENT, or UNSAID of a structure without a mask."""
    digest: str
    """Of the files' bytes, in hexadecimal; "" without files."""
    layers: tuple[Layer, ...]
    """One of all classes, or one of each structure, in the order of the names."""

    @property
    def text(self) -> str:
        """As a cache has it."""
        parts = [_plain(layer) for layer in self.layers]
        plain = {
            "names": self.names,
            "exclusive": self.is_exclusive,
            "size": self.size,
            "presence": self.presence,
            "digest": self.digest,
            "layers": parts,
        }
        return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def of(cls, text: str) -> Self:
        """The cell that a cache has.

        Raises:
            DataError: if it is none that dvme wrote.
        """
        try:
            plain = json.loads(text)
            rows, columns = map(int, plain["size"])
            found = cls(
                tuple(map(str, plain["names"])),
                bool(plain["exclusive"]),
                (rows, columns),
                str(plain["presence"]),
                str(plain["digest"]),
                tuple(map(_layer, plain["layers"])),
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(f"the column 'mask' has {text[:60]!r}, which is no mask; {STEP}") from error
        if len(found.presence) != len(found.names):
            raise DataError(f"the column 'mask' has a mask that contradicts itself ({text[:60]!r}); {STEP}")
        return found


STEP = "dvme cache label CACHE MANIFEST --mask-col COLUMN reads masks anew"
"""What to do where a mask is not what it was."""


def check_kinds(texts: Iterable[str], source: str) -> None:
    """Refuse masks of one cache that are of different classes.

    Args:
        texts: cells; "" for no mask.
        source: for the message.

    Raises:
        DataError: naming the classes.
    """
    kinds = {(cell.names, cell.is_exclusive) for cell in map(Cell.of, filter(None, texts))}
    if len(kinds) > 1:
        raise DataError(
            f"{source}: {contradictory(kinds)}; name them alike with " + parameter("mask_classes") + f", or {STEP}"
        )


def contradictory(kinds: Iterable[tuple[tuple[str, ...], bool]]) -> str:
    """Says that masks of one cache are of different classes."""
    shown = [
        f"{some_of(names)}{'' if is_exclusive else ' (which may overlap)'}" for names, is_exclusive in sorted(kinds)
    ]
    return f"all masks of a cache are to have the same classes, and some have {some_of(shown, 2, ', others ')}"


def what_is_shown(text: str) -> str:
    """What of a cell is the mask, and not where it lies: equal of masks that are files of the same bytes."""
    if not text:
        return text
    try:
        plain = json.loads(text)
        plain["layers"] = [
            {name: value for name, value in layer.items() if name not in {"folder", "files"}}
            | {"n_files": len(layer.get("files", ()))}
            for layer in plain["layers"]
        ]
    except (ValueError, TypeError, KeyError, AttributeError):
        return text
    return json.dumps(plain)


def table_of(values: Mapping[str, int]) -> NDArray[np.int16]:
    """(LARGEST + 1,) the index of each value's class."""
    table = np.full(LARGEST + 1, values.get(REST, NO_CLASS), dtype=np.int16)
    for value, index in values.items():
        if value != REST:
            table[int(value)] = index
    return table


def _plain(layer: Layer) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    if layer.files:
        folder = os.path.commonpath([os.path.dirname(file) for file in layer.files])  # noqa: PTH120 - stays a text
        plain |= {"folder": folder, "files": [os.path.relpath(file, folder) for file in layer.files]}
    if layer.runs:
        plain["runs"] = layer.runs
    if layer.values is not None:
        plain["values"] = dict(layer.values)
    return plain


def _layer(plain: Mapping[str, Any]) -> Layer:
    folder, files = str(plain.get("folder", "")), plain.get("files", ())
    values: Mapping[str, Any] | None = plain.get("values")
    return Layer(
        tuple(os.path.join(folder, str(file)) for file in files),  # noqa: PTH118 - stays a text
        tuple(map(str, plain.get("runs", ()))),
        None if values is None else {str(value): int(index) for value, index in values.items()},
    )


def presence_of(letters: Sequence[str]) -> list[list[float]]:
    """N lists of L numbers: 1, 0, or nan where a structure has no mask."""
    meaning = {PRESENT: 1.0, ABSENT: 0.0}
    return [[meaning.get(letter, np.nan) for letter in own] for own in letters]
