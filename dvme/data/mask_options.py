"""What a user says of the masks that a table names: which columns, what values mean, how runs are counted."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dvme.errors import OptionError, parameter

BACKGROUND = "background"
"""What the class is called that is none."""
REST = "*"
"""Every value that is not named."""
LARGEST = 65_535
"""Value of a pixel of a mask."""
ENCODINGS = ("rle", "siim")


@dataclass(frozen=True)
class MaskOptions:
    """How masks are read."""

    columns: tuple[str, ...] = ()
    """Of the table; several are structures that may overlap."""
    classes: Mapping[str, str] | None = None
    """Value, or REST, to the name of its class; None: by the values that there are."""
    void: tuple[int, ...] = ()
    """Values that count for nothing."""
    encoding: str | None = None
    """`rle`: cells are runs, each START the number of a pixel; `siim`: START counts from the end of the run before.
    None: cells are files, or runs as of `rle`."""

    @property
    def is_relative(self) -> bool:
        """Whether starts of runs are counted from the end of the run before."""
        return self.encoding == "siim"

    @property
    def names(self) -> tuple[str, ...]:
        """The classes that are named, without background, each once."""
        return tuple(name for name in dict.fromkeys((self.classes or {}).values()) if not is_background(name))


def mask_options(
    columns: tuple[str, ...],
    classes: str | Mapping[int | str, str] | None,
    void: str | int | Sequence[int],
    encoding: str | None,
) -> MaskOptions:
    """Check what is said.

    Raises:
        OptionError: if a value is none, has two names, or is named and void; or if there is no column of masks.
    """
    named = _classes(classes)
    found = MaskOptions(columns, named, _void(void), encoding)
    if encoding not in {None, *ENCODINGS}:
        raise OptionError(parameter("mask_encoding", encoding) + f" is not possible; choose {', '.join(ENCODINGS)}")
    given = [
        parameter("mask_classes") if named else "",
        parameter("mask_void", list(found.void)) if found.void else "",
        parameter("mask_encoding", encoding) if encoding else "",
    ]
    if any(given) and not columns:
        raise OptionError(next(filter(None, given)) + " is of masks; name their column with " + parameter("mask"))
    if named is not None and len(columns) > 1:
        raise OptionError(
            parameter("mask_classes") + f" is for one column of masks, and {len(columns)} are named, each a structure "
            "called as its column; leave one of both out"
        )
    both = [value for value in found.void if str(value) in (named or {})]
    if both:
        raise OptionError(
            f"value {both[0]} is named by "
            + parameter("mask_classes")
            + " and void by "
            + parameter("mask_void", both)
            + "; leave one of both out"
        )
    if named is not None and not found.names:
        raise OptionError(parameter("mask_classes") + " names no class beside background; name one, as in 255=lung")
    return found


def is_background(name: str) -> bool:
    """Whether a class is none."""
    return name.casefold() == BACKGROUND


def _classes(given: str | Mapping[int | str, str] | None) -> dict[str, str] | None:
    """Value to name, in the order in which they are given."""
    if not given:
        return None
    if isinstance(given, str):
        pairs = [tuple(part.strip() for part in cell.partition("=")[::2]) for cell in _cells(given)]
    else:
        pairs = [(str(value).strip(), str(name).strip()) for value, name in given.items()]
    found: dict[str, str] = {}
    for value, name in pairs:
        if not name or not (value == REST or _is_value(value)):
            raise OptionError(
                parameter("mask_classes") + f" has {value or name!r}, which is not VALUE=NAME with a value from 0 to "
                f"{LARGEST:,}, or {REST} for all others; pass for example "
                + parameter("mask_classes", "0=background,128=lung,255=heart")
            )
        key = value if value == REST else str(int(value))
        if key in found:
            raise OptionError(parameter("mask_classes") + f" names value {key} twice; name it once")
        found[key] = name
    return found


def _void(given: str | int | Sequence[int]) -> tuple[int, ...]:
    several = [given] if isinstance(given, int) else _cells(given) if isinstance(given, str) else list(given)
    texts = [str(value).strip() for value in several]
    odd = [text for text in texts if not _is_value(text)]
    if odd:
        message = parameter("mask_void") + f" has {odd[0]!r}; values of pixels are whole numbers from 0 to {LARGEST:,}"
        raise OptionError(message)
    return tuple(dict.fromkeys(map(int, texts)))


def _is_value(text: str) -> bool:
    return text.isascii() and text.isdecimal() and int(text) <= LARGEST


def _cells(text: str) -> list[str]:
    """What a text names between commas; a name that has a comma stands in double quotes with its value."""
    return [cell for cell in next(csv.reader([text], skipinitialspace=True), []) if cell.strip()]
