"""From what a cell of a table names to the files and runs of a mask."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from glob import escape, glob
from pathlib import Path

from dvme.data.addresses import Finder, spellings, wrong_place
from dvme.data.images import SUFFIXES
from dvme.data.mask_options import MaskOptions
from dvme.data.masks.runs import WITHOUT, is_runs
from dvme.data.natural import natural_key
from dvme.data.sources import is_there
from dvme.errors import DataError
from dvme.text import EXAMPLES, counted, some_of

JOINT = "|"
"""Between files, and between runs, that are one mask together."""
PATTERN = frozenset("*?[")


@dataclass(frozen=True)
class Pieces:
    """What together is the mask of one image in one column."""

    files: tuple[str, ...] = ()
    """Absolute addresses."""
    runs: tuple[str, ...] = ()
    """As the table has them."""
    is_said: bool = False
    """Whether anything is: an empty cell says nothing, and WITHOUT says that there is no pixel of the class."""


def pieces_of(cell: str, root: Path, finder: Finder, options: MaskOptions) -> Pieces:
    """The files and runs of a cell.

    Args:
        cell: a file, a folder, a pattern, runs, several of these with JOINT between them, or WITHOUT; "" for nothing.
        root: where relative names start.
        finder: of files below it.
        options: how runs are counted, or that there is nothing else.

    Raises:
        DataError: saying what is wrong with it.
    """
    files: list[str] = []
    runs: list[str] = []
    parts = [part.strip() for part in cell.split(JOINT) if part.strip()]
    for part in parts:
        if part == WITHOUT:
            continue
        if is_runs(part):
            runs.append(part)
        elif options.encoding is not None:
            raise DataError(f"{part[:60]!r} is no list of runs, START LENGTH START LENGTH")
        else:
            files += _files(part, root, finder)
    return Pieces(tuple(dict.fromkeys(files)), tuple(runs), bool(parts))


def finder_of(root: Path) -> Finder:
    """What finds the files of masks, by the rules by which images are found."""
    return Finder(root, _is_missing)


def found_line(finder: Finder) -> list[str]:
    """A line that counts what was found under another spelling."""
    shown = [f"{name} = {found}" for name, found in finder.read.items()]
    found = "found under another spelling of the name"
    return [f"{counted(len(shown), 'mask')} {found}: {some_of(shown, EXAMPLES)}"] if shown else []


def _is_missing(path: Path) -> bool:
    try:
        return not is_there(path)
    except ValueError:
        return True


def _files(name: str, root: Path, finder: Finder) -> list[str]:
    """The absolute addresses of the files that a part of a cell names."""
    if "\0" in name:
        raise DataError(f"{name!r} is no name of a file")
    for written in (name, *spellings(name)):
        if os.path.isdir(root / written):  # noqa: PTH112 - as for the files
            return _several(os.path.join(escape(str(root / written)), "*"), f"folder {name}", _is_image)  # noqa: PTH118
    found = finder.find(name)
    if found is not None:
        return [os.path.abspath(found)]  # noqa: PTH100 - links stay links
    for written in (name, *spellings(name)):
        if PATTERN & set(written):
            return _several(os.path.join(escape(str(root)), written), f"pattern {name}", os.path.isfile)  # noqa: PTH118
    raise DataError(f"there is no file {name}{wrong_place(name)}")


def _several(pattern: str, what: str, is_wanted: Callable[[str], bool]) -> list[str]:
    found = sorted(filter(is_wanted, glob(pattern)), key=natural_key)  # noqa: PTH207 - patterns may be absolute
    if not found:
        raise DataError(f"the {what} has no file; write {WITHOUT} where no pixel is of the class")
    return [os.path.abspath(file) for file in found]  # noqa: PTH100


def _is_image(file: str) -> bool:
    return os.path.splitext(file)[1].lower() in SUFFIXES and os.path.isfile(file)  # noqa: PTH113, PTH122
