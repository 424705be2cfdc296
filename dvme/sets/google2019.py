"""Four labels that radiologists agreed on, of pictures of NIH ChestX-ray14.

Source: Majkowska et al. 2020; the files are described at
https://cloud.google.com/healthcare-api/docs/resources/public-datasets/nih-chest.
"""

from __future__ import annotations

from dvme.data.findings import from_columns
from dvme.data.samples import MISSING
from dvme.data.tables import Table
from dvme.sets.building import Published
from dvme.sets.nih_cxr14 import FURTHER, PEOPLE, people_columns
from dvme.sets.unpacked import Unpacked, joined_tables
from dvme.text import counted

FINDINGS = ("Fracture", "Pneumothorax", "Airspace opacity", "Nodule or mass")
NEEDED = ("Image Index", "Patient ID", *FINDINGS)
TOGETHER, PART, N_IMAGES = "google2019_nih-chest-xray-labels.csv", "Set Id", 4_376
"""Both parts in one table, its column that tells them apart, and how many images it has."""
FILES = {"train": "validation_labels.csv", "test": "test_labels.csv"}
"""The publisher's own files, below four_findings_expert_labels or with that before the name."""
PARTS = {"val": "train", "test": "test"}


def published(unpacked: Unpacked) -> Published:
    """What the publisher says; its validation part, which has no training part beside it, is what trains here."""
    table, splits = _table(unpacked)
    labels = from_columns({name: table.texts(name) for name in FINDINGS}, source=f"{table.source}")
    columns, remarks = people_columns(table)
    n_train = splits.count("train")
    if 0 < n_train < len(splits):
        remarks.append(f"the publisher's validation part, {counted(n_train, 'image')}, is the part that trains here")
        columns = {"split": splits, **columns}
    else:
        remarks.append("of one part alone no official split can be made: dvme draws one, by patient")
    columns = {"label": labels.texts, **columns}
    return Published(
        images=unpacked.find(table.texts("Image Index")), columns=columns, remarks=(*labels.remarks, *remarks)
    )


def _table(unpacked: Unpacked) -> tuple[Table, list[str]]:
    """Both parts in one table, and (N,) the part of each image."""
    known = (*PEOPLE, *FURTHER.values())
    if unpacked.place(TOGETHER):
        table = unpacked.table(TOGETHER, needed=(*NEEDED, PART), known=known, n_rows=N_IMAGES)
        return table, [PARTS.get(part, MISSING) for part in table.texts(PART)]
    names = {part: [f"four_findings_expert_labels{sign}{file}" for sign in "/_"] for part, file in FILES.items()}
    there = {part: own for part, own in names.items() if unpacked.place(*own)} or {"test": [TOGETHER, *names["test"]]}
    tables = {part: unpacked.table(*own, needed=NEEDED, known=known) for part, own in there.items()}
    return joined_tables([*tables.values()]), [part for part, table in tables.items() for _ in range(table.n_rows)]
