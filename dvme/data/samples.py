"""Samples: where the images are and what is known about them, before any of them is opened."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from dvme.errors import DataError
from dvme.shown.result import Shown, some_lines
from dvme.text import EXAMPLES, counted, some_of

MISSING = ""
NOTHING = frozenset({"#n/a", "<na>", "n/a", "na", "nan", "nat", "nil", "none", "null"})
"""What spreadsheets, pandas, R and databases write where there is no value."""
STANDARD = ("label", "split", "group")
"""What may be known about an image, beside where it is."""
MASK = "mask"
"""What a cache calls its column of segmentation masks."""
COLUMNS = ("paths", "ids", "labels", "splits", "groups")
"""Fields of Samples that have an entry per image."""


@dataclass(frozen=True, repr=False)
class Samples(Shown):
    """Columns of equal length, one entry per image file; `to_frame()` has a row for each. "" is a missing value."""

    paths: list[Path]
    """Where to open each image."""
    ids: list[str]
    """The path as the user knows it, relative to the folder or as the manifest has it; unique."""
    labels: list[str]
    """Class names."""
    splits: list[str]
    """`train`, `val` or `test`."""
    groups: list[str]
    """Patients, or whatever must not be on both sides of a split."""
    given: frozenset[str] = frozenset(STANDARD)
    """Which of label, split and group the source tells at all. A missing value of these means that there is none; of
    the others nothing is known here, and a cache keeps what it has."""
    kept: Mapping[str, list[str]] = field(default_factory=dict)
    """Further columns that the source is asked for, by name."""
    findings: tuple[str, ...] = ()
    """Of images that may have several labels, all that the source asks about, in its order."""
    class_order: tuple[str, ...] = ()
    """Of grades, all that the source has, the lowest first; () where it tells no order."""
    remarks: tuple[str, ...] = ()
    """What was passed over, which columns were used, and what else is worth knowing, a line each."""
    unlisted: Mapping[str, str] = field(default_factory=dict)
    """What could not be listed, folders, archives and links to nowhere, and why: what it holds is unknown, not gone."""
    missing: tuple[str, ...] = ()
    """Images of a manifest that are left out, for their files are not there."""
    missing_known: tuple[tuple[str, str], ...] = ()
    """Split and group of each of these."""

    def __post_init__(self) -> None:
        """Refuse ragged columns and repeated images."""
        lengths = {len(column) for column in (*(getattr(self, name) for name in COLUMNS), *self.kept.values())}
        if len(lengths) != 1:
            raise ValueError(f"columns of different lengths: {sorted(lengths)}")
        seen: set[str] = set()
        for identity in self.ids:
            if not identity.isascii() and any("\ud800" <= character <= "\udfff" for character in identity):
                raise DataError(f"the file name {identity!a} is not valid UTF-8; rename it")
            if identity in seen:
                raise DataError(f"image {identity} is listed twice; list every image once")
            seen.add(identity)

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def real_paths(self) -> list[str]:
        """Where each file lies once links are followed, as a cache keeps it."""
        return [os.path.realpath(path) for path in self.paths]

    def only(self, positions: Sequence[int]) -> Samples:
        """Some of the files; what else is said stays."""
        columns: dict[str, Any] = {name: [getattr(self, name)[at] for at in positions] for name in COLUMNS}
        kept = {name: [values[at] for at in positions] for name, values in self.kept.items()}
        return replace(self, kept=kept, **columns)

    def _lines(self) -> list[str]:
        n_labelled = len(self) - self.labels.count(MISSING)
        names = some_of(sorted({*self.labels} - {MISSING}))
        labelled = f"{n_labelled:,} with a label: {names}" if n_labelled else "none with a label"
        return [f"{counted(len(self), 'image file')}, {labelled}", *some_lines(self.remarks)]

    def _records(self) -> list[dict[str, Any]]:
        named = {"image": self.ids, "path": [os.fspath(path) for path in self.paths]}
        named |= {"label": self.labels, "split": self.splits, "group": self.groups, **self.kept}
        return [dict(zip(named, row, strict=True)) for row in zip(*named.values(), strict=True)]


def unlisted_line(unlisted: Mapping[str, str]) -> str:
    """A line that names what could not be listed; "" for nothing."""
    if not unlisted:
        return ""
    places = [f"{place} ({reason})" for place, reason in unlisted.items()]
    one, plural = len(places) == 1, "folders, archives or links"
    return (
        f"NOT LISTED: {counted(len(places), 'folder, archive or link', plural)} of which nobody knows the images: "
        f"{some_of(places, EXAMPLES)}; mend {'it' if one else 'them'} and run again"
    )


def missing_line(missing: Sequence[str]) -> str:
    """A line that counts what a manifest names and is not there; "" for nothing."""
    return f"{counted(len(missing), 'image')} left out, for no file is there: {some_of(missing, 1)}" if missing else ""


SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def canonical_split(name: str) -> str:
    """`train`, `val` or `test` for the usual spellings of them.

    Raises:
        DataError: for any other name.
    """
    try:
        return SPLIT_NAMES[name.strip().lower()]
    except KeyError:
        known = ", ".join(sorted(SPLIT_NAMES))
        raise DataError(f"split {name!r} is not known; use one of {known}") from None
