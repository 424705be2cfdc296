"""Masks as what a network of a fixed input learns: the share of each class in each of its pixels."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme.segmentation.shares import shares

if TYPE_CHECKING:
    from dvme.data.masks import Masks

FULL, UNKNOWN = 254, 255
"""A pixel that is all of a class, and one of which nothing is known; shares between are rounded to 1 / 254."""


def share_planes(
    masks: Masks, rows: NDArray[Any], side: int, *, n_workers: int = 1, tell: Callable[[int, int], None]
) -> NDArray[np.uint8]:
    """The shares of classes in the S x S cells of whole images, a byte each.

    No mask is resized to its nearest pixel: a vessel that is thinner than a cell keeps its share of it.

    Args:
        masks: of N images.
        rows: (n,) of those that are read.
        side: S.
        n_workers: threads that read.
        tell: called with the masks that are done and all of them.

    Returns:
        (N, L, S, S), 0 to FULL, or UNKNOWN; of images that are not among the rows all 0, which take no memory.
    """
    found = np.zeros((len(masks), len(masks.names), side, side), dtype=np.uint8)
    wanted = np.unique(rows)
    tell(0, len(wanted))

    def fill(row: int) -> None:
        of_cells = shares(masks.read(row), (side, side))  # (S * S, L)
        levels = np.where(np.isnan(of_cells), UNKNOWN, np.rint(np.nan_to_num(of_cells) * FULL))
        found[row] = levels.T.reshape(found.shape[1:]).astype(np.uint8)

    with ThreadPoolExecutor(n_workers, thread_name_prefix="masks") as pool:
        for n_done, _ in enumerate(pool.map(fill, wanted.tolist()), start=1):
            tell(n_done, len(wanted))
    return found


def with_something_known(planes: NDArray[np.uint8], rows: NDArray[Any]) -> NDArray[Any]:
    """Those of some rows that tell something of a pixel."""
    has_any = np.array([bool((planes[row] != UNKNOWN).any()) for row in rows], dtype=bool)
    found: NDArray[Any] = rows[has_any]
    return found


def n_bytes_of(n_images: int, n_classes: int, side: int) -> int:
    """That the shares of so many images take."""
    return n_images * n_classes * side * side
