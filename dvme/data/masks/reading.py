"""The column of masks of a table as cells of a cache: found, looked at, and refused where they cannot be used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from dvme.data.columns import Columns, chosen_column, known_texts
from dvme.data.mask_options import MaskOptions
from dvme.data.masks.cell import ABSENT, NOTHING, PRESENT, UNSAID, Cell, Layer
from dvme.data.masks.finding import JOINT, Pieces, finder_of, found_line, pieces_of
from dvme.data.masks.looking import Looked, Seen, look_at
from dvme.data.masks.masks import digest_of
from dvme.data.masks.meaning import Meaning, meaning_of
from dvme.data.samples import MISSING
from dvme.data.tables import Table
from dvme.errors import DataError, message_of, parameter
from dvme.runtime import Progress, silent
from dvme.text import EXAMPLES, counted, some_of

MASKS = "masks"
"""The stage of its name."""


@dataclass(frozen=True)
class Told:
    """What a table tells of the masks of N images, before any file is looked for."""

    source: str
    columns: Mapping[str, list[str]]
    """Column to (N,) cells."""
    options: MaskOptions
    remarks: tuple[str, ...] = ()

    def at(self, positions: Sequence[int]) -> Told:
        """Of some images."""
        return replace(self, columns={name: [own[at] for at in positions] for name, own in self.columns.items()})


def mask_columns(table: Table, columns: Columns) -> dict[str, str]:
    """Each column of masks by its name, as it is asked for, to the one that the table has.

    Raises:
        DataError: if there is none of such a name.
    """
    found = {name: chosen_column(table, name, "mask") for name in columns.masks.columns}
    return {name: column for name, column in found.items() if column is not None}


def told_masks(table: Table, columns: Columns) -> Told | None:
    """The cells of the columns of masks; None where none are asked for.

    Raises:
        DataError: if a cell is no text.
    """
    sources = mask_columns(table, columns)
    read = {name: known_texts(table, column, columns) for name, column in sources.items()}
    remarks = tuple(line for _, lines in read.values() for line in lines)
    cells = {name: texts for name, (texts, _) in read.items()}
    return Told(f"{table.source}", cells, columns.masks, remarks) if cells else None


def joined_rows(table: Table, image: str, masks: Iterable[str]) -> Table:
    """A table with a row an image: where several rows have one image, their masks are one together.

    Args:
        table: as it was read.
        image: the column of the images.
        masks: columns of masks.

    Raises:
        DataError: by the table's `texts`, if rows of one image differ in another column that is read.
    """
    names = table.texts(image)
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        rows.setdefault(name or f"\0{row}", []).append(row)
    if len(rows) == len(names):
        return table
    several, of_masks = list(rows.values()), frozenset(masks)

    def texts(column: str) -> list[str]:
        cells = table.texts(column)
        if column in of_masks:
            return [JOINT.join(cells[row] for row in own if cells[row]) for own in several]
        found = [sorted({cells[row] for row in own} - {MISSING}) for own in several]
        differing = [names[own[0]] for own, values in zip(several, found, strict=True) if len(values) > 1]
        if differing:
            raise DataError(
                f"{table.source} has several rows for an image, whose {column!r} differs for "
                f"{counted(len(differing), 'image')}: {some_of(differing, EXAMPLES)}; write the same in each"
            )
        return [values[0] if values else MISSING for values in found]

    said = f"{len(names):,} rows are of {counted(len(rows), 'image')}; masks of one image are joined"
    return Table(table.source, table.names, len(several), texts, (*table.remarks, said))


def read_masks(
    told: Told, ids: Sequence[str], images: Sequence[Path | None], root: Path, progress: Progress = silent
) -> tuple[list[str], list[str]]:
    """Find masks and look at them.

    Args:
        told: what a table tells of N images.
        ids: what the images are called.
        images: where they are; None where that is not known, and sizes cannot be compared.
        root: where relative names of masks start.
        progress: told (`masks`, done, N).

    Returns:
        (N,) cells as a cache has them, "" for no mask; what is to be said of them, a line each.

    Raises:
        DataError: if masks cannot be used, naming the first few; or values tell no classes.
    """
    finder, options = finder_of(root), told.options
    pieces: list[list[Pieces]] = []
    problems: dict[str, str] = {}
    for at, name in enumerate(ids):
        try:
            pieces.append([pieces_of(cells[at], root, finder, options) for cells in told.columns.values()])
        except DataError as error:
            problems[name] = message_of(error)
            pieces.append([Pieces() for _ in told.columns])
    looked = look_at(pieces, images, partial(progress, MASKS), is_relative=options.is_relative)
    problems |= {name: each.problem for name, each in zip(ids, looked, strict=True) if each.problem}
    _refuse(problems, told.source, len(ids))
    meanings = _meanings(told, ids, looked)
    cells = [_cell(each, meanings) for each in looked]
    void = {
        name: "nothing but void"
        for name, each, cell in zip(ids, looked, cells, strict=True)
        if cell is not None and _is_all_void(each, meanings)
    }
    _refuse(void, told.source, len(ids))
    return ["" if cell is None else cell.text for cell in cells], [
        *told.remarks,
        *found_line(finder),
        *_remarks(told, ids, meanings, looked, cells),
    ]


def _refuse(problems: Mapping[str, str], source: str, n_images: int) -> None:
    if problems:
        shown = some_of([f"{name}: {reason}" for name, reason in problems.items()], EXAMPLES, "; ")
        raise DataError(
            f"{source}: the masks of {len(problems):,} of {counted(n_images, 'image')} cannot be used: {shown}; "
            "mend them, or leave the cell empty where the mask is not known"
        )


def _meanings(told: Told, ids: Sequence[str], looked: Sequence[Looked]) -> list[Meaning]:
    """Of each column."""
    found = []
    for at, column in enumerate(told.columns):
        seen = {name: each.seen[at] for name, each in zip(ids, looked, strict=True) if each.seen[at].pieces.is_said}
        found.append(meaning_of(column, seen, told.options, told.source))
    return found


def _cell(looked: Looked, meanings: Sequence[Meaning]) -> Cell | None:
    """What a cache is to have of an image; None where it has no mask, or nobody knows its size."""
    if looked.size is None or not any(seen.pieces.is_said for seen in looked.seen):
        return None
    is_exclusive = len(meanings) == 1
    layers, letters = [], []
    for place, (seen, meaning) in enumerate(zip(looked.seen, meanings, strict=True)):
        first = 0 if is_exclusive else place
        values = {value: index + first if index >= 0 else index for value, index in meaning.values.items()}
        is_said = seen.pieces.is_said
        layers.append(Layer(seen.pieces.files, seen.runs, values if is_said else None))
        there = {meaning.index_of(value) for value in seen.values} | ({0} if seen.runs else set())
        letters += [
            UNSAID if not is_said else PRESENT if index in there else ABSENT for index in range(len(meaning.names))
        ]
    return Cell(
        tuple(name for meaning in meanings for name in meaning.names),
        is_exclusive,
        looked.size,
        "".join(letters),
        digest_of([file.digest for seen in looked.seen for file in seen.files]),
        tuple(layers),
    )


def _is_all_void(looked: Looked, meanings: Sequence[Meaning]) -> bool:
    """Whether no pixel of any structure is known."""
    return all(
        not seen.pieces.is_said or _has_only_void(seen, meaning)
        for seen, meaning in zip(looked.seen, meanings, strict=True)
    )


def _has_only_void(seen: Seen, meaning: Meaning) -> bool:
    return bool(seen.files) and not seen.runs and {meaning.index_of(value) for value in seen.values} == {NOTHING}


def _remarks(
    told: Told,
    ids: Sequence[str],
    meanings: Sequence[Meaning],
    looked: Sequence[Looked],
    cells: Sequence[Cell | None],
) -> list[str]:
    """How masks were read, and which images have none, a line each."""
    lines = []
    for at, (column, meaning) in enumerate(zip(told.columns, meanings, strict=True)):
        n_masks = sum(each.seen[at].pieces.is_said for each in looked)
        by_files = any(each.seen[at].files for each in looked)
        step = ""
        if len(meaning.names) > 1 and not told.options.classes:
            step = "; " + parameter("mask_classes") + " names them, " + parameter("mask_void")
            step += " those that count for nothing"
        what = meaning.words if by_files else f"runs of {meaning.names[0]}"
        lines.append(f"masks of column {column!r}: {counted(n_masks, 'image')}; {what}" + step)
    n_unsaid = sum(all(not seen.pieces.is_said for seen in each.seen) for each in looked)
    if n_unsaid:
        lines.append(f"{counted(n_unsaid, 'image')} without a mask, for the cell is empty")
    lost = [
        name
        for name, each, cell in zip(ids, looked, cells, strict=True)
        if cell is None and any(seen.pieces.is_said for seen in each.seen)
    ]
    if lost:
        said = "without a mask, for the image cannot be read and only it tells the size of the mask"
        lines.append(f"{counted(len(lost), 'image')} {said}: {some_of(lost, EXAMPLES)}")
    return lines
