"""What Montgomery and Shenzhen have in common: names that end in the label, clinical readings, masks of the lungs.

Source: Jaeger et al. 2014.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from dvme.data.samples import MISSING
from dvme.errors import DataError
from dvme.files import reading
from dvme.sets.building import Published
from dvme.sets.people import ages, sexes
from dvme.sets.unpacked import Unpacked
from dvme.text import counted, first_few

LABELS = {"0": "normal", "1": "tuberculosis"}
MASK, SIDES = "mask", ("left", "right")
LINE = re.compile(r"\s*patient'?s\s+(sex|age)\s*:\s*(.*?)\s*", re.IGNORECASE)
"""`Patient's Age: 027Y`, as Montgomery has it."""
UNIT = r"([ymwd])(?:rs?|ears?|o|os|onths?|eeks?|ays?)?\b"
START = re.compile(rf"\s*(female|femal|male|f|m)[\s,]*(\d+)\s*(?:{UNIT})?[\s,.]*(.*)", re.IGNORECASE)
"""`male 45yrs`, `Female,28yrs`, `femal 32yrs`, `male 16month`, as Shenzhen has it; what follows is of the image."""


@dataclass(frozen=True)
class Layout:
    """One of the two sets."""

    prefix: str
    """Of its files."""
    n_images: int
    lists: Mapping[str, tuple[str, int]]
    """Part of a split that others have published, to the file that lists it, and how many it names."""


@dataclass
class _Reading:
    age: str = MISSING
    sex: str = MISSING
    text: str = MISSING


def published(unpacked: Unpacked, layout: Layout) -> Published:
    """What the publisher says.

    Raises:
        DataError: if none of its pictures is there.
    """
    stem = re.compile(rf"({layout.prefix}_\d+_([01]))(_mask)?")
    images, masks = dict[str, str](), defaultdict[str, dict[str, str]](dict)
    for place in unpacked.pictures:
        match = stem.fullmatch(PurePosixPath(place).stem)
        if match:
            column = _mask_column(place, is_named=match[3] is not None)
            (masks[column] if column else images).setdefault(match[1], place)
    if not images:
        raise DataError(
            f"{unpacked.root} has no pictures called {layout.prefix}_0001_0.png; name the folder into which the set "
            "was unpacked"
        )
    names = list(images)
    labels = [LABELS[name[-1]] for name in names]
    remarks = ["labels by the last digit of the names: 0 normal, 1 tuberculosis"]
    if len(names) != layout.n_images:
        remarks.append(f"{counted(len(names), 'picture')} there, and {layout.n_images:,} as published: a part of it")
    splits, said = _splits(unpacked, layout, names)
    further, told = _readings(unpacked, names)
    for column, own in masks.items():
        if gone := len(names) - len(own.keys() & images.keys()):
            told.append(f"{counted(gone, 'image')} without a {column.replace('_', ' of the ')}")
    return Published(
        images=[*images.values()],
        columns={"label": labels, **({"split": splits} if len({*splits} - {MISSING}) > 1 else {}), **further},
        remarks=[*remarks, *said, *told],
        files={column: [own.get(name) for name in names] for column, own in sorted(masks.items())},
    )


def _mask_column(place: str, *, is_named: bool) -> str:
    """The column of a mask, "" for an X-ray: masks lie in folders that are called so, or are called so themselves."""
    folder = PurePosixPath(place).parent.name.lower()
    if MASK not in folder and not is_named:
        return ""
    return next((f"{MASK}_{side}" for side in SIDES if side in folder), MASK)


def _splits(unpacked: Unpacked, layout: Layout, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """(N,) parts of a split, and lines on it."""
    split, remarks = dict[str, str](), list[str]()
    for part, (file, n_published) in layout.lists.items():
        own = unpacked.names(file)
        if own is None:
            continue
        named = [line.partition(",") for line in own]
        stems = [PurePosixPath(name.strip()).stem for name, _, _ in named]
        if len(own) != n_published:
            remarks.append(f"{file} names {counted(len(own), 'image')}, the published list {n_published:,}")
        if odd := [
            name for name, (_, _, label) in zip(stems, named, strict=True) if label.strip() not in ("", name[-1])
        ]:
            remarks.append(f"{counted(len(odd), 'label')} of {file} not the last digit, which counts: {first_few(odd)}")
        if both := [name for name in stems if name in split]:
            remarks.append(f"{counted(len(both), 'image')} in two lists, and so in no part: {first_few(both)}")
        split |= {name: MISSING if name in split else part for name in stems}
    line = "the publisher has no split: dvme draws one"
    if len({*split.values()} - {MISSING}) > 1:
        line = "the split is that of Hosseinzadeh Taher et al. 2021, by their lists; the publisher has none"
    return [split.get(name, MISSING) for name in names], [line, *remarks]


def _readings(unpacked: Unpacked, names: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Age, sex and text of the clinical readings, and lines on them; {} where there are none."""
    places = {PurePosixPath(place).stem: place for place in unpacked.others if place.endswith(".txt")}
    there = [name for name in names if name in places]
    if not there:
        return {}, ["no clinical readings are there (ClinicalReadings/*.txt): no age, sex and finding"]
    found = {name: _reading(unpacked, places[name]) for name in there}
    rows = [found.get(name, _Reading()) for name in names]
    years, odd_ages = ages([row.age for row in rows])
    sex, odd_sexes = sexes([row.sex for row in rows])
    lines = [*odd_ages, *odd_sexes]
    if gone := len(names) - len(there):
        lines.insert(0, f"{counted(gone, 'image')} without a clinical reading")
    against = [name for name in there if name[-1] == "1" and found[name].text.lower().startswith("normal")]
    if against:
        lines.append(f"{counted(len(against), 'reading')} of normal lungs under the label tuberculosis, which stays: "
                     f"{first_few(against)}")  # fmt: skip
    return {"age": years, "sex": sex, "finding": [row.text for row in rows]}, lines


def _reading(unpacked: Unpacked, place: str) -> _Reading:
    """Of a file of a few lines."""
    with reading(unpacked.root / place):
        lines = (unpacked.root / place).read_text(encoding="utf-8-sig", errors="replace").splitlines()
    found, texts = _Reading(), list[str]()
    for line in lines:
        if match := LINE.fullmatch(line):
            setattr(found, match[1].lower(), match[2])
        elif not found.sex and (match := START.fullmatch(line)):
            found.sex, found.age = match[1][0], match[2] + (match[3] or "")
            texts.append(match[4])
        else:
            texts.append(line)
    found.text = " ".join(" ".join(texts).split())
    return found
