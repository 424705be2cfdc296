"""Tables that fit: in a narrow terminal names fold, then columns go or stand below, then every row is a block."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.box import SIMPLE_HEAD, Box
from rich.cells import cell_len, chop_cells
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from dvme_cli.streams import drawable

LEAST_TABLE = 80
"""Columns of a terminal; in fewer, a table that does not fit as it is becomes a block for every row."""
NAME_WIDTH = 18
"""Names of more characters fold, down to this many."""
LABEL_WIDTH = 10
"""The same of what stands before a value of a block."""
WIDE, NARROW, TIGHT = (0, 1), (0, 1, 0, 0), (0, 0)
"""Padding of a cell; the blank between two columns comes to it."""

Row = tuple[list[Text], str]
"""Cells, and the style of the row."""
Part = tuple[int, ...]
"""Columns that stand side by side, after the keys."""
Pad = tuple[int, int] | tuple[int, int, int, int]


@dataclass(kw_only=True)
class Table:
    """Rows whose first columns, the keys, say what they are about: these are in every layout."""

    columns: Sequence[str]
    keys: int
    """How many of the columns are keys. Names in them may fold."""
    numeric: int
    """So many of the last columns are flushed right."""
    drop: Sequence[str] = ()
    """Columns that are left out where the table does not fit, the least worth first."""
    abreast: int | None = None
    """At most so many columns stand beside the keys, the others below them. None: as many as there are."""
    grouped: int = 0
    """So many of the keys are shown where they change."""
    padding: Pad = WIDE
    rows: list[Row] = field(default_factory=list)

    def add_row(self, *cells: str | Text, style: str = "") -> None:
        """Add a row, which may be shorter than the columns; nothing in a cell is read as markup."""
        texts = [cell if isinstance(cell, Text) else Text(cell) for cell in cells]
        self.rows.append((texts + [Text()] * (len(self.columns) - len(texts)), style))

    def show(self, target: Console) -> None:
        """Print it in the widest layout that fits, and say what that leaves out."""
        sheet = _Sheet(self, target)
        values = [*range(self.keys, len(self.columns))]
        whole = _even(values, self.abreast or len(values))
        paddings = [(self.padding, False), (NARROW, False), (NARROW, True), (TIGHT, True)]
        for n_gone in range(len(self.drop) + 1 if target.width >= LEAST_TABLE else 1):
            gone = set(self.drop[:n_gone])
            parts = [tuple(index for index in part if self.columns[index] not in gone) for part in whole]
            for padding, folds in paddings:
                if all(sheet.width(part, padding, folds=folds) <= target.width for part in parts):
                    sheet.show(parts, padding)
                    self._say_what_is_gone(gone, target)
                    return
        kept = [index for index in values if self.columns[index] not in self.drop]
        below = sheet.split(kept) if target.width >= LEAST_TABLE else None
        if below is None:
            sheet.show_blocks()
        else:
            is_roomy = all(sheet.width(part, NARROW, folds=False) <= target.width for part in below)
            sheet.show(below, NARROW if is_roomy else TIGHT)
            self._say_what_is_gone(set(self.drop), target)

    def _say_what_is_gone(self, gone: set[str], target: Console) -> None:
        names = ", ".join(name for name in self.columns if name in gone)
        if names:
            line = f"Left out, for {target.width} columns are too few: {names}; a wider terminal or --json shows them."
            target.print(line, markup=False)


class _Sheet:
    """The cells of a table, spelled as the console can draw them."""

    def __init__(self, table: Table, target: Console) -> None:
        self.target, self.keys, self.grouped = target, table.keys, table.grouped
        lines = drawable(str(SIMPLE_HEAD), target.encoding)
        self.box = Box(lines, ascii=True)  # drawn as it is: rich's own stand-in for it has a frame
        self.titles = [drawable(name, target.encoding) for name in table.columns]
        self.rows = [([_drawn(cell, target.encoding) for cell in cells], style) for cells, style in table.rows]
        self.first_numeric = len(self.titles) - table.numeric
        self.widths = [max([0, *(cells[i].cell_len for cells, _ in self.rows)]) for i in range(len(self.titles))]
        """Of the widest cell in each column, without the title."""

    def show(self, parts: Sequence[Part], padding: Pad) -> None:
        """Print the columns of every part beside the keys, one table below the other."""
        for part in parts:
            self.target.print(self._table(part, padding))

    def show_blocks(self) -> None:
        """Print a block for every row: the keys, then a line for each value."""
        for cells, style in self.rows:
            self.target.print()
            keys = ", ".join(text for text in (cell.plain.strip() for cell in cells[: self.keys]) if text)
            self.target.print(Text("\n".join(folded(keys, self.target.width)), style or "bold"))
            self.target.print(Padding(self._values(cells), (0, 0, 0, 2)))
        self.target.print()

    def width(self, part: Part, padding: Pad, *, folds: bool) -> int:
        """Columns of the terminal that a table takes; the fewest that it can do with, if names fold."""
        options = self.target.options.update(width=10_000)
        full = self.target.measure(self._table(part, padding), options=options).maximum
        return full - sum(self._can_give(index) for index in (*range(self.keys), *part)) if folds else full

    def split(self, values: Sequence[int]) -> list[Part] | None:
        """The columns on as few tables as fit the terminal; None if one of them is too wide beside the keys."""
        parts: list[Part] = []
        for index in values:
            longer = (*parts[-1], index) if parts else (index,)
            if not parts or not self._fits(longer):
                if not self._fits((index,)):
                    return None
                parts.append((index,))
            else:
                parts[-1] = longer
        even = _even(values, math.ceil(len(values) / len(parts)))
        is_alike = all(index >= self.first_numeric for index in values)
        return even if is_alike and all(self._fits(part) for part in even) else parts

    def _fits(self, part: Part) -> bool:
        return self.width(part, TIGHT, folds=True) <= self.target.width

    def _can_give(self, index: int) -> int:
        """By how much a column shrinks when its names fold: those of the keys, and titles that are names."""
        title = cell_len(self.titles[index])
        full = max(self.widths[index], title)
        least = min(full, NAME_WIDTH)
        return full - (least if index < self.keys else max(self.widths[index], least))

    def _table(self, part: Part, padding: Pad) -> RichTable:
        table = RichTable(box=self.box, pad_edge=False, padding=padding)
        columns = (*range(self.keys), *part)
        for index in columns:
            is_right = index >= self.first_numeric
            table.add_column(
                Name(Text(self.titles[index])),
                justify="right" if is_right else "left",
                no_wrap=not self._can_give(index),
            )
        above: list[Text] = []
        for cells, style in self.rows:
            shown = [Text() if i < self.grouped and cells[: i + 1] == above[: i + 1] else cells[i] for i in columns]
            above = cells
            table.add_row(*map(Name, shown), style=style)
        return table

    def _values(self, cells: list[Text]) -> RichTable:
        room = self.target.width - LABEL_WIDTH - 4
        table = RichTable.grid(padding=(0, 2, 0, 0))
        table.add_column()
        table.add_column(no_wrap=all(cell.cell_len <= room for cell in cells[self.keys :]))
        for title, cell in zip(self.titles[self.keys :], cells[self.keys :], strict=True):
            if cell.plain.strip():
                table.add_row(Name(Text(title), LABEL_WIDTH), cell)
        return table


class Name:
    """A name that folds where it is too long, at its joints if they are near enough."""

    def __init__(self, text: Text, least: int = NAME_WIDTH) -> None:
        self.text, self.least = text, least

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """What rich asks for: the width that it needs at least, and at most."""
        full = self.text.cell_len
        return Measurement(min(full, self.least), full).with_maximum(options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """What rich asks for: the name in the width that it has."""
        lines = folded(self.text.plain, options.max_width)
        yield Text("\n".join(lines), style=self.text.style, justify=options.justify, no_wrap=True)


def folded(name: str, width: int) -> list[str]:
    """The lines of a name: broken before `@` and `+`, after `/`, `:`, `,`, `-`, `_` and blanks, or else anywhere."""
    lines = [""]
    for piece in re.split(r"(?=[@+])|(?<=[/:,\-_ ])(?<!\+ )", name):
        if cell_len(lines[-1] + piece.rstrip()) <= width:
            lines[-1] += piece
        else:
            lines = (lines if lines[-1].strip() else lines[:-1]) + chop_cells(piece, width)
    return [line.rstrip() for line in lines]


def _drawn(cell: Text, encoding: str) -> Text:
    """The cell as the encoding has it, on one line."""
    return Text(" ".join(drawable(cell.plain, encoding).splitlines()), style=cell.style)


def _even(values: Sequence[int], most: int) -> list[Part]:
    """Parts of like length, of at most so many columns."""
    n_parts = max(1, math.ceil(len(values) / max(1, most)))
    length = max(1, math.ceil(len(values) / n_parts))
    return [tuple(values[start : start + length]) for start in range(0, len(values), length)] or [()]
