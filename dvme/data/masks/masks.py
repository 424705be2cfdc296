"""The masks of N images, read when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dvme.data.listing import why
from dvme.data.masks.cell import NOTHING, STEP, Cell, Layer, contradictory, presence_of, what_is_shown
from dvme.data.masks.pixels import label_values
from dvme.data.masks.runs import pixels_of
from dvme.data.samples import MISSING
from dvme.data.sources import read_image
from dvme.errors import DataError, ImageError
from dvme.metrics.segmentation import VOID
from dvme.text import counted
from dvme_cache import content_id


@dataclass(frozen=True, eq=False)
class Masks:
    """The masks of N images of the same L classes. None is read before it is asked for, and none is kept."""

    names: tuple[str, ...]
    """L classes or structures; background is not among them."""
    is_exclusive: bool
    """Whether a pixel has one class at most, as in label images; structures may overlap."""
    presence: NDArray[np.float32]
    """(N, L) whether a class occurs in the mask: 1, 0, or nan where the image has no mask of it."""
    sizes: NDArray[np.int64]
    """(N, 2) rows and columns of the masks, which are those of the images; 0 where an image has no mask."""
    cells: Sequence[str] | NDArray[Any] = field(repr=False)
    """(N,) as the cache has them."""

    @classmethod
    def of(cls, cells: NDArray[Any]) -> Self:
        """The masks of a cache.

        Args:
            cells: (N,) of its column `mask`; "" is an image without.

        Raises:
            DataError: if one is no mask, or they are not of the same classes.
        """
        read = [Cell.of(text) if text != MISSING else None for text in cells]
        kinds = {(cell.names, cell.is_exclusive) for cell in read if cell is not None}
        if len(kinds) > 1:
            raise DataError(f"{contradictory(kinds)}; {STEP}")
        names, is_exclusive = next(iter(kinds), ((), True))
        letters = ["?" * len(names) if cell is None else cell.presence for cell in read]
        return cls(
            names,
            is_exclusive,
            np.array(presence_of(letters), dtype=np.float32).reshape(len(read), len(names)),
            np.array([(0, 0) if cell is None else cell.size for cell in read], dtype=np.int64).reshape(len(read), 2),
            np.asarray(cells, dtype=object),
        )

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def ids(self) -> NDArray[np.uint8]:
        """(N, 16) what identifies each mask: the bytes of its files and what their values mean, not where they lie."""
        found = b"".join(content_id(what_is_shown(str(cell)).encode()) for cell in self.cells)
        return np.frombuffer(found, dtype=np.uint8).reshape(len(self), 16)

    def at(self, positions: NDArray[Any]) -> Masks:
        """Those of some images."""
        cells = np.asarray(self.cells, dtype=object)[positions]
        return replace(self, presence=self.presence[positions], sizes=self.sizes[positions], cells=cells)

    def read(self, position: int) -> NDArray[np.uint8]:
        """(L, H, W) planes of 1, 0 and VOID.

        Raises:
            DataError: if the image has no mask, or a file of it is gone or is not what it was.
        """
        text = self.cells[position]
        if text == MISSING:
            raise DataError(f"image {position} of these has no mask; ask for those that have one (`presence`)")
        return planes_of(Cell.of(text))


def planes_of(cell: Cell) -> NDArray[np.uint8]:
    """(L, H, W) planes of a cell, whose files are read and checked.

    Raises:
        DataError: if one is gone or is not what it was.
    """
    planes = np.zeros((len(cell.names), *cell.size), dtype=np.uint8)
    digests = []
    for place, layer in enumerate(cell.layers):
        if layer.values is None:
            planes[place] = VOID
            continue
        own, is_void = layer.classes, np.zeros(cell.size, dtype=bool)
        for file in layer.files:
            digest, found = _read(file, layer, cell.size)
            digests.append(digest)
            is_void |= found == NOTHING
            for index in own:
                planes[index] |= found == index
        for runs in layer.runs:
            planes[own[0]] |= pixels_of(runs, cell.size)
        for index in own:
            planes[index][is_void & (planes[index] == 0)] = VOID
    if digest_of(digests) != cell.digest:
        files = [file for layer in cell.layers for file in layer.files]
        what = files[0] if len(files) == 1 else f"of {counted(len(files), 'file')} such as {files[0]}"
        raise DataError(f"the mask {what} has changed since the cache read it; {STEP}")
    return planes


def digest_of(digests: Sequence[bytes]) -> str:
    """Of the content ids of a mask's files, in their order: the one of a single file, that of all of several."""
    return "" if not digests else (digests[0] if len(digests) == 1 else content_id(b"".join(digests))).hex()


def _read(file: str, layer: Layer, size: tuple[int, int]) -> tuple[bytes, NDArray[np.int16]]:
    """The content id of a file, and (H, W) the class of each of its pixels."""
    try:
        data = read_image(Path(file)).data
        digest, values = content_id(data), label_values(data).values
    except OSError as error:
        raise DataError(f"the mask {file} cannot be read: {why(error)}; bring it back, or {STEP}") from error
    except ImageError as error:
        raise DataError(f"the mask {file} has changed since the cache read it ({error}); {STEP}") from error
    if values.shape != size:
        raise DataError(f"the mask {file} has changed since the cache read it; {STEP}")
    return digest, layer.indices(values)
