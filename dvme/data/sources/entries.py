"""What an archive holds: its files by their names, links inside followed, and what is odd about it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from posixpath import normpath
from typing import Generic, TypeVar

from dvme.data.columns import COLUMN, Columns
from dvme.data.listing import Listing, add_names
from dvme.data.sources import read_image
from dvme.errors import DataError
from dvme.text import EXAMPLES, counted, some_of

Place = TypeVar("Place")
UNUSUAL = re.compile(r"(?:^|/)\.{0,2}(?:/|$)")
"""A part of a name that is empty, `.` or `..`."""
MOST_LINKS = 40
"""From one to the next, before it is a circle."""
LINK_TO_NOTHING = "link to nothing inside"


@dataclass
class Entries(Generic[Place]):
    """The files of an archive. Names have slashes, and neither `.` nor an empty part."""

    places: dict[str, Place] = field(default_factory=dict)
    """Where each lies."""
    folders: list[str] = field(default_factory=list)
    """Those that the archive names by themselves."""
    others: list[tuple[str, str]] = field(default_factory=list)
    """Name and kind of what is no file."""
    links: dict[str, str] = field(default_factory=dict)
    """Name to name, while the archive is being read."""
    twice: list[str] = field(default_factory=list)
    """Names of files that came again: the last counts, as it does when all are unpacked."""
    outside: list[str] = field(default_factory=list)
    """Names that lead out of the archive, and are passed over."""

    def add(self, name: str, place: Place) -> None:
        """Add a file."""
        if UNUSUAL.search(name):
            clean = self._inside(name)
            if not clean:
                return
            name = clean
        if name in self.places or name in self.links:
            self.twice.append(name)
            self.links.pop(name, None)
        self.places[name] = place

    def add_folder(self, name: str) -> None:
        """Add a folder."""
        clean = self._inside(name)
        self.folders += [clean] if clean else []

    def add_other(self, name: str, kind: str) -> None:
        """Add what is no file."""
        clean = self._inside(name)
        self.others += [(clean, kind)] if clean else []

    def add_link(self, name: str, target: str, *, is_relative: bool) -> None:
        """Add a link to another file, by its name, or by the way to it from where the link lies."""
        clean = self._inside(name)
        if clean:
            if clean in self.places or clean in self.links:
                self.twice.append(clean)
                self.places.pop(clean, None)
            around = clean.rpartition("/")[0]
            self.links[clean] = normpath(f"{around}/{target}" if is_relative and around else target).removeprefix("./")

    def follow_links(self) -> None:
        """Put every link in the place of what it leads to; what leads to nothing is another kind of file."""
        for name, first in self.links.items():
            target = first
            for _ in range(MOST_LINKS):
                target = self.links.get(target, target)
            if target in self.places:
                self.places[name] = self.places[target]
            else:
                self.others.append((name, LINK_TO_NOTHING))
        self.links.clear()

    def list_into(self, found: Listing, archive: Path) -> None:
        """Add the archive to a listing."""
        add_names(found, archive, self.places, self.folders, lambda name: read_image(archive / name).data)
        found.others += self.others

    def remarks(self, archive: Path) -> list[str]:
        """What is odd, a line each."""
        lines = []
        if self.twice:
            names = some_of(list(dict.fromkeys(self.twice)), EXAMPLES)
            lines.append(f"{archive.name}: of members with one name the last counts ({names})")
        if self.outside:
            names = counted(len(self.outside), "member")
            lines.append(f"{archive.name}: passed over for .. in the name: {names} ({some_of(self.outside, EXAMPLES)})")
        return lines

    def _inside(self, name: str) -> str:
        """A name as it counts; "" for one that leads out, and for the archive itself."""
        parts = [part for part in name.split("/") if part not in {"", "."}]
        if ".." in parts:
            self.outside.append(name)
            return ""
        return "/".join(parts)


def bytes_at(fd: int, n_bytes: int, offset: int) -> bytes:
    """Bytes of an open file, fewer only at its end; threads do not wait for each other.

    Raises:
        OSError: if it cannot be read.
    """
    found = os.pread(fd, n_bytes, offset)
    while len(found) < n_bytes:  # of more than 2 GiB a system gives a part
        more = os.pread(fd, n_bytes - len(found), offset + len(found))
        if not more:
            break
        found += more
    return found


def refuse_columns(place: Path, called: str, columns: Columns, image_columns: Sequence[str] = tuple(COLUMN)) -> None:
    """Refuse columns where nothing but folders tells of an image.

    Raises:
        DataError: naming the first.
    """
    given = [name for name in image_columns if getattr(columns, name)]
    if given:
        message = f"{place} is {called} of folders, which tell the labels; " + COLUMN[given[0]]
        raise DataError(message + f" needs a manifest, whose images are called {place.name}/NAME")
