"""What headers add to the images of any source: groups, columns, rows of frames; and which folders are patients."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from dvme.data.columns import Columns
from dvme.data.dicom.fields import pseudonym
from dvme.data.dicom.headers import Header, read_headers, require_pydicom
from dvme.data.dicom.names import frame_of, is_dicom_name, is_unclear
from dvme.data.samples import COLUMNS, MISSING, Samples
from dvme.data.sources import file_of, read_image
from dvme.errors import DataError, parameter
from dvme.text import EXAMPLES, counted, some_of

MOST_FOLDERS = 0.9
"""Share of the folders that hold one patient each, from which on folders are patients: some file may be astray."""
ARCHIVES = (".zip", ".tar")
FEW_FOLDERS = 3
"""Fewer may be classes of one patient each, unless further folders lie in them."""


def with_headers(samples: Samples, columns: Columns, *, are_folders: bool, images_only: bool) -> Samples:
    """Samples with what the headers of DICOM files among them tell.

    Args:
        samples: as their source lists them.
        columns: which columns of headers are wanted, whether ids stay plain, whether each frame is a row.
        are_folders: whether labels are names of folders.
        images_only: nothing but the frames is looked at.

    Raises:
        DataError: if columns or frames are wanted and no file is DICOM, or a column is there already.
        EnvironmentMismatchError: if a file is DICOM, and pydicom is not installed.
    """
    headers = _headers_of(samples, columns, images_only=images_only)
    if not headers:
        if not images_only and (columns.dicom or columns.frame):
            option = parameter("dicom") if columns.dicom else parameter("frame", columns.frame)
            raise DataError("no image is a DICOM file; leave out " + option)
        return samples
    samples, headers, remarks = _without_directories(samples, headers)
    if not images_only:
        samples, said = _without_patients_for_labels(samples, headers) if are_folders else (samples, [])
        remarks += said
        samples, said = _grouped(samples, headers, plain_ids=columns.plain_ids)
        remarks += said
        samples = _with_columns(samples, columns, headers)
        remarks += _told(samples, columns)
    damage = _damage(samples, headers)
    samples, said = _frame_by_frame(samples, headers, is_each=columns.frame is not None)
    samples = samples if images_only else _frames_together(samples)
    return replace(samples, remarks=(*samples.remarks, *remarks, *said, *damage))


def _headers_of(samples: Samples, columns: Columns, *, images_only: bool) -> dict[Path, Header]:
    """The headers of the DICOM files among some images, by the addresses of the files."""
    holds_files = cache(_holds_files)

    def may_be_dicom(path: Path) -> bool:
        return is_dicom_name(path.name) or (is_unclear(path.name) and holds_files(path.parent))

    files = [file for file in dict.fromkeys(map(_file, samples.paths)) if may_be_dicom(file)]
    if any(is_dicom_name(file.name) for file in files):
        require_pydicom()
    names = () if images_only else tuple(columns.dicom)
    found = read_headers(files, names, lambda path: read_image(path).data, plain_ids=columns.plain_ids)
    return {path: header for path, header in zip(files, found, strict=True) if header is not None}


def _holds_files(folder: Path) -> bool:
    """Whether it is a folder, or one in an archive; rows of arrays, with numbers for names, are no DICOM files."""
    return os.path.isdir(folder) or file_of(folder).suffix.lower() in ARCHIVES  # noqa: PTH112


def _file(path: Path) -> Path:
    """The address of the file that an image is, or of which it is a frame."""
    return path if frame_of(path.name) is None else path.parent


def _of(samples: Samples, headers: Mapping[Path, Header]) -> list[Header | None]:
    """(N,) headers, None where a file is no DICOM file."""
    return [headers.get(_file(path)) for path in samples.paths]


def _without_directories(
    samples: Samples, headers: dict[Path, Header]
) -> tuple[Samples, dict[Path, Header], list[str]]:
    """Without tables of contents, which are DICOM files that hold no image."""
    tables = [at for at, header in enumerate(_of(samples, headers)) if header is not None and header.is_directory]
    if not tables:
        return samples, headers, []
    named = counted(len(tables), "table of contents", "tables of contents")
    said = f"{named} of DICOM files passed over: {some_of([samples.ids[at] for at in tables], EXAMPLES)}"
    if len(tables) == len(samples):
        raise DataError(f"{said}; no image is left, name the folder that has them")
    gone = set(tables)
    return samples.only([at for at in range(len(samples)) if at not in gone]), headers, [said]


def _without_patients_for_labels(samples: Samples, headers: Mapping[Path, Header]) -> tuple[Samples, list[str]]:
    """Take labels away that are patients, studies or series, as folders of DICOM files often are."""
    if "label" not in samples.given:
        return samples, []
    what = _what_folders_are(samples, _of(samples, headers))
    names = list(dict.fromkeys(label for label in samples.labels if label != MISSING))
    if not what:
        return samples, [f"folders are taken for classes, not for patients: {some_of(names, EXAMPLES)}"]
    said = (
        f"folders are taken for {what}, not for classes, as each holds one: {some_of(names, EXAMPLES)}; no labels: "
        "list the images in a manifest, or move them to CLASS/"
    )
    return replace(samples, labels=[MISSING] * len(samples), given=samples.given - {"label"}), [said]


def _what_folders_are(samples: Samples, headers: Sequence[Header | None]) -> str:
    """`patients` or `studies` where folders that stand for labels hold one each; "" for classes.

    It takes ids that differ: where all headers have one and the same, as after some anonymisation, they tell nothing.
    """
    labelled = [(identity, label) for identity, label in zip(samples.ids, samples.labels, strict=True) if label]
    is_nested = all(len(_below(identity, label)) > 2 for identity, label in labelled)
    for what, attribute in (("patients", "patient"), ("studies", "study")):
        held: dict[str, set[str]] = defaultdict(set)
        for label, header in zip(samples.labels, headers, strict=True):
            held[label].add("" if header is None else getattr(header, attribute))
        held.pop(MISSING, None)
        ids = set().union(*held.values()) - {""}
        if len(held) == 1 and len(ids) == 1 and is_nested:
            return what
        if len(ids) > 1:
            n_single = sum(len(each) == 1 and "" not in each for each in held.values())
            are_many = len(held) >= FEW_FOLDERS or is_nested
            return what if are_many and n_single >= MOST_FOLDERS * len(held) else ""
    return ""


def _below(identity: str, label: str) -> Sequence[str]:
    """What of an image's name lies below the folder of its label."""
    parts = PurePosixPath(identity).parts
    return parts[parts.index(label) + 1 :] if label in parts else ()


def _grouped(samples: Samples, headers: Mapping[Path, Header], *, plain_ids: bool) -> tuple[Samples, list[str]]:
    """With the patients of headers as groups, where the source has none; with their studies where these are unknown."""
    if "group" in samples.given:
        return samples, []
    found = _of(samples, headers)
    patients = [MISSING if header is None else header.patient for header in found]
    named = set(patients) - {MISSING}
    if len(named) == 1 and len(samples) > 1:
        said = ["all headers name one and the same patient, by which nothing is grouped"]
        patients = [MISSING] * len(samples)
    elif not named:
        said = ["no header names its patient; images of one patient may be on both sides of a split"]
    else:
        kind, lacking = "plain ids" if plain_ids else "pseudonyms of their ids", patients.count(MISSING)
        without = f"; {counted(lacking, 'image')} without any" if lacking else ""
        said = [f"groups are patients: {len(named):,} that headers name, by {kind}{without}"]
    studies = _instead_of_patients(patients, found)
    distinct = set(studies) - {MISSING}
    if not any(patients) and len(distinct) < 2:  # one study of all groups nothing
        return samples, said
    if distinct:
        images = counted(len(studies) - studies.count(MISSING), "image")
        said.append(f"{images} without a patient, grouped by {counted(len(distinct), 'study', 'studies')}")
    together = [patient or study for patient, study in zip(patients, studies, strict=True)]
    groups = together if plain_ids else [pseudonym(identity) for identity in together]
    return replace(samples, groups=groups, given=samples.given | {"group"}), said


def _instead_of_patients(patients: Sequence[str], headers: Sequence[Header | None]) -> list[str]:
    """(N,) what groups the images without a patient: the one that others of their study name, else the study.

    A study of several patients is none, but what some anonymisation wrote everywhere.
    """
    named: dict[str, set[str]] = defaultdict(set)
    for patient, header in zip(patients, headers, strict=True):
        if header is not None and header.study:
            named[header.study] |= {patient} - {MISSING}
    return [
        MISSING
        if patient or header is None or not header.study or len(named[header.study]) > 1
        else next(iter(named[header.study]), header.study)
        for patient, header in zip(patients, headers, strict=True)
    ]


def _with_columns(samples: Samples, columns: Columns, headers: Mapping[Path, Header]) -> Samples:
    """With the columns that were asked for.

    Raises:
        DataError: if the source has such a column already.
    """
    twice = [name for name in columns.dicom if name in samples.kept]
    if twice:
        message = f"{twice[0]} is a column of the source already; leave it out of "
        raise DataError(message + parameter("dicom") + " or " + parameter("keep"))
    found = _of(samples, headers)
    kept = {
        name: [MISSING if each is None else each.columns.get(name, MISSING) for each in found] for name in columns.dicom
    }
    return replace(samples, kept={**samples.kept, **kept})


def _told(samples: Samples, columns: Columns) -> list[str]:
    """A line with the number of images of which headers tell each column."""
    counts = {name: len(samples) - samples.kept[name].count(MISSING) for name in columns.dicom}
    return ["headers tell " + ", ".join(f"{name} ({count:,})" for name, count in counts.items())] if counts else []


def _frame_by_frame(samples: Samples, headers: Mapping[Path, Header], *, is_each: bool) -> tuple[Samples, list[str]]:
    """With a row for each frame of files that have several, if they are wanted; else a line that counts such files."""
    counts = [headers[path].n_frames if path in headers else 1 for path in samples.paths]
    several = [at for at, count in enumerate(counts) if count > 1]
    if not several:
        return samples, []
    files = counted(len(several), "file has", "files have")
    total = sum(counts[at] for at in several)
    if not is_each:
        said = (
            f"{files} several frames ({total:,} in all), such as {samples.ids[several[0]]}; one of them is read, the "
        )
        said += "first unless the name of a backbone says another; each is an image by "
        return samples, [said + parameter("frame", "each")]
    rows = [(at, number if count > 1 else None) for at, count in enumerate(counts) for number in range(count)]
    columns: dict[str, Any] = {name: [getattr(samples, name)[at] for at, _ in rows] for name in COLUMNS}
    for row, (_, number) in enumerate(rows):
        if number is not None:
            columns["paths"][row] /= f"frame={number}"
            columns["ids"][row] += f"/frame={number}"
    kept = {name: [values[at] for at, _ in rows] for name, values in samples.kept.items()}
    spread = replace(samples, kept=kept, **columns)
    return spread, [f"{files} several frames, of which each is an image: {total:,}"]


def _frames_together(samples: Samples) -> Samples:
    """Frames that have no group in one with the others of their file, for they are not independent."""
    is_frame = [frame_of(path.name) is not None for path in samples.paths]
    if not any(is_frame):
        return samples
    groups = [
        group or (identity.rpartition("/")[0] if frame else MISSING)
        for group, identity, frame in zip(samples.groups, samples.ids, is_frame, strict=True)
    ]
    return replace(samples, groups=groups, given=samples.given | {"group"})


def _damage(samples: Samples, headers: Mapping[Path, Header]) -> list[str]:
    """Counts headers that could not be read in full, and those of no picture."""
    found = [(path, headers[path]) for path in dict.fromkeys(map(_file, samples.paths)) if path in headers]
    damaged = [path for path, header in found if header.is_damaged]
    others = [path for path, header in found if not header.is_damaged and not header.is_picture]
    lines = []
    if damaged:
        cannot = (
            f"{counted(len(damaged), 'header')} of DICOM files cannot be read in full, such as that of {damaged[0]}"
        )
        lines.append(f"{cannot}; what they do not tell is missing")
    if others:
        tell = counted(len(others), "DICOM file tells", "DICOM files tell")
        lines.append(f"{tell} the size of no picture (a report, a structure, or cut off), such as {others[0]}")
    return lines
