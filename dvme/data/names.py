"""What images are called wherever a row of a cache is named to a reader."""

from __future__ import annotations

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
    """What joins a table to files: the columns `image` and `path`.

    Args:
        store: a cache; its tables and samples are read once.
        rows: (R,) of its rows.

    Returns:
        (R,) the image as its source named it when it was first seen; (R,) its path now, where that is known, else the
        same. Both are object arrays of str, none of them empty.
    """
    first_seen, now = np.array(store.samples.paths, dtype=object)[rows], store.column("path")[rows]
    return first_seen, np.where(now == MISSING, first_seen, now).astype(object)
