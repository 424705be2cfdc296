"""What arrays of images tell: which array is the images, and which has their labels, splits and groups."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data.cells import as_texts
from dvme.data.columns import Columns, Labels, chosen_column, kept_columns, read_labels
from dvme.data.findings import from_columns
from dvme.data.samples import MISSING, SPLIT_NAMES, Samples, canonical_split
from dvme.data.sources.arrays.medmnist import MedMnist
from dvme.data.sources.arrays.pictures import form_of, is_like_images
from dvme.data.sources.arrays.rows import addresses
from dvme.data.tables import Table, find_column
from dvme.errors import DataError, parameter
from dvme.text import CHOICES, counted, first_few, some_of

SPLIT = "|".join(sorted(SPLIT_NAMES, key=len, reverse=True))
ROLE = re.compile(rf"(?:(?P<before>{SPLIT})_?)?(?P<word>images?|imgs?|x)(?:_?(?P<after>{SPLIT}))?", re.IGNORECASE)
"""The name of an array of images: `x`, `images`, `train_images`, `x_train`."""
LABELS = {"x": ("y", "labels", "label"), "": ("labels", "label", "y")}
"""What the labels beside an array of images are called: as for `x`, and for others."""

_IMAGE, _LABEL = parameter("image"), parameter("label")
_PLAIN = "save it again as an array of numbers"


@dataclass(frozen=True)
class Array:
    """An array of a file, before it is read."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    flaw: str = ""
    """Why its rows cannot be read, and the next step, whatever its shape and type."""

    def __str__(self) -> str:
        return f"{'x'.join(map(str, self.shape)) or 'one value'} {self.dtype}"


@dataclass(frozen=True)
class ArrayFile:
    """A file of arrays."""

    path: Path
    arrays: Mapping[str, Array]
    read: Callable[[str], NDArray[Any]]
    """A small array, whole. DataError if it cannot be read."""
    beside: Mapping[str, Callable[[], list[str]]]
    """Columns that other files have of the same rows, by name."""
    split: str = MISSING
    """That the file's name tells, of all its images."""
    group: str = MISSING
    """The column that is taken where the user names none and there is no `group`."""
    meaning: MedMnist | None = None
    """What the numbers of its labels stand for."""


def array_samples(file: ArrayFile, columns: Columns, *, images_only: bool) -> Samples:
    """The images of a file of arrays.

    Raises:
        DataError: if there are none, or nobody can tell which array they are.
    """
    parts = [_part(file, name, columns, images_only=images_only) for name in _images_of(file, columns.image)]
    samples = together(parts)
    if file.meaning is None or images_only:
        return samples
    task = f"{file.path.name} is of MedMNIST: {file.meaning.task}, {_count(file.meaning)}"
    further = [f"{file.meaning.remark}"] if file.meaning.remark else []
    order = file.meaning.names if file.meaning.is_ordinal else ()
    known = set(samples.labels) <= {MISSING, *order}
    return replace(samples, remarks=(*samples.remarks, task, *further), class_order=order if known else ())


def together(parts: Sequence[Samples]) -> Samples:
    """Images of several arrays, one after the other; a line that several say is said once."""
    if len(parts) == 1:
        return parts[0]
    return Samples(
        paths=[path for part in parts for path in part.paths],
        ids=[name for part in parts for name in part.ids],
        labels=[label for part in parts for label in part.labels],
        splits=[split for part in parts for split in part.splits],
        groups=[group for part in parts for group in part.groups],
        given=frozenset().union(*(part.given for part in parts)),
        kept={name: [value for part in parts for value in part.kept[name]] for name in parts[0].kept},
        findings=tuple(dict.fromkeys(name for part in parts for name in part.findings)),
        remarks=tuple(dict.fromkeys(line for part in parts for line in part.remarks)),
    )


def _images_of(file: ArrayFile, given: str | None) -> list[str]:
    """The names of the arrays of images, one for each split at most.

    Raises:
        DataError: if there are none, or several of which none is called so.
    """
    wanted = None if given is None else find_column(list(file.arrays), given, file.path)
    if given is not None and wanted is None:
        raise DataError(f"{file.path} has no array {given!r}; it has: {_held(file)}; choose one with " + _IMAGE)
    likely = [name for name, array in file.arrays.items() if is_like_images(array.shape, array.dtype)]
    named = [name for name in file.arrays if _role(name) and (name in likely or file.arrays[name].dtype.hasobject)]
    found = [wanted] if wanted is not None else named or likely
    if not found:
        raise DataError(_without_images(file))
    splits = [_split_of(name) for name in found]
    if len(set(splits)) < len(found):
        several = first_few(found, CHOICES)
        raise DataError(f"{file.path} has several arrays of images: {several}; choose one with " + _IMAGE)
    for name in found:
        array = file.arrays[name]
        if array.dtype.hasobject:
            raise DataError(f"{file.path}: array {name!r} holds Python objects, which are never unpickled; {_PLAIN}")
        try:
            form_of(array.shape, array.dtype)
        except ValueError as error:
            raise DataError(f"{file.path}: array {name!r} {error}") from error
        if array.flaw:
            raise DataError(f"{file.path}: array {name!r} {array.flaw}")
    return found


def _role(name: str) -> re.Match[str] | None:
    return ROLE.fullmatch(name.rpartition("/")[2])


def _split_of(name: str) -> str:
    """What the name of an array says of the split of its images; "" for nothing."""
    match = _role(name)
    said = (match["before"] or match["after"]) if match else None
    return canonical_split(said) if said else MISSING


def _without_images(file: ArrayFile) -> str:
    if any(array.dtype.kind == "f" and len(array.shape) == 2 for array in file.arrays.values()):
        return f"{file.path} holds embeddings, no images; dvme cache import {file.path} NAME.zarr makes a cache of them"
    if any(array.dtype.hasobject for array in file.arrays.values()):
        return f"{file.path} holds Python objects, which are never unpickled; {_PLAIN}"
    wanted = "arrays (N, height, width) or (N, height, width, 3)"
    return f"{file.path} holds no images, which are {wanted}; it has: {_held(file)}"


def _held(file: ArrayFile) -> str:
    return first_few([f"{name} ({array})" for name, array in file.arrays.items()], CHOICES) or "nothing"


def _part(file: ArrayFile, name: str, columns: Columns, *, images_only: bool) -> Samples:
    """The images of one array."""
    n_rows = file.arrays[name].shape[0]
    paths = addresses(file.path, name, n_rows)
    nothing = [MISSING] * n_rows
    samples = Samples(
        paths=paths,
        ids=[f"{name}/{path.name}" for path in paths],
        labels=nothing,
        splits=nothing,
        groups=nothing,
        given=frozenset(),
    )
    if images_only:
        return samples
    table = _table(file, name, n_rows)
    labels = _labels(file, name, table, columns)
    split, group = _split_of(name) or file.split, chosen_column(table, columns.group, "group")
    group = group or (find_column(table.names, file.group, table.source) if file.group else None)
    by_column = None if split else chosen_column(table, columns.split, "split")
    kept = kept_columns(table, columns)
    used = {"image": name, "label": labels.columns[0] if labels and labels.columns else None}
    used |= {"group": group, "split": by_column}
    shown = ", ".join(f"{what} = {column!r}" for what, column in {**used, **kept}.items() if column is not None)
    return replace(
        samples,
        labels=labels.texts if labels else nothing,
        splits=_splits(table, by_column) if by_column else [split] * n_rows,
        groups=table.texts(group) if group else nothing,
        given=frozenset(
            what for what, told in {"label": labels, "split": split or by_column, "group": group}.items() if told
        ),
        kept={name: table.texts(column) for name, column in kept.items()},
        findings=labels.findings if labels else (),
        remarks=(f"arrays used of {file.path.name}: {shown}", *(labels.remarks if labels else ())),
    )


def _table(file: ArrayFile, images: str, n_rows: int) -> Table:
    """Everything that has one value for each image, as columns of text."""
    import pyarrow as pa

    flat = [
        name
        for name, array in file.arrays.items()
        if name != images and array.shape[:1] == (n_rows,) and set(array.shape[1:]) <= {1}
    ]

    def texts(name: str) -> list[str]:
        if name in file.beside:
            return file.beside[name]()
        values = file.read(name).reshape(n_rows)
        return as_texts(pa.chunked_array([pa.array(values.tolist() if values.dtype.kind in "OUS" else values)]), name)

    return Table(file.path, [*flat, *(name for name in file.beside if name not in flat)], n_rows, texts)


def _labels(file: ArrayFile, images: str, table: Table, columns: Columns) -> Labels | None:
    """The labels: as asked, else of the array that is called so.

    Raises:
        DataError: if there are more or fewer than images, or they cannot be read.
    """
    if columns.label is not None:
        return read_labels(table, columns)
    name = _partner(images, file.arrays)
    if name is None:
        told = read_labels(table, columns)
        return told and replace(told, texts=_named(told.texts, file.meaning))
    n_rows, array = table.n_rows, file.arrays[name]
    if array.shape[:1] != (n_rows,):
        has = counted(array.shape[0] if array.shape else 1, "label")
        raise DataError(
            f"{file.path} has {counted(n_rows, 'image')} in {images!r} and {has} in {name!r}; load it again"
        )
    if name in table.names:
        texts = table.texts(name)
        named = _named(texts, file.meaning)
        odd = file.meaning is not None and named is texts
        line = f"some labels in {name!r} are none of the {_count(file.meaning)}, so that all stay numbers"
        return Labels(named, (name,), (), (line,) if odd else ())
    if len(array.shape) != 2:
        raise DataError(f"{file.path}: array {name!r} of {array} is no label for each image; choose one with " + _LABEL)
    return _findings(file, name)


def _partner(images: str, arrays: Mapping[str, Array]) -> str | None:
    """The array of labels that is called as an array of images is."""
    match = _role(images)
    if match is None:
        return next((name for name in arrays if name in LABELS[""]), None)
    word, (start, end) = match["word"], match.span("word")
    folder = images[: len(images) - len(match.string)]
    known = {name.casefold(): name for name in arrays}
    for label in LABELS["x" if word.casefold() == "x" else ""]:
        wanted = f"{folder}{match.string[:start]}{label}{match.string[end:]}"
        if wanted.casefold() in known:
            return known[wanted.casefold()]
    return None


def _named(texts: list[str], meaning: MedMnist | None) -> list[str]:
    """The names of classes in place of their numbers; the same list where some number has none."""
    if meaning is None:
        return texts
    names = {str(number): name for number, name in enumerate(meaning.names)}
    return [names[text] for text in texts] if set(texts) <= names.keys() else texts


def _findings(file: ArrayFile, name: str) -> Labels:
    """Labels with a column for each finding."""
    values = file.read(name)
    n_findings = values.shape[1]
    meant = file.meaning.names if file.meaning is not None else ()
    names = meant if len(meant) == n_findings else [str(number) for number in range(n_findings)]
    cells = {each: [f"{value:g}" for value in column.tolist()] for each, column in zip(names, values.T, strict=True)}
    found = from_columns(cells, "", f"{file.path}, array {name!r}")
    said = f"labels of {n_findings} columns are read as that many findings: {some_of(found.names)}"
    return Labels(found.texts, (name,), found.names, (said, *found.remarks))


def _count(meaning: MedMnist | None) -> str:
    names = meaning.names if meaning is not None else ()
    findings = meaning is not None and meaning.task.startswith("multi-label")
    return f"{len(names)} findings" if findings else f"{len(names)} classes"


def _splits(table: Table, column: str) -> list[str]:
    try:
        return [canonical_split(text) if text else MISSING for text in table.texts(column)]
    except DataError as error:
        raise DataError(f"array {column!r} of {table.source}: {error}, or leave it out") from error
