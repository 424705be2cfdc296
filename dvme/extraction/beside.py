"""Embeddings of images that were only predicted: in a cache beside the study's, which is never written to for them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme_cache import CacheError, EmbeddingCache, Embeddings, Fingerprint, RowState
from dvme_cache.files import is_url

SUFFIX, BESIDE = ".zarr", ".predicted.zarr"


def place_beside(cache: str | Path) -> str:
    """Where the embeddings of predicted images are kept: `my.predicted.zarr` for `my.zarr`, itself for itself."""
    place = os.fspath(cache).rstrip("/")
    if not is_url(place) and (Path(place).is_symlink() or Path(place).name in {"", ".."}):
        place = os.path.realpath(place)  # one cache has one, however it is named
    return place if place.endswith(BESIDE) else place.removesuffix(SUFFIX) + BESIDE


def beside(cache: str | Path) -> list[EmbeddingCache]:
    """The cache of predicted images that belongs to a study's, if there is one.

    Raises:
        CacheError: if what lies there cannot be opened.
    """
    place = place_beside(cache)
    is_own = place == os.fspath(cache).rstrip("/")
    return [] if is_own or not EmbeddingCache.exists(place) else [EmbeddingCache.open(place)]


def donors_of(cache: str | Path) -> list[EmbeddingCache]:
    """As `beside`, for what can do without: of a cache that is damaged or none, nothing is taken."""
    try:
        return beside(cache)
    except CacheError:
        return []


def alike(cache: EmbeddingCache, fingerprint: Fingerprint, name: str = "") -> str | None:
    """What a cache calls the embeddings of a fingerprint: by this name, if it is one of several; None without any."""
    names = [each for each in cache.backbones if not cache.embeddings(each).fingerprint.differences(fingerprint)]
    return name if name in names else next(iter(names), None)


def rows_done(cache: EmbeddingCache, fingerprint: Fingerprint) -> dict[bytes, int]:
    """Content id to row of every image that has an embedding of a fingerprint; none of a cache that is damaged."""
    try:
        name = alike(cache, fingerprint)
        if name is None:
            return {}
        done = np.flatnonzero(cache.embeddings(name).states() == RowState.DONE)
        return {content.tobytes(): row for content, row in zip(cache.samples.ids[done], done.tolist(), strict=True)}
    except CacheError:
        return {}


def take_over(embeddings: Embeddings, ids: NDArray[np.uint8], shards: list[NDArray[Any]], donor: EmbeddingCache) -> int:
    """Copy what another cache has of the same images by the same fingerprint; each row is proven as it is read.

    Args:
        embeddings: of a cache that is open for writing.
        ids: (N, 16) its content ids.
        shards: the rows that it lacks, one array per shard.
        donor: the other cache.

    Returns:
        How many rows were copied.
    """
    known = rows_done(donor, embeddings.fingerprint) if shards else {}
    if not known:
        return 0
    source, n_copied = donor.embeddings(alike(donor, embeddings.fingerprint) or ""), 0
    for shard in shards:
        found = [(row, known[content]) for row in shard.tolist() if (content := ids[row].tobytes()) in known]
        if found:
            rows, theirs = np.array(found, dtype=np.int64).T
            try:
                features = source.read(theirs)
            except CacheError:  # damaged there: computed anew, as without it
                continue
            embeddings.commit(rows, features, {})
            n_copied += len(rows)
    return n_copied
