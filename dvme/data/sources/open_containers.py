"""Containers that are open, kept while they are used and somewhat longer."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from errno import EINVAL, ENOENT
from pathlib import Path
from threading import Lock

from dvme.data.dicom.names import frame_of
from dvme.data.listing import why
from dvme.data.sources.addresses import file_of
from dvme.data.sources.kinds import FRAMES, source_in, source_of_file
from dvme.data.sources.protocol import Members, Source

MOST_OPEN = 64
"""Containers that are open at a time."""


@dataclass
class _Kept:
    """An open container, and who is reading it."""

    members: Members | OSError
    """Or why it cannot be opened: that is not tried again for each of its images."""
    stamp: tuple[int, int, int]
    n_readers: int = 0


@dataclass
class _Open:
    """Containers that are open, the ones used last at the end."""

    kept: OrderedDict[str, _Kept] = field(default_factory=OrderedDict)
    lock: Lock = field(default_factory=Lock)
    n_replaced: int = 0
    """Of `kept`, those whose file is another by now, under a key of their own until nobody reads them."""


_OPEN = _Open()


@contextmanager
def opened(container: Path | str, member: str = "") -> Iterator[Members]:
    """The container of a member; opened anew where the file is another by now.

    Raises:
        OSError: if it cannot be opened.
    """
    with _OPEN.lock:
        kept = _taken(container, member)
        if isinstance(kept.members, OSError):
            raise OSError(kept.members.errno or EINVAL, why(kept.members))
        kept.n_readers += 1
    try:
        yield kept.members
    finally:
        with _OPEN.lock:
            kept.n_readers -= 1
            _close_unused()


def in_open(address: Path | str) -> tuple[Path | str, str] | None:
    """The container and the member of an address, if that container is open: what is below a file is no file.

    Of a million small images, most of the time would go to a look for such a file.
    """
    if not _OPEN.kept:
        return None
    text = os.fspath(address)
    end = text.rfind(os.sep)
    if frame_of(text[end + 1 :]) is not None:
        return (text[:end], text[end + 1 :]) if text[:end] in _OPEN.kept else None
    while end > 0:
        container = text[:end]
        if container in _OPEN.kept and os.path.isfile(container):  # noqa: PTH113 - Path's own fails for what is no name
            return container, text[end + 1 :].replace(os.sep, "/")
        end = text.rfind(os.sep, 0, end)
    return None


def _taken(container: Path | str, member: str) -> _Kept:
    """The open container of this path, as the file is now; the lock is held."""
    is_of_frames = frame_of(member) is not None
    found = os.stat(file_of(container) if is_of_frames else container)  # noqa: PTH116 - once for each image
    key, stamp = str(container), (found.st_ino, found.st_size, found.st_mtime_ns)
    kept = _OPEN.kept.get(key)
    if kept is None or kept.stamp != stamp:
        path = Path(container)
        source = source_in(FRAMES) if is_of_frames else source_of_file(path)
        if source is None:
            raise OSError(ENOENT, f"{path.name} holds no images that dvme can read")
        if kept is not None:
            _OPEN.kept[f"{key}\0{kept.stamp}"] = kept
            _OPEN.n_replaced += 1
        kept = _OPEN.kept[key] = _Kept(_open_or_why(source, path), stamp)
    _OPEN.kept.move_to_end(key)
    return kept


def _open_or_why(source: Source, container: Path) -> Members | OSError:
    try:
        return source.open(container)
    except OSError as error:
        return error


def _close_unused() -> None:
    """Close what has been replaced, and the containers that were used longest ago; the lock is held."""
    if len(_OPEN.kept) <= MOST_OPEN and not _OPEN.n_replaced:
        return
    for key, kept in list(_OPEN.kept.items()):
        if not kept.n_readers and ("\0" in key or len(_OPEN.kept) > MOST_OPEN):
            del _OPEN.kept[key]
            _OPEN.n_replaced -= "\0" in key
            if not isinstance(kept.members, OSError):
                kept.members.close()
