"""What images are called wherever a row of a cache is named to a reader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme.data.samples import MISSING

if TYPE_CHECKING:
    from dvme_cache import EmbeddingCache


def names_of_rows(store: EmbeddingCache, rows: NDArray[Any]) -> NDArray[Any]:
    """(R,) object array of str: the path of each image now, else the path or id under which it was first seen."""
    return images_and_paths(store, rows)[1]


def images_and_paths(store: EmbeddingCache, rows: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """What joins a table to files: the columns `image` and `path`; the cache's tables and samples are read once.

    Args and returns: see `named_images`.
    """
    return named_images(store.samples.paths, store.column("path"), rows)


def named_images(
    first_seen: Sequence[str], paths: NDArray[Any], rows: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """What images are called, and where they are.

    Args:
        first_seen: the names that the samples of a cache have.
        paths: the column of that name, of the same moment or earlier.
        rows: (R,) of the cache.

    Returns:
        (R,) the image as its source named it when it was first seen; (R,) its path now, where that is known, else the
        same. Both are object arrays of str, none of them empty.
    """
    names, now = np.array(first_seen, dtype=object)[rows], paths[rows]
    return names, np.where(now == MISSING, names, now).astype(object)
