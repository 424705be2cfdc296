"""NIH ChestX-ray14: 14 findings, many of which a program read from reports.

Source: Wang et al. 2017, and the publisher's README_CHESTXRAY.
"""

from __future__ import annotations

from collections.abc import Sequence

from dvme.data.findings import from_separated
from dvme.data.samples import MISSING
from dvme.sets.building import Published, Unpacked

TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017*.csv")


def published(unpacked: Unpacked, views: Sequence[str] = ()) -> Published:
    """What the publisher says.

    Args:
        unpacked: where Data_Entry_2017*.csv, train_val_list.txt and test_list.txt lie beside the pictures.
        views: only these, of PA and AP.
    """
    table = unpacked.table(*TABLES, needed=("Image Index", "Finding Labels", "Patient ID"))
    names = table.texts("Image Index")
    labels = from_separated(table.texts("Finding Labels"), "|", source=f"{table.source}")
    columns = {"label": labels.texts, "split": [MISSING] * len(names), "group": table.texts("Patient ID")}
    return Published(images=unpacked.find(names), columns=columns, remarks=labels.remarks)
