"""What tables with images inside tell: the images of all shards, their labels, splits, groups and further columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dvme.data.columns import Columns, Labels, chosen_column, kept_columns, read_labels
from dvme.data.findings import names_in
from dvme.data.manifest import columns_line
from dvme.data.natural import natural_key
from dvme.data.samples import MISSING, Samples, canonical_split
from dvme.data.sources.arrays.rows import addresses
from dvme.data.sources.hub.features import Schema, texts_of
from dvme.data.tables import Table
from dvme.errors import DataError, parameter
from dvme.text import CHOICES, EXAMPLES, counted, first_few, some_of

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Shard:
    """A file of a table."""

    path: Path
    schema: Schema
    n_rows: int
    column: Callable[[str], pa.ChunkedArray]
    outside: Callable[[str], dict[int, str]]
    """From a column of images: the rows whose files are not inside, and their paths, "" for none."""
    split: str = MISSING
    """As the folder or the name says it."""


def table_samples(place: Path, shards: Sequence[Shard], columns: Columns, *, images_only: bool) -> Samples:
    """The images of a file or folder of tables.

    Raises:
        DataError: if there are none, or a column cannot be used.
    """
    schema = shards[0].schema
    odd = next((shard for shard in shards if list(shard.schema.columns) != list(schema.columns)), None)
    if odd is not None:
        raise DataError(f"{odd.path} has other columns than {shards[0].path}; name one of their folders, or files")
    image = _image_column(place, schema, columns)
    samples, inside = _images(place, shards, image)
    if images_only:
        return samples.only(inside) if len(inside) < len(samples) else samples
    names = [name for name in schema.columns if name not in schema.images()]
    table = Table(place, names, len(samples), partial(_texts, place, shards))
    samples = _told(samples, table, schema, image, columns)
    splits = _splits(shards)
    if splits:
        given = samples.given | {"split"}
        each = [split for split, shard in zip(splits, shards, strict=True) for _ in range(shard.n_rows)]
        samples = replace(samples, splits=each, given=given)
    return samples.only(inside) if len(inside) < len(samples) else samples


def _image_column(place: Path, schema: Schema, columns: Columns) -> str:
    """The column of images that is asked for, or the only one.

    Raises:
        DataError: naming the columns.
    """
    found = schema.images()
    if columns.image is not None:
        name = chosen_column(Table(place, list(schema.columns), 0, lambda _: []), columns.image, "image")
        assert name is not None
        if name not in found:
            raise DataError(f"{place}: column {name!r} is {schema.called(name)}, no images; {_cast(name)}")
        return name
    if len(found) == 1:
        return found[0]
    if found:
        shown = first_few(found, CHOICES)
        raise DataError(f"{place} has several columns of images: {shown}; choose one with " + parameter("image"))
    shown = first_few([f"{name} ({schema.called(name)})" for name in schema.columns], CHOICES)
    raise DataError(f"{place} has no column of images; it has: {shown}; {_cast('NAME')}")


def _cast(name: str) -> str:
    return f'make it one with dataset.cast_column("{name}", datasets.Image()) and save it again'


def _images(place: Path, shards: Sequence[Shard], image: str) -> tuple[Samples, list[int]]:
    """All rows, and which of them have an image.

    Raises:
        DataError: if none has one, or files that are named are not there.
    """
    paths: list[Path] = []
    ids: list[str] = []
    without: set[int] = set()
    for shard in shards:
        own, first = addresses(shard.path, image, shard.n_rows), len(paths)
        prefix = f"{shard.path.relative_to(place).as_posix()}/" if shard.path != place else ""
        ids += [f"{prefix}{image}/{path.name}" for path in own]
        elsewhere = shard.outside(image)
        for row, text in elsewhere.items():
            own[row] = shard.path.parent / text
            without |= {first + row} if not text else set()
        paths += own
        _check_there([own[row] for row, text in elsewhere.items() if text], place)
    if len(without) == len(paths):
        raise DataError(f"{place} holds no images: {counted(len(paths), 'row')}, and none has an image")
    nothing = [MISSING] * len(paths)
    lost = (f"{counted(len(without), 'row')} left out, for column {image!r} has no image there",) if without else ()
    samples = Samples(paths, ids, nothing, nothing, nothing, frozenset(), remarks=lost)
    return samples, [row for row in range(len(paths)) if row not in without]


def _check_there(paths: Sequence[Path], place: Path) -> None:
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise DataError(
            f"{place} names {counted(len(missing), 'file')} that {'does' if len(missing) == 1 else 'do'} not exist: "
            f"{first_few(missing, EXAMPLES)}; put them there, or save the data set again with its images inside"
        )


def _told(samples: Samples, table: Table, schema: Schema, image: str, columns: Columns) -> Samples:
    """With labels, groups, splits by a column, and further columns."""
    labels = _labels(table, schema, columns)
    split, group = chosen_column(table, columns.split, "split"), chosen_column(table, columns.group, "group")
    kept = kept_columns(table, columns)
    shown = Table(table.source, [image, *table.names], table.n_rows, table.texts)
    line = columns_line(shown, {"image": image, "split": split, "group": group} | kept, labels)
    nothing = samples.groups
    return replace(
        samples,
        labels=labels.texts if labels else nothing,
        groups=table.texts(group) if group else nothing,
        splits=[canonical_split(text) if text else MISSING for text in table.texts(split)] if split else nothing,
        given=frozenset(name for name, told in {"label": labels, "split": split, "group": group}.items() if told),
        kept={name: table.texts(column) for name, column in kept.items()},
        findings=labels.findings if labels else (),
        remarks=(*samples.remarks, line, *(labels.remarks if labels else ())),
    )


def _labels(table: Table, schema: Schema, columns: Columns) -> Labels | None:
    """The labels: of the column that is named, else `label`, else `labels`, else the only one of classes."""
    given = columns.label
    if given is None and "label" not in table.names:
        given = "labels" if "labels" in table.names else next(iter(schema.classes()), None)
        given = given if given == "labels" or len(schema.classes()) == 1 else None
    if isinstance(given, str) and given in table.names and schema.is_list(given):
        texts = table.texts(given)
        order = {name: at for at, name in enumerate(schema.class_names(given))}
        found = names_in(texts) | set(order)
        return Labels(texts, (given,), tuple(sorted(found, key=lambda name: (order.get(name, -1), natural_key(name)))))
    if given is None and "label" in table.names and schema.is_list("label"):
        return _labels(table, schema, replace(columns, label="label"))
    return read_labels(table, replace(columns, label=given))


def _texts(place: Path, shards: Sequence[Shard], name: str) -> list[str]:
    found: list[str] = []
    for shard in shards:
        found += texts_of(shard.column(name), name, shard.schema, place)
    return found


def _splits(shards: Sequence[Shard]) -> list[str]:
    """Of each shard, where there is more than one split; else nothing, for all images lie in it.

    Raises:
        DataError: if one has no known name.
    """
    said = list(dict.fromkeys(shard.split for shard in shards))
    if len(said) < 2:
        return []
    try:
        return [canonical_split(shard.split) for shard in shards]
    except DataError as error:
        raise DataError(f"{error}; the data set has {some_of(said)}: name one folder or file of it instead") from error
