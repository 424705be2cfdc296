"""A download as it lies on disk: pictures found by name wherever they are, and the publisher's tables."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path, PurePosixPath

from dvme.data.columns import Columns
from dvme.data.listing import list_images
from dvme.data.samples import MISSING, unlisted_line
from dvme.data.sources import source_of_file
from dvme.data.tables import GZIPPED, Table, explained, read_table
from dvme.data.unpacking import unpacked
from dvme.errors import DataError
from dvme.files import reading
from dvme.text import counted, first_few, some_of

ARCHIVES = (".gz", ".tgz", ".tar", ".zip")


class Unpacked:
    """Every file below a folder, listed once."""

    def __init__(self, root: str | Path) -> None:
        """List it.

        Raises:
            DataError: if it is no folder.
        """
        self.root = Path(root)
        if not self.root.is_dir():
            raise DataError(f"{self.root} is not a folder; name the one into which the set was unpacked")
        self._listing = list_images(self.root)
        unlisted = unlisted_line(self._listing.unlisted)
        self.remarks: list[str] = [unlisted] if unlisted else []
        """What finding and reading met, a line each."""

    @cached_property
    def pictures(self) -> list[str]:
        """Addresses of all images, relative to the folder, with slashes; those in archives come last."""
        packed = [address for archive in self.packed.values() for address in archive]
        return [path.relative_to(self.root).as_posix() for path in self._listing.files] + packed

    @cached_property
    def others(self) -> list[str]:
        """Places of all other files, sorted."""
        return sorted(place for place, _ in self._listing.others)

    @cached_property
    def places(self) -> list[str]:
        """Of all files, images first."""
        return self.pictures + self.others

    @cached_property
    def packed(self) -> dict[str, list[str]]:
        """Archives to the addresses of the images in them; none of what has to be unpacked, or has no images."""
        archives = [place for place in self.others if place.endswith(ARCHIVES) and not _is_table(place)]
        return {place: _addresses(self.root, place) for place in archives}

    @property
    def archives(self) -> list[str]:
        """Places of archives in which nothing was found."""
        return [place for place, addresses in self.packed.items() if not addresses]

    def place(self, *names: str) -> str | None:
        """Where the first of these files is that is there, also as `.gz`; None if none is.

        Args:
            names: of files, with the folder where it tells them apart, or patterns.

        Raises:
            DataError: if there is more than one of a name.
        """
        for name in names:
            n_parts = name.count("/") + 1
            found = [each for each in self.others if fnmatchcase(_end(each, n_parts).removesuffix(GZIPPED), name)]
            if len(found) > 1:
                raise DataError(f"{self.root} has more than one {name}: {first_few(found)}; keep the one that counts")
            if found:
                return found[0]
        return None

    def table(self, *names: str, needed: Sequence[str] = (), known: Sequence[str] = (), n_rows: int = 0) -> Table:
        """Read the first of these tables that is there. What is not as the publisher has it is a remark.

        Args:
            names: see `place`.
            needed: columns without which it is another table.
            known: further columns of the published table.
            n_rows: of the published table; 0 if that is not known.

        Raises:
            DataError: if none is there, it cannot be read, or lacks a column that is needed.
        """
        place = self.place(*names)
        if place is None:
            raise DataError(f"{self.root} has no {' or '.join(names)}; put the publisher's table there, in any folder")
        return self.table_at(place, needed=needed, known=known, n_rows=n_rows)

    def table_at(self, place: str, *, needed: Sequence[str] = (), known: Sequence[str] = (), n_rows: int = 0) -> Table:
        """Read the table at a place, as `table` does.

        Raises:
            DataError: if it cannot be read, or lacks a column that is needed.
        """
        table = read_table(self.root / place)
        lacking = [name for name in needed if name not in table.names]
        if lacking:
            raise DataError(
                f"{table.source} has no column {first_few(map(repr, lacking))}, and so is not the published table; "
                f"it has {some_of([name or '(without a name)' for name in table.names])}; download it again"
            )
        self._compare(table, known, n_rows)
        return table

    def names(self, *names: str) -> list[str] | None:
        """The lines of the first of these lists of names that is there; None if none is.

        Raises:
            DataError: if it cannot be read.
        """
        place = self.place(*names)
        if place is None:
            return None
        with reading(self.root / place), explained(self.root / place):
            text = unpacked(self.root / place)[0].decode("utf-8-sig")
        return [line.strip() for line in text.splitlines() if line.strip()]

    def find(self, names: Sequence[str]) -> list[str | None]:
        """(N,) where each picture is below the folder, None for one that is not there.

        A picture is looked for by the end of its path, in as many parts as its name has, and by its stem: it may have
        been unpacked anywhere, or lie in an archive that dvme reads in place, and have been converted.

        Args:
            names: with slashes, with or without a suffix, all of as many parts.
        """
        n_parts = max((name.count("/") for name in names), default=0) + 1
        by_stem = defaultdict[str, list[str]](list)
        for place in self.places:
            if not _is_table(place):
                by_stem[_stem(_end(place, n_parts))].append(place)
        found: list[str | None] = []
        converted, twice = Counter[str](), list[list[str]]()
        for name in names:
            stem = _stem(name)
            held = by_stem.get(stem) or by_stem.get(name)
            if not held:
                found.append(None)
                continue
            same = [place for place in held if place.endswith(name)] or held
            found.append(same[0])
            if stem != name and not same[0].endswith(name):
                converted[PurePosixPath(same[0]).suffix] += 1
            if len(same) > 1:
                twice.append(same)
        for suffix, count in sorted(converted.items()):
            self.remarks.append(f"{counted(count, 'picture')} found as {suffix}, not as the publisher has it")
        if twice:
            self.remarks.append(
                f"{counted(len(twice), 'picture')} found in more than one place, of which the first is used: "
                f"{twice[0][0]}, not {twice[0][1]}"
            )
        return found

    def _compare(self, table: Table, known: Sequence[str], n_rows: int) -> None:
        """Say where a table is not the published one."""
        lacking = [name for name in known if name not in table.names]
        if lacking:
            self.remarks.append(f"{table.source.name} has no column {some_of(lacking)}, which the published table has")
        if n_rows and table.n_rows != n_rows:
            self.remarks.append(
                f"{table.source.name} has {counted(table.n_rows, 'row')}, the published table {n_rows:,}: another "
                "version, or a part of it"
            )


def _addresses(root: Path, place: str) -> list[str]:
    """Of the images in an archive, relative to the root."""
    source = source_of_file(root / place)
    if source is None:
        return []
    try:
        found = source.list(root / place, Columns(), images_only=True)
    except DataError:
        return []
    return [path.relative_to(root).as_posix() for path in found.paths]


def texts_or_missing(table: Table, name: str) -> list[str]:
    """A column, "" everywhere where the table has none of the name."""
    return table.texts(name) if name in table.names else [MISSING] * table.n_rows


def joined_tables(tables: Sequence[Table]) -> Table:
    """The rows of several tables, one after the other; a column that one lacks is "" there."""
    names = list(dict.fromkeys(name for table in tables for name in table.names))
    n_rows = sum(table.n_rows for table in tables)
    return (
        tables[0]
        if len(tables) == 1
        else Table(
            tables[0].source,
            names,
            n_rows,
            lambda name: [cell for each in tables for cell in texts_or_missing(each, name)],
        )
    )


def _end(place: str, n_parts: int) -> str:
    """The last parts of a place."""
    return place if place.count("/") < n_parts else "/".join(place.split("/")[-n_parts:])


def _stem(name: str) -> str:
    """A path without the suffix."""
    head, dot, tail = name.rpartition(".")
    return head if dot and "/" not in tail else name


def _is_table(place: str) -> bool:
    return place.removesuffix(GZIPPED).endswith((".csv", ".tsv", ".txt"))
