"""Files that exist whole or not at all, and reads whose failures are one line."""

from __future__ import annotations

import hashlib
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from dvme.errors import DataError, DvmeError

PARTIAL_SUFFIX = ".partial"
DIGEST_BYTES = 16
TORN = (ValueError, KeyError, TypeError, EOFError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error, struct.error)
"""What bytes in memory that are not a whole archive of arrays may raise."""


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Give a place beside a file to write to; once the block is done, it is synced and becomes the file.

    On an error, what was written is removed and the old file, if any, stays.
    """
    aside = path.with_name(f".{path.name}{PARTIAL_SUFFIX}")
    try:
        yield aside
        _sync(aside)
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    _sync(path.parent)


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


def _sync(path: Path) -> None:
    """Make a file's bytes, or a folder's entries, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
