"""What building a manifest takes, whatever the set: its pictures, found by name, its tables, and the file itself."""

from __future__ import annotations

import csv
import inspect
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cached_property
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any

from dvme.arguments import public
from dvme.data.findings import names_in, tells_findings
from dvme.data.listing import list_images
from dvme.data.samples import MISSING, NOTHING, unlisted_line
from dvme.data.tables import Table, read_table
from dvme.errors import DataError, OptionError, parameter
from dvme.files import check_destination, written_aside
from dvme.sets.catalogue import PublicSet, set_of
from dvme.text import counted, first_few, some_of

PACKED = (".gz", ".tgz", ".tar", ".zip")
"""Suffixes of archives, in which no picture is looked for."""


class Unpacked:
    """A download as it was unpacked: every file below a folder, listed once."""

    def __init__(self, root: str | Path) -> None:
        """List it.

        Raises:
            DataError: if it is no folder.
        """
        self.root = Path(root)
        if not self.root.is_dir():
            raise DataError(f"{self.root} is not a folder; name the one into which the set was unpacked")
        self._listing = list_images(self.root)
        self.remarks: list[str] = []
        """What finding and reading met, a line each."""

    @cached_property
    def places(self) -> list[str]:
        """Of all files, relative to the folder, with slashes, sorted; images first."""
        images = [path.relative_to(self.root).as_posix() for path in self._listing.files]
        return images + sorted(place for place, _ in self._listing.others)

    @property
    def unlisted(self) -> Mapping[str, str]:
        """Folders that could not be listed, and why."""
        return self._listing.unlisted

    def table_place(self, *names: str) -> str | None:
        """The first of these files that is there, also as `.gz`; a name may be a pattern.

        Raises:
            DataError: if there is more than one of a name.
        """
        for name in names:
            found = [each for each in self.places if fnmatch(PurePosixPath(each).name.removesuffix(".gz"), name)]
            if len(found) > 1:
                raise DataError(f"{self.root} has more than one {name}: {first_few(found)}; keep the one that counts")
            if found:
                return found[0]
        return None

    def table(self, *names: str, needed: Sequence[str] = ()) -> Table:
        """Read the first of these tables that is there.

        Args:
            names: of the file, or patterns.
            needed: columns without which it is another table.

        Raises:
            DataError: if none is there, it cannot be read, or lacks a column.
        """
        place = self.table_place(*names)
        if place is None:
            raise DataError(f"{self.root} has no {' or '.join(names)}, which the publisher has beside the pictures")
        table = read_table(self.root / place)
        lacking = [name for name in needed if name not in table.names]
        if lacking:
            raise DataError(
                f"{table.source} has no column {first_few(map(repr, lacking))}; it is no table of this set, or one of "
                f"another version; its columns are {some_of([name or '(without a name)' for name in table.names])}"
            )
        return table

    def find(self, names: Sequence[str]) -> list[str | None]:
        """(N,) where each picture is below the folder, None for one that is not there.

        A picture is looked for by the end of its path, in as many parts as its name has, and by its stem: it may have
        been unpacked anywhere, and converted to another format.

        Args:
            names: as the publisher's table has them, with slashes, with or without a suffix; all of as many parts.
        """
        n_parts = max((name.count("/") for name in names), default=0) + 1
        by_stem = defaultdict[str, list[str]](list)
        for place in self.places:
            end = "/".join(place.split("/")[-n_parts:])
            by_stem[_stem(end)].append(place)
        found: list[str | None] = []
        others, twice = Counter[str](), list[list[str]]()
        for name in names:
            held = by_stem.get(name) or by_stem.get(_stem(name)) or []
            same = [place for place in held if place.endswith(name)] or held
            found.append(same[0] if same else None)
            if same and _stem(name) != name and not same[0].endswith(name):
                others[PurePosixPath(same[0]).suffix] += 1
            if len(same) > 1:
                twice.append(same)
        for suffix, count in sorted(others.items()):
            self.remarks.append(f"{counted(count, 'picture')} found as {suffix}, which is not the publisher's format")
        if twice:
            self.remarks.append(
                f"{counted(len(twice), 'picture')} found in more than one place, the first is used: "
                f"{first_few(twice[0], 2)}"
            )
        return found


@dataclass(frozen=True, kw_only=True)
class Published:
    """What a publisher says of N images."""

    images: Sequence[str | None]
    """(N,) where each is below the folder, see `Unpacked.find`; None for one that is not there."""
    columns: Mapping[str, Sequence[str]]
    """(N,) texts each: label, split, group, then further ones."""
    remarks: Sequence[str] = ()
    """What was met in the tables, a line each, with a count."""


@dataclass(frozen=True)
class BuiltManifest:
    """The outcome of `dvme data SET`."""

    set: PublicSet
    columns: Mapping[str, list[str]]
    """(N,) texts each: image, label, split, group, then further ones."""
    n_listed: int
    """Images that the publisher's table has."""
    remarks: tuple[str, ...]
    """One line for every trap that was met."""
    path: str | None = None
    """Where it was written."""
    findings: Mapping[str, int] = field(default_factory=dict)
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
            "findings": dict(self.findings),
            "columns": list(self.columns),
            "remarks": list(self.remarks),
        }


@public
def public_set(
    name: str, folder: str | Path, out: str | Path | None = None, *, force: bool = False, **options: Any
) -> BuiltManifest:
    """Make a manifest of a public set from the download as it was unpacked.

    Args:
        name: of the set, see `dvme.sets.catalogue.SETS`.
        folder: where it was unpacked, in whatever folders below.
        out: the .csv file to write, or None.
        force: replace the file that is there.
        options: of this set alone, such as `views`; None for the default.

    Raises:
        UnknownNameError: if there is no such set.
        DataError: if its tables or all of its pictures are not there, or a table is another one.
        OptionError: if the file cannot be written there, or the set has no such option.
    """
    described = set_of(name)
    published = import_module(f"dvme.sets.{name.replace('-', '_')}").published
    given = {key: value for key, value in options.items() if value is not None}
    stray = [key for key in given if key not in [*inspect.signature(published).parameters][1:]]
    if stray:
        raise OptionError(f"{name} has no option " + parameter(stray[0]) + "; leave it out")
    place = None if out is None else check_destination(out, (".csv",), force=force)
    unpacked = Unpacked(folder)
    built = _built(described, unpacked, published(unpacked, **given), Path.cwd() if place is None else place.parent)
    if place is None:
        return built
    with written_aside(place) as aside, aside.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(built.columns)
        rows.writerows(zip(*built.columns.values(), strict=True))
    return BuiltManifest(**{**vars(built), "path": os.fspath(place)})


def _built(described: PublicSet, unpacked: Unpacked, published: Published, beside: Path) -> BuiltManifest:
    """The rows whose pictures are there, their paths relative to a folder, and all that is to be said."""
    there = [row for row, place in enumerate(published.images) if place is not None]
    n_listed = len(published.images)
    if not there:
        archives = [place for place in unpacked.places if place.endswith(PACKED) and ".csv" not in place]
        step = f"unpack {first_few(archives)}" if archives else "name the folder into which they were unpacked"
        raise DataError(f"none of the {n_listed:,} pictures of {described.title} is below {unpacked.root}; {step}")
    start = PurePosixPath(os.path.relpath(os.path.realpath(unpacked.root), os.path.realpath(beside)).replace("\\", "/"))
    columns = {"image": [f"{start / (published.images[row] or '')}" for row in there]}
    columns |= {name: [values[row] for row in there] for name, values in published.columns.items()}
    labels, groups = columns["label"], set(columns.get("group", ())) - {MISSING}
    return BuiltManifest(
        set=described,
        columns=columns,
        n_listed=n_listed,
        remarks=(*published.remarks, *unpacked.remarks, *_remarks(described, unpacked, columns, n_listed)),
        findings=_counts(labels),
        splits=dict(Counter(split for split in columns.get("split", ()) if split)),
        n_groups=len(groups),
    )


def _remarks(described: PublicSet, unpacked: Unpacked, columns: Mapping[str, list[str]], n_listed: int) -> list[str]:
    """What is worth knowing of any set: pictures that are not there, and the two ways in which a test set leaks."""
    labels, n = columns["label"], len(columns["image"])
    n_gone, n_without = n_listed - n, labels.count(MISSING)
    lines = []
    if n_gone:
        lines.append(f"{counted(n_gone, 'picture')} of {n_listed:,} not there, and left out: unpack the rest if wanted")
    if unpacked.unlisted:
        lines.append(unlisted_line(unpacked.unlisted))
    if n_without:
        lines.append(f"{counted(n_without, 'image')} without a label")
    if MISSING in columns.get("group", [MISSING]):
        n_nobody = columns.get("group", [MISSING] * n).count(MISSING)
        lines.append(f"{counted(n_nobody, 'image')} without a patient: one may be on both sides of a split")
    if described.shares_with:
        lines.append(f"not external to {some_of(described.shares_with)}, which have pictures of this set or it of them")
    return lines


def _counts(labels: Sequence[str]) -> dict[str, int]:
    """Finding or class to how many images have it, the names in their order."""
    if not tells_findings(labels):
        return dict(sorted(Counter(label for label in labels if label).items()))
    have = Counter[str]()
    for label, count in Counter(labels).items():
        for part in label.split("|"):
            if part and "=" not in part:
                have[part] += count
    return {name: have[name] for name in sorted(names_in(labels))}


def _stem(name: str) -> str:
    """A path without the suffix."""
    head, dot, tail = name.rpartition(".")
    return head if dot and "/" not in tail else name


def nothing_as_missing(cell: str) -> str:
    """A cell, "" where it says nan, None and the like."""
    return MISSING if cell.casefold() in NOTHING else cell
