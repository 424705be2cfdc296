"""Where a command's file goes, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dvme.errors import OptionError, parameter


def check_destination(path: str | Path, suffixes: Sequence[str], *, force: bool) -> Path:
    """The place of a file that can be written there.

    Args:
        path: as the user named it.
        suffixes: what its name may end in; () for anything.
        force: whether a file that is there may be replaced.

    Raises:
        OptionError: if it ends in something else, is a folder, is in none, or is there already.
    """
    place = Path(path)
    if place.is_dir():
        raise OptionError(f"{place} is a folder; name a file")
    if suffixes and place.suffix.lower() not in suffixes:
        raise OptionError(f"{place} does not end in {' or '.join(suffixes)}; name such a file")
    if place.exists() and not force:
        raise OptionError(f"{place} is there already; name another file, or pass " + parameter("force", True))
    if not place.parent.is_dir():
        raise OptionError(f"{place.parent} is not a folder; make it first")
    return place
