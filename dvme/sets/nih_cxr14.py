"""NIH ChestX-ray14: 14 findings, read from reports by a program.

Source: Wang et al. 2017, and what the publisher's folder has beside the pictures.
"""

from __future__ import annotations

from collections.abc import Sequence

from dvme.data.findings import from_separated
from dvme.data.samples import MISSING
from dvme.data.tables import Table
from dvme.sets.building import Published
from dvme.sets.people import ages, sexes
from dvme.sets.unpacked import Unpacked, texts_or_missing
from dvme.text import counted, first_few

TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017*.csv")
NEEDED = ("Image Index", "Finding Labels", "Patient ID")
FURTHER = {
    "study": "Follow-up #",
    "view": "View Position",
    "width": "OriginalImage[Width",
    "height": "Height]",
    "spacing_x": "OriginalImagePixelSpacing[x",
    "spacing_y": "y]",
}
"""Columns of the manifest, from the table's; two names have a comma within brackets, and so are four columns."""
PEOPLE = ("Patient Age", "Patient Gender")
N_IMAGES = 112_120
LISTS = {"train": ("train_val_list.txt", 86_524), "test": ("test_list.txt", 25_596)}
"""The official split: the file, and how many images it names. Who validates is left to the user."""


def published(unpacked: Unpacked) -> Published:
    """What the publisher says."""
    table = unpacked.table(*TABLES, needed=NEEDED, known=(*PEOPLE, *FURTHER.values()), n_rows=N_IMAGES)
    names = table.texts("Image Index")
    labels = from_separated(table.texts("Finding Labels"), "|", source=f"{table.source}")
    splits, remarks = _splits(unpacked, names)
    columns, said = people_columns(table)
    columns = {"label": labels.texts, **({"split": splits} if any(splits) else {}), **columns}
    return Published(images=unpacked.find(names), columns=columns, remarks=(*labels.remarks, *remarks, *said))


def people_columns(table: Table) -> tuple[dict[str, list[str]], list[str]]:
    """Patients and what is known of them and their images, and a line on every trap; of any table of these columns."""
    patients = table.texts("Patient ID")
    columns = {"group": patients}
    years, odd_ages = ages(texts_or_missing(table, PEOPLE[0]))
    sex, odd_sexes = sexes(texts_or_missing(table, PEOPLE[1]))
    columns |= {name: texts_or_missing(table, column) for name, column in FURTHER.items()}
    columns["study"] = [f"{who}_{visit}" for who, visit in zip(patients, columns["study"], strict=True)]
    return columns | {"age": years, "sex": sex}, odd_ages + odd_sexes


def _splits(unpacked: Unpacked, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """(N,) parts of the official split, and a line on what is not as published."""
    split, remarks, known = dict[str, str](), list[str](), set(names)
    for part, (file, n_published) in LISTS.items():
        own = unpacked.names(file)
        if own is None:
            remarks.append(f"no {file} is there, so there is no official split")
            continue
        if len(own) != n_published:
            remarks.append(f"{file} names {counted(len(own), 'image')}, the published list {n_published:,}")
        if stray := [name for name in own if name not in known]:
            remarks.append(f"{counted(len(stray), 'name')} of {file} not in the table: {first_few(stray)}")
        if both := [name for name in own if name in split]:
            remarks.append(f"{counted(len(both), 'image')} in both lists, and so in no part: {first_few(both)}")
        split |= {name: MISSING if name in split else part for name in own}
    parts = [split.get(name, MISSING) for name in names]
    return parts if len({*parts} - {MISSING}) > 1 else [MISSING] * len(names), remarks
