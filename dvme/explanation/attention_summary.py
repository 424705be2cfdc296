"""Who attends to whom over a set: the mean of every sample's map, by class and by fold, with its spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.explanation.attention_map import block_attention
from dvme.heads.fitting.jobs import FittedHead
from dvme.json_values import ToJson
from dvme.runtime import Progress, silent


@dataclass(frozen=True)
class AttentionMap:
    """The block attention of some samples under every fold's head. Entry (a, b): what backbone a gives to b."""

    n_samples: int
    """Without any, every number is nan."""
    mean: NDArray[Any]
    """(M, M) mean over the folds and the samples; rows sum to 1."""
    std_over_folds: NDArray[Any]
    """(M, M) sample standard deviation of the folds' means: the spread between heads. nan with one fold."""
    std_over_samples: NDArray[Any]
    """(M, M) spread between samples under one head, root mean square over the heads. nan with one sample."""
    folds: NDArray[Any]
    """(F, M, M) mean over the samples, of every fold."""


@dataclass(frozen=True)
class AttentionSummary(ToJson):
    """Who attends to whom over a set."""

    backbones: tuple[str, ...]
    """In the order of rows (who attends) and columns (to whom)."""
    overall: AttentionMap
    """Over all samples."""
    classes: dict[str, AttentionMap]
    """Over the samples of each class, or with each finding, in their order."""


def summarise_attention(
    heads: Sequence[FittedHead],
    blocks: Sequence[NDArray[Any]],
    labels: NDArray[Any],
    *,
    backbones: Sequence[str],
    classes: Sequence[str],
    progress: Progress = silent,
) -> AttentionSummary:
    """Mean block attention of every fold's head over the same samples, whole and by class, with its spread.

    Args:
        heads: one fitted `dvme` or `dvme-tokens` for each of F folds, F >= 1.
        blocks: (B, D_m) embeddings of each backbone, usually those of the test set.
        labels: (B,) class indices; or (B, L) findings, and the samples of a class are those that have it.
        backbones: names of the M backbones, in the order of the blocks.
        classes: names of the classes, by index.
        progress: told (stage, done, total) of the folds.

    Raises:
        DataError: if a sample is not finite.

    Source: Truong et al. 2021, appendix F, which shows the mean over the test set only.
    """
    own = (labels[:, None] == np.arange(len(classes))) if labels.ndim == 1 else labels == 1.0
    is_member = np.concatenate([np.ones((1, len(labels)), dtype=bool), own.T])
    means, variances = [], []
    for done, head in enumerate(heads):  # one fold at a time: the maps of all samples may be many
        maps = block_attention(head, blocks)
        moments = [_moments(maps[members]) for members in is_member]
        means.append([mean for mean, _ in moments])
        variances.append([variance for _, variance in moments])
        progress("attention", done + 1, len(heads))
    overall, *by_class = [
        _attention_map(int(members.sum()), folds, spread)
        for members, folds, spread in zip(
            is_member, np.swapaxes(means, 0, 1), np.swapaxes(variances, 0, 1), strict=True
        )
    ]
    return AttentionSummary(tuple(backbones), overall, dict(zip(classes, by_class, strict=True)))


def _moments(maps: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """(M, M) mean and variance over the first axis; nan where there are too few."""
    undefined = np.full(maps.shape[1:], np.nan)
    return maps.mean(axis=0) if len(maps) else undefined, maps.var(axis=0, ddof=1) if len(maps) > 1 else undefined


def _attention_map(n_samples: int, folds: NDArray[Any], variances: NDArray[Any]) -> AttentionMap:
    """From the (F, M, M) means and variances over the samples."""
    mean, variance = _moments(folds)
    return AttentionMap(n_samples, mean, np.sqrt(variance), np.sqrt(variances.mean(axis=0)), folds)
