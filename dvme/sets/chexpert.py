"""CheXpert: 13 findings and "No Finding", read from reports by a program that says where these are unsure.

Source: Irvin et al. 2019.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dvme.data.findings import BETWEEN, OF, UNCERTAIN, from_columns
from dvme.data.samples import MISSING
from dvme.data.tables import Table
from dvme.defaults import NO_FINDING
from dvme.errors import DataError
from dvme.sets.building import Published
from dvme.sets.people import ages, sexes
from dvme.sets.unpacked import Unpacked, joined_tables, texts_or_missing
from dvme.text import counted

DEVICES = "Support Devices"
"""No illness: an image without any finding may show one."""
ILLNESSES = (
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
)
FURTHER = ("Sex", "Age", "Frontal/Lateral", "AP/PA")
TABLES = {
    "train": (("train.csv", "chexpert_train.csv"), 223_414),
    "val": (("valid.csv", "chexpert_valid.csv"), 234),
}
"""The parts: how their tables are called, and how many images they have. The publisher keeps its test part."""
HAS = frozenset({"1", "1.0"})
N_PARTS = 3
"""Of a path, which tell an image: patient, study and view. What stands before differs with the copy."""


def published(unpacked: Unpacked) -> Published:
    """What the publisher says: uncertain cells stay uncertain, and empty ones unknown but where nothing was found."""
    table, splits, remarks = _table(unpacked)
    labels, said = _labels(table)
    paths = table.texts("Path")
    ends = [path.replace("\\", "/").split("/")[-N_PARTS:] for path in paths]
    if short := [path for path, end in zip(paths, ends, strict=True) if len(end) < N_PARTS]:
        raise DataError(f"{table.source} has {short[0]!r} for a path; one ends in patient, study and view")
    years, odd_ages = ages(texts_or_missing(table, "Age"))
    sex, odd_sexes = sexes(texts_or_missing(table, "Sex"))
    columns = {
        "label": labels,
        **({"split": splits} if len(set(splits)) > 1 else {}),
        "group": [patient for patient, _, _ in ends],
        "study": [f"{patient}/{study}" for patient, study, _ in ends],
        "view": texts_or_missing(table, "Frontal/Lateral"),
        "projection": texts_or_missing(table, "AP/PA"),
        "age": years,
        "sex": sex,
    }
    images = unpacked.find(["/".join(end) for end in ends])
    return Published(images=images, columns=columns, remarks=(*remarks, *said, *odd_ages, *odd_sexes))


def _table(unpacked: Unpacked) -> tuple[Table, list[str], list[str]]:
    """Both parts in one table, (N,) the part of each image, and a line on a part that is not there."""
    needed = ("Path", NO_FINDING, *ILLNESSES, DEVICES)
    there = [part for part, (names, _) in TABLES.items() if unpacked.place(*names)] or ["train"]
    tables = {
        part: unpacked.table(*TABLES[part][0], needed=needed, known=FURTHER, n_rows=TABLES[part][1]) for part in there
    }
    splits = [part for part, table in tables.items() for _ in range(table.n_rows)]
    gone = [TABLES[part][0][0] for part in TABLES if part not in there]
    said = [f"no {name} is there, so there is no official split: dvme draws one, by patient" for name in gone]
    return joined_tables([*tables.values()]), splits, said


def _labels(table: Table) -> tuple[list[str], list[str]]:
    """(N,) labels, and lines on what the cells say. Where nothing was found, an illness that is not named is absent."""
    names = (*ILLNESSES, DEVICES)
    rows = [*zip(*(table.texts(name) for name in (NO_FINDING, *names)), strict=True)]
    distinct = list(dict.fromkeys(rows))
    filled = zip(*map(_filled, distinct), strict=True)
    found = from_columns(dict(zip(names, filled, strict=True)), source=f"{table.source}")
    text = dict(zip(distinct, found.texts, strict=True))
    labels = [text[row] for row in rows]
    counts = Counter(labels)
    n_unsure = sum(label.count(OF + UNCERTAIN) * count for label, count in counts.items())
    n_unknown = sum(label.count(OF + BETWEEN) * count for label, count in counts.items())
    n_unknown += counts[MISSING] * len(names)
    n_clear = sum(row[0] in HAS for row in rows)
    n_both = sum(row[0] in HAS and not HAS.isdisjoint(row[1:-1]) for row in rows)
    both = [f"{counted(n_both, 'image')} with {NO_FINDING!r} and an illness: the illness counts"] if n_both else []
    return labels, [
        *both,
        f"{counted(n_unsure, 'uncertain cell')} (-1), kept as uncertain",
        f"{counted(n_clear, 'image')} with {NO_FINDING!r}: empty cells of illnesses count as absent there",
        f"{counted(n_unknown, 'empty cell')} elsewhere, kept as unknown",
    ]


def _filled(row: Sequence[str]) -> list[str]:
    """Cells of the illnesses and of devices, from those and, first of all, whether nothing was found."""
    nothing, *illnesses, devices = row
    return [*(cell or "0" if nothing in HAS else cell for cell in illnesses), devices]
