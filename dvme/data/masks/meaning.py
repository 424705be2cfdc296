"""What the values of masks mean: the classes that a user names, or those that the values show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from dvme.data.mask_options import REST, MaskOptions, is_background
from dvme.data.masks.cell import BACKGROUND, NOTHING
from dvme.data.masks.looking import Seen
from dvme.errors import DataError, parameter
from dvme.text import CHOICES, counted, first_few, some_of

ZERO, ONE, FULL = 0, 1, 255
MOST_CLASSES = 30
"""A label image of more values that nobody named is taken for one of instances, or a picture."""


@dataclass(frozen=True)
class Meaning:
    """The classes of a column of masks."""

    names: tuple[str, ...]
    """Without background."""
    values: Mapping[str, int]
    """Value, or REST, to the index of its class, BACKGROUND or NOTHING."""

    @property
    def words(self) -> str:
        """`0 = background, 255 = lung`."""
        called = {BACKGROUND: "background", NOTHING: "void"} | dict(enumerate(self.names))
        shown = [f"{'any other' if value == REST else value} = {called[index]}" for value, index in self.values.items()]
        return some_of(shown, CHOICES)

    def index_of(self, value: int) -> int | None:
        """The index of a value's class, BACKGROUND or NOTHING; None where it has none."""
        return self.values.get(str(value), self.values.get(REST))


def meaning_of(column: str, seen: Mapping[str, Seen], options: MaskOptions, source: str) -> Meaning:
    """What the values of a column mean.

    Args:
        column: its name.
        seen: image to what there is of it.
        options: the classes that are named, if any; and the void values.
        source: for messages.

    Raises:
        DataError: if values occur that no class has, or that tell no classes.
    """
    _refuse_jpeg(seen, options, source)
    is_joined = any(each.is_joined for each in seen.values())
    found = _named(options) if options.classes else _shown(column, seen, options, source, is_joined=is_joined)
    if is_joined and len(found.names) > 1:
        raise DataError(
            f"{source}: runs, and several files of an image, are one class together, and "
            + parameter("mask_classes")
            + f" names {first_few(found.names)}; name one class, as in "
            + parameter("mask_classes", f"0=background,{REST}={found.names[0]}")
        )
    if len(options.columns) > 1 and len(found.names) > 1:
        raise DataError(
            f"{source}: column {column!r} has masks of the values {_listed(seen)}; of several columns each is one "
            f"structure, of 0 and 1 or of 0 and 255; name {column!r} alone for the classes of one image"
        )
    _refuse_unnamed(seen, found, source)
    return found


def _named(options: MaskOptions) -> Meaning:
    classes, names = options.classes or {}, options.names
    index = {name: place for place, name in enumerate(names)}
    values = {} if str(ZERO) in classes else {str(ZERO): BACKGROUND}
    values |= {value: BACKGROUND if is_background(name) else index[name] for value, name in classes.items()}
    return Meaning(names, values | _void(options))


def _shown(column: str, seen: Mapping[str, Seen], options: MaskOptions, source: str, *, is_joined: bool) -> Meaning:
    """By the values that occur: one class called as the column, or one of each value."""
    files = {frozenset(file.values).difference(options.void) for each in seen.values() for file in each.files}
    every = sorted(frozenset[int]().union(*files) - {ZERO})
    if is_joined:
        return Meaning((column,), {str(ZERO): BACKGROUND, REST: 0} | _void(options))
    if len(every) <= 1 or all(own <= {ZERO, ONE} or own <= {ZERO, FULL} for own in files):
        # What a later file may have: a mask without any pixel of the class says nothing of it.
        own = {str(value): 0 for value in every or (ONE, FULL)}
        return Meaning((column,), {str(ZERO): BACKGROUND} | own | _void(options))
    if len(every) > MOST_CLASSES:
        raise DataError(
            f"{source}: the masks of column {column!r} have {len(every):,} values ({some_of(every, 5)}), which are no "
            "classes; if each is an instance of one class, pass "
            + parameter("mask_classes", f"0=background,{REST}={column}")
        )
    values = {str(ZERO): BACKGROUND} | {str(value): place for place, value in enumerate(every)}
    return Meaning(tuple(f"class {value}" for value in every), values | _void(options))


def _void(options: MaskOptions) -> dict[str, int]:
    return {str(value): NOTHING for value in options.void}


def _refuse_jpeg(seen: Mapping[str, Seen], options: MaskOptions, source: str) -> None:
    """Refuse masks that were saved with loss: their values are noise around those that were meant."""
    named = options.classes or {}
    meant = {ZERO, FULL, *options.void, *(int(value) for value in named if value != REST)}
    odd = [
        image
        for image, each in seen.items()
        if any(file.is_jpeg and not meant.issuperset(file.values) for file in each.files)
    ]
    if odd and REST not in named:
        raise DataError(
            f"{source}: {counted(len(odd), 'image')} with a mask that is a JPEG file, whose compression has changed "
            f"its values: {first_few(odd)}; save masks as PNG, or set every pixel to 0 or 255 first"
        )


def _refuse_unnamed(seen: Mapping[str, Seen], meaning: Meaning, source: str) -> None:
    """Refuse values that no class has, which only happens where classes are named."""
    unnamed: Counter[int] = Counter()
    images = []
    for image, each in seen.items():
        own = [value for value in each.values if meaning.index_of(value) is None]
        unnamed.update(own)
        images += [image] if own else []
    if unnamed:
        shown = some_of([f"{value} ({counted(count, 'image')})" for value, count in sorted(unnamed.items())])
        raise DataError(
            f"{source}: {counted(len(images), 'mask')} with values that no class has, such as that of {images[0]}: "
            f"{shown}; name them with "
            + parameter("mask_classes")
            + ", or let them count for nothing with "
            + parameter("mask_void", min(unnamed))
        )


def _listed(seen: Mapping[str, Seen]) -> str:
    return some_of(sorted(frozenset[int]().union(*(each.values for each in seen.values()))))
