"""From what a publisher says to a manifest, whatever the set."""

from __future__ import annotations

import csv
import inspect
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from dvme.arguments import public
from dvme.data.findings import OF, names_in, parts_of
from dvme.data.natural import natural_key
from dvme.data.samples import MISSING
from dvme.errors import DataError, OptionError, parameter
from dvme.files import check_destination, written_aside
from dvme.sets.catalogue import PublicSet, set_of
from dvme.sets.unpacked import Unpacked
from dvme.shown.result import Shown, some_lines
from dvme.text import counted, first_few, some_of


@dataclass(frozen=True, kw_only=True)
class Published:
    """What a publisher says of N images."""

    images: Sequence[str | None]
    """(N,) where each is below the folder, see `Unpacked.find`; None for one that is not there."""
    columns: Mapping[str, Sequence[str]]
    """(N,) texts each: label; split and group, if they are known; then further ones, such as view, sex, age."""
    remarks: Sequence[str] = ()
    """What was met in the tables, a line each, with a count."""
    files: Mapping[str, Sequence[str | None]] = field(default_factory=dict)
    """(N,) each, where files beside the image are, such as its masks; None for one that is not there."""
    beside: Collection[str] = ()
    """Pictures that are no rows, of which the remarks tell."""
    narrower: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `PublicSet` as they are for this download, of a set that has several."""

    def only(self, rows: Sequence[int]) -> Published:
        """Some of the images."""
        columns = {name: [values[row] for row in rows] for name, values in self.columns.items()}
        files = {name: [places[row] for row in rows] for name, places in self.files.items()}
        return replace(self, images=[self.images[row] for row in rows], columns=columns, files=files)

    def used(self) -> set[str | None]:
        """Every place that these know of."""
        return {*self.images, *self.beside}.union(*self.files.values())


@dataclass(frozen=True, kw_only=True, repr=False)
class BuiltManifest(Shown):
    """The outcome of `dvme data SET`; `to_frame()` is the manifest, a row for each image."""

    set: PublicSet
    columns: Mapping[str, Sequence[str]]
    """(N,) texts each: image, label, then those of `Published`."""
    n_listed: int
    """Images that the publisher's tables have."""
    remarks: tuple[str, ...]
    """One line for every trap that was met."""
    path: str | None = None
    """Where it was written."""
    classes: Mapping[str, int] = field(default_factory=dict)
    """Finding or class to how many images have it."""
    splits: Mapping[str, int] = field(default_factory=dict)
    """Part of the official split to its number of images; {} where there is none."""
    n_groups: int = 0
    """Patients, or what else must not be on both sides of a split."""

    def __len__(self) -> int:
        return len(self.columns["image"])

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return {
            "set": self.set.to_json(),
            "path": self.path,
            "n_images": len(self),
            "n_listed": self.n_listed,
            "n_groups": self.n_groups,
            "splits": dict(self.splits),
            "classes": dict(self.classes),
            "columns": list(self.columns),
            "remarks": list(self.remarks),
        }

    def _lines(self) -> list[str]:
        classes = some_of([f"{name} ({count:,})" for name, count in self.classes.items()])
        first = f"{self.set.name}: {counted(len(self), 'image')}, {self.n_listed:,} in the publisher's tables"
        return [first, *([f"written to {self.path}"] if self.path else []), classes, *some_lines(self.remarks)]

    def _records(self) -> list[dict[str, Any]]:
        return [dict(zip(self.columns, row, strict=True)) for row in zip(*self.columns.values(), strict=True)]


@public
def public_set(
    name: str,
    folder: str | Path,
    out: str | Path | None = None,
    *,
    views: Sequence[str] | None = None,
    labels: str | None = None,
    readers: str | None = None,
    edition: str | None = None,
    force: bool = False,
) -> BuiltManifest:
    """Make a manifest of a public set from its download as it was unpacked.

    Pictures that are not there are left out and counted: a set may be unpacked in part.

    Args:
        name: of the set, see `public_sets`.
        folder: where it was unpacked, in whatever folders below.
        out: the .csv file to write, from whose folder the images' paths start; None: nothing is written, and they start
            from `folder`.
        views: keep images of these views only, as the publisher names them; of sets that tell the view.
        labels: which of the publisher's labels, see `padchest`.
        readers: how several readers become one label, see `vindr`.
        edition: which of several that lie there, see `isic` and `medmnist`.
        force: replace the file that is there.

    Raises:
        UnknownNameError: if there is no such set.
        DataError: if its tables or all of its pictures are not there, or a table is another one.
        OptionError: if the file cannot be written there, or the set has no such option, view or policy.

    Example:
        >>> built = dvme.public_set("aptos", "aptos2019", "aptos.csv")
        >>> built.classes
        {'0': 2, '2': 1}
    """
    described = set_of(name)
    published = import_module(f"dvme.sets.{name.replace('-', '_')}").published
    options = {
        "labels": (labels, parameter("labels")),
        "readers": (readers, parameter("readers")),
        "edition": (edition, parameter("edition")),
    }
    given = {option: value for option, (value, _) in options.items() if value is not None}
    for option in given.keys() - inspect.signature(published).parameters.keys():
        raise OptionError(f"the set {name} has no choice of " + options[option][1] + "; leave it out")
    place = None if out is None else check_destination(out, (".csv",), force=force)
    unpacked = Unpacked(folder)
    found = published(unpacked, **given)
    described, n_listed = replace(described, **found.narrower), len(found.images)
    n_stray = len({*unpacked.pictures} - found.used())
    if n_stray:
        unpacked.remarks.append(f"{counted(n_stray, 'picture')} left out, for no table names them")
    if views is not None:
        found = _viewed(name, found, views)
    built = _built(described, unpacked, found, n_listed, unpacked.root if place is None else place.parent)
    if place is not None:
        _write(built.columns, place)
    return replace(built, path=None if place is None else os.fspath(place))


def _viewed(name: str, published: Published, wanted: Sequence[str]) -> Published:
    """The images of some views, whatever the capitals.

    Raises:
        OptionError: if the set does not tell views, or has none of a name.
    """
    views = published.columns.get("view")
    if views is None:
        raise OptionError(f"the set {name} does not tell the views of its images; leave out " + parameter("views"))
    counts, folded = Counter(views), {view.casefold() for view in wanted}
    stray = [view for view in wanted if view.casefold() not in {each.casefold() for each in counts}]
    if stray:
        there = ", ".join(f"{view or '(none)'} ({count:,})" for view, count in counts.most_common())
        raise OptionError(f"no image has the view {first_few(map(repr, stray))}; there are {there}; pass one of them")
    rows = [row for row, view in enumerate(views) if view.casefold() in folded]
    others = ", ".join(f"{view or '(none)'} {n:,}" for view, n in counts.most_common() if view.casefold() not in folded)
    line = f"{counted(len(views) - len(rows), 'image')} of other views left out: {others or 'none'}"
    return replace(published.only(rows), remarks=(*published.remarks, line))


def _built(
    described: PublicSet, unpacked: Unpacked, published: Published, n_listed: int, beside: Path
) -> BuiltManifest:
    """The rows whose pictures are there, their paths relative to a folder, and all that is to be said."""
    first = {place: row for row, place in reversed([*enumerate(published.images)]) if place is not None}
    there, n_wanted = sorted(first.values()), len(published.images)
    if not there:
        archives = unpacked.archives
        step = f"unpack {first_few(archives)}" if archives else "name the folder into which they were unpacked"
        raise DataError(f"none of the {n_wanted:,} pictures of {described.title} is below {unpacked.root}; {step}")
    n_gone = published.images.count(None)
    n_again = n_wanted - n_gone - len(there)
    repeated = [f"{counted(n_again, 'row')} of a picture that has one already, left out"] if n_again else []
    kept = published.only(there)
    start = Path(os.path.relpath(os.path.realpath(unpacked.root), os.path.realpath(beside))).as_posix()
    from_here = "" if start == "." else f"{start}/"
    paths = {
        name: [f"{from_here}{place}" if place else MISSING for place in places]
        for name, places in {"image": kept.images, **kept.files}.items()
    }
    columns = {"image": paths.pop("image"), **kept.columns, **paths}
    return BuiltManifest(
        set=described,
        columns=columns,
        n_listed=n_listed,
        remarks=(*published.remarks, *unpacked.remarks, *repeated, *_remarks(described, unpacked, columns, n_gone)),
        classes=_counts(kept.columns["label"]),
        splits=dict(Counter(split for split in columns.get("split", ()) if split)),
        n_groups=len({*columns.get("group", ())} - {MISSING}),
    )


def _remarks(described: PublicSet, unpacked: Unpacked, columns: Mapping[str, Sequence[str]], n_gone: int) -> list[str]:
    """What is worth knowing of any set: what is not there, and the ways in which a test set leaks."""
    n = len(columns["image"])
    splits, groups = columns.get("split", [MISSING] * n), columns.get("group", [MISSING] * n)
    lines = []
    if n_gone:
        archives = unpacked.archives
        step = f"; {counted(len(archives), 'archive')} not unpacked: {first_few(archives)}" if archives else ""
        lines.append(f"{counted(n_gone, 'picture')} not there, and left out{step}")
    if n_without := columns["label"].count(MISSING):
        lines.append(f"{counted(n_without, 'image')} without a label")
    if any(splits) and MISSING in splits:
        lines.append(f"{counted(splits.count(MISSING), 'image')} in no part of the official split")
    if MISSING in groups:
        what = "a patient: images of one patient may be on both sides of a split"
        lines.append(f"{counted(groups.count(MISSING), 'image')} without {what}")
    sides = defaultdict[str, set[str]](set)
    for group, split in zip(groups, splits, strict=True):
        sides[group].add(split)
    if n_both := sum(len(sides[group] - {MISSING}) > 1 for group in sides.keys() - {MISSING}):
        lines.append(f"{counted(n_both, 'patient')} in more than one part of the official split, which dvme refuses")
    if described.shares_with:
        lines.append(f"shares pictures with {some_of(described.shares_with)}: these are no external test of each other")
    return lines


def _counts(labels: Sequence[str]) -> dict[str, int]:
    """Finding or class to how many images have it, in natural order."""
    have = Counter[str]()
    for label, count in Counter(labels).items():
        parts = parts_of(label)
        own = [label] if parts is None and label else [part for part in parts or () if OF not in part]
        have.update(dict.fromkeys(own, count))
    return {name: have[name] for name in sorted(names_in(labels), key=natural_key)}


def _write(columns: Mapping[str, Sequence[str]], place: Path) -> None:
    with written_aside(place) as aside, aside.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(columns)
        rows.writerows(zip(*columns.values(), strict=True))
