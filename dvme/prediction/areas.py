"""The areas of predicted masks: what becomes of each image, a line of a table each, and all of them together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data import MISSING
from dvme.data.hashing import hash_file
from dvme.data.listing import why
from dvme.data.mask_options import BACKGROUND
from dvme.data.masks import VOID
from dvme.data.masks.cell import Cell
from dvme.data.masks.masks import planes_of
from dvme.data.sizes import image_size
from dvme.errors import DataError, DvmeError, ImageError, message_of
from dvme.extraction.decoding import CHANGED
from dvme.heads.saved_head import SavedHead, keys_of
from dvme.metrics.segmentation import dice, known_mean, overlaps
from dvme.prediction.mask_files import MaskWriter, file_names
from dvme.text import counted

Size = tuple[int, int]
Planes = Callable[[Size], NDArray[np.bool_]]
"""(L, H, W) of an image at a size."""


@dataclass
class Masked:
    """Which masks were written."""

    saved: SavedHead
    n_images: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    """Images by class that they show."""
    n_empty: int = 0
    """Images that show no class."""
    n_known: int = 0
    """Images that the head learned from or chose on."""
    left_out: dict[str, str] = field(default_factory=dict)
    n_computed: int = 0
    kept_in: str | None = None
    dice: dict[str, float] = field(default_factory=dict)
    """By class, mean over the images whose mask is known and that the head was not fitted on; nothing without any."""
    n_scored: int = 0
    """Those."""
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Source:
    """Images, and what says where their classes are."""

    ids: Sequence[str]
    paths: Sequence[str]
    contents: Mapping[int, bytes]
    """By position, of those that can be asked about."""
    found: Iterator[tuple[int, Planes | str]]
    """Each of those once: its planes, or why there are none."""
    left_out: Mapping[str, str]
    remarks: Sequence[str]
    is_cache: bool
    """Whether a cache names the images, whose files may be others by now."""
    n_computed: int = 0
    kept_in: str | None = None


class Areas:
    """The areas of the images, a row each."""

    def __init__(self, saved: SavedHead, source: Source, known: Mapping[bytes | str, str], writer: MaskWriter) -> None:
        self._saved, self._source, self._known, self._writer = saved, source, known, writer
        self._is_exclusive = writer.is_exclusive
        self._names = file_names(source.ids)
        self._rows: dict[int, dict[str, Any]] = {}
        self._shows = np.zeros(len(saved.classes), dtype=np.int64)
        self._n_empty = 0
        self._scored: dict[int, NDArray[np.int64]] = {}
        self._unread: dict[str, str] = {}
        self._reasons: dict[int, str] = {}

    def add(self, position: int, planes: Planes | str) -> None:
        """Write what an image shows, or note why nothing can be."""
        if isinstance(planes, str):
            self._reasons[position] = planes
            return
        identity, classes = self._source.ids[position], self._saved.classes
        cell = self._cell(position)
        size = cell.size if cell is not None else self._size(position)
        if isinstance(size, str):
            self._reasons[position] = size
            return
        found = planes(size)
        n_pixels, areas = size[0] * size[1], np.count_nonzero(found, axis=(1, 2))
        self._shows += areas > 0
        self._n_empty += not areas.any()
        row = {
            "image": identity,
            "path": self._source.paths[position],
            "mask": self._writer.write(self._names[position], found),
            "rows": size[0],
            "columns": size[1],
        }
        by_class = {BACKGROUND: n_pixels - int(areas.sum())} if self._is_exclusive else {}
        by_class |= dict(zip(classes, areas.tolist(), strict=True))
        for name, area in by_class.items():
            row |= {f"pixels({name})": area, f"share({name})": area / n_pixels}
        counts = None if cell is None else self._scores(identity, cell, found)
        if counts is not None:
            self._scored[position] = counts
            scores = zip(classes, dice(counts).tolist(), strict=True)
            row |= {f"dice({name})": score for name, score in scores if not np.isnan(score)}
        self._rows[position] = row

    def done(self) -> Masked:
        """What was written.

        Raises:
            DataError: if no image has a mask now.
        """
        source, saved = self._source, self._saved
        left_out = dict(source.left_out) | {source.ids[at]: why for at, why in sorted(self._reasons.items())}
        if not self._rows:
            image, reason = next(iter(left_out.items()), ("no image", "is there"))
            raise DataError(f"no image can be segmented ({image}: {reason}); there is nothing to predict")
        ids = np.array([list(source.contents[position]) for position in self._rows], dtype=np.uint8)
        is_fitted = np.isin(keys_of(ids), keys_of(saved.fitted_ids))
        is_new = dict(zip(self._rows, (~is_fitted).tolist(), strict=True))
        some = [counts for position, counts in self._scored.items() if is_new[position]]
        scored = np.array(some, dtype=np.int64).reshape(-1, len(saved.classes), 3)
        means = known_mean(dice(scored), axis=0) if len(scored) else np.zeros(0)
        remarks = list(source.remarks)
        if self._unread:
            image, reason = next(iter(self._unread.items()))
            remarks.append(f"no Dice of {counted(len(self._unread), 'image')}, such as {image}: {reason}")
        return Masked(
            saved=saved,
            n_images=len(self._rows),
            counts=dict(zip(saved.classes, self._shows.tolist(), strict=True)),
            n_empty=self._n_empty,
            n_known=int(is_fitted.sum()),
            left_out=left_out,
            n_computed=source.n_computed,
            kept_in=source.kept_in,
            dice={name: float(value) for name, value in zip(saved.classes, means, strict=False) if not np.isnan(value)},
            n_scored=len(scored),
            remarks=remarks,
        )

    def columns(self) -> list[str]:
        """Of the table."""
        named = [*([BACKGROUND] if self._is_exclusive else []), *self._saved.classes]
        areas = [f"{what}({name})" for what in ("pixels", "share") for name in named]
        scores = [f"dice({name})" for name in self._saved.classes] if self._scored else []
        return ["image", "path", "mask", "reason", "rows", "columns", *areas, *scores]

    def sorted_rows(self, left_out: Mapping[str, str]) -> list[dict[str, Any]]:
        """In the order of the source; what it names and has no position comes last."""
        rows, others, place = dict(self._rows), [], {own: at for at, own in enumerate(self._source.ids)}
        for image, reason in left_out.items():
            row = {"image": image, "reason": reason}
            if image in place:
                rows[place[image]] = row | {"path": self._source.paths[place[image]]}
            else:
                others.append(row)
        return [rows[at] for at in sorted(rows)] + others

    def _cell(self, position: int) -> Cell | None:
        """The known mask of an image, by its name in a table, or by its content in a cache."""
        for key in (self._source.ids[position], self._source.contents[position]):
            text = self._known.get(key, MISSING)
            if text != MISSING:
                return Cell.of(text)
        return None

    def _size(self, position: int) -> Size | str:
        """(H, W) of an image by its header, or why nobody knows it."""
        path = Path(self._source.paths[position])
        try:
            content = hash_file(path) if self._source.is_cache else self._source.contents[position]
            if isinstance(content, OSError):
                raise content
            is_same = content == self._source.contents[position]
            return image_size(path) if is_same else f"its size is not known: {CHANGED}"
        except OSError as error:
            return f"its size is not known: {why(error)}"
        except ImageError as error:
            return f"its size is not known: {error}"

    def _scores(self, identity: str, cell: Cell, found: NDArray[np.bool_]) -> NDArray[np.int64] | None:
        """(L, 3) see `overlaps`; of classes that the mask does not know UNKNOWN; None where it cannot be read."""
        try:
            truth = planes_of(cell)
        except DvmeError as error:
            self._unread[identity] = message_of(error)
            return None
        classes = self._saved.classes
        unknown = np.full((1, *truth.shape[1:]), VOID, dtype=np.uint8)
        places = [cell.names.index(name) if name in cell.names else len(cell.names) for name in classes]
        if min(places) == len(cell.names):
            self._unread[identity] = f"its mask has {', '.join(cell.names)}, and not {classes[0]}"
            return None
        return overlaps(found, np.concatenate([truth, unknown])[places])
