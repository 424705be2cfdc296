"""Tables: CSV, TSV, JSON Lines, Parquet or Excel, with whatever encoding, separator and header people have."""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dvme.data import excel
from dvme.data.cells import as_texts, python_texts
from dvme.data.delimited import SAVE, not_text, read_rows
from dvme.data.json_lines import read_objects
from dvme.data.samples import MISSING
from dvme.data.unpacking import PARQUET, beginning, is_workbook, unpacked
from dvme.errors import DataError
from dvme.text import counted, first_few, first_line

GZIPPED = ".gz"
TEXT_SUFFIXES, PACKED = (".csv", ".tsv", ".jsonl"), (GZIPPED, ".zip")
TABLE_SUFFIXES = (
    *TEXT_SUFFIXES,
    *(f"{suffix}{packed}" for packed in PACKED for suffix in TEXT_SUFFIXES),
    ".parquet",
    *excel.SUFFIXES,
)
TABLES = ".csv, .tsv or .jsonl (also as .gz or .zip), .parquet, .xlsx or .xlsm"
"""What may be a table, in words."""
OTHER_TABLES = {
    ".xls": "save it as .xlsx, or as CSV UTF-8",
    ".xlsb": "save it as .xlsx, or as CSV UTF-8",
    ".ods": "save it as .xlsx, or as CSV UTF-8",
    ".numbers": "export it as .xlsx, or as CSV",
    ".txt": "a table of text is called .csv or .tsv, rename it",
    ".tab": "a table with tabs is called .tsv, rename it",
    ".json": "write an object on each line, as .jsonl",
}
"""What else people have, and what to do with it."""
INVISIBLE = "\u200b\u2060\ufeff"
TEXT_TYPES = ("string", "large_string", "dictionary")
"""How the types of texts, and of categories, begin in pyarrow."""


@dataclass(frozen=True)
class Table:
    """Columns of text."""

    source: Path
    """The file."""
    names: list[str]
    """Of the columns, without blanks around them; "" for one without a name."""
    n_rows: int
    texts: Callable[[str], list[str]]
    """From a column's name to its stripped values; an empty cell is "". DataError if they are no text."""
    remarks: tuple[str, ...] = ()
    """What was passed over, a line each."""
    typed: frozenset[str] = frozenset()
    """Columns of another type than text, where the file tells types."""


def table_file(path: Path) -> tuple[Path, str | None]:
    """The file of a table, and the sheet that is named as a file in it would be, `BOOK.xlsx/SHEET`."""
    if path.parent.suffix.lower() in excel.SUFFIXES and path.parent.is_file():
        return path.parent, path.name
    return path, None


def is_table_name(path: Path) -> bool:
    """Whether a file is a table by its name."""
    return table_file(path)[0].name.lower().endswith(TABLE_SUFFIXES)


def is_packed_name(path: Path) -> bool:
    """Whether a file is a packed table by its name, `m.csv.zip`, and so no container of images."""
    return is_table_name(path) and path.suffix.lower() in PACKED


def check_table_name(
    path: Path, what: str = "a manifest", *, other: str = "", besides: Sequence[str] = (), by: str = ""
) -> None:
    """Refuse a file that is no table by its name.

    Args:
        path: the file.
        what: it is to be.
        other: what may be given besides.
        besides: further suffixes.
        by: how it was given.

    Raises:
        DataError: saying what a table is, or what to do with this one.
    """
    if not is_table_name(path):
        step = OTHER_TABLES.get(path.suffix.lower(), f"give {other}a file of {', '.join((TABLES, *besides))}")
        raise DataError(f"{path} is not {what}; {step}" + by)


def read_table(path: Path) -> Table:
    """Read a table. Its content says whether it is packed, Excel or Parquet; else its name says what it is.

    A column of a Parquet file is read when it is asked for.

    Raises:
        DataError: if it cannot be read, or two columns have one name.
    """
    file, sheet = table_file(path)
    check_file(file)
    with explained(file):
        if file.suffix.lower() == ".parquet" or beginning(file).startswith(PARQUET):
            return _read_parquet(file)
        if is_workbook(file):
            return _read_sheet(file, sheet)
        data, name = unpacked(file)
        return _read_objects(file, data) if name.lower().endswith(".jsonl") else _read_text(file, data, name)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what readers of tables raise into one line."""
    try:
        yield
    except DataError:
        raise
    except UnicodeError as error:
        data = error.object if isinstance(error, UnicodeDecodeError) else b""
        raise DataError(f"cannot read the manifest {path}: {not_text(data)}; {SAVE}") from error
    except (OSError, ValueError, csv.Error, EOFError, NotImplementedError, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(f"cannot read the manifest {path}: {first_line(error)}") from error


def check_file(path: Path) -> None:
    """Refuse what is there and no file: a pipe would be waited for, for ever.

    Raises:
        DataError: saying what it is.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder; name a file")
    if path.exists() and not path.is_file():
        raise DataError(f"{path} is a pipe, socket or device; name a file")


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
        schema, n_rows = file.schema_arrow, file.metadata.num_rows
    originals = clean_names(schema.names, path)
    plain = {name for name, kind in zip(schema.names, schema.types, strict=True) if f"{kind}".startswith(TEXT_TYPES)}

    def texts(name: str) -> list[str]:
        with explained(path), pq.ParquetFile(path) as file:
            return as_texts(file.read(columns=[originals[name]]).column(originals[name]), name, path)

    typed = frozenset(name for name, original in originals.items() if original not in plain)
    return Table(path, list(originals), n_rows, texts, typed=typed)


def _read_sheet(path: Path, wanted: str | None) -> Table:
    sheet = excel.read_sheet(path, wanted)
    place = {name: position for position, name in enumerate(sheet.header)}
    originals = clean_names(sheet.header, path)
    return Table(path, list(originals), sheet.n_rows, lambda name: sheet.texts(place[originals[name]]), sheet.remarks)


def _read_objects(path: Path, data: bytes) -> Table:
    names, rows = read_objects(data)
    originals = clean_names(names, path)

    def texts(name: str) -> list[str]:
        return python_texts([row.get(originals[name]) for row in rows], name, path)

    return Table(path, list(originals), len(rows), texts)


def _read_text(path: Path, data: bytes, name: str) -> Table:
    header, rows, n_empty = read_rows(data, name)
    originals = clean_names(header, path)
    columns = zip(*rows, strict=True) if rows else ([] for _ in header)
    cells = dict(zip(header, columns, strict=True))
    remarks = (f"{counted(n_empty, 'row')} of {path.name} without any cell passed over",) if n_empty else ()

    def texts(name: str) -> list[str]:
        return [cell.strip() for cell in cells[originals[name]]]

    return Table(path, list(originals), len(rows), texts, remarks)
