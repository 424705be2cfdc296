"""Where a saved head's embeddings come from: a cache that fits it, or images that are extracted as it needs them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data import load_samples
from dvme.errors import DataError, OptionError
from dvme.extraction.indexing import hash_files, only_readable, unread_files
from dvme.heads.saving import SavedHead
from dvme.prediction.backbones import OwnBackbones, check_fingerprint, find_sources
from dvme.runtime import Progress, Runtime
from dvme_cache import (
    CacheNotFoundError,
    EmbeddingCache,
    NotACacheError,
    RowState,
)
from dvme_cache.files import is_url


@dataclass(frozen=True)
class Asked:
    """The images that predictions are wanted of."""

    ids: list[str]
    """As the user knows them."""
    rows: NDArray[Any]
    """(n,) their rows in the cache; copies of an image share one."""
    backbones: tuple[str, ...]
    """What the cache calls the head's backbones."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Files and folders that could not be read or listed, or are not there, and why."""
    remarks: Sequence[str] = ()
    """What was passed over, and which columns were used, a line each."""


@contextmanager
def embedded(
    images: str | Path,
    cache: str | Path | None,
    saved: SavedHead,
    own: OwnBackbones,
    runtime: Runtime,
    progress: Progress,
    *,
    skip_missing: bool = False,
) -> Iterator[tuple[EmbeddingCache, Asked]]:
    """The cache that holds the embeddings, and the images that are asked for."""
    store = _as_cache(images)
    if store is not None:
        if cache is not None:
            raise OptionError(f"{images} is a cache itself; pass images with --cache, or the cache alone")
        if own != OwnBackbones():
            raise OptionError(f"{images} is a cache; --backbones, --arch and --weights are for images, leave them out")
        rows = np.flatnonzero(~store.samples.is_pruned)
        paths = store.samples.paths  # read once: each look is a read of all of them
        yield store, Asked([paths[row] for row in rows], rows, saved.backbones)
        return
    with tempfile.TemporaryDirectory(prefix="dvme-predict-") as folder:
        place = cache if cache is not None else Path(folder) / "images.zarr"
        samples = load_samples(images, skip_missing=skip_missing)
        names = _extract(images, place, saved, own, runtime, progress, skip_missing=skip_missing)
        store = EmbeddingCache.open(place)
        row_of = {identity: row for row, identity in enumerate(store.samples.content_ids)}
        digests = hash_files(samples, runtime.n_workers, lambda done, total: progress("find", done, total))
        unread = unread_files(samples, digests)
        left_out = {
            **samples.unlisted,
            **dict.fromkeys(samples.missing, "no file is there"),
            **{samples.ids[index]: reason for index, reason in unread.items()},
        }
        samples, digests = only_readable(samples, digests, unread)
        rows = np.array([row_of[digest] for digest in digests], dtype=np.int64)
        yield store, Asked(samples.ids, rows, names, left_out, samples.remarks)


def with_embeddings(
    store: EmbeddingCache, saved: SavedHead, asked: Asked
) -> tuple[NDArray[Any], list[str], dict[str, str]]:
    """Rows with all embeddings, their ids, and the reason of every other image.

    Raises:
        DataError: if no image has them all.
    """
    left_out = dict(asked.left_out)
    is_done = np.ones(len(asked.rows), dtype=bool)
    is_pending = False
    for name in saved.backbones:
        table = store.embeddings(name)
        states, reasons = table.states()[asked.rows], table.reasons()[asked.rows]
        for position in np.flatnonzero(states != RowState.DONE).tolist():
            is_failed = states[position] == RowState.FAILED
            reason = str(reasons[position]) if is_failed else f"has no {name} embedding yet"
            left_out.setdefault(asked.ids[position], reason)
            is_done[position] = False
            is_pending |= not is_failed
    if not is_done.any():
        first = next(iter(left_out.items()), ("no image", "is there"))
        missing = f"no image has an embedding of {', '.join(saved.backbones)} ({first[0]}: {first[1]})"
        raise DataError(
            f"{missing}; run dvme extract first" if is_pending else f"{missing}; there is nothing to predict"
        )
    ids = [identity for identity, done in zip(asked.ids, is_done.tolist(), strict=True) if done]
    return asked.rows[is_done], ids, left_out


def check_fits(saved: SavedHead, store: EmbeddingCache) -> None:
    """Refuse a cache whose embeddings were made in another way than those that the head was fitted on.

    Raises:
        FingerprintMismatchError: naming the backbone, the field and both values.
        MissingEmbeddingsError: if the cache lacks a backbone.
    """
    for name, expected in zip(saved.backbones, saved.fingerprints, strict=True):
        check_fingerprint(name, expected, store.embeddings(name).fingerprint, f"{name} in {store.location}")


def _as_cache(location: str | Path) -> EmbeddingCache | None:
    """The cache at a location; None where there are images instead."""
    try:
        return EmbeddingCache.open(location)
    except NotACacheError:
        if is_url(location):
            raise
        return None
    except CacheNotFoundError as error:
        raise DataError(f"{location} does not exist; name images, a manifest or a cache") from error


def _extract(
    images: str | Path,
    cache: str | Path,
    saved: SavedHead,
    own: OwnBackbones,
    runtime: Runtime,
    progress: Progress,
    *,
    skip_missing: bool,
) -> tuple[str, ...]:
    """Bring the images' embeddings into a cache, as the head needs them; a mismatch is found before any of it.

    Returns:
        What the cache calls the head's backbones.
    """
    from dvme.extraction.extract import extract

    found = find_sources(saved, own, runtime)
    for dtype in dict.fromkeys(source.dtype for source in found):
        choice = own.choice([source.typed for source in found if source.dtype == dtype])
        extract(
            images,
            cache,
            backbones=choice.names,
            weights=choice.weights,
            architectures=choice.architectures,
            skip_missing=skip_missing,
            dtype=dtype,
            runtime=runtime,
            progress=progress,
        )
    return tuple(source.name for source in found)
