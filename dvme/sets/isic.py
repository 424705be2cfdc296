"""ISIC: photographs of skin lesions by dermatoscope, of several years; the headers of the tables tell which.

Source: https://challenge.isic-archive.com/data; Tschandl et al. 2018 (HAM10000); Combalia et al. 2019; Rotemberg et
al. 2021.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from dvme.data.samples import MISSING
from dvme.data.tables import GZIPPED, Table, read_table
from dvme.errors import DataError, OptionError, parameter
from dvme.sets.building import Published
from dvme.sets.people import ages, sexes
from dvme.sets.unpacked import Unpacked, joined_tables, texts_or_missing
from dvme.text import counted, first_few, some_of

HAM, DOWNSAMPLED, UNKNOWN = "HAM10000", "_downsampled", "UNK"
HAM_NUMBERS = range(24_306, 34_321)
"""Of the pictures of HAM10000: ISIC_0024306 to ISIC_0034320."""
N_DUPLICATES = 425
TABLES = (".csv", ".tsv", ".tab", "_metadata")
"""How the names of tables end; Harvard's copy of HAM10000 gives its own without a suffix."""
PARTS = {"train": "train", "valid": "val", "test": "test"}
"""What is in a table's name, and the part of the split."""


@dataclass(frozen=True)
class Edition:
    """One of the years."""

    title: str
    marks: frozenset[str]
    """Columns by which its tables are recognised."""
    absent: frozenset[str] = frozenset()
    """Columns that its tables lack, and those of other editions have."""
    image: str = "image"
    n_rows: Mapping[str, int] = field(default_factory=dict)
    """Of the tables, by part."""
    further: frozenset[str] = frozenset()
    """Columns by which a table of lesions or patients beside them is recognised."""
    task: str = ""
    n_patients: int | None = None


EDITIONS = {
    "2018": Edition(
        "ISIC 2018, task 3",
        frozenset({"image", "MEL", "NV", "AKIEC"}),
        absent=frozenset({"SCC"}),
        n_rows={"train": 10_015, "val": 193, "test": 1_512},
        further=frozenset({"image", "lesion_id"}),
        task="7 kinds of skin lesions",
    ),
    "2019": Edition(
        "ISIC 2019",
        frozenset({"image", "MEL", "NV", "SCC"}),
        n_rows={"train": 25_331, "test": 8_238},
        further=frozenset({"image", "anatom_site_general"}),
        task="8 kinds of skin lesions",
    ),
    "2020": Edition(
        "ISIC 2020",
        frozenset({"image_name", "target", "patient_id"}),
        image="image_name",
        n_rows={"train": 33_126},
        task="melanoma or not",
        n_patients=2_056,
    ),
    HAM: Edition(
        HAM,
        frozenset({"image_id", "dx", "lesion_id"}),
        image="image_id",
        n_rows={"train": 10_015},
        task="7 kinds of skin lesions",
    ),
}
FURTHER = {
    "age": ("age_approx", "age"),
    "sex": ("sex",),
    "site": ("anatom_site_general", "anatom_site_general_challenge", "localization"),
    "confirmed": ("diagnosis_confirm_type", "dx_type"),
}
"""Columns of the manifest, from any of these."""
NO_CLASSES = frozenset({"image", "score_weight", "validation_weight", ""})
"""Columns of a table with a column for each class that are none."""


def published(unpacked: Unpacked, edition: str | None = None) -> Published:
    """What the publisher says.

    Args:
        unpacked: the download.
        edition: 2018, 2019, 2020 or HAM10000, where tables of several lie there.

    Raises:
        DataError: if no table is one of these, or several are.
        OptionError: if there is no such edition, or it is not there.
    """
    headers = {place: header for place in unpacked.others if _is_table(place) and (header := _header(unpacked, place))}
    own = _edition(unpacked, headers, edition)
    told = EDITIONS[own]
    table, splits = _table(unpacked, headers, told)
    names = table.texts(told.image)
    labels, remarks = _labels(table, told)
    columns, said = _further(unpacked, headers, table, told)
    left_out, why = _left_out(unpacked, headers, own)
    rows = [row for row, name in enumerate(names) if name not in left_out]
    images = unpacked.find([_stem(name) for name in names])
    columns = {"label": labels, **({"split": splits} if len(set(splits)) > 1 else {}), **columns}
    whole = Published(
        images=images,
        columns=columns,
        remarks=[
            f"recognised as {told.title} by the header of {table.source.name}",
            *remarks,
            *said,
            *why,
            *_of(own, names),
        ],
        beside=[place for place in unpacked.find(sorted(left_out)) if place is not None],
        narrower=_narrower(told),
    )
    return whole.only(rows)


def _narrower(told: Edition) -> dict[str, Any]:
    return {
        "title": told.title,
        "task": told.task,
        "n_images": sum(told.n_rows.values()),
        "n_patients": told.n_patients,
    }


def _is_table(place: str) -> bool:
    return place.removesuffix(GZIPPED).endswith(TABLES)


def _header(unpacked: Unpacked, place: str) -> frozenset[str]:
    """The names of a table's columns; none of a file that is no table, which is said."""
    try:
        return frozenset(read_table(unpacked.root / place).names)
    except DataError as error:
        unpacked.remarks.append(f"passed over: {error}")
        return frozenset()


def _edition(unpacked: Unpacked, headers: Mapping[str, frozenset[str]], wanted: str | None) -> str:
    """The one that is there, or that is wanted."""
    there = [name for name, each in EDITIONS.items() if any(_is_of(each, names) for names in headers.values())]
    if wanted is not None:
        own = next((name for name in EDITIONS if name.casefold() == wanted.casefold()), None)
        if own is None:
            step = "; choose one of them with " + parameter("edition", "2018")
            raise OptionError(f"no edition is called {wanted!r}; there are {', '.join(EDITIONS)}" + step)
        if own not in there:
            raise OptionError(
                f"{unpacked.root} has no table of {EDITIONS[own].title}; it has {some_of(there) or 'none'}"
            )
        return own
    if not there:
        raise DataError(
            f"{unpacked.root} has no table of ISIC 2018, 2019 or 2020 (..._Training_GroundTruth.csv) or of {HAM} "
            f"({HAM}_metadata.csv); put the publisher's table there, in any folder"
        )
    if len(there) > 1:
        step = "; choose one with " + parameter("edition", there[0])
        raise DataError(f"{unpacked.root} has tables of {some_of(there, joint=' and ')}" + step)
    return there[0]


def _is_of(edition: Edition, names: frozenset[str]) -> bool:
    return edition.marks <= names and not edition.absent & names


def _part(place: str) -> str:
    """Which part of the split a table is of, by its name."""
    name = PurePosixPath(place).name.casefold()
    return next((part for word, part in PARTS.items() if word in name), "train")


def _table(unpacked: Unpacked, headers: Mapping[str, frozenset[str]], told: Edition) -> tuple[Table, list[str]]:
    """All parts in one table, and (N,) the part of each image."""
    places = defaultdict[str, list[str]](list)
    for place, names in headers.items():
        if _is_of(told, names):
            places[_part(place)].append(place)
    for part, own in places.items():
        if len(own) > 1:
            raise DataError(f"{unpacked.root} has more than one table of the {part} part: {first_few(own)}; keep one")
    there = [part for part in PARTS.values() if part in places]
    tables = {part: unpacked.table_at(places[part][0], n_rows=told.n_rows.get(part, 0)) for part in there}
    return joined_tables([*tables.values()]), [part for part, table in tables.items() for _ in range(table.n_rows)]


def _labels(table: Table, told: Edition) -> tuple[list[str], list[str]]:
    """(N,) classes, and lines on them."""
    if "dx" in told.marks:
        return table.texts("dx"), []
    if "target" in told.marks:
        named = {"0": "benign", "1": "malignant", "0.0": "benign", "1.0": "malignant"}
        return [named.get(cell, MISSING) for cell in table.texts("target")], []
    classes = [name for name in table.names if name not in NO_CLASSES]
    rows = zip(*([cell.removesuffix(".0") == "1" for cell in table.texts(name)] for name in classes), strict=True)
    own = [[name for name, has in zip(classes, row, strict=True) if has] for row in rows]
    labels = [each[0] if len(each) == 1 else MISSING for each in own]
    lines = []
    if n_odd := labels.count(MISSING):
        lines.append(f"{counted(n_odd, 'image')} of no class, or of several")
    if n_unknown := labels.count(UNKNOWN):
        lines.append(f"{counted(n_unknown, 'image')} of the class {UNKNOWN}: none of the classes of the training part")
    return labels, lines


def _further(
    unpacked: Unpacked, headers: Mapping[str, frozenset[str]], table: Table, told: Edition
) -> tuple[dict[str, list[str]], list[str]]:
    """Lesion or patient as group, and what else is known, of the table or of one beside it; and lines on that."""
    names = table.texts(told.image)
    every, remarks = table, list[str]()
    if told.further:
        beside = [p for p, h in headers.items() if told.further <= h and not _is_of(told, h) and "target" not in h]
        every = joined_tables([unpacked.table_at(place) for place in beside]) if beside else every
        if not beside:
            remarks.append("no table of lesions is there (LesionGroupings or Metadata), and so there are no groups")
    place = dict(zip(every.texts(told.image), range(every.n_rows), strict=True))
    rows = [place.get(name) for name in names]

    def texts(*columns: str) -> list[str]:
        column = next((each for each in columns if each in every.names), "")
        cells = texts_or_missing(every, column) if column else []
        return [cells[row] if cells and row is not None else MISSING for row in rows]

    group = "patient_id" if "patient_id" in told.marks else "lesion_id"
    columns = {"group": texts(group)} if group in every.names else {}
    if columns and group == "lesion_id":
        remarks.append("groups are lesions: of patients nothing is told, who may have several")
    further = {name: texts(*own) for name, own in FURTHER.items()}
    further["age"], odd_ages = ages(further["age"])
    further["sex"], odd_sexes = sexes(further["sex"])
    if group == "patient_id" and "lesion_id" in every.names:
        further["lesion"] = texts("lesion_id")
    known = {name: cells for name, cells in further.items() if any(cells)}
    return columns | known, remarks + odd_ages + (odd_sexes if "sex" in known else [])


def _left_out(unpacked: Unpacked, headers: Mapping[str, frozenset[str]], own: str) -> tuple[set[str], list[str]]:
    """Images of 2020 that are no rows: copies of others, and those of which nobody has the label; and why."""
    if own != "2020":
        return set(), []
    lists = {"image_name_1", "image_name_2"}
    copies = [place for place, names in headers.items() if lists <= names]
    again = {name for place in copies for name in unpacked.table_at(place).texts("image_name_2")}
    line = (
        f"{counted(len(again), 'image')} that the publisher lists as copies of others left out"
        if copies
        else f"ISIC_2020_Training_Duplicates.csv is not there, which lists {N_DUPLICATES} images as copies of others"
    )
    tests = [p for p, names in headers.items() if {"image_name", "patient_id"} <= names and "target" not in names]
    unlabelled = {name for place in tests for name in unpacked.table_at(place).texts("image_name")}
    said = [f"{counted(len(unlabelled), 'test image')} of which nobody has the label left out"] if tests else []
    return again | unlabelled, [line, *said]


def _stem(name: str) -> str:
    """The name of an image without the suffix that some copies of the tables have."""
    return name.removesuffix(".jpg")


def _of(own: str, names: Sequence[str]) -> list[str]:
    """Lines on pictures that other editions have as well."""
    suffixed = sum(name.endswith(DOWNSAMPLED) for name in names)
    lines = [f"{counted(suffixed, 'image')} called ..{DOWNSAMPLED}, as the publisher names them"] if suffixed else []
    numbers = Counter(_number(name) in HAM_NUMBERS for name in names)
    if own in ("2018", "2019") and numbers[True]:
        lines.append(
            f"{counted(numbers[True], 'image')} with the numbers of {HAM}: of one year and another none is external"
        )
    return lines


def _number(name: str) -> int:
    digits = name.removeprefix("ISIC_").partition("_")[0].partition(".")[0]
    return int(digits) if digits.isdecimal() else -1
