"""Masks of new images by saved heads that segment: from their features or pixels to files and a table of areas."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dvme.data import MISSING, Columns, Samples, samples_at
from dvme.data.masks import Masks
from dvme.data.samples import MASK
from dvme.errors import DataError, parameter
from dvme.files import new_folder
from dvme.heads import UNETS
from dvme.heads.saved_head import SavedHead
from dvme.prediction.areas import Areas, Masked, Planes, Source
from dvme.prediction.backbones import OwnBackbones
from dvme.prediction.mask_files import MaskWriter, check_masks_folder, write_areas
from dvme.prediction.pixels import asked_of_unets, listed
from dvme.prediction.sources import Part, as_cache, embedded, with_embeddings
from dvme.runtime import Progress, Runtime
from dvme.segmentation.maps import DenseMaps
from dvme.segmentation.saved import load_head
from dvme.segmentation.scene import Scene
from dvme.segmentation.unet.fitted import taken_together
from dvme.text import first_few
from dvme_cache import EmbeddingCache

AT_ONCE = 16
"""Images of which the heads of all folds are asked one after the other."""


@dataclass(frozen=True, kw_only=True)
class MaskRequest:
    """What masks are wanted of."""

    head: str | Path
    images: str | Path
    out: str | Path
    cache: str | Path | None
    own: OwnBackbones
    columns: Columns
    """Frames, and where the masks of the images are, if a table tells."""
    skip_missing: bool
    force: bool
    runtime: Runtime
    progress: Progress
    tell: Callable[[str], None] | None = None


def write_masks(request: MaskRequest, name: str) -> Masked:
    """Write a mask of each image and the table of areas, all or nothing.

    Args:
        request: what is wanted.
        name: of the head.

    Raises:
        DataError, OptionError, UnknownNameError, CacheError: one line.
    """
    check_masks_folder(request.out, name, force=request.force)
    saved = load_head(request.head)
    told = _told_masks(request, saved)
    with _source(request, saved) as found:
        if told is None:
            known, source = _kept_masks(request, found), found
        else:  # what is said first is of the columns that were used without them
            known = dict(zip(told.ids, told.kept[MASK], strict=True))
            source = replace(found, remarks=list(dict.fromkeys([*told.remarks, *found.remarks[1:]])))
        is_exclusive = all(fold.head.is_exclusive for fold in saved.folds)
        with new_folder(request.out, force=request.force) as aside:
            table = Areas(saved, source, known, MaskWriter(aside, saved.classes, is_exclusive=is_exclusive))
            for n_done, (position, planes) in enumerate(source.found, start=1):
                table.add(position, planes)
                request.progress("predict", n_done, len(source.contents))
            done = table.done()
            write_areas(aside, table.columns(), table.sorted_rows(done.left_out))
    return done


@contextmanager
def _source(request: MaskRequest, saved: SavedHead) -> Iterator[Source]:
    """The images, and what the heads of all folds say of them together."""
    frames = Columns(frame=request.columns.frame)
    given = saved, request.own, request.runtime, request.progress, frames
    if saved.name in UNETS:
        found = listed(request.images, *given, skip_missing=request.skip_missing)
        contents = {item.row: item.digest for item in found.work}
        paths = [os.path.realpath(item.path) for item in found.work]
        planes = _by_unets(saved, asked_of_unets(saved, found.work, request.runtime))
        yield Source(
            found.ids, paths, contents, planes, found.left_out, found.remarks, is_cache=found.store is not None
        )
        return
    with embedded(request.images, request.cache, *given, skip_missing=request.skip_missing, tell=request.tell) as asked:
        parts, left_out = with_embeddings(asked, saved)
        contents = {
            position: part.store.samples.ids[row].tobytes()
            for part in parts
            for position, row in zip(part.positions.tolist(), part.rows.tolist(), strict=True)
        }
        yield Source(
            list(asked.ids),
            list(asked.paths),
            contents,
            _on_grids(saved, parts, request.runtime),
            left_out,
            asked.remarks,
            is_cache=as_cache(request.images) is not None,
            n_computed=asked.n_computed,
            kept_in=asked.kept_in,
        )


def _by_unets(
    saved: SavedHead, answers: Iterator[tuple[int, list[NDArray[np.float32]] | str]]
) -> Iterator[tuple[int, Planes | str]]:
    for position, logits in answers:
        if isinstance(logits, str):
            yield position, logits
        else:
            yield position, partial(taken_together, logits, len(saved.classes))


def _on_grids(saved: SavedHead, parts: Sequence[Part], runtime: Runtime) -> Iterator[tuple[int, Planes | str]]:
    """What heads on dense features say: the mean over folds of the probabilities of cells, some images at a time."""
    fits = [fold.head for fold in saved.folds]
    if any(hasattr(fit, "device") for fit in fits):
        fits = [replace(fit, device=runtime.torch_device()) for fit in fits]
    for part in parts:
        maps = {
            name: DenseMaps(part.store.embeddings(own)) for name, own in zip(saved.inputs, part.backbones, strict=True)
        }
        n_images = len(part.rows)
        scene = Scene(maps, part.rows, part.store.samples.ids[part.rows], Masks.of(np.full(n_images, MISSING, object)))
        for start in range(0, n_images, AT_ONCE):
            some = np.arange(start, min(start + AT_ONCE, n_images))
            each = [np.concatenate([found for _, found in fit.probabilities(scene, some)]) for fit in fits]
            for place, values in zip(some.tolist(), np.mean(each, axis=0), strict=True):
                yield int(part.positions[place]), partial(fits[0].planes_of, values)


def _told_masks(request: MaskRequest, saved: SavedHead) -> Samples | None:
    """The images of a table with their masks; None where it is not asked about them.

    Raises:
        DataError: if they have no class that the head tells.
    """
    if not request.columns.masks.columns:
        return None
    told = samples_at(request.images, request.columns, skip_missing=request.skip_missing, progress=request.progress)
    names = Masks.of(np.array(told.kept[MASK], dtype=object)).names
    if names and not set(names) & set(saved.classes):
        raise DataError(
            f"the masks of {request.images} have the classes {first_few(names)}, and the head has "
            f"{first_few(saved.classes)}; name them as the head does with "
            + parameter("mask_classes")
            + ", or leave out "
            + parameter("mask")
        )
    return told


def _kept_masks(request: MaskRequest, source: Source) -> Mapping[bytes | str, str]:
    """What a cache tells of masks, by the contents of images."""
    place = request.images if source.is_cache else request.cache
    if place is None or not EmbeddingCache.exists(place):
        return {}
    store = EmbeddingCache.open(place)
    cells = store.columns((MASK,))[MASK]
    return dict(zip(store.samples.content_ids, cells.tolist(), strict=False))
