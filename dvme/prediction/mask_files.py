"""Predicted masks as files: what each is called, its pixels as a PNG, and the table of areas."""

from __future__ import annotations

import csv
import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dvme.data.images import SUFFIXES
from dvme.errors import OptionError, parameter
from dvme.files import check_folder, whole

AREAS = "areas.csv"
PNG = ".png"
THERE = 255
"""Value of a pixel that has a structure, in the file of the structure."""
LONGEST_PART = 120
"""Bytes of a folder's or a file's name; file systems take 255."""
FORBIDDEN = frozenset('<>:"|?*\\')
"""In names of files, on some system."""
TABLES = (".csv", ".parquet", ".png")
"""What a folder of masks is not called."""


def check_masks_folder(out: str | Path, head: str, *, force: bool) -> Path:
    """The place of a folder of masks that can be made there.

    Args:
        out: as the user named it.
        head: what predicts.
        force: whether a folder of earlier masks is replaced.

    Raises:
        OptionError: if it is a file, is called as one, or holds something else than masks.
    """
    place = Path(out)
    if not place.is_dir() and place.suffix.lower() in TABLES:
        raise OptionError(
            f"{place} is the name of a file, and {head} makes a mask of each image; name a folder for them with "
            + parameter("out")
        )
    if force and whole(place).is_dir() and any(whole(place).iterdir()) and not (whole(place) / AREAS).is_file():
        raise OptionError(f"{place} is there already and holds no masks that dvme predicted; name another folder")
    step = "name another folder" if force else "name another folder, or pass " + parameter("force", True)
    return check_folder(place, step=step, force=force)


def file_names(ids: Sequence[str]) -> list[str]:
    """What the masks of images are called: their folders and names, without the suffix of a picture.

    Each is another one, also where capitals are no difference; and none is a folder of another.

    Args:
        ids: (N,) different names of images, as their source has them.

    Returns:
        (N,) with `/` between folders, without the suffix of a mask.
    """
    full = ["/".join(map(_part, parts)) or "_" for parts in _below(ids)]
    short = [_without_suffix(name) for name in full]
    counts = Counter(name.casefold() for name in short)
    names = [own if counts[own.casefold()] == 1 else longer for own, longer in zip(short, full, strict=True)]
    folders = {f"{folder}".casefold() for name in names for folder in PurePosixPath(name).parents}
    counts = Counter(name.casefold() for name in names)
    return [
        name if counts[name.casefold()] == 1 and f"{name}{PNG}".casefold() not in folders else f"{name}~{_digest(own)}"
        for name, own in zip(names, ids, strict=True)
    ]


class MaskWriter:
    """Masks of images in a folder that is being made."""

    def __init__(self, folder: Path, classes: Sequence[str], *, is_exclusive: bool) -> None:
        """Of L classes; where pixels have one at most, a file has all of them, else each class has its own folder."""
        self._folder, self.is_exclusive = folder, is_exclusive
        self._folders = [] if is_exclusive else file_names(classes)

    def write(self, name: str, planes: NDArray[np.bool_]) -> str:
        """Write (L, H, W) planes.

        Returns:
            The files below the folder, with `|` between them.
        """
        if self.is_exclusive:
            indices = np.zeros(planes.shape[1:], dtype=np.uint8)
            for place, plane in enumerate(planes, start=1):
                indices[plane] = place
            return self._save(f"{name}{PNG}", indices)
        files = [
            self._save(f"{folder}/{name}{PNG}", np.where(plane, np.uint8(THERE), np.uint8(0)))
            for folder, plane in zip(self._folders, planes, strict=True)
        ]
        return "|".join(files)

    def _save(self, name: str, values: NDArray[np.uint8]) -> str:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path, compress_level=1)
        return name


def write_areas(folder: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the table; what a row lacks is an empty cell."""
    with (folder / AREAS).open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def _below(ids: Sequence[str]) -> list[tuple[str, ...]]:
    """Folders and name of each; of names that all are absolute, those below what is common to them."""
    paths = [PurePosixPath(own) for own in ids]
    if paths and all(path.is_absolute() for path in paths):
        top = os.path.commonpath([path.parent for path in paths])
        paths = [path.relative_to(top) for path in paths]
    return [tuple(part for part in path.parts if part != "/") for path in paths]


def _part(text: str) -> str:
    """A folder's or a file's name that every file system takes."""
    safe = "".join("_" if letter in FORBIDDEN or not letter.isprintable() else letter for letter in text).rstrip(" .")
    safe = safe or "_"
    if safe.casefold() == AREAS:
        safe += "_"
    if len(safe.encode()) <= LONGEST_PART:
        return safe
    cut = safe.encode()[: LONGEST_PART - 20].decode(errors="ignore")
    return f"{cut}~{_digest(text)}"


def _without_suffix(name: str) -> str:
    suffix = PurePosixPath(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in SUFFIXES else name


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
