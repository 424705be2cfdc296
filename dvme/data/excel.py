"""Tables as Excel workbooks: one sheet of them, each cell as the text that Excel shows for it."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

from dvme.data.cells import python_texts
from dvme.data.samples import MISSING
from dvme.errors import DataError
from dvme.text import CHOICES, counted, first_few, some_of

SUFFIXES = (".xlsx", ".xlsm")
MOST_DIGITS = 15
"""Of a number, that Excel keeps."""
ONLY_ZEROS = re.compile(r"0{2,}")
"""A number format by which Excel shows 7 as 007."""
NOT_AVAILABLE = "#N/A"
MERGED = re.compile(rb"<(?:\w+:)?mergeCell\s[^>]*?ref=\"([A-Z]+\d+:[A-Z]+\d+)\"")
ROW = re.compile(rb"<(?:\w+:)?row\s([^>]*)>")
HIDDEN, NUMBER = re.compile(rb"\bhidden=\"(?:1|true)\""), re.compile(rb"\br=\"(\d+)\"")
FORMULA = re.compile(
    rb"<(?:\w+:)?c\s([^>]*)>\s*"
    rb"<(?:\w+:)?f\b[^<]*(?:</(?:\w+:)?f>)?\s*"
    rb"(?:<(?:\w+:)?v(?:\s*/>|></(?:\w+:)?v>))?\s*</(?:\w+:)?c>"
)
"""A cell with a formula and without a value."""
PLACE, IS_TEXT = re.compile(rb"\br=\"([A-Z]+\d+)\""), re.compile(rb"\bt=\"str\"")
"""A formula whose result is the empty text has no value either; it is marked as text."""


@dataclass(frozen=True)
class Sheet:
    """A header and the rows below it, without those and without columns that have no cell with anything in it."""

    header: list[str]
    n_rows: int
    texts: Callable[[int], list[str]]
    """From a column's position to its cells."""
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class _Found:
    """What a sheet has; rows and columns are counted from 1, as in Excel."""

    place: str
    """How messages name it."""
    rows: dict[int, Sequence[Any]]
    """The cells of each row that has any, from column A on."""
    merged: list[tuple[int, int, int, int]]
    """First column, first row, last column, last row."""
    uncomputed: set[tuple[int, int]]
    """(row, column) of formulas whose result is not in the file."""
    hidden: set[int]
    """Rows that Excel does not show."""


def read_sheet(path: Path, wanted: str | None) -> Sheet:
    """Read one sheet.

    Args:
        path: of the workbook.
        wanted: the sheet's name; None: the only visible one that has rows.

    Raises:
        DataError: if there is no such sheet, or more than one; if openpyxl is not there; by `texts`, if a cell cannot
            be taken at its value.
        OSError, ValueError, zipfile.BadZipFile: if the file is damaged.
    """
    openpyxl = _openpyxl(path)
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is not looked at here: colours, validation, extensions
        try:
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
            sheet, remarks = _chosen(book, path, wanted)
            found = _found(sheet, path)
        except (KeyError, TypeError, IndexError, AttributeError, SyntaxError) as error:
            raise ValueError(f"it is damaged ({type(error).__name__}: {error}); save it again") from error
    return _sheet(found, remarks)


def _openpyxl(path: Path) -> ModuleType:
    try:
        import openpyxl
    except ImportError as error:
        raise DataError(f"{path} is an Excel file, which needs openpyxl: pip install 'dvme[excel]'") from error
    module: ModuleType = openpyxl
    return module


def _chosen(book: Any, path: Path, wanted: str | None) -> tuple[Any, tuple[str, ...]]:
    """The sheet, and a line for what is passed over."""
    sheets = {sheet.title: sheet for sheet in book.worksheets}
    if wanted is not None:
        alike = [title for title in sheets if title.casefold() == wanted.casefold()]  # Excel takes them for one
        if not alike:
            raise DataError(f"{path} has no sheet {wanted!r}; it has: {first_few(map(repr, sheets), CHOICES)}")
        return sheets[alike[0]], ()
    filled = {title: sheet for title, sheet in sheets.items() if _has_rows(sheet)}
    visible = [title for title, sheet in filled.items() if sheet.sheet_state == "visible"]
    if len(visible) == 1:
        others = [title for title in filled if title not in visible]
        passed = f"; not read, for Excel hides it: {some_of(others)}" if others else ""
        return filled[visible[0]], (f"sheet {visible[0]!r} of {path.name}{passed}",) if len(sheets) > 1 else ()
    names = visible or list(filled)
    if not names:
        raise DataError(f"{path} has no sheet with rows; it needs a header and a row per image")
    which = "sheets with rows" if visible else "rows in hidden sheets only"
    shown = first_few(map(repr, names), CHOICES)
    raise DataError(f"{path} has {which}: {shown}; name one of them as {path / names[0]}")


def _has_rows(sheet: Any) -> bool:
    """Whether there are two rows with anything in them."""
    sheet.reset_dimensions()  # what a file says of its own size may be wrong
    filled = (row for row in sheet.iter_rows(values_only=True) if any(value is not None for value in row))
    return len(list(islice(filled, 2))) > 1


def _found(sheet: Any, path: Path) -> _Found:
    """The cells of a sheet, and what openpyxl tells only of a sheet that it holds as a whole."""
    from openpyxl.utils.cell import coordinate_to_tuple, range_boundaries

    with zipfile.ZipFile(path) as archive:
        xml = archive.read(sheet._worksheet_path)  # noqa: SLF001
    formulas = [match[1] for match in FORMULA.finditer(xml) if not IS_TEXT.search(match[1])]
    uncomputed = {coordinate_to_tuple(place[1].decode()) for cell in formulas if (place := PLACE.search(cell))}
    with_formulas = {row for row, _ in uncomputed}
    sheet.reset_dimensions()
    rows = {
        number: row
        for number, row in enumerate(sheet.iter_rows(), start=1)
        if number in with_formulas or any(_is_filled(cell) for cell in row)
    }
    shut = [match[1] for match in ROW.finditer(xml) if HIDDEN.search(match[1])]
    hidden = {int(number[1]) for row in shut if (number := NUMBER.search(row))}
    merged = [range_boundaries(match[1].decode()) for match in MERGED.finditer(xml)]
    return _Found(f"{path}, sheet {sheet.title!r}", rows, merged, uncomputed, hidden)


def _sheet(found: _Found, remarks: tuple[str, ...]) -> Sheet:
    if not found.rows:
        raise DataError(f"{found.place}, is empty; it needs a header and a row per image")
    top, *numbers = found.rows
    width = max(map(len, found.rows.values()))
    in_header = {column: cell for column, cell in enumerate(found.rows[top], start=1) if _is_filled(cell)}
    names = dict(zip(in_header, _texts(in_header.values(), found.place), strict=True))
    _check_merged(found, top, top, range(1, width + 1), "its header")
    used = [
        column
        for column in range(1, width + 1)
        if column in names or any(_is_filled(_cell(found.rows[number], column)) for number in numbers)
    ]
    n_hidden = len(found.hidden.intersection(numbers))
    if n_hidden:
        remarks += (f"{counted(n_hidden, 'row')} that Excel hides or filters away, read like any other",)

    def texts(position: int) -> list[str]:
        column = used[position]
        called = f"column {names.get(column, MISSING)!r}"
        if numbers:
            _check_merged(found, numbers[0], numbers[-1], [column], called)
        missing = sorted(row for row, own in found.uncomputed if own == column)
        if missing:
            problem = f"{counted(len(missing), 'formula')} without a result in {called}, the first in row {missing[0]}"
            raise DataError(f"{found.place}, has {problem}; open it in Excel, let it compute, and save it")
        return _texts([_cell(found.rows[number], column) for number in numbers], f"{found.place}, {called}")

    return Sheet([names.get(column, MISSING) for column in used], len(numbers), texts, remarks)


def _check_merged(found: _Found, top: int, bottom: int, columns: Sequence[int], where: str) -> None:
    """Refuse cells that are one: only the first of them has a value."""
    for left, first, right, last in found.merged:
        if first <= bottom and last >= top and any(left <= column <= right for column in columns):
            place = f"rows {first} to {last}" if last > first else f"row {first}"
            raise DataError(f"{found.place}, has merged cells in {where} ({place}); unmerge them, and fill each")


def _cell(row: Sequence[Any], column: int) -> Any:
    return row[column - 1] if column <= len(row) else None


def _is_filled(cell: Any) -> bool:
    return cell is not None and cell.value is not None and bool(f"{cell.value}".strip())


def _texts(cells: Iterable[Any], place: str) -> list[str]:
    return python_texts([_value(cell, place) for cell in cells], source=place)


def _value(cell: Any, place: str) -> Any:
    """What a cell holds.

    Raises:
        DataError: if it is an error, or a number that has lost digits.
    """
    if cell is None or cell.value is None:
        return None
    value = cell.value
    if cell.data_type == "e" and value != NOT_AVAILABLE:
        raise DataError(f"{place}, has the error {value} in {cell.coordinate}; mend the formula, or empty the cell")
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        return value
    if abs(value) >= 10**MOST_DIGITS:
        problem = f"has a number of more than {MOST_DIGITS} digits in {cell.coordinate}, and Excel keeps no more"
        raise DataError(f"{place}, {problem}; keep such identifiers as text")
    is_padded = value >= 0 and ONLY_ZEROS.fullmatch(cell.number_format or "")
    return str(int(value)).zfill(len(cell.number_format)) if is_padded else value
