"""PatchCamelyon as it is published: a pair of HDF5 files for each split, and a table that names the slides."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

from dvme.data.columns import Columns
from dvme.data.samples import Samples, canonical_split
from dvme.data.sources.arrays.listing import ArrayFile, array_samples, together
from dvme.data.tables import read_table
from dvme.errors import DataError
from dvme.text import counted

SPLITS = ("train", "valid", "test")
NAME = re.compile(rf"camelyonpatch_level_2_split_(?P<split>{'|'.join(SPLITS)})_(?P<part>[xy])\.h5(?P<packed>\.gz)?")
SLIDE = "wsi"
"""The column of the table that names the slide of each patch."""
IMAGES, LABELS = "x", "y"
Open = Callable[[Path], ArrayFile]


def is_patchcam(place: Path) -> bool:
    """Whether this is one of its files, or a folder that has some."""
    if place.is_dir():
        return bool(_files(place))
    return NAME.fullmatch(place.name) is not None


def patchcam_samples(place: Path, columns: Columns, opened: Open, *, images_only: bool) -> Samples:
    """The images of all splits, or of one file.

    Args:
        place: the folder, or one of the files `..._x.h5`.
        columns: of the table of slides, `wsi` by default is the group; further ones can be kept.
        opened: reads what an HDF5 file holds.
        images_only: labels, splits and slides are not looked at.

    Raises:
        DataError: if files are packed or do not fit together.
    """
    found = _files(place if place.is_dir() else place.parent)
    splits = list(found) if place.is_dir() else [_matched(place)["split"]]
    if not place.is_dir() and _matched(place)["part"] == LABELS:
        name = place.name.replace("_y.h5", "_x.h5")
        raise DataError(f"{place} holds the labels of PatchCamelyon; name {place.parent / name}, which has the images")
    parts = []
    for split in splits:
        part = _split(found[split], columns, opened, images_only=images_only)
        prefix = f"{found[split][IMAGES].name}/" if place.is_dir() else ""
        parts.append(replace(part, ids=[prefix + name for name in part.ids]))
    return together(parts)


def _split(files: Mapping[str, Path], columns: Columns, opened: Open, *, images_only: bool) -> Samples:
    """The images of one split."""
    missing = next((part for part in (IMAGES, LABELS) if files.get(part, Path()).suffix == ".gz"), None)
    if missing is not None:
        raise DataError(f"{files[missing]} is packed; unpack it: gunzip -k {files[missing]}")
    if IMAGES not in files:
        images = str(files[LABELS]).replace("_y.h5", "_x.h5")
        raise DataError(f"{files[LABELS]} has labels of images that are not there; put {images} beside it")
    file = opened(files[IMAGES])
    if IMAGES not in file.arrays:
        raise DataError(f"{files[IMAGES]} has no array {IMAGES!r} of images; load it again")
    split = canonical_split(_matched(files[IMAGES])["split"])
    if images_only:
        return array_samples(file, columns, images_only=True)
    file, remarks = _with_labels(replace(file, split=split, group=SLIDE), files, opened)
    file, further = _with_slides(file)
    samples = array_samples(file, columns, images_only=False)
    return replace(samples, remarks=(*samples.remarks, *remarks, *further))


def _with_labels(file: ArrayFile, files: Mapping[str, Path], opened: Open) -> tuple[ArrayFile, list[str]]:
    """The file as if it held its labels as well."""
    if LABELS not in files:
        name = file.path.name.replace("_x.h5", "_y.h5")
        return file, [f"no labels: {name} is not there, which holds those of {file.path.name}"]
    partner = opened(files[LABELS])
    if LABELS not in partner.arrays:
        raise DataError(f"{files[LABELS]} has no array {LABELS!r} of labels; load it again")
    n_images, n_labels = (each.arrays[name].shape[0] for each, name in ((file, IMAGES), (partner, LABELS)))
    if n_images != n_labels:
        has = f"{counted(n_images, 'image')}, and {files[LABELS].name} {counted(n_labels, 'label')}"
        raise DataError(f"{file.path} has {has}: they are of other versions, or one is cut short; load both again")
    arrays = {**file.arrays, LABELS: partner.arrays[LABELS]}
    return replace(file, arrays=arrays, read=lambda name: (partner if name == LABELS else file).read(name)), []


def _with_slides(file: ArrayFile) -> tuple[ArrayFile, list[str]]:
    """The file as if it held the columns of its table of slides as well."""
    path = file.path.with_name(file.path.name.replace("_x.h5", "_meta.csv"))
    if not path.is_file():
        why = f"no groups: {path.name} is not there, which names the slide of each patch"
        return file, [f"{why}; patches of one slide are not independent, and may be on both sides of a split"]
    table, n_images = read_table(path), file.arrays[IMAGES].shape[0]
    if table.n_rows != n_images:
        rows = counted(table.n_rows, "row")
        raise DataError(f"{path} has {rows} for {counted(n_images, 'image')} of {file.path.name}; load both again")
    return replace(file, beside={name: partial(table.texts, name) for name in table.names if name}), []


def _files(folder: Path) -> dict[str, dict[str, Path]]:
    """Split to its files, `x` and `y`; an unpacked one comes before a packed one."""
    found: dict[str, dict[str, Path]] = {}
    for split, part, packed in product(SPLITS, (IMAGES, LABELS), (".gz", "")):
        path = folder / f"camelyonpatch_level_2_split_{split}_{part}.h5{packed}"
        if path.is_file():
            found.setdefault(split, {})[part] = path
    return found


def _matched(path: Path) -> re.Match[str]:
    match = NAME.fullmatch(path.name)
    assert match is not None
    return match
