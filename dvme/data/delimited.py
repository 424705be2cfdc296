"""Tables as text: which encoding and separator a file has, and its rows."""

from __future__ import annotations

import codecs
import csv
import io
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from dvme.data.samples import MISSING

SEPARATORS = (",", ";", "\t", "|")
QUOTED = re.compile(r'"[^"]*"')
SEPARATOR_LINE = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
"""The first line by which Excel is told the separator."""
DECIMAL_COMMA, DECIMAL_POINT = re.compile(r"\d,\d"), re.compile(r";\s*[-+]?\d*\.\d+\s*(;|$)")
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""In this order: the mark of UTF-16 is the beginning of that of UTF-32."""
ZEROS = {"0001": "utf-32-be", "1000": "utf-32-le", "0101": "utf-16-be", "1010": "utf-16-le"}
"""Which of the first four bytes are zero (0) in a text that begins with two ASCII characters. Source: RFC 4627, 3."""
END = "\0end"
"""A row of its own behind the last line, unless a quotation mark was left open."""
SAVE = "save it as UTF-8 (spreadsheets call it CSV UTF-8)"


@dataclass(frozen=True)
class Dialect:
    """How a text file is a table."""

    encoding: str
    """By its byte-order mark, or by the zero bytes of its first characters; else UTF-8."""
    separator: str
    """Of comma, semicolon (many languages' spreadsheets), tab and bar the header's own, or what a line `sep=` says."""
    n_skipped: int
    """Lines before the header."""
    n_columns: int
    """About how many there are, for a reader's buffer."""
    decimal: str
    """A comma where semicolons separate and the first row has numbers such as 0,5; else a point."""


class Rows(NamedTuple):
    """The cells of a text."""

    header: list[str]
    rows: list[list[str]]
    """Each as long as the header."""
    n_empty: int
    """Rows of separators alone, which are left out."""


def dialect_of(path: Path) -> Dialect:
    """How a text file that is not packed is to be read.

    Raises:
        OSError, UnicodeError: if it cannot.
    """
    with path.open("rb") as raw:
        encoding = encoding_of(raw.read(4))
    with path.open(encoding=encoding, newline="") as file:
        return _dialect(file, encoding, path.name)


def encoding_of(start: bytes) -> str:
    """The encoding of a text by its first four bytes."""
    marked = next((name for mark, name in BYTE_ORDER_MARKS.items() if start.startswith(mark)), None)
    return marked or ZEROS.get("".join("1" if byte else "0" for byte in start[:4]), "utf-8")


def read_rows(data: bytes, name: str) -> Rows:
    """The rows of a text.

    Args:
        data: the file's bytes.
        name: of the file.

    Raises:
        UnicodeError, ValueError, csv.Error: if it is no table.
    """
    encoding = encoding_of(data[:4])
    text = data.decode(encoding)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ValueError(f"line {line} has zero bytes, as a copy that broke off has; copy the file again, or {SAVE}")
    dialect = _dialect(io.StringIO(text, newline=""), encoding, name)
    file, rows, n_empty = io.StringIO(text, newline=""), list[list[str]](), 0
    for _ in range(dialect.n_skipped):
        file.readline()
    with _long_fields():
        reader = csv.reader(chain(file, [END]), delimiter=dialect.separator, skipinitialspace=True)
        header = next(filter(None, reader))
        if header == [END]:
            raise ValueError("it is empty; it needs a header and a row per image")
        if header[-1].endswith(END):
            raise ValueError("a quotation mark is opened in the header and never closed")
        n = len(header)
        for row in reader:
            if row and not "".join(row).strip():
                n_empty += len(row) > 1
            elif row:
                rows.append(row if len(row) == n or row == [END] else _fitted(row, n, reader.line_num, dialect))
    if not rows or rows.pop() != [END]:
        raise ValueError(f"a quotation mark is opened in row {len(rows) + 1} or before, and never closed")
    return Rows(header, rows, n_empty)


def not_text(data: bytes) -> str:
    """Where the first byte is that is no text."""
    try:
        data.decode(encoding_of(data[:4]))
    except UnicodeDecodeError as error:
        return f"it is no {error.encoding.upper()} text from line {data.count(bytes([10]), 0, error.start) + 1} on"
    except UnicodeError:
        pass
    return "it is no UTF-8 text"


def _dialect(lines: Iterator[str], encoding: str, name: str) -> Dialect:
    """How lines are a table; those without any name before its header are skipped."""
    usual = "\t" if name.lower().endswith(".tsv") else ","
    n_skipped, told, header = 0, None, ""
    for line in lines:
        header = line
        told = told or (None if n_skipped else SEPARATOR_LINE.fullmatch(line.rstrip("\r\n")))
        if not (told and n_skipped == 0) and line.strip("".join(SEPARATORS) + '" \r\n'):
            break
        n_skipped, header = n_skipped + 1, ""
    header, row = QUOTED.sub("", header), QUOTED.sub("", next(lines, ""))
    separator = max(sorted(SEPARATORS, key=lambda separator: separator != usual), key=header.count)
    separator = told[1] if told else separator
    has_commas = separator == ";" and DECIMAL_COMMA.search(row) and not DECIMAL_POINT.search(row)
    return Dialect(encoding, separator, n_skipped, header.count(separator) + 1, "," if has_commas else ".")


def _fitted(row: Sequence[str], n_columns: int, line: int, dialect: Dialect) -> list[str]:
    """A row as long as the header: separators at its end are no cells, and cells that it lacks are empty."""
    if any(cell.strip() for cell in row[n_columns:]):
        raise ValueError(
            f"line {line + dialect.n_skipped} has {len(row)} fields, the header {n_columns}; name every column, quote "
            "cells that have the separator inside, or take lines above the header away"
        )
    return [*row[:n_columns], *[MISSING] * (n_columns - len(row))]


@contextmanager
def _long_fields() -> Iterator[None]:
    """Cells may be of any length, such as reports; Python's own limit is 128 KiB."""
    before = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        yield
    finally:
        csv.field_size_limit(before)
