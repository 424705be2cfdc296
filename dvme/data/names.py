"""What images are called wherever a row of a cache is named to a reader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data.samples import MISSING


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
