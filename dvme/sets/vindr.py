"""VinDr-CXR: 22 findings and 6 diagnoses, by three readers for each training image, by their consensus for tests.

Source: Nguyen et al. 2022; tables of PhysioNet, and of the competition at Kaggle: 14 findings, no test labels.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from dvme.data.findings import CELLS, from_columns
from dvme.data.tables import Table
from dvme.errors import OptionError, parameter
from dvme.sets.building import Published
from dvme.sets.unpacked import Unpacked
from dvme.text import counted

TRAIN, TEST, KAGGLE = "image_labels_train.csv", "image_labels_test.csv", ("train.csv", "vinbigdata-train.csv")
IMAGE, READER, FINDING, NOTHING = "image_id", "rad_id", "class_name", "No finding"
N_TRAIN, N_TEST, N_KAGGLE, N_READERS = 45_000, 3_000, 67_914, 3
"""Rows of the three tables, and readers of a training image."""
RENAMED = {"Other disease": "Other diseases"}
"""A column that has another name in the test table."""
MAJORITY, SHARES = "majority", "shares"


@dataclass
class Readings:
    """What readers saw in images."""

    findings: list[str]
    readers: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Image to who read it."""
    seen: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Image to finding to how many saw it."""

    def disputed(self) -> list[int]:
        """Of each image, how many findings some of its readers saw and others did not."""
        return [sum(n < len(readers) for n in self.seen[image].values()) for image, readers in self.readers.items()]

    def cells(self, finding: str, policy: str) -> list[str]:
        """The column of a finding, for `from_columns`."""
        shares = [self.seen[image][finding] / len(readers) for image, readers in self.readers.items()]
        return [f"{share:.2f}" if policy == SHARES else f"{int(share > 0.5)}" for share in shares]


def published(unpacked: Unpacked, readers: str = MAJORITY) -> Published:
    """What the publisher says.

    Args:
        unpacked: the download.
        readers: `majority`: a finding is there that more than half of an image's readers saw; `shares`: one that only
            some saw is written as their part, which heads learn and by which nothing is chosen or tested.

    Raises:
        OptionError: if it is neither.
    """
    if readers not in (MAJORITY, SHARES):
        step = parameter("readers", MAJORITY) + " or " + parameter("readers", SHARES)
        raise OptionError(f"a policy {readers!r} for readers is not known; pass " + step)
    parts = _parts(unpacked)
    findings = list(dict.fromkeys(finding for part in parts.values() for finding in part.findings))
    names = [image for part in parts.values() for image in part.readers]
    columns = {
        finding: [cell for part in parts.values() for cell in part.cells(finding, readers)] for finding in findings
    }
    labels = from_columns(columns, NOTHING, f"{unpacked.root}")
    disputed = [n for part in parts.values() for n in part.disputed() if n]
    policy = "more than half decides" if readers == MAJORITY else "the part that saw it is kept"
    remarks = [f"readers differ on {counted(sum(disputed), 'finding')} of {counted(len(disputed), 'image')}: {policy}"]
    if odd := sum(len(who) != N_READERS for who in parts["train"].readers.values()) if "train" in parts else 0:
        remarks.append(f"{counted(odd, 'training image')} with another number of readers than {N_READERS}")
    own = {"label": labels.texts}
    if len(parts) > 1:
        own["split"] = [part for part, found in parts.items() for _ in found.readers]
    else:
        remarks.append(
            f"no {TRAIN if 'test' in parts else TEST} is there, so there is no official split: dvme draws one"
        )
    own["readers"] = [f"{len(who)}" for part in parts.values() for who in part.readers.values()]
    return Published(images=unpacked.find(names), columns=own, remarks=(*remarks, *labels.remarks))


def _parts(unpacked: Unpacked) -> dict[str, Readings]:
    """The parts of the official split that are there."""
    parts = {}
    if unpacked.place(TRAIN):
        parts["train"] = _by_row(unpacked.table(TRAIN, needed=(IMAGE, READER, NOTHING), n_rows=N_TRAIN))
    elif unpacked.place(*KAGGLE) or not unpacked.place(TEST):
        table = unpacked.table(*KAGGLE, TRAIN, needed=(IMAGE, READER, FINDING), n_rows=N_KAGGLE)
        parts["train"] = _by_box(table)
    if unpacked.place(TEST):
        parts["test"] = _by_row(unpacked.table(TEST, needed=(IMAGE, NOTHING), n_rows=N_TEST))
    return parts


def _by_row(table: Table) -> Readings:
    """Of a table with a row for each reader of an image, or one for all, and a column for each finding."""
    columns = [name for name in table.names if name not in (IMAGE, READER, NOTHING, "")]
    found = Readings([RENAMED.get(name, name) for name in columns])
    images = table.texts(IMAGE)
    readers = table.texts(READER) if READER in table.names else [""] * len(images)
    for image, reader in zip(images, readers, strict=True):
        found.readers[image].add(reader)
    for name, finding in zip(columns, found.findings, strict=True):
        for image, cell in zip(images, table.texts(name), strict=True):
            if CELLS.get(cell.removesuffix(".0").casefold()) == 1.0:
                found.seen[image][finding] += 1
    return found


def _by_box(table: Table) -> Readings:
    """Of a table with a row for each box that a reader drew, and one for a reader who saw nothing."""
    rows = dict.fromkeys(zip(*(table.texts(name) for name in (IMAGE, READER, FINDING)), strict=True))
    found = Readings(sorted({finding for *_, finding in rows} - {NOTHING}))
    for image, reader, finding in rows:
        found.readers[image].add(reader)
        if finding != NOTHING:
            found.seen[image][finding] += 1
    return found
