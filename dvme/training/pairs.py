"""Which two images are a positive pair of contrastive learning."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def epoch_pairs(groups: NDArray[np.int64] | int, rng: np.random.Generator, *, across: bool) -> NDArray[np.int64]:
    """The pairs of one epoch, one for each image.

    Within images (SimCLR), an image is paired with itself: two views of it. Across images (MICLe), it is paired with
    another one of its group, drawn anew in every epoch, all alike; an image that is alone in its group, with itself.
    So an epoch has as many pairs either way.

    Source: Azizi et al. 2021, algorithm 1. There a minibatch has one pair of each of its bags; here it has more of
    groups with more images, and the loss holds none of them against each other (`contrastive.nt_xent`).

    Args:
        groups: (n,) a number for each group, such as a patient; or how many images there are, each a group of its own.
        rng: of this epoch.
        across: pair two images of a group where it has two.

    Returns:
        (n, 2) positions, in random order; every image is the first of one pair.
    """
    numbers: NDArray[Any] = np.arange(groups) if isinstance(groups, int) else np.asarray(groups)
    assert numbers.ndim == 1, f"(n,), not {numbers.shape}"
    n_images = len(numbers)
    order, steps = rng.permutation(n_images), rng.random(n_images)  # drawn either way
    partners = _partners(numbers, steps) if across else np.arange(n_images)
    return np.stack([order, partners[order]], axis=1).astype(np.int64)


def _partners(numbers: NDArray[Any], steps: NDArray[np.float64]) -> NDArray[np.int64]:
    """(n,) another position of the same group, the given share of the way round it; its own if there is none."""
    by_group = np.argsort(numbers, kind="stable")
    _, starts, inverse, counts = np.unique(
        numbers[by_group], return_index=True, return_inverse=True, return_counts=True
    )
    first, count = starts[inverse], counts[inverse]  # of the group of each place in by_group
    ahead = np.where(count > 1, 1 + (steps * (count - 1)).astype(np.int64), 0)
    places = first + (np.arange(len(numbers)) - first + ahead) % count
    partners = np.empty(len(numbers), dtype=np.int64)
    partners[by_group] = by_group[places]
    return partners
