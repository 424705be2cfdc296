"""How many near-duplicates a search found of those of a sample of images, each compared with all."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.errors import Text, parameter
from dvme.metrics.calibration import Z
from dvme.progress import duration
from dvme.stats.t_comparison import wilson
from dvme.study.design.directions import rounding_of, unit_of

SAMPLED_IMAGES = 500
ROWS_AT_ONCE = 2048
LOW = 0.95
"""A recall below which a line says that it is low."""


@dataclass(frozen=True)
class Recall:
    """Of a search for near-duplicates that may have missed some."""

    n_images: int
    """Of the sample."""
    n_pairs: int
    """Of one of these with any image."""
    n_found: int
    """Of these pairs."""
    low: float
    """The lower end of the 95% interval of the share that was found, over groups of images that pairs connect."""
    seconds: float
    """What an exact search would take, by the time that a part of it took."""

    def said(self, backbone: str) -> str:
        """What a reader is told."""
        of = f"pairs of a sample of {self.n_images:,} images"
        about = f"near-duplicates searched in cells, approximately, in {backbone}"
        if not self.n_pairs:
            return f"{about}: there are no {of}, so the recall is not known"
        low = ", which is low" if self.n_found < LOW * self.n_pairs else ""
        least = math.floor(100 * self.low) / 100  # never more than is known
        return f"{about}: found {self.n_found:,} of {self.n_pairs:,} {of} (recall at least {least:.2f}{low})"

    def line(self, backbone: str) -> Text:
        """The same with what to do about it."""
        step = parameter("near_duplicates", "exact") + f" finds all, in about {duration(self.seconds)}"
        return Text(f"{self.said(backbone)}; ") + step


def sampled_recall(
    values: NDArray[Any],
    lengths: NDArray[np.float64],
    able: NDArray[np.int64],
    pairs: NDArray[np.int64],
    least: float,
    seconds: float,
) -> Recall:
    """Compare a sample of rows with all, and count which of their pairs are in a list.

    Args:
        values: (N, D).
        lengths: (N,) of the rows.
        able: (n,) positions of those that were searched.
        pairs: (P, 2) positions that were found.
        least: cosine above which two rows are a pair.
        seconds: of an exact search.
    """
    sample = np.sort(np.random.default_rng(2).choice(able, min(SAMPLED_IMAGES, len(able)), replace=False))
    queries = unit_of(values, lengths, sample)
    n = len(values)
    doubt = rounding_of(values.shape[1])
    keys, short = [np.empty(0, dtype=np.int64)], queries.astype(np.float32)
    for start in range(0, len(able), ROWS_AT_ONCE):
        rows = able[start : start + ROWS_AT_ONCE]
        unit = unit_of(values, lengths, rows)
        one, two = np.nonzero(short @ unit.astype(np.float32).T > least - doubt)
        is_close = np.einsum("pd,pd->p", queries[one], unit[two]) > least
        first, second = sample[one[is_close]], rows[two[is_close]]
        both = np.stack([np.minimum(first, second), np.maximum(first, second)])
        keys.append(both[0][first != second] * n + both[1][first != second])
    true = np.unique(np.concatenate(keys))
    is_found = np.isin(true, pairs[:, 0] * n + pairs[:, 1])
    return Recall(len(sample), len(true), int(is_found.sum()), _lower_end(true // n, true % n, is_found), seconds)


def _lower_end(one: NDArray[np.int64], other: NDArray[np.int64], is_found: NDArray[np.bool_]) -> float:
    """Of the share of (P,) pairs that are found; those of one group of images may be missed together. 0 without a pair.

    Source: Wilson 1927, with the variance of a ratio over groups (Cochran 1977, section 2.11).
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(one):
        return 0.0
    images, places = np.unique(np.concatenate([one, other]), return_inverse=True)
    first, second = np.split(places, 2)
    links = coo_array((np.ones(len(first)), (first, second)), shape=(len(images), len(images)))
    n_groups, group = connected_components(links, directed=False)
    n_pairs, n_found = np.bincount(group[first]), np.bincount(group[first], is_found)
    share = float(is_found.mean())
    errors = n_found - share * n_pairs
    variance = float(errors @ errors) / len(one) ** 2 * n_groups / max(n_groups - 1, 1)
    return wilson(share, variance, (len(one), n_groups), Z)[0]
