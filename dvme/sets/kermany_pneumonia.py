"""Chest X-rays of children of Kermany et al. 2018: normal, or pneumonia by bacteria or a virus. The names tell all.

Source: Kermany et al. 2018; https://data.mendeley.com/datasets/rscbjbr9sj, and its copy at Kaggle.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from dvme.data.samples import MISSING, SPLIT_NAMES
from dvme.errors import DataError
from dvme.sets.building import Published
from dvme.sets.unpacked import Unpacked
from dvme.text import counted, first_few

NORMAL, PNEUMONIA = "NORMAL", "PNEUMONIA"
N_IMAGES = 5_856
KINDS = ("bacteria", "virus")
PERSON = re.compile(r"(?P<who>person\d+)_(?P<kind>bacteria|virus)_\d+", re.IGNORECASE)
HEALTHY = re.compile(r"(?P<series>NORMAL2-)?(?P<who>IM-\d+)(-\d+)+", re.IGNORECASE)
NEWER = re.compile(r"(?P<kind>bacteria|virus|normal)-(?P<who>\d+)-\d+", re.IGNORECASE)
"""Stems: of pneumonia and of healthy children, as in all copies but the newest, where one form has both."""
FEW = 100
"""Images of a part, too few to choose by."""


@dataclass(frozen=True)
class _Named:
    """What the place of a picture tells."""

    place: str
    label: str
    part: str
    who: str
    kind: str
    series: str


def published(unpacked: Unpacked) -> Published:
    """What the publisher says. A number of a patient counts as one, whatever stands around it.

    Where numbers occur in several published parts, these are the column published_split, which no study takes by
    itself.

    Raises:
        DataError: if no picture is in a folder NORMAL or PNEUMONIA.
    """
    named = [each for place in unpacked.pictures if (each := _named(place)) is not None]
    if not named:
        raise DataError(
            f"{unpacked.root} has no pictures in folders {NORMAL} and {PNEUMONIA}; name the folder into which "
            "chest_xray was unpacked"
        )
    first = {(each.part, each.label, PurePosixPath(each.place).name): each for each in reversed(named)}
    rows = sorted(first.values(), key=lambda each: each.place)
    again = {each.place for each in named} - {each.place for each in rows}
    parts = [each.part for each in rows]
    n_both, n_all = _in_several([(each.who, each.part) for each in rows])
    split = "published_split" if n_both else "split"
    columns = {
        "label": [each.label for each in rows],
        **({split: parts} if len(set(parts)) > 1 else {}),
        "group": [each.who for each in rows],
        "kind": [each.kind for each in rows],
    }
    remarks = [*_copies(again), *_numbers(rows), *_parts(parts)]
    if n_both:
        remarks.append(
            f"{n_both:,} of {counted(n_all, 'number')} of patients in more than one published part: these are the "
            f"column {split}, which dvme does not take for the split by itself, and it draws one by patient"
        )
    return Published(images=[each.place for each in rows], columns=columns, remarks=remarks, beside=again)


def _named(place: str) -> _Named | None:
    """None for a picture in another folder."""
    path = PurePosixPath(place)
    label = path.parent.name.upper()
    if label not in (NORMAL, PNEUMONIA):
        return None
    match = PERSON.fullmatch(path.stem) or HEALTHY.fullmatch(path.stem) or NEWER.fullmatch(path.stem)
    told = {name: value or MISSING for name, value in match.groupdict().items()} if match else {}
    kind = told.get("kind", MISSING).lower()
    return _Named(
        place=place,
        label=label,
        part=SPLIT_NAMES.get(path.parent.parent.name.lower(), MISSING),
        who=told.get("who", MISSING),
        kind=kind if kind in KINDS else MISSING,
        series=told.get("series", MISSING),
    )


def _in_several(pairs: Sequence[tuple[str, str]]) -> tuple[int, int]:
    """Of the names that come first in pairs, how many stand beside more than one thing; and how many there are."""
    found = defaultdict[str, set[str]](set)
    for who, what in pairs:
        if who:
            found[who].add(what)
    return sum(len(each) > 1 for each in found.values()), len(found)


def _copies(again: set[str]) -> list[str]:
    """Kaggle's archive holds the whole set twice."""
    what = f"{counted(len(again), 'picture')} there twice, as Kaggle's archive has them, and left out once: "
    return [what + first_few(sorted(again), 1)] if again else []


def _numbers(rows: Sequence[_Named]) -> list[str]:
    """Lines on numbers that seem to be more than one child's, and on names without one."""
    lines = []
    n_both, n_all = _in_several([(each.who, each.kind) for each in rows if each.kind])
    if n_both:
        lines.append(
            f"{n_both:,} of {counted(n_all, 'number')} of children with pneumonia have both bacteria and a virus, as "
            "if numbers had been given twice; each counts as one patient, which leaks nothing"
        )
    healthy = [(each.who, each.series) for each in rows if each.label == NORMAL and each.who.upper().startswith("IM")]
    n_both, n_all = _in_several(healthy)
    if n_both:
        lines.append(
            f"{n_both:,} of {counted(n_all, 'number')} of healthy children occur with and without NORMAL2; each counts "
            "as one patient, which leaks nothing"
        )
    odd = [PurePosixPath(each.place).name for each in rows if not each.who]
    if odd:
        lines.append(f"{counted(len(odd), 'name')} without the number of a patient: {first_few(odd)}")
    return lines


def _parts(parts: Sequence[str]) -> list[str]:
    """Lines on parts that are not as published, or too small."""
    counts = Counter(parts)
    lines = []
    if len(parts) != N_IMAGES:
        lines.append(
            f"{counted(len(parts), 'picture')}, and {N_IMAGES:,} as published: a part of it, or another version"
        )
    if len(counts) == 1:
        lines.append(
            f"all pictures in one part, {next(iter(counts)) or 'without a name'}: dvme draws a split, by patient"
        )
    small = [f"{part} {n:,}" for part, n in counts.items() if part and n < FEW and len(counts) > 1]
    if small:
        lines.append(f"published parts with too few images to choose or to test by: {', '.join(small)}")
    return lines
