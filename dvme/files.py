"""Files and folders that exist whole or not at all, where they may go, and reads whose failures are one line."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from dvme.errors import DataError, DvmeError, OptionError, parameter
from dvme_cache.files import PARTIAL_SUFFIX, make_folders, sync

DIGEST_BYTES = 16
REPLACED_SUFFIX = f".replaced{PARTIAL_SUFFIX}"
"""Of the folder that a new one takes the place of, until that is done."""
TORN = (ValueError, KeyError, TypeError, EOFError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error, struct.error)
"""What bytes in memory that are not a whole archive of arrays may raise."""


def check_destination(path: str | Path, suffixes: Sequence[str], *, force: bool) -> Path:
    """The place of a file that can be written there; `suffixes` are what its name may end in, () for anything.

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
    _check_writable(place.parent)
    return place


def check_folder(path: str | Path, *, step: str = "name another folder", force: bool = False) -> Path:
    """The place of a folder that can be made there, with its parents.

    Args:
        path: as the user named it.
        step: what to do where something else is there.
        force: whether a folder may hold something already.

    Raises:
        OptionError: if it or a parent is a file, nothing can be written there, or it is there and not empty.
    """
    place = Path(path)
    nearest = next(each for each in (place, *place.absolute().parents) if each.exists())
    if not nearest.is_dir():
        raise OptionError(f"{nearest} is there already and is a file; " + step)
    _check_writable(nearest)
    if not force and whole(place).exists() and any(whole(place).iterdir()):
        raise OptionError(f"{place} is there already; " + step + ", or remove it")
    return place


def whole(folder: str | Path) -> Path:
    """Where a folder lies: at its place, or beside it, if a kill cut its replacement short and it is to be put back."""
    place = Path(folder)
    aside = _beside(place.resolve(), REPLACED_SUFFIX)
    return aside if not place.exists() and aside.exists() else place


@contextmanager
def new_folder(folder: str | Path, *, force: bool = False, is_durable: bool = True) -> Iterator[Path]:
    """Give a folder to write to; once the block is done, it is synced and becomes `folder`, parents included.

    What is not to be durable is not synced: a power cut may tear it.

    On an error nothing is left, and the old folder stays. A kill leaves the old one, the new one, or the old one aside
    for a moment, where `whole` finds it and the next call puts it back.

    Raises:
        OptionError: if the folder is there and not empty, and not to be replaced by `force`.
    """
    check_folder(folder, force=force)
    path = Path(folder).resolve()
    aside, replaced = _beside(path, PARTIAL_SUFFIX), _beside(path, REPLACED_SUFFIX)
    made = [parent for parent in path.parents if not parent.exists()]
    try:
        if whole(path) == replaced:
            replaced.rename(path)
        for left in (aside, replaced):
            shutil.rmtree(left, ignore_errors=True)
        make_folders(aside)
        yield aside
        if is_durable:
            _sync_all(aside)
        _put_in_place(aside, path, replaced if force else None)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        with suppress(OSError):  # what someone else has put there meanwhile stays
            for parent in made:
                parent.rmdir()
        raise
    shutil.rmtree(replaced, ignore_errors=True)


@contextmanager
def written_aside(path: Path, *, is_durable: bool = True) -> Iterator[Path]:
    """Give a place beside a file to write to; once the block is done, it is synced and becomes the file.

    On an error, what was written is removed and the old file, if any, stays. What is not to be durable is not synced: a
    power cut may tear it.
    """
    aside = _beside(path, PARTIAL_SUFFIX)
    try:
        yield aside
        if is_durable:
            sync(aside)
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    if is_durable:
        sync(path.parent)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a torn, encrypted or foreign file makes a reader raise into one line.

    Raises:
        DataError: naming the file and the reason.
    """
    try:
        yield
    except DvmeError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; name a file to import") from error
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
        message = (
            f"cannot read {path}: {_reason(error)}; it may be truncated or of another format, make or copy it again"
        )
        raise DataError(message) from error


def file_digest(path: Path) -> str:
    """32 hexadecimal digits: the BLAKE2b-128 of a file's bytes."""
    with reading(path), path.open("rb") as file:
        return rest_digest(file)


def rest_digest(file: IO[bytes]) -> str:
    """The same of what an open file holds from its position on."""
    return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=DIGEST_BYTES)).hexdigest()  # type: ignore[arg-type]


def _reason(error: Exception) -> str:
    """The first line of what an error says; a bare key is said to be missing."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    reason = next(iter(text.strip().splitlines()), "") or type(error).__name__
    return f"it has no {reason!r}" if isinstance(error, KeyError) and " " not in reason else reason


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f".{path.name}{suffix}")


def free_bytes(path: str | Path) -> int:
    """What the disk of a place, which need not be there yet, has room for."""
    nearest = next(each for each in (Path(path), *Path(path).absolute().parents) if each.exists())
    return shutil.disk_usage(nearest).free


def check_space(path: str | Path) -> None:
    """Refuse a place on a disk that is full.

    Raises:
        OptionError: if not a byte more fits.
    """
    nearest = next(each for each in (Path(path), *Path(path).absolute().parents) if each.exists())
    if not shutil.disk_usage(nearest).free:
        reason = os.strerror(errno.ENOSPC)
        raise OptionError(f"{nearest} cannot be written to ({reason}); make room, or name another place")


def _check_writable(folder: Path) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        reason = errno.EROFS if os.statvfs(folder).f_flag & os.ST_RDONLY else errno.EACCES
        raise OptionError(f"{folder} cannot be written to ({os.strerror(reason)}); name another place")


def _sync_all(folder: Path) -> None:
    """Make all that a folder holds durable."""
    for entry in sorted(folder.rglob("*"), reverse=True):
        sync(entry)
    sync(folder)


def _put_in_place(aside: Path, path: Path, replaced: Path | None) -> None:
    """Rename a new folder to its place, that of an empty one included.

    Raises:
        OSError: if something is in the way that may not go to `replaced`.
    """
    old = replaced if path.exists() and any(path.iterdir()) else None
    if old is not None:
        path.rename(old)
    try:
        aside.rename(path)
    except BaseException:
        if old is not None:
            old.rename(path)
        raise
    sync(path.parent)
