"""Which rows a job sees in an epoch, drawn from the job's own random numbers, and what its validation rows weigh."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Sampling = Literal["auto", "shuffled", "oversampled"]


def resolve_sampling(sampling: Sampling, labels: NDArray[Any], weights: NDArray[Any]) -> Sampling:
    """What `auto` means for these training labels: oversampled where the classes differ in (n,) weight.

    Source: Truong et al. 2021, section 5.3 and appendix A: class-balanced subsets, and oversampling where
    a data set does not allow them.
    """
    if sampling != "auto":
        return sampling
    counts = np.bincount(labels, weights)[np.unique(labels)]
    return "shuffled" if counts.max() - counts.min() <= 1 else "oversampled"


def loss_weights(labels: NDArray[Any], sampling: Sampling, weights: NDArray[Any]) -> NDArray[Any]:
    """(n,) what the loss of a training row counts for whenever the row is drawn; their mean is 1.

    Classes that are drawn equally often keep their shares, so that weights are relative to those of the class.

    Args:
        labels: (n,) class indices of the training rows.
        sampling: resolved, not `auto`.
        weights: (n,) how often each row counts.
    """
    means = (
        weights.mean()
        if sampling == "shuffled"
        else (np.bincount(labels, weights) / np.bincount(labels).clip(1))[labels]
    )
    relative: NDArray[Any] = weights / means
    return relative


def epoch_order(labels: NDArray[Any], sampling: Sampling, rng: np.random.Generator) -> NDArray[Any]:
    """Positions of one epoch, as many as there are training rows, in random order.

    `shuffled`: every row once. `oversampled`: every class equally often, up to one; a class that must repeat
    rows repeats none more than once oftener than another, and one that must leave rows out draws them without
    replacement.

    Args:
        labels: (n,) class indices of the training rows.
        sampling: resolved, not `auto`.
        rng: the job's own.

    Returns:
        (n,) positions into the training rows.
    """
    n_rows = len(labels)
    if sampling == "shuffled":
        return rng.permutation(n_rows)
    members = [np.flatnonzero(labels == c) for c in np.unique(labels)]
    share, extra = divmod(n_rows, len(members))
    wanted = np.full(len(members), share)
    wanted[rng.permutation(len(members))[:extra]] += 1
    drawn = [
        np.concatenate([rng.permutation(rows) for _ in range(-(-count // len(rows)))])[:count]
        for rows, count in zip(members, wanted, strict=True)
        if count
    ]
    return rng.permutation(np.concatenate(drawn))
