"""A manifest: a table with a row per image."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from errno import ENAMETOOLONG
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from dvme.data.addresses import Finder, found_line, wrong_place
from dvme.data.columns import Columns, Labels, chosen_column, kept_columns, known_texts, read_labels
from dvme.data.listing import NOT_A_FILE
from dvme.data.masks.reading import Told, joined_rows, mask_columns, read_masks, told_masks
from dvme.data.samples import MASK, MISSING, NOTHING, SPLIT_NAMES, STANDARD, Samples, canonical_split
from dvme.data.sources import is_there
from dvme.data.tables import Table, read_table
from dvme.errors import DataError, parameter
from dvme.runtime import Progress, silent
from dvme.text import counted, first_few, some_of

MOST_CLASSES = 1000
"""A column of more values is not offered as one of labels."""
SPLIT_CELLS = frozenset({MISSING, *NOTHING, *SPLIT_NAMES})
"""All that stands in a column of splits, in lower case."""
PATIENTS = frozenset({"patient", "patientid", "patientnumber", "subject", "subjectid", "pid"})
"""What columns of patients are called, in lower case and without signs."""


def manifest_samples(
    manifest: Path,
    columns: Columns,
    image_root: Path | None = None,
    *,
    skip_missing: bool = False,
    images_only: bool = False,
    progress: Progress = silent,
) -> Samples:
    """Read a manifest and check that every image it names exists; the arguments are those of `samples_at`.

    Raises:
        DataError: if the file cannot be read, a column is missing, or an image file is missing.
    """
    table = read_table(manifest)
    return table_samples(
        table, columns, image_root, skip_missing=skip_missing, images_only=images_only, progress=progress
    )


def table_samples(
    table: Table,
    columns: Columns,
    image_root: Path | None = None,
    *,
    skip_missing: bool = False,
    images_only: bool = False,
    progress: Progress = silent,
) -> Samples:
    """The images of a table that has been read. Capitals and blanks in a header are no difference.

    Raises:
        DataError: if a column is missing, or an image file is.
    """
    image = chosen_column(table, columns.image or "image", "image")
    assert image is not None
    of_masks = {} if images_only else mask_columns(table, columns)
    table = joined_rows(table, image, of_masks.values()) if of_masks else table
    looked_for = () if images_only else STANDARD
    labels = read_labels(table, columns) if looked_for else None
    chosen = {name: chosen_column(table, getattr(columns, name), name) for name in looked_for if name != "label"}
    kept = kept_columns(table, columns) if looked_for else {}
    ids = image_names(table, image)
    root = table.source.parent if image_root is None else image_root
    finder = Finder(root, _is_missing)
    found = [finder.find(identity) for identity in ids]
    paths = [root / identity if path is None else path for identity, path in zip(ids, found, strict=True)]
    is_missing = [path is None for path in found]
    missing = [identity for identity, gone in zip(ids, is_missing, strict=True) if gone]
    if missing and not (skip_missing and len(missing) < len(ids)):
        _refuse_missing(table.source, missing, root, len(ids))
    there = [row for row, gone in enumerate(is_missing) if not gone]
    gone = [row for row, is_gone in enumerate(is_missing) if is_gone]
    used = {name: column for name, column in chosen.items() if column is not None}
    told, said = known_columns(table, used | kept, columns)
    values = {name: told.get(name, [MISSING] * len(ids)) for name in STANDARD}
    remarks = [
        columns_line(table, {"image": image} | chosen | kept | of_masks, labels),
        *table.remarks,
        *found_line(finder.read),
    ]
    every = [image, *used.values(), *kept.values(), *of_masks.values(), *(() if labels is None else labels.columns)]
    if labels is not None:
        values["label"] = labels.texts
        remarks += labels.remarks
    elif looked_for:
        remarks += without_label(table, every)
    remarks += said if images_only else [*said, *unnamed_columns(table, chosen, every)]
    splits, groups = splits_of(values["split"], used.get("split"), table.source), values["group"]
    samples = Samples(
        paths=[paths[row] for row in there],
        ids=[ids[row] for row in there],
        labels=[values["label"][row] for row in there],
        splits=[splits[row] for row in there],
        groups=[groups[row] for row in there],
        given=frozenset(used) | ({"label"} if labels is not None else set()),
        kept={name: [told[name][row] for row in there] for name in kept},
        findings=() if labels is None else labels.findings,
        remarks=tuple(remarks),
        missing=tuple(missing),
        missing_known=tuple((splits[row], groups[row]) for row in gone),
    )
    masks = told_masks(table, columns) if of_masks else None
    return samples if masks is None else with_masks(samples, masks.at(there), root, progress)


def with_masks(samples: Samples, told: Told, root: Path, progress: Progress) -> Samples:
    """The same with masks, which are found and looked at.

    Raises:
        DataError: as `read_masks`.
    """
    cells, remarks = read_masks(told, samples.ids, samples.paths, root, progress)
    return replace(samples, kept={**samples.kept, MASK: cells}, remarks=(*samples.remarks, *remarks))


def image_names(table: Table, column: str) -> list[str]:
    """The names of the images, none empty.

    Raises:
        DataError: if there is none, or a row lacks its own.
    """
    names = table.texts(column)
    if not names:
        raise DataError(f"{table.source} has no rows; list one image per row")
    unnamed = names.count(MISSING)
    if unnamed:
        rows, first = counted(unnamed, "row"), names.index(MISSING) + 1
        raise DataError(
            f"{table.source} has {rows} without an image, the first in row {first}; write its file name there"
        )
    return names


def known_columns(table: Table, sources: Mapping[str, str], columns: Columns) -> tuple[dict[str, list[str]], list[str]]:
    """The cells of several columns, by what each is used for, and what `known_texts` says of them."""
    read = {name: known_texts(table, source, columns) for name, source in sources.items()}
    return {name: texts for name, (texts, _) in read.items()}, [line for _, lines in read.values() for line in lines]


def columns_line(table: Table, chosen: Mapping[str, str | None], labels: Labels | None) -> str:
    """Says which columns are used, and which are not."""
    used = {name: column for name, column in chosen.items() if column is not None}
    of_labels = () if labels is None else labels.columns
    others = [name or "(without a name)" for name in table.names if name not in {*used.values(), *of_labels}]
    shown = {"image": used.pop("image")} | ({"label": some_of(of_labels)} if of_labels else {}) | used
    return columns_used(table.source, shown) + (f"; not used: {some_of(others)}" if others else "")


def columns_used(source: Path, used: Mapping[str, str]) -> str:
    """Says which columns are used, each by what it is used for."""
    shown = [name if name == column else f"{name} = {column!r}" for name, column in used.items()]
    return f"columns used of {source.name}: {', '.join(shown)}"


def without_label(table: Table, used: Sequence[str]) -> list[str]:
    """Where no column of labels is chosen: the columns that could be it, for their values are few and repeated."""
    found: dict[str, int] = {}
    for name in table.names:
        if name and name not in used:
            try:
                count = len(set(table.texts(name)) - {MISSING})
            except DataError:  # lists are no labels
                continue
            if 2 <= count <= min(MOST_CLASSES, max(2, table.n_rows // 2)):
                found[name] = count
    if not found:
        return [f"no labels: {table.source.name} has no column 'label', nor another that could be it"]
    offered = some_of([f"{name} ({count:,} values)" for name, count in sorted(found.items(), key=lambda item: item[1])])
    said = f"no labels: {table.source.name} has no column 'label'; columns that could be it: {offered}; name one with "
    return [said + parameter("label")]


def unnamed_columns(table: Table, chosen: Mapping[str, str | None], used: Collection[str]) -> list[str]:
    """A line for a column of splits, and for one of patients, that nobody named and that is not called so.

    Args:
        table: that has them.
        chosen: the columns that are used for `split` and `group`; None for none.
        used: all that are used.
    """
    others, lines = [name for name in table.names if name and name not in used], list[str]()
    split = None if chosen.get("split") else next((name for name in others if _tells_splits(table, name)), None)
    if split is not None:
        said = f"column {split!r} says train, val or test and is not used; "
        lines.append(said + parameter("split", split) + " takes these parts")
    group = None if chosen.get("group") else next((name for name in others if _tells_patients(table, name)), None)
    if group is not None:
        said = f"column {group!r} seems to tell patients and is not used; "
        lines.append(said + parameter("group", group) + " keeps the images of each on one side of a split")
    return lines


def splits_of(names: list[str], column: str | None, manifest: Path) -> list[str]:
    """The splits that a column names.

    Raises:
        DataError: naming the column, if one is none.
    """
    try:
        return [canonical_split(name) if name else MISSING for name in names]
    except DataError as error:
        raise DataError(f"column {column!r} of {manifest}: {error}, leave the cell empty, or rename it") from error


def _tells_splits(table: Table, name: str) -> bool:
    """Whether a column has nothing but names of splits, and several of them."""
    try:
        cells = [] if name in table.typed else table.texts(name)
    except DataError:  # lists are no splits
        return False
    if not all(cell.casefold() in SPLIT_CELLS for cell in cells):
        return False
    return len({cell.casefold() for cell in cells} & SPLIT_NAMES.keys()) > 1


def _tells_patients(table: Table, name: str) -> bool:
    """Whether a column is called as those of patients are, and one of them has several images."""
    if "".join(letter for letter in name.casefold() if letter.isalnum()) not in PATIENTS:
        return False
    try:
        known = [cell for cell in table.texts(name) if cell and cell.casefold() not in NOTHING]
    except DataError:
        return False
    return len(set(known)) < len(known)


def _refuse_missing(manifest: Path, missing: list[str], root: Path, n_images: int) -> None:
    why = next(filter(None, map(wrong_place, missing)), "")
    step = (
        "or leave them out with " + parameter("skip_missing", True)
        if len(missing) < n_images
        else "there is no other image"
    )
    raise DataError(
        f"{manifest} names {counted(len(missing), 'file')} that {'does' if len(missing) == 1 else 'do'} not exist: "
        f"{first_few(name if wrong_place(name) else root / name for name in missing)}{why}; mend the paths or pass "
        + parameter("image_root")
        + ", "
        + step
    )


def _is_missing(path: Path) -> bool:
    """Whether nothing is at a path. What only cannot be reached is there, and is named when it is read.

    Raises:
        DataError: if something else than a file is there: a pipe would be waited for, for ever.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - for a million paths
    except (FileNotFoundError, NotADirectoryError):
        return not is_there(path)
    except ValueError:
        return True
    except OSError as error:
        return error.errno == ENAMETOOLONG
    if not S_ISREG(mode):
        what = "a folder" if S_ISDIR(mode) else f"a {NOT_A_FILE}"
        raise DataError(f"{path} is {what}, no image file; mend the manifest")
    return False
