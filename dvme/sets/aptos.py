"""APTOS 2019: photographs of the retina, graded from 0, no diabetic retinopathy, to 4, the proliferative kind.

Source: the competition at https://www.kaggle.com/c/aptos2019-blindness-detection, whose test grades nobody has.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from dvme.data.listing import why
from dvme.data.samples import MISSING
from dvme.data.sources import read_image
from dvme.data.tables import Table
from dvme.errors import DataError
from dvme.sets.building import Published
from dvme.sets.unpacked import Unpacked, joined_tables
from dvme.text import counted

IMAGE, GRADE, GRADES = "id_code", "diagnosis", ("0", "1", "2", "3", "4")
N_IMAGES = 3_662
OTHERS = {"train": ("train_1.csv",), "val": ("valid.csv",), "test": ("test.csv",)}
"""Tables of a split that others have made of the graded images."""


def published(unpacked: Unpacked) -> Published:
    """What the publisher says; images without a grade are no rows."""
    table, splits, remarks, beside = _table(unpacked)
    grades = _grades(table)
    images = unpacked.find(table.texts(IMAGE))
    columns = {"label": grades, **({"split": splits} if len(set(splits)) > 1 else {})}
    remarks.append("the grades 0 to 4 are in order, and dvme takes them so, for they are numbers")
    remarks += _copies(unpacked, images, grades)
    return Published(images=images, columns=columns, remarks=remarks, beside=beside)


def _table(unpacked: Unpacked) -> tuple[Table, list[str], list[str], list[str]]:
    """The graded images, (N,) parts of somebody's split, remarks, and the places of pictures without a grade."""
    remarks, beside = list[str](), list[str]()
    test = unpacked.table("test.csv", needed=(IMAGE,)) if unpacked.place("test.csv") else None
    if test is not None and GRADE in test.names:
        there = {part: names for part, names in OTHERS.items() if unpacked.place(*names)}
        tables = {part: unpacked.table(*names, needed=(IMAGE, GRADE)) for part, names in there.items()}
        if "train" not in tables:
            tables["train"] = unpacked.table("train.csv", needed=(IMAGE, GRADE))
        remarks.append("test.csv has grades, and so the split is not the publisher's, whose test grades nobody has")
        return (
            joined_tables([*tables.values()]),
            [p for p, t in tables.items() for _ in range(t.n_rows)],
            remarks,
            beside,
        )
    table = unpacked.table("train.csv", needed=(IMAGE, GRADE), n_rows=N_IMAGES)
    if test is not None:
        beside = [place for place in unpacked.find(test.texts(IMAGE)) if place is not None]
        n = counted(test.n_rows, "image")
        remarks.append(
            f"{n} of test.csv, of which nobody has the grades, left out; predict takes their folder as it is"
        )
    remarks.append("there is no official split of graded images: dvme draws one")
    return table, [MISSING] * table.n_rows, remarks, beside


def _grades(table: Table) -> list[str]:
    """(N,) grades.

    Raises:
        DataError: naming the row of one that is none.
    """
    grades = [cell.removesuffix(".0") for cell in table.texts(GRADE)]
    for row, grade in enumerate(grades, start=1):
        if grade and grade not in GRADES:
            raise DataError(f"column {GRADE!r} of {table.source} has {grade!r} in row {row}; a grade is 0 to 4")
    return grades


def _copies(unpacked: Unpacked, images: Sequence[str | None], grades: Sequence[str]) -> list[str]:
    """Lines on pictures that are there twice to the byte; only files of one size are read."""
    by_size, by_content = defaultdict[int, list[int]](list), defaultdict[bytes, list[int]](list)
    try:
        for row, place in enumerate(images):
            if place is not None and (unpacked.root / place).is_file():
                by_size[(unpacked.root / place).stat().st_size].append(row)
        for row in [row for rows in by_size.values() if len(rows) > 1 for row in rows]:
            by_content[read_image(unpacked.root / (images[row] or "")).content_id].append(row)
    except OSError as error:
        raise DataError(f"{error.filename or unpacked.root} cannot be read: {why(error)}; make it readable") from error
    sets = [rows for rows in by_content.values() if len(rows) > 1]
    n_more = sum(len(rows) - 1 for rows in sets)
    n_torn = sum(len({grades[row] for row in rows}) > 1 for rows in sets)
    said = f"{counted(n_more, 'picture')} the same as another to the byte: dvme takes copies for one image"
    torn = f"; {counted(n_torn, 'image')} with copies of different grades, which then have none" if n_torn else ""
    n_packed = len(images) - images.count(None) - sum(map(len, by_size.values()))
    packed = [f"{counted(n_packed, 'picture')} in archives, where copies were not looked for"] if n_packed else []
    return [said + torn, *packed] if sets else packed
