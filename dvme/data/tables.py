"""Tables of text: CSV (also as .gz), TSV or Parquet, with whatever encoding, separator and header people have."""

from __future__ import annotations

import codecs
import csv
import gzip
import re
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any

from dvme.data.cells import as_texts
from dvme.data.samples import MISSING
from dvme.errors import DataError
from dvme.text import first_few

SEPARATORS = (",", ";", "\t")
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
PACKED = ".gz"
"""The suffix of a table of text that is compressed."""
END = "\0end"
"""A row of its own behind the last line, unless a quotation mark was left open."""
INVISIBLE = "\u200b\u2060\ufeff"
SAVE = "save it as UTF-8 (spreadsheets call it CSV UTF-8)"


@dataclass(frozen=True)
class Dialect:
    """How a text file is a table."""

    encoding: str
    """By its byte-order mark, else UTF-8."""
    separator: str
    """Of comma, semicolon (spreadsheets in many languages) and tab the header's own, or what a line `sep=` says."""
    n_skipped: int
    """Lines before the header."""
    n_columns: int
    """About how many there are, for a reader's buffer."""
    decimal: str
    """A comma where semicolons separate and the first row has numbers such as 0,5; else a point."""


@dataclass(frozen=True)
class Table:
    """Columns of text."""

    source: Path
    names: list[str]
    """Of the columns, without blanks around them; "" for one without a name."""
    n_rows: int
    texts: Callable[[str], list[str]]
    """From a column's name to its stripped values; an empty cell is "". DataError if they are no text."""


def read_table(path: Path) -> Table:
    """Read a table. Of a Parquet file, a column is read when it is asked for.

    Raises:
        DataError: if it cannot be read, or two columns have one name.
    """
    check_file(path)
    with explained(path):
        return _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_text(path)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what readers of tables raise into one line."""
    try:
        yield
    except DataError:
        raise
    except UnicodeError as error:
        raise DataError(f"cannot read the manifest {path}: {not_text(path)}; {SAVE}") from error
    except (OSError, EOFError, zlib.error, ValueError, csv.Error) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"cannot read the manifest {path}: {reason}") from error


def check_file(path: Path) -> None:
    """Refuse what is there and no file: a pipe would be waited for, for ever.

    Raises:
        DataError: saying what it is.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder; name a file")
    if path.exists() and not path.is_file():
        raise DataError(f"{path} is a pipe, socket or device; name a file")


def opened(path: Path, mode: str, **how: Any) -> IO[Any]:
    """A file, or what one whose name ends in .gz was compressed from."""
    opens: Callable[..., IO[Any]] = gzip.open if path.suffix.lower() == PACKED else Path.open
    return opens(path, mode, **how)


def dialect_of(path: Path) -> Dialect:
    """How a text file is to be read.

    Raises:
        OSError, UnicodeError: if it cannot.
    """
    with opened(path, "rb") as file:
        start = file.read(4)
    encoding = next((name for mark, name in BYTE_ORDER_MARKS.items() if start.startswith(mark)), "utf-8")
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    with opened(path, "rt", encoding=encoding, newline="") as file:
        header = file.readline()
        told = SEPARATOR_LINE.fullmatch(header.rstrip("\r\n"))
        header = QUOTED.sub("", file.readline() if told else header)
        row = QUOTED.sub("", file.readline())
    separator = max(sorted(SEPARATORS, key=lambda separator: separator != usual), key=header.count)
    separator = told[1] if told else separator
    has_commas = separator == ";" and DECIMAL_COMMA.search(row) and not DECIMAL_POINT.search(row)
    return Dialect(encoding, separator, int(bool(told)), header.count(separator) + 1, "," if has_commas else ".")


def header_of(path: Path) -> list[str]:
    """The names of a text file's columns, without a look at what lies below.

    Raises:
        DataError: if it cannot be read.
    """
    with explained(path):
        dialect = dialect_of(path)
        with opened(path, "rt", encoding=dialect.encoding, newline="") as file:
            for _ in range(dialect.n_skipped):
                file.readline()
            return [clean_name(name) for name in next(csv.reader(file, delimiter=dialect.separator), [])]


def clean_name(name: str) -> str:
    """A header cell without blanks around it, of any kind."""
    return name.strip().strip(INVISIBLE).strip()


def clean_names(names: Sequence[str], source: Path) -> dict[str, str]:
    """Cleaned name to the one in the file.

    Raises:
        DataError: if two columns have one name.
    """
    cleaned = [clean_name(name) for name in names]
    repeated = [name for name, count in Counter(cleaned).items() if count > 1 and name != MISSING]
    if repeated:
        raise DataError(f"{source} has more than one column {first_few(map(repr, repeated))}; give each its own name")
    return dict(zip(cleaned, names, strict=True))


def find_column(names: Sequence[str], wanted: str, source: Path, step: str = "rename one of them") -> str | None:
    """The column of a name, else the only one that differs from it in capitals and blanks alone, else None.

    Raises:
        DataError: if more than one does.
    """
    if wanted in names:
        return wanted
    alike = [name for name in names if _key(name) == _key(wanted) and name]
    if len(alike) > 1:
        raise DataError(f"{source} has columns {', '.join(map(repr, alike))} for {wanted!r}; " + step)
    return alike[0] if alike else None


def _key(name: str) -> str:
    return "".join(name.split()).casefold()


def _read_parquet(path: Path) -> Table:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        originals = clean_names(file.schema_arrow.names, path)
        n_rows = file.metadata.num_rows

    def texts(name: str) -> list[str]:
        with explained(path), pq.ParquetFile(path) as file:
            return as_texts(file.read(columns=[originals[name]]).column(originals[name]), name, path)

    return Table(path, list(originals), n_rows, texts)


def _read_text(path: Path) -> Table:
    dialect = dialect_of(path)
    with opened(path, "rt", encoding=dialect.encoding, newline="") as file, _long_fields():
        for _ in range(dialect.n_skipped):
            file.readline()
        reader = csv.reader(chain(file, [END]), delimiter=dialect.separator, skipinitialspace=True)
        header = next(filter(None, reader))
        if header[-1].endswith(END) and header != [END]:
            raise ValueError("a quotation mark is opened in the header and never closed")
        if any("\0" in cell for cell in header) and header != [END]:
            raise DataError(f"cannot read the manifest {path}: it has zero bytes, as UTF-16 has; {SAVE}")
        if header == [END] or not any(header):
            raise ValueError("it is empty; it needs a header and a row per image")
        originals = clean_names(header, path)
        n, rows = len(header), list[list[str]]()
        for row in reader:
            if row:
                rows.append(row if len(row) == n or row == [END] else _fitted(row, n, reader.line_num))
    if not rows or rows.pop() != [END]:
        raise ValueError(f"a quotation mark is opened in row {len(rows) + 1} or before, and never closed")
    columns = zip(*rows, strict=True) if rows else ([] for _ in header)
    cells = dict(zip(header, columns, strict=True))
    return Table(path, list(originals), len(rows), lambda name: [cell.strip() for cell in cells[originals[name]]])


def _fitted(row: list[str], n_columns: int, line: int) -> list[str]:
    """A row as long as the header: separators at its end are no cells, and cells that it lacks are empty."""
    if any(cell.strip() for cell in row[n_columns:]):
        raise ValueError(
            f"line {line} has {len(row)} fields, the header {n_columns}; name every column, or quote cells that have "
            "the separator inside"
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


def not_text(path: Path) -> str:
    """Where the first byte is that is no UTF-8."""
    with opened(path, "rb") as file:
        data = file.read()
    try:
        data.decode(dialect_of(path).encoding)
    except UnicodeDecodeError as error:
        return f"it is no {error.encoding.upper()} text from line {data.count(bytes([10]), 0, error.start) + 1} on"
    except UnicodeError:
        pass
    return "it is no UTF-8 text"
