"""How often each test image counts: in every resample of the paired bootstrap, and with a unit left out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.seeds import checked_seed
from dvme.stats.units import Units

N_RESAMPLES = 2000
N_BLOCKS = 500
"""Units of the jackknife within a class: images or groups, or blocks of them where there are more."""


@dataclass(frozen=True)
class Draws:
    """How often each of the N test samples counts: in every resample, and with every unit left out. Made when asked."""

    units: Units
    """What is drawn."""
    seed: int
    n_resamples: int
    """R."""

    @property
    def key(self) -> tuple[int, int]:
        """What two draws of one test set may differ in."""
        return self.seed, self.n_resamples

    @cached_property
    def weights(self) -> NDArray[Any]:
        """(R, N) uint16."""
        return resample_weights(self.units.labels, self.units.groups, seed=self.seed, n_resamples=self.n_resamples)

    @property
    def jackknife(self) -> NDArray[Any]:
        """(U, N) uint16, 0 or 1: with each unit left out."""
        return self._left_out[0]

    @property
    def strata(self) -> NDArray[Any]:
        """(U,) that each left-out unit belongs to."""
        return self._left_out[1]

    @cached_property
    def _left_out(self) -> tuple[NDArray[Any], NDArray[Any]]:
        return jackknife_weights(self.units.labels, self.units.groups, seed=self.seed)


def draw(
    labels: NDArray[Any], groups: NDArray[Any] | None = None, *, seed: int, n_resamples: int = N_RESAMPLES
) -> Draws:
    """What a paired bootstrap on a shared test set needs, the same for every method.

    Args:
        labels: (N,) class indices.
        groups: (N,) group (patient) of each sample, or None.
        seed: of the draws.
        n_resamples: R.
    """
    return Draws(Units(labels, groups), checked_seed(seed), n_resamples)


def resample_weights(
    labels: NDArray[Any], groups: NDArray[Any] | None, *, seed: int, n_resamples: int = N_RESAMPLES
) -> NDArray[Any]:
    """How often each test sample is drawn in each resample.

    Without groups, samples are drawn within their class, so that no class can vanish. With groups
    (patients), whole groups are drawn, because the samples of a patient are not independent.

    Args:
        labels: (N,) class indices.
        groups: (N,) group of each sample, or None.
        seed: of the draws.
        n_resamples: R.

    Returns:
        (R, N) uint16 counts.

    Source: Efron and Tibshirani 1993, chapters 8 and 13; Field and Welsh 2007 for whole clusters.
    """
    rng = np.random.default_rng(checked_seed(seed))
    if groups is None:
        weights = np.empty((n_resamples, len(labels)), dtype=np.uint16)
        for c in np.unique(labels):
            members = np.flatnonzero(labels == c)
            uniform = np.full(len(members), 1.0 / len(members))
            weights[:, members] = rng.multinomial(len(members), uniform, size=n_resamples)
        return weights
    _, group_of = np.unique(groups, return_inverse=True)
    n_groups = int(group_of.max()) + 1
    drawn = rng.multinomial(n_groups, np.full(n_groups, 1.0 / n_groups), size=n_resamples)
    return drawn.astype(np.uint16)[:, group_of]


def jackknife_weights(
    labels: NDArray[Any], groups: NDArray[Any] | None, *, seed: int, n_blocks: int = N_BLOCKS
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Weights that leave out one unit each, in the design of `resample_weights`.

    A unit is a sample within its class, or a whole group. Of a class, or of groups, that has more than `n_blocks` of
    them, random blocks of units are left out instead. The only sample of a class is never left out.

    Args:
        labels: (N,) class indices.
        groups: (N,) group of each sample, or None.
        seed: of the blocks.
        n_blocks: most units of a class, or most groups.

    Returns:
        (U, N) uint16 weights, 0 or 1; (U,) stratum of each unit: its class, or 0 for groups.

    Source: Efron and Tibshirani 1993, chapter 11; Shao and Tu 1995, section 2.3, for blocks.
    """
    rng = np.random.default_rng(checked_seed(seed))
    units = np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1]
    n_units = int(units.max()) + 1
    strata = np.zeros(n_units, dtype=np.intp)
    if groups is None:
        strata[:] = labels
    block_of = np.empty(n_units, dtype=np.intp)
    stratum_of_block: list[int] = []
    for stratum in np.unique(strata):
        members = rng.permutation(np.flatnonzero(strata == stratum))
        n_parts = min(len(members), n_blocks)
        block_of[members] = len(stratum_of_block) + np.arange(len(members)) % n_parts
        stratum_of_block += [int(stratum)] * n_parts
    stratum_of = np.array(stratum_of_block)
    is_kept = block_of[units][None, :] != np.arange(len(stratum_of))[:, None]  # (U, N)
    is_alone = np.bincount(stratum_of)[stratum_of] == 1
    return is_kept[~is_alone].astype(np.uint16), stratum_of[~is_alone]
