"""Where a saved head's embeddings come from: a cache that fits it, or images that are extracted as it needs them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data import Columns, Samples, load_samples
from dvme.data.hashing import Identified, identify
from dvme.data.names import named_images
from dvme.errors import DataError, OptionError, parameter
from dvme.extraction.beside import alike, place_beside
from dvme.heads.saved_head import SavedHead
from dvme.prediction.backbones import OwnBackbones, check_fingerprint, check_has_own, find_sources
from dvme.prediction.lacking import extract_lacking, without_labels
from dvme.runtime import Progress, Runtime
from dvme_cache import (
    CacheNotFoundError,
    EmbeddingCache,
    NotACacheError,
    RowState,
    check_unlocked,
)
from dvme_cache.files import is_url


@dataclass(frozen=True)
class Part:
    """Images whose embeddings lie in one cache."""

    store: EmbeddingCache
    backbones: tuple[str, ...]
    """What this cache calls the head's inputs, in their order."""
    positions: NDArray[np.int64]
    """(n,) which of the images."""
    rows: NDArray[np.int64]
    """(n,) their rows; copies of an image share one."""


@dataclass(frozen=True)
class Asked:
    """The images that predictions are wanted of, and where their embeddings are."""

    ids: Sequence[str] | NDArray[Any]
    """As the source names them, in its order."""
    paths: Sequence[str] | NDArray[Any]
    """Where they are now, as far as that is known."""
    parts: Sequence[Part]
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Id to why an image could not be read just now."""
    n_computed: int = 0
    """Images that were extracted for this."""
    kept_in: str | None = None
    """The cache that keeps those."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Files and folders that could not be read or listed, or are not there, and why."""
    remarks: Sequence[str] = ()
    """What was passed over, and which columns were used, a line each."""


@contextmanager
def embedded(  # noqa: PLR0913 - what is asked, and who is told
    images: str | Path,
    cache: str | Path | None,
    saved: SavedHead,
    own: OwnBackbones,
    runtime: Runtime,
    progress: Progress,
    columns: Columns | None = None,
    *,
    skip_missing: bool = False,
    tell: Callable[[str], None] | None = None,
) -> Iterator[Asked]:
    """The images that are asked for, and the caches that hold their embeddings.

    `cache` itself is only read: what it lacks is kept in a cache of its own beside it, which no study sees.
    """
    store = as_cache(images)
    if store is not None:
        if cache is not None:
            raise OptionError(
                f"{images} is a cache itself; pass images with " + parameter("cache") + ", or the cache alone"
            )
        if own != OwnBackbones():
            what = parameter("backbones") + ", " + parameter("architectures") + " and " + parameter("weights")
            raise OptionError(f"{images} is a cache; " + what + " are for images, leave them out")
        if columns is not None and columns.frame is not None:
            raise OptionError(
                f"{images} is a cache, in which each image has its row already; leave out " + parameter("frame", "each")
            )
        check_fits(saved, store, is_asked=True)
        rows = np.flatnonzero(~store.samples.is_pruned)
        names, paths = named_images(store.samples.paths, store.column("path"), rows)
        yield Asked(names, paths, [Part(store, saved.inputs, np.arange(len(rows)), rows)])
        return
    with tempfile.TemporaryDirectory(prefix="dvme-predict-") as folder:
        kept = None if cache is None else place_beside(cache)
        place = kept if kept is not None and _may_be_written(kept) else str(Path(folder) / "images.zarr")
        places = [] if cache is None or kept is None else list(dict.fromkeys([os.fspath(cache).rstrip("/"), kept]))
        samples = load_samples(images, columns, skip_missing=skip_missing, images_only=True)
        yield _found(samples, places, place, saved, own, runtime, progress, tell)


def with_embeddings(asked: Asked, saved: SavedHead) -> tuple[list[Part], dict[str, str]]:
    """The images that have all embeddings, and the reason of every other one.

    Returns:
        Each part with what is complete of it; image to reason, in the order of the images.

    Raises:
        DataError: if no image has them all.
    """
    left_out: dict[int, str] = {}
    complete: list[Part] = []
    is_pending = False
    for part in asked.parts:
        is_done = np.ones(len(part.rows), dtype=bool)
        for name, own in zip(saved.inputs, part.backbones, strict=True):
            table = part.store.embeddings(own)
            states, reasons = table.states()[part.rows], table.reasons()[part.rows]
            for i in np.flatnonzero(states != RowState.DONE).tolist():
                position = int(part.positions[i])
                image, is_failed = asked.ids[position], states[i] == RowState.FAILED
                unread = asked.reasons.get(image, f"has no {name} embedding yet")
                left_out.setdefault(position, str(reasons[i]) if is_failed else unread)
                is_done[i] = False
                is_pending |= not is_failed and image not in asked.reasons
        complete.append(replace(part, positions=part.positions[is_done], rows=part.rows[is_done]))
    missing_images = dict(asked.left_out)
    missing_images |= {asked.ids[position]: reason for position, reason in sorted(left_out.items())}
    if not any(len(part.rows) for part in complete):
        first = next(iter(missing_images.items()), ("no image", "is there"))
        missing = f"no image has an embedding of {', '.join(saved.inputs)} ({first[0]}: {first[1]})"
        raise DataError(
            f"{missing}; run dvme extract first" if is_pending else f"{missing}; there is nothing to predict"
        )
    return complete, missing_images


def check_fits(saved: SavedHead, store: EmbeddingCache, *, is_asked: bool = False) -> None:
    """Refuse a cache whose embeddings were made in another way than those that the head was fitted on.

    Args:
        saved: the head.
        store: the cache.
        is_asked: whether the head predicts, of all views that it averages over; else it is seen by the plain images.

    Raises:
        FingerprintMismatchError: naming the backbone, the field and both values.
        MissingEmbeddingsError: if the cache lacks a backbone.
    """
    check_has_own(saved, store)
    named = zip(saved.inputs, saved.input_fingerprints, strict=True)
    for name, expected in list(named)[: None if is_asked else len(saved.backbones)]:
        check_fingerprint(name, expected, store.embeddings(name).fingerprint, f"{name} in {store.location}")


def as_cache(location: str | Path) -> EmbeddingCache | None:
    """The cache at a location; None where there are images instead."""
    try:
        return EmbeddingCache.open(location)
    except NotACacheError:
        if is_url(location):
            raise
        return None
    except CacheNotFoundError as error:
        raise DataError(f"{location} does not exist; name images, a manifest or a cache") from error


def _found(
    samples: Samples,
    places: Sequence[str],
    place: str,
    saved: SavedHead,
    own: OwnBackbones,
    runtime: Runtime,
    progress: Progress,
    tell: Callable[[str], None] | None,
) -> Asked:
    """What the caches have of some images, and the rest extracted into the last of them, or aside.

    Args:
        samples: the images; what they are labelled is not looked at.
        places: of caches that may hold some, whether they are there or not.
        place: of the cache that is written to.
        saved: the head.
        own: what the user says of its backbones.
        runtime: device, batch size, workers.
        progress: told (stage, done, total).
        tell: told how much dense features take, before they are computed.
    """
    opened = [EmbeddingCache.open(each) for each in places if EmbeddingCache.exists(each)]
    held = [(store, names) for store in opened if (names := _names_in(store, saved))]
    # Nothing is hashed before backbones that have to be loaded are known to be the head's.
    sources = None if held and own == OwnBackbones() else find_sources(saved, own, runtime)
    found = identify(samples, runtime.n_workers, partial(progress, "find"))
    left_out = {**samples.unlisted, **dict.fromkeys(samples.missing, "no file is there"), **found.unread}
    remarks = samples.remarks
    samples, digests = found.samples, found.digests
    parts: list[Part] = []
    missing = np.arange(len(samples))
    for store, names in held:
        part = _part(store, names, digests, missing, is_retrying=runtime.max_pixels is not None)
        parts += [part] if len(part.rows) else []
        missing = np.setdiff1d(missing, part.positions)
    paths = [os.path.realpath(path) for path in samples.paths]
    if not len(missing):
        return Asked(samples.ids, paths, parts, left_out=left_out, remarks=remarks)
    check_unlocked(place)
    sources = sources or find_sources(saved, own, runtime)
    some = Identified(without_labels(samples, missing), [digests[i] for i in missing.tolist()], {}, [], found.kinds)
    n_computed, reasons = extract_lacking(some, place, sources, opened, runtime, progress, tell)
    store, names = EmbeddingCache.open(place), tuple(source.name for source in sources)
    row_of = {content: row for row, content in enumerate(store.samples.content_ids)}
    rows = np.array([row_of[content] for content in some.digests], dtype=np.int64)
    parts.append(Part(store, names, missing, rows))
    kept_in = place if place in places else None
    if places and kept_in is None and n_computed:
        remarks = (*remarks, f"{places[-1]} cannot be written, so that no embedding of new images is kept")
    return Asked(samples.ids, paths, parts, reasons, n_computed, kept_in, left_out, remarks)


def _names_in(store: EmbeddingCache, saved: SavedHead) -> tuple[str, ...]:
    """What a cache calls the head's inputs; () if it lacks one."""
    pairs = zip(saved.inputs, saved.input_fingerprints, strict=True)
    names = [alike(store, fingerprint, name) for name, fingerprint in pairs]
    return tuple(name for name in names if name is not None) if None not in names else ()


def _may_be_written(place: str) -> bool:
    """Whether a cache, there or not, may be written to; of a URL only the attempt tells."""
    return is_url(place) or os.access(place if Path(place).exists() else Path(place).absolute().parent, os.W_OK)


def _part(
    store: EmbeddingCache,
    names: Sequence[str],
    digests: Sequence[bytes],
    positions: NDArray[np.int64],
    *,
    is_retrying: bool,
) -> Part:
    """Of the images at some positions, those of which a cache knows all embeddings, or why there are none."""
    is_settled = np.ones(store.n_rows, dtype=bool)
    for name in names:
        states = store.embeddings(name).states()
        is_settled &= (states == RowState.DONE) if is_retrying else (states != RowState.PENDING)
    contents = store.samples.content_ids
    row_of = {contents[row]: row for row in np.flatnonzero(is_settled).tolist()}
    found = [(i, row_of[digests[i]]) for i in positions.tolist() if digests[i] in row_of]
    own, rows = np.array(found, dtype=np.int64).reshape(-1, 2).T
    return Part(store, tuple(names), own, rows)
