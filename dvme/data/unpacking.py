"""The bytes of a table of text: of a plain file, or of one that is packed with gzip or zip."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path, PurePosixPath
from typing import IO, cast

from dvme.errors import DataError
from dvme.text import NAMES, counted, some_of

GZIP, ZIP, PARQUET = b"\x1f\x8b", b"PK", b"PAR1"
COMPOUND = bytes.fromhex("d0cf11e0a1b11ae1")
"""How an Excel file of before 2007 begins, and one that is encrypted."""
EXCEL, EXCEL_BINARY, OPEN_DOCUMENT = "xl/workbook.xml", "xl/workbook.bin", "META-INF/manifest.xml"
"""Files in zip files by which these are known."""
LARGEST = 2**31
"""Bytes of an unpacked table; a packed file of a few MB can hold more than any memory."""


def beginning(path: Path) -> bytes:
    """The first bytes of a file, by which its kind is known."""
    with path.open("rb") as file:
        return file.read(8)


def is_workbook(path: Path) -> bool:
    """Whether a file is an Excel workbook, whatever it is called.

    Raises:
        DataError: if it is a spreadsheet of another kind.
    """
    start, step = beginning(path), "; save it as .xlsx, or as CSV UTF-8"
    if start == COMPOUND:
        raise DataError(f"{path} is an Excel file of before 2007 (.xls), or has a password{step} without a password")
    if not start.startswith(ZIP):
        return False
    with zipfile.ZipFile(path) as file:
        names = set(file.namelist())
    if EXCEL_BINARY in names:
        raise DataError(f"{path} is a binary Excel file (.xlsb){step}")
    if OPEN_DOCUMENT in names:
        raise DataError(f"{path} is an OpenDocument file (.ods){step}")
    return EXCEL in names


def unpacked(path: Path) -> tuple[bytes, str]:
    """The bytes of a table of text, and the name of the file that they are: without `.gz`, or in the zip file.

    Raises:
        DataError: if there is more than one file, or it is too large or encrypted.
        OSError, EOFError, zlib.error, zipfile.BadZipFile: if it is damaged.
    """
    start = beginning(path)
    if start.startswith(GZIP):
        with gzip.open(path) as file:
            return _limited(cast(IO[bytes], file), path), path.stem if path.suffix.lower() == ".gz" else path.name
    if not start.startswith(ZIP):
        return path.read_bytes(), path.name
    with zipfile.ZipFile(path) as archive:
        members = [each for each in archive.infolist() if not each.is_dir() and not _is_aside(each.filename)]
        if len(members) != 1:
            held = some_of([each.filename for each in members], NAMES)
            files = f"{counted(len(members), 'file')} ({held})" if members else "no file"
            raise DataError(f"{path} holds {files}; a packed table is a single file, unpack it and name one")
        if members[0].flag_bits & 1:
            raise DataError(f"{path} is encrypted; unpack it with its password, and name the table")
        with archive.open(members[0]) as file:
            return _limited(file, path), PurePosixPath(members[0].filename).name


def _limited(file: IO[bytes], path: Path) -> bytes:
    data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise DataError(f"{path} unpacks to more than {LARGEST >> 30} GiB; unpack it, and keep the columns of interest")
    return data


def _is_aside(name: str) -> bool:
    """Whether a Mac, or another program, put a file beside those of the user."""
    return name.startswith("__MACOSX/") or PurePosixPath(name).name.startswith(".")
