"""Images in folders: root/class/img, root/split/class/img, or one flat folder without labels."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from dvme.data.samples import MISSING, SPLIT_NAMES, Samples, canonical_split
from dvme.errors import DataError
from dvme.wording import counted

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})


def folder_samples(root: Path) -> Samples:
    """List the images below a folder; the folders' names are the labels, and the splits if they are such.

    Raises:
        DataError: if the folder is missing, holds no image, or mixes labelled and unlabelled images.
    """
    if not root.is_dir():
        raise DataError(f"{root} is neither a folder nor a manifest file (.csv, .tsv, .parquet)")
    files = sorted(image_files(root))
    if not files:
        raise DataError(f"{root} holds no images{_what_it_holds(root)}")
    places = [path.relative_to(root).parts[:-1] for path in files]
    has_splits = all(place and place[0].lower() in SPLIT_NAMES for place in places)
    tops = {place[0] for place in places if place}
    mixed = sorted(top for top in tops if top.lower() in SPLIT_NAMES)
    if mixed and not has_splits:
        others = ", ".join(sorted(tops - set(mixed))[:3]) or "images outside of them"
        message = (
            f"{root} has split folders ({', '.join(mixed)}) beside others ({others}); use a manifest, or move them"
        )
        raise DataError(message)
    classes = [place[1:] if has_splits else place for place in places]
    labels = [place[0] if place else MISSING for place in classes]
    stray = labels.count(MISSING)
    if not has_splits and 0 < stray < len(files):
        example = files[labels.index(MISSING)].name
        message = (
            f"{root} mixes {counted(len(files) - stray, 'image')} in class folders with {stray} outside of any "
            f"(such as {example}); move them, or list the images in a manifest"
        )
        raise DataError(message)
    return Samples(
        paths=files,
        ids=[path.relative_to(root).as_posix() for path in files],
        labels=labels,
        splits=[canonical_split(place[0]) if has_splits else MISSING for place in places],
        groups=[MISSING] * len(files),
        given=frozenset({"label"} if stray < len(files) else ()) | frozenset({"split"} if has_splits else ()),
    )


def image_files(root: Path) -> Iterator[Path]:
    """Every image file below the folder; hidden files and folders are passed over, links followed once."""
    visited: set[str] = set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:
            subfolders.clear()
            continue
        visited.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith((".", "__")))
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES:
                yield Path(folder) / name


def _what_it_holds(root: Path) -> str:
    """A hint such as `: 12 .dcm files; ...` when files of another kind are there."""
    suffixes = Counter(path.suffix.lower() for path in root.rglob("*") if path.is_file())
    known = " ".join(sorted(suffix.lstrip(".") for suffix in IMAGE_SUFFIXES))
    if not suffixes:
        return " (it is empty); name the folder that has them"
    suffix, count = suffixes.most_common(1)[0]
    return f", but {counted(count, 'file')} of kind {suffix or '(none)'}; dvme reads {known}"
