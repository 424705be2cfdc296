"""PadChest: what reports of a Spanish hospital say, by physicians for a quarter of the images, by a network for others.

Source: Bustos et al. 2020.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from dvme.data.findings import BETWEEN, OF, from_separated, joined
from dvme.data.samples import MISSING, NOTHING
from dvme.data.tables import Table
from dvme.errors import DataError, OptionError, parameter
from dvme.sets.building import Published
from dvme.sets.people import ages, sexes
from dvme.sets.unpacked import Unpacked, texts_or_missing
from dvme.text import counted

TABLES = ("PADCHEST_chest_x_ray_images_labels_160K*.csv",)
NEEDED = ("ImageID", "PatientID", "Labels")
FURTHER = {
    "study": "StudyID",
    "view": "Projection",
    "view_told_by": "MethodProjection",
    "labelled_by": "MethodLabel",
    "manufacturer": "Manufacturer_DICOM",
    "bits": "BitsStored_DICOM",
}
PEOPLE = ("PatientSex_DICOM", "PatientBirth", "StudyDate_DICOM")
N_IMAGES = 160_861
COMMON, ALL = "common", "all"
RULE: Mapping[str, tuple[str, ...]] = {
    "Atelectasis": (
        "atelectasis",
        "atelectasis basal",
        "laminar atelectasis",
        "lobar atelectasis",
        "round atelectasis",
        "segmental atelectasis",
        "total atelectasis",
    ),
    "Cardiomegaly": ("cardiomegaly",),
    "Effusion": (
        "pleural effusion",
        "empyema",
        "hydropneumothorax",
        "loculated fissural effusion",
        "loculated pleural effusion",
    ),
    "Infiltration": ("infiltrates",),
    "Mass": ("mass", "pulmonary mass"),
    "Nodule": ("nodule", "multiple nodules"),
    "Pneumonia": ("pneumonia", "atypical pneumonia"),
    "Pneumothorax": ("pneumothorax", "hydropneumothorax"),
    "Consolidation": ("consolidation", "air bronchogram"),
    "Edema": ("pulmonary edema",),
    "Emphysema": ("emphysema",),
    "Fibrosis": ("pulmonary fibrosis",),
    "Pleural_Thickening": ("pleural thickening", "apical pleural thickening", "calcified pleural thickening"),
    "Hernia": ("hiatal hernia",),
    "Fracture": (
        "fracture",
        "callus rib fracture",
        "clavicle fracture",
        "humeral fracture",
        "rib fracture",
        "vertebral fracture",
    ),
}
"""The findings that other sets have too, by the names of NIH ChestX-ray14, and the publisher's labels that are each.

Whole labels, not parts of words: a pericardial effusion is none of the pleura, a pseudonodule no nodule, and air below
the skin no emphysema of the lung.
"""
NORMAL, UNCHANGED, EXCLUDE = "normal", "unchanged", "exclude"


@dataclass(frozen=True)
class Cell:
    """What a cell of labels says."""

    is_told: bool
    """False where it says nan in place of a list."""
    spelled: tuple[str, ...] = ()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The labels as they are listed, without blanks around; some may be empty, or there twice."""
        return tuple(name.strip() for name in self.spelled)

    @cached_property
    def distinct(self) -> set[str]:
        """The labels."""
        return {*self.names} - {MISSING}


TRAPS: Mapping[str, tuple[Callable[[Cell], bool], bool]] = {
    "of which nothing is told (nan): no label": (lambda cell: not cell.is_told, True),
    "with none but empty labels: no label": (lambda cell: cell.is_told and not cell.distinct, True),
    "with an empty label beside others, passed over": (
        lambda cell: bool(cell.distinct) and MISSING in cell.names,
        True,
    ),
    "with a label twice": (lambda cell: len({*cell.names}) < len(cell.names), True),
    f"with {NORMAL!r} and another label, which counts": (
        lambda cell: NORMAL in cell.distinct and len(cell.distinct) > 1,
        True,
    ),
    f"with {EXCLUDE!r}, the publisher's mark of what to leave out: no label": (
        lambda cell: EXCLUDE in cell.distinct,
        False,
    ),
    f"with {UNCHANGED!r}: findings that are not named are unknown there": (
        lambda cell: UNCHANGED in cell.distinct and EXCLUDE not in cell.distinct,
        False,
    ),
}
"""What cells are met: how that is said, which they are, and whether it is said where all labels are findings, too."""


def published(unpacked: Unpacked, labels: str = COMMON) -> Published:
    """What the publisher says.

    Args:
        unpacked: the download.
        labels: `common`: the findings of RULE; `all`: the publisher's own labels.

    Raises:
        OptionError: if it is neither.
    """
    if labels not in (COMMON, ALL):
        step = parameter("labels", COMMON) + " or " + parameter("labels", ALL)
        raise OptionError(f"labels {labels!r} are not known; pass " + step)
    known = (*PEOPLE, *FURTHER.values())
    table = unpacked.table(*TABLES, needed=NEEDED, known=known, n_rows=N_IMAGES)
    texts, remarks = _labels(table, is_all=labels == ALL)
    sex, odd_sexes = sexes(texts_or_missing(table, PEOPLE[0]))
    years, odd_ages = ages(_years(*(texts_or_missing(table, name) for name in PEOPLE[1:])))
    columns = {"label": texts, "group": table.texts("PatientID")}
    columns |= {name: texts_or_missing(table, column) for name, column in FURTHER.items()}
    columns |= {"age": years, "sex": sex}
    images = unpacked.find(table.texts("ImageID"))
    split = "the publisher has no official split: dvme draws one, by patient"
    return Published(images=images, columns=columns, remarks=(split, *remarks, *odd_ages, *odd_sexes))


def _labels(table: Table, *, is_all: bool) -> tuple[list[str], list[str]]:
    """(N,) labels, and a line on every trap of the cells."""
    texts = table.texts("Labels")
    counts = Counter(texts)
    cells = {text: _cell(text, table) for text in counts}
    spellings = {name for cell in cells.values() for name in cell.spelled}
    padded = [name for name in spellings if name != name.strip()]
    remarks = [f"{len(RULE)} findings by the names of NIH ChestX-ray14: {_rule()}"]
    if is_all:
        remarks = [f"the publisher's own labels are the findings; {NORMAL!r} is an image without any"]
    if padded:
        remarks.append(f"{len(padded)} of {len(spellings)} spellings of labels have blanks around, which are taken off")
    for said, (is_met, is_of_all) in TRAPS.items():
        n_met = sum(count for text, count in counts.items() if is_met(cells[text]))
        remarks += [f"{counted(n_met, 'image')} {said}"] if n_met and (is_of_all or not is_all) else []
    labels = _all(cells, f"{table.source}") if is_all else {text: _common(cell) for text, cell in cells.items()}
    return [labels[text] for text in texts], remarks


def _common(cell: Cell) -> str:
    """The label of an image by RULE; "" where nothing is known of it."""
    said = cell.distinct
    if not said or EXCLUDE in said:
        return MISSING
    named = {finding for finding, labels in RULE.items() if said & {*labels}}
    if UNCHANGED not in said:
        return joined([finding for finding in RULE if finding in named])
    return joined([finding if finding in named else f"{finding}{OF}" for finding in RULE])


def _all(cells: Mapping[str, Cell], source: str) -> dict[str, str]:
    """The labels of images whose findings are all that the publisher names.

    Raises:
        DataError: if a name cannot be that of a finding.
    """
    listed = [BETWEEN.join(sorted(cell.distinct)) for cell in cells.values()]
    return dict(zip(cells, from_separated(listed, BETWEEN, NORMAL, source).texts, strict=True))


def _cell(text: str, table: Table) -> Cell:
    """What a cell says, which is a list as Python writes it, or nan.

    Raises:
        DataError: if it is something else.
    """
    if not text or text.casefold() in NOTHING:
        return Cell(is_told=False)
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        row = table.texts("Labels").index(text) + 1
        raise DataError(f"{table.source} has {text!r} in row {row} for a list of labels; download the table again")
    return Cell(is_told=True, spelled=tuple(found))


def _years(births: Sequence[str], dates: Sequence[str]) -> list[str]:
    """(N,) years between two years, such as 1930.0, and dates, such as 20140915; "" where one is not known."""
    known = [birth.partition(".")[0] for birth in births]
    return [
        f"{int(date[:4]) - int(birth)}" if birth.isdecimal() and date[:4].isdecimal() else MISSING
        for birth, date in zip(known, dates, strict=True)
    ]


def _rule() -> str:
    return "; ".join(f"{finding} is any of {', '.join(parts)}" for finding, parts in RULE.items())
