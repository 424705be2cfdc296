"""A look at the masks of a table: sizes, which values occur, and what identifies the files; no pixel is kept."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from dvme.data.listing import why
from dvme.data.masks.finding import Pieces
from dvme.data.masks.pixels import label_values
from dvme.data.masks.runs import checked_runs
from dvme.data.sizes import image_size
from dvme.data.sources import read_image
from dvme.errors import DataError, ImageError
from dvme.runtime import Runtime
from dvme_cache import content_id

Size = tuple[int, int]


@dataclass(frozen=True)
class File:
    """One file of a mask."""

    digest: bytes
    """Its content id."""
    values: tuple[int, ...]
    """That occur, ascending."""
    is_jpeg: bool


@dataclass(frozen=True)
class Seen:
    """What there is of one structure of an image."""

    pieces: Pieces
    files: tuple[File, ...] = ()
    runs: tuple[str, ...] = ()
    """As `pixels_of` takes them."""

    @cached_property
    def values(self) -> frozenset[int]:
        """That occur in any of the files."""
        return frozenset(value for file in self.files for value in file.values)

    @property
    def is_joined(self) -> bool:
        """Whether it takes more than the values of one file to say where the class is."""
        return len(self.files) + len(self.runs) > 1 or bool(self.runs)


@dataclass(frozen=True)
class Looked:
    """The mask of an image, in all columns."""

    size: Size | None
    """(H, W); None where neither the image nor a file of the mask tells it."""
    seen: tuple[Seen, ...]
    """One of each column."""
    problem: str = ""
    """Why it cannot be used; "" if it can."""


def look_at(
    masks: Sequence[Sequence[Pieces]],
    images: Sequence[Path | None],
    tell: Callable[[int, int], None],
    *,
    is_relative: bool,
) -> list[Looked]:
    """Look at the masks of N images, in threads.

    Args:
        masks: of each image, one of each column.
        images: where each is; None where that is not known.
        tell: called with (done, N).
        is_relative: as `checked_runs`.
    """

    def look(own: Sequence[Pieces], image: Path | None) -> Looked:
        if not any(pieces.is_said for pieces in own):
            return Looked(None, tuple(map(Seen, own)))
        try:
            return _look(own, image, is_relative=is_relative)
        except DataError as error:
            return Looked(None, (), f"{error}")

    # Pillow and pydicom warn, and threads cannot filter warnings on their own.
    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(Runtime().n_workers) as pool:
        found = []
        for each in pool.map(look, masks, images):
            found.append(each)
            tell(len(found), len(masks))
        return found


def _look(own: Sequence[Pieces], image: Path | None, *, is_relative: bool) -> Looked:
    size, of_image = _size_of(image), True
    seen = []
    for pieces in own:
        files = []
        for name in pieces.files:
            file, shape = _file(name)
            if size is None:
                size, of_image = shape, False
            if shape != size:
                than = "the image is" if of_image else "another file of the mask is"
                raise DataError(f"{name} is {_shown(shape)} pixels, and {than} {_shown(size)}; give masks of that size")
            files.append(file)
        seen.append((pieces, tuple(files)))
    return Looked(
        size,
        tuple(
            Seen(
                pieces,
                files,
                () if size is None else tuple(checked_runs(run, size, is_relative=is_relative) for run in pieces.runs),
            )
            for pieces, files in seen
        ),
    )


def _size_of(image: Path | None) -> Size | None:
    """(H, W); None where the image cannot be read, which is said when it is to be embedded."""
    try:
        return None if image is None else image_size(image)
    except (OSError, ImageError):
        return None


def _file(name: str) -> tuple[File, Size]:
    try:
        data = read_image(name).data
        found = label_values(data)
    except OSError as error:
        raise DataError(f"{name} cannot be read: {why(error)}") from error
    except ImageError as error:
        raise DataError(f"{name}: {error}") from error
    values = np.flatnonzero(np.bincount(found.values.ravel()))
    rows, columns = found.values.shape
    return File(content_id(data), _once(tuple(values.tolist())), found.is_jpeg), (rows, columns)


@lru_cache(1024)
def _once(values: tuple[int, ...]) -> tuple[int, ...]:
    """One object of equal ones: most masks have the same values."""
    return values


def _shown(size: Size) -> str:
    return f"{size[1]} x {size[0]}"
