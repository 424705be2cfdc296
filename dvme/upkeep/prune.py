"""`dvme cache prune`: take out the images that are no longer there."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.arguments import public
from dvme.data import Columns, Samples, load_samples
from dvme.data.dicom.names import frame_of
from dvme.data.encoded import frame_id
from dvme.data.hashing import hash_files
from dvme.data.samples import unlisted_line
from dvme.errors import DataError, parameter
from dvme.extraction.beside import beside, place_beside
from dvme.places import check_cache_first, open_cache
from dvme.runtime import Progress, Runtime, automatic
from dvme.shown.result import Shown, some_lines
from dvme.text import counted
from dvme_cache import EmbeddingCache, check_unlocked


@dataclass(frozen=True, repr=False)
class PruneReport(Shown):
    """What is in the cache and not among the images; `to_frame()` has a row for each of these."""

    cache: str
    n_kept: int
    """Images of the cache that are among those given."""
    removed: list[str]
    """Paths under which the others were first seen."""
    is_done: bool
    """Whether they were taken out, or only listed."""
    gone_folders: dict[str, int] = field(default_factory=dict)
    """Folders, as they were first seen, of which every image is among those removed, and how many that are."""
    remarks: list[str] = field(default_factory=list)
    """What was passed over, a line each."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return asdict(self)

    def _lines(self) -> list[str]:
        images, done = counted(len(self.removed), "image"), "taken out of" if self.is_done else "to be taken out of"
        return [f"{images} {done} {self.cache}, {self.n_kept:,} kept", *some_lines(self.removed)]

    def _records(self) -> list[dict[str, Any]]:
        return [{"path": path, "is_done": self.is_done} for path in self.removed]


@public
def prune(
    cache: str | Path,
    images: str | Path,
    *,
    columns: Columns | None = None,
    image_root: str | Path | None = None,
    confirmed: bool = False,
    runtime: Runtime | None = None,
    progress: Progress = automatic,
) -> PruneReport:
    """List the images of a cache that are not among the given ones and, once confirmed, erase them.

    An image is its content, so a moved or renamed one is kept. What is erased is overwritten: embeddings of
    every backbone, labels, groups, paths and content ids. The other rows keep their numbers. What was kept of the same
    images when they were predicted is erased as well.

    Args:
        cache: path or URL.
        images: the images to keep, a folder or a manifest.
        columns: the manifest's columns.
        image_root: where its relative paths start.
        confirmed: whether to erase, or only to list.
        runtime: workers for hashing.
        progress: told (stage, done, total); by default bars in a terminal or a notebook, `dvme.silent`: none.

    Raises:
        DataError: if a file cannot be read, or none of the cache's images is among those given.
        CacheNotFoundError, NotACacheError, CacheLockedError: if the cache cannot be used.

    Example:
        >>> report = dvme.cache.prune("my.zarr", "images")
        >>> report.n_kept
        40
    """
    check_cache_first(cache, images)
    if confirmed:
        check_unlocked(cache)
        check_unlocked(place_beside(cache))
    store = open_cache(cache)
    samples = load_samples(images, columns, image_root, images_only=True)
    if samples.unlisted:
        raise DataError(f"{unlisted_line(samples.unlisted)}; nothing was pruned")
    workers = (runtime or Runtime()).n_workers
    digests = _readable(samples, hash_files(samples.paths, workers, partial(progress, "hash")))
    rows = _rows_to_prune(store, digests, images)
    paths = np.array(store.samples.paths, dtype=object)
    removed, gone = paths[rows].tolist(), _gone_folders(paths[~store.samples.is_pruned], paths[rows])
    if confirmed and len(rows):
        listed = store.samples.ids[rows]
        _prune_beside(cache, listed)  # first: a run that ends here finds the images again
        with EmbeddingCache.writing(cache) as writable:
            # What another process added since the files were listed stays, and what it pruned is gone already.
            rows = rows[(writable.samples.ids[rows] == listed).all(axis=1)]
            removed = np.array(writable.samples.paths, dtype=object)[rows].tolist()
            writable.prune(rows)
            n_kept = int((~writable.samples.is_pruned).sum())
    else:
        n_kept = int((~store.samples.is_pruned).sum()) - len(rows)
    # Frames stay with their file, so that nothing needs to be said of them.
    remarks = [line for line in samples.remarks if parameter("frame", "each") not in line]
    return PruneReport(os.fspath(cache), n_kept, removed, confirmed, gone, remarks)


def _prune_beside(cache: str | Path, erased: NDArray[np.uint8]) -> None:
    """Erase images (n, 16) from the cache of predicted ones: of what is erased, nothing stays."""
    gone = {content.tobytes() for content in erased}
    for other in beside(cache):
        with EmbeddingCache.writing(other.location) as writable:
            rows = [row for row, content in enumerate(writable.samples.content_ids) if content in gone]
            if rows:
                writable.prune(np.array(rows, dtype=np.int64))


def _readable(samples: Samples, found: Sequence[bytes | OSError]) -> list[bytes]:
    """The files' content ids; a file that cannot be read just now must not look like one that is gone."""
    unread = [path for path, each in zip(samples.paths, found, strict=True) if isinstance(each, OSError)]
    if unread:
        files = counted(len(unread), "file")
        raise DataError(f"{files} cannot be read, such as {unread[0]}; nothing was pruned, mend them first")
    return [each for each in found if isinstance(each, bytes)]


def _gone_folders(present: NDArray[Any], removed: NDArray[Any]) -> dict[str, int]:
    """The outermost folders of which every present image goes, such as one whose share is not mounted."""
    before, after = (Counter(folder for path in paths for folder in _folders(path)) for paths in (present, removed))
    whole = {folder for folder, count in after.items() if count == before[folder]}
    outermost = sorted(folder for folder in whole if whole.isdisjoint(_folders(folder)))
    return {folder: after[folder] for folder in outermost}


def _folders(path: str) -> list[str]:
    """The folders in which a path lies, from the inside out."""
    return [str(folder) for folder in PurePosixPath(path).parents if str(folder) not in {".", "/"}]


def _rows_to_prune(store: EmbeddingCache, digests: Sequence[bytes], images: str | Path) -> NDArray[np.int64]:
    kept = set(digests)
    numbers = {number for path in store.samples.paths if (number := frame_of(PurePosixPath(path).name)) is not None}
    kept |= {frame_id(digest, number) for digest in digests for number in numbers}  # of a file that stays they stay
    is_listed = np.array([digest in kept for digest in store.samples.content_ids], dtype=bool)
    is_present = ~store.samples.is_pruned
    if is_present.any() and not (is_listed & is_present).any():
        message = f"none of the {int(is_present.sum())} images of {store.location} is among those of {images}"
        raise DataError(f"{message}; nothing was pruned, name the images that are to stay")
    return np.flatnonzero(is_present & ~is_listed)
