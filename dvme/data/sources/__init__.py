"""Where images come from: plain files, and files that hold many. The address of an image in one is FILE/MEMBER."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from errno import EINVAL, ENOENT
from functools import cache
from importlib import import_module
from pathlib import Path
from threading import Lock

from dvme.data.encoded import Encoded
from dvme.data.listing import file_bytes
from dvme.data.sources.protocol import Members, Source

MODULES: tuple[str, ...] = ("tar", "zip")
"""Each has a `SOURCE`. A new one is a module here, and its name in this line."""
MOST_OPEN = 64
"""Containers that are open at a time."""


def sources() -> Iterator[Source]:
    """Every kind of container."""
    for name in MODULES:
        yield import_module(f"{__name__}.{name}").SOURCE


def source_of_file(path: Path) -> Source | None:
    """The kind of container that a file is, by its suffix; None for no container."""
    return _source_of_suffix(path.suffix.lower())


@cache
def _source_of_suffix(suffix: str) -> Source | None:
    return next((source for source in sources() if suffix in source.suffixes), None)


def source_of_folder(path: Path) -> Source | None:
    """The kind of container that a folder is as a whole; None for a folder of files."""
    return next((source for source in sources() if source.finds(path)), None)


def container_suffixes() -> tuple[str, ...]:
    """Of all files that are containers, sorted."""
    return tuple(sorted({suffix for source in sources() for suffix in source.suffixes}))


def read_image(address: Path | str) -> Encoded:
    """An image by its address: the bytes of a file, or those of a container's member.

    Raises:
        OSError: if nothing is there, or it cannot be read.
    """
    found = _in_open_container(str(address))
    if found is None:
        try:
            return Encoded(file_bytes(Path(address)))
        except (FileNotFoundError, NotADirectoryError):
            found = _container_of(Path(address))
            if found is None:
                raise
        except ValueError as error:  # a path that no file can have
            raise OSError(EINVAL, str(error)) from error
    container, member = found
    with opened(container) as members:
        return members.read(member)


def is_there(address: Path | str) -> bool:
    """Whether an image is at an address: a file, or a container that has the member.

    In a container that cannot be read it is there, as one in a folder that cannot be: what is wrong is said by reading.
    """
    found = _in_open_container(str(address))
    if found is None:
        if os.path.isfile(address):  # noqa: PTH113 - Path's own fails for what is no name
            return True
        found = _container_of(Path(address))
    if found is None or source_of_file(found[0]) is None:
        return False
    try:
        with opened(found[0]) as members:
            return members.holds(found[1])
    except OSError:
        return True


def file_of(address: Path | str) -> Path:
    """The file in which the bytes of an image lie: itself, or its container."""
    found = _in_open_container(str(address)) or _container_of(Path(address))
    return Path(address) if found is None else found[0]


def _in_open_container(address: str) -> tuple[Path, str] | None:
    """As `_container_of`, of a container that is open: for a million images of one archive, without a failed look."""
    around = address.rpartition("/")[0] if _OPEN.kept else ""
    while around:
        kept = _OPEN.kept.get(around)
        if kept is not None:
            is_file = os.path.isfile(around)  # noqa: PTH113 - as above
            return (kept.path, address[len(around) + 1 :]) if is_file else None
        around = around.rpartition("/")[0]
    return None


def _container_of(address: Path) -> tuple[Path, str] | None:
    """The container and the member of an address; None where no part of the path is a file."""
    if os.path.exists(address):  # noqa: PTH110 - Path's own fails for what is no name
        return None
    for parent in address.parents:
        if os.path.isfile(parent):  # noqa: PTH113 - as above
            return parent, address.relative_to(parent).as_posix()
        if os.path.isdir(parent):  # noqa: PTH112 - as above
            return None
    return None


@dataclass
class _Kept:
    """An open container, and who is reading it."""

    path: Path
    members: Members | OSError
    """The container, or why it cannot be opened: that is not tried again for each of its images."""
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
def opened(container: Path) -> Iterator[Members]:
    """A container, open as long as it is used and somewhat longer; opened anew where the file is another by now.

    Raises:
        OSError: if it cannot be opened.
    """
    with _OPEN.lock:
        kept = _taken(container)
        if isinstance(kept.members, OSError):
            raise OSError(kept.members.errno, kept.members.strerror)
        kept.n_readers += 1
    try:
        yield kept.members
    finally:
        with _OPEN.lock:
            kept.n_readers -= 1
            _close_unused()


def _taken(container: Path) -> _Kept:
    """The open container of this path, as the file is now; the lock is held."""
    found = os.stat(container)  # noqa: PTH116 - once for each image
    key, stamp = str(container), (found.st_ino, found.st_size, found.st_mtime_ns)
    kept = _OPEN.kept.get(key)
    if kept is None or kept.stamp != stamp:
        source = source_of_file(container)
        if source is None:
            raise OSError(ENOENT, f"{container.name} holds no images that dvme can read")
        if kept is not None:
            _OPEN.kept[f"{key}\0{kept.stamp}"] = kept
            _OPEN.n_replaced += 1
        kept = _OPEN.kept[key] = _Kept(container, _open_or_why(source, container), stamp)
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
