"""Webdataset's layout of tar archives: files of one key are one sample, and the ending of each says what it holds.

A key is the name up to the first dot behind the last slash. Of a sample are read its images, `.cls` (a class), `.txt`
and the keys of `.json`.

Source: the format's description, https://github.com/webdataset/webdataset, "The WebDataset Format".
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dvme.data.columns import Columns, Labels, chosen_column, kept_columns, read_labels
from dvme.data.folder import listed_samples, names_below, passed_over
from dvme.data.listing import Listing, is_image_name
from dvme.data.manifest import columns_used, splits_of, without_label
from dvme.data.samples import MISSING, Samples
from dvme.data.sources import opened
from dvme.data.sources.entries import Entries
from dvme.data.tables import Table
from dvme.errors import DataError, parameter
from dvme.text import counted, first_few, some_of

if TYPE_CHECKING:
    from dvme.data.sources.tar_index import Stored

CLASS, TEXT, JSON = "cls", "txt", "json"
FIELDS = (CLASS, TEXT, JSON)
"""Endings of what is read beside an image."""


@dataclass
class _Told:
    """What the samples tell, by column, a value for each of N images."""

    place: Path
    n_rows: int = 0
    columns: dict[str, list[str]] = field(default_factory=dict)
    nested: dict[str, str] = field(default_factory=dict)
    """Column to a member in which it has a list or more of its own."""
    bare: list[str] = field(default_factory=list)
    """Members that hold JSON without keys."""

    def add(self, values: Mapping[str, str]) -> None:
        """Add an image."""
        for name, value in values.items():
            if name not in self.columns:
                self.columns[name] = [MISSING] * self.n_rows
            self.columns[name].append(value)
        self.n_rows += 1
        for column in self.columns.values():
            if len(column) < self.n_rows:
                column.append(MISSING)

    def table(self) -> Table:
        """All of it as a manifest's table."""
        return Table(self.place, list(self.columns), self.n_rows, self._texts)

    def _texts(self, name: str) -> list[str]:
        if name in self.nested:
            raise DataError(
                f"{name!r} is a list, or has parts, in {self.nested[name]}, which is no text; choose another"
            )
        return self.columns[name]


@dataclass(frozen=True)
class _Images:
    """Of N images, where they lie and of which sample they are."""

    listing: Listing
    keys: list[str]
    """With the archive before it where two archives have the same."""
    told: _Told


def split_name(name: str) -> tuple[str, str]:
    """The key of a member, and its ending without the first dot."""
    folder, slash, base = name.rpartition("/")
    key, _, ending = base.partition(".")
    return folder + slash + key, ending


def are_webdataset(contents: Iterable[Entries[Stored]], columns: Columns) -> bool:
    """Whether archives are laid out so: with a file of labels beside an image, or, of images in no folder, a text.

    Where columns are named, a text beside an image in a folder does as well.
    """
    is_asked = any((columns.label, columns.group, columns.split, columns.keep, columns.image))
    for entries in contents:
        images = {split_name(name)[0] for name in entries.places if is_image_name(name)}
        takes_text = is_asked or not any("/" in image for image in images)
        telling = {CLASS, JSON, TEXT} if takes_text else {CLASS, JSON}
        split = map(split_name, entries.places)
        if any(ending.lower() in telling and key in images for key, ending in split):
            return True
    return False


def webdataset_samples(
    place: Path, contents: Mapping[Path, Entries[Stored]], columns: Columns, *, images_only: bool
) -> Samples:
    """The images of archives in this layout; several of one sample are a row each, and a group together.

    Args:
        place: the archive, or the folder of all of them.
        contents: what each archive holds.
        columns: fields, or keys of the JSON, in the place of a manifest's columns; `image`: the ending of the images.
        images_only: no field is read.

    Raises:
        DataError: if there is no image, or a field is not there or cannot be read.
    """
    base = place if place.is_dir() else place.parent
    found = _images(place, contents, columns.image, images_only=images_only)
    files, n = found.listing.files, len(found.listing.files)
    if not files:
        return listed_samples(place, found.listing)  # says what there is instead
    samples = Samples(
        paths=files,
        ids=names_below(base, files),
        labels=[MISSING] * n,
        splits=[MISSING] * n,
        groups=[MISSING] * n,
        given=frozenset(),
        remarks=tuple(passed_over(found.listing)),
    )
    return samples if images_only else _with_fields(samples, found, columns)


def _with_fields(samples: Samples, found: _Images, columns: Columns) -> Samples:
    """With labels, groups, splits and further columns."""
    table = found.told.table()
    if columns.label is None and CLASS in table.names:
        labels: Labels | None = Labels(table.texts(CLASS), (CLASS,))
    else:
        labels = read_labels(table, columns)
    chosen = {name: chosen_column(table, getattr(columns, name), name) for name in ("split", "group")}
    kept = kept_columns(table, columns)
    used = {name: column for name, column in chosen.items() if column is not None}
    groups, remarks = [MISSING] * len(samples), list(samples.remarks)
    several = Counter(found.keys).most_common(1)[0][1]
    if "group" in used:
        groups = table.texts(used["group"])
    elif several > 1:
        groups = found.keys
        endings = sorted({split_name(name)[1] for name in samples.ids})
        said = (
            f"samples of up to {several} images ({first_few(endings)}): each is a row, and a sample is a group; name "
        )
        remarks.append(said + "one with " + parameter("image"))
    remarks += _fields_lines(found.told, labels, used | kept)
    texts = table.texts(used["split"]) if "split" in used else []
    return replace(
        samples,
        labels=samples.labels if labels is None else labels.texts,
        splits=splits_of(texts, used["split"], found.told.place) if texts else samples.splits,
        groups=groups,
        given=frozenset(used)
        | ({"label"} if labels is not None else set())
        | ({"group"} if groups is found.keys else set()),
        kept={name: table.texts(column) for name, column in kept.items()},
        findings=() if labels is None else labels.findings,
        remarks=tuple(remarks),
    )


def _fields_lines(told: _Told, labels: Labels | None, used: Mapping[str, str]) -> list[str]:
    """Which fields are used, and what is odd."""
    lines: list[str] = []
    of_labels = () if labels is None else labels.columns
    shown = ({"label": some_of(of_labels)} if of_labels else {}) | dict(used)
    others = [name for name in told.columns if name not in {*of_labels, *used.values()}]
    rest = f"not used: {some_of(others)}" if others else ""
    if shown or rest:
        lines.append("; ".join(filter(None, [columns_used(told.place, shown) if shown else "", rest])))
    if labels is None:
        lines += without_label(told.table(), [*used.values(), *told.nested])
    else:
        lines += labels.remarks
    if told.bare:
        lines.append(f"{counted(len(told.bare), '.json file')} without keys, passed over (such as {told.bare[0]})")
    return lines


def _images(place: Path, contents: Mapping[Path, Entries[Stored]], wanted: str | None, *, images_only: bool) -> _Images:
    """List the images of all archives, and read what lies beside them."""
    found, told, keys = Listing(), _Told(place), list[tuple[Path, str]]()
    for shard, entries in contents.items():
        listing, own = Listing(), list[str]()
        entries.list_into(listing, shard)
        for path, name in zip(listing.files, names_below(shard, listing.files), strict=True):
            key, ending = split_name(name)
            if wanted is None or _is_called(ending, wanted):
                found.files.append(path)
                own.append(key)
            else:
                found.others.append((name, f"image .{ending}"))
        fields = _fields(set(own), listing)
        found.others += [other for other in listing.others if other[0] not in fields]
        found.side.update(listing.side)
        found.hidden += listing.hidden
        found.directories += listing.directories
        keys += [(shard, key) for key in own]
        if not images_only:
            _read_fields(told, shard, own, fields)
    if wanted is not None and not found.files and found.others:
        endings = sorted({kind.removeprefix("image .") for _, kind in found.others if kind.startswith("image .")})
        message = f"{place} has no image that ends in {wanted!r}; it has: {first_few(endings)}; choose one with "
        raise DataError(message + parameter("image"))
    distinct = set(keys)
    are_unique = len({key for _, key in distinct}) == len(distinct)
    return _Images(found, [key if are_unique else f"{shard.name}/{key}" for shard, key in keys], told)


def _is_called(ending: str, wanted: str) -> bool:
    """Whether `left.png` is meant by left.png, left or png."""
    parts = ending.lower().split(".")
    return wanted.lower().lstrip(".") in {".".join(parts), ".".join(parts[:-1]), parts[-1]}


def _fields(keys: set[str], listing: Listing) -> dict[str, tuple[str, str]]:
    """Member to key and field of what is read beside the images of some keys."""
    split = {name: split_name(name) for name, _ in listing.others}
    return {name: (key, end.lower()) for name, (key, end) in split.items() if key in keys and end.lower() in FIELDS}


def _read_fields(told: _Told, shard: Path, keys: Sequence[str], fields: Mapping[str, tuple[str, str]]) -> None:
    """Read an archive's fields, and add a row for each key."""
    values: dict[str, dict[str, str]] = {key: {} for key in keys}
    with opened(shard) as members:
        for name, (key, kind) in fields.items():
            where = f"{shard.name}/{name}"
            try:
                text = members.read(name).data.decode("utf-8-sig").strip()
                values[key].update({kind: text} if kind != JSON else _values(json.loads(text), told, where))
            except (OSError, ValueError, RecursionError) as error:
                raise DataError(f"{where} cannot be read: {error}; mend it, and pack the archive again") from error
    for key in keys:
        told.add(values[key])


def _values(found: Any, told: _Told, where: str) -> dict[str, str]:
    """The keys of a JSON object with their values as text."""
    if not isinstance(found, dict):
        told.bare.append(where)
        return {}
    told.nested |= {name: where for name, value in found.items() if isinstance(value, dict | list)}
    return {name: _text(value) for name, value in found.items()}


def _text(value: Any) -> str:
    """As `dvme.data.cells` writes it."""
    if value is None or isinstance(value, dict | list) or (isinstance(value, float) and math.isnan(value)):
        return MISSING
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
