"""How well subgroups of the test images are recognised, and whether the largest gap between two of them is chance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.seeds import checked_seed
from dvme.stats.findings import can_be_judged, scored_findings
from dvme.stats.influence import FEWEST, Scored, scored
from dvme.stats.intervals import LEVEL, ROUNDING, Comparison, Interval
from dvme.stats.units import Units
from dvme.stats.unpaired import Unpaired
from dvme_cache.deferred import deferred

special = deferred("scipy.special")

N_DRAWS = 20_000


@dataclass(frozen=True)
class Subgroup:
    """Some of the test images, and how well the heads do on them."""

    name: str
    rows: NDArray[np.bool_]
    """(N,) which of the test images."""
    n_units: int
    """Images or patients."""
    scored: Scored | None
    """The metric on these images; None where `reason` says why not."""
    reason: str = ""
    units: NDArray[np.intp] | None = None
    """(K,) for each cell of the score's units, which image or patient of the whole test set it is of."""

    @property
    def n_images(self) -> int:
        """Of it."""
        return int(self.rows.sum())

    def interval(self, level: float = LEVEL) -> Interval:
        """Of these heads on other images of the subgroup; all nan where `reason` says why."""
        if self.scored is None:
            return Interval(float("nan"), float("nan"), float("nan"))
        return self.scored.interval(level)


@dataclass(frozen=True)
class Gap:
    """One subgroup less another."""

    one: str
    other: str
    comparison: Comparison
    """Its interval is widened for all pairs: it leaves out 0 where `p_adjusted` is below 1 - level, and only there."""
    p_adjusted: float
    """Of no difference, for all pairs."""


@dataclass(frozen=True)
class Gaps:
    """All pairs of subgroups."""

    pairs: tuple[Gap, ...]
    reason: str = ""
    """Why there is no pair."""

    @property
    def largest(self) -> Gap | None:
        """The pair that is farthest apart; its p is adjusted for being picked."""
        return max(self.pairs, key=lambda gap: abs(gap.comparison.difference.estimate), default=None)

    @property
    def p(self) -> float:
        """Of no gap between any two; nan without a test."""
        return min((gap.p_adjusted for gap in self.pairs if not math.isnan(gap.p_adjusted)), default=math.nan)


def subgroups(
    labels: NDArray[Any],
    folds: Sequence[NDArray[Any]],
    units: Units,
    members: Mapping[str, NDArray[np.bool_]],
    metric: str = "auc",
    classes: Sequence[str] = (),
) -> tuple[Subgroup, ...]:
    """A metric of the same heads on every subgroup.

    Args:
        labels: (N,) class indices, two classes at least.
        folds: J of (N, C) scores, one of each fold's head.
        units: of these labels.
        members: by name (N,) which images are in it; an image, or a patient, may be in several, or in none.
        metric: a name in METRICS.
        classes: what images of each class are called in a reason; () for `of class 0` and so on.

    Returns:
        In the order of `members`. A subgroup with fewer than FEWEST units of a class that is in the test set has no
        score: that of fewer classes would be another one.

    Raises:
        ValueError: if a mask is not of N images.
    """
    present, found, unit = np.unique(labels), [], _unit_of(len(labels), units.groups)
    for name, rows in _masks(members, len(labels)):
        own = Units(labels[rows], None if units.groups is None else units.groups[rows])
        counts = np.bincount(own.cells[2], minlength=int(present.max()) + 1)[present]
        if counts.min() < FEWEST:
            what, rarest = _what(units.groups, int(counts.min())), int(present[counts.argmin()])
            which = classes[rarest] if classes else f"of class {rarest}"
            reason = f"{what} {which}; it takes {FEWEST} of every class"
            found.append(Subgroup(name, rows, own.n, None, reason))
            continue
        one = scored(labels[rows], [fold[rows] for fold in folds], own, [metric])[metric]
        is_defined = not np.isnan(one.folds).any()
        reason = "" if is_defined else f"{metric} is not defined: labels and predictions are one class"
        whose = np.unique(unit[rows])[own.cells[1]]
        found.append(Subgroup(name, rows, own.n, one if is_defined else None, reason, whose))
    return tuple(found)


def subgroups_of_findings(
    truth: NDArray[Any],
    folds: Sequence[NDArray[Any]],
    groups: NDArray[Any] | None,
    members: Mapping[str, NDArray[np.bool_]],
) -> tuple[tuple[Subgroup, ...], NDArray[np.bool_]]:
    """The mean AUC over findings of the same heads on every subgroup.

    All means are over the same findings, as one over others would be another score: those that can be judged in every
    subgroup that takes part. The two that can judge most always do. Of the others, one that can judge less than half as
    many findings as the first has no mean, so that a small one does not take away the findings of all.

    Args:
        truth: (N, L) of 1, 0, and nan where it is not known.
        folds: J of (N, L) scores, one of each draw's head.
        groups: (N,) patients; None: every image is a unit of its own.
        members: as `subgroups` takes them.

    Returns:
        In the order of `members`; a subgroup that can judge no finding, or too few, has no score. (L,) which findings
        the means are over; where there is none, no subgroup has a score.

    Raises:
        ValueError: if a mask is not of N images.
    """
    masks, unit = _masks(members, len(truth)), _unit_of(len(truth), groups)
    judged = {name: can_be_judged(truth[rows], None if groups is None else groups[rows]) for name, rows in masks}
    most = max((int(own.sum()) for own in judged.values()), default=0)
    first = sorted(judged, key=lambda name: -int(judged[name].sum()))[:2]  # a gap is between two
    takes_part = {name: own.any() and (2 * own.sum() >= most or name in first) for name, own in judged.items()}
    some = [own for name, own in judged.items() if takes_part[name]]
    common: NDArray[np.bool_] = np.all(some, axis=0) if some else np.zeros(truth.shape[1], dtype=bool)
    asked, found = np.where(common, truth, np.nan), []
    for name, rows in masks:
        whose = np.unique(unit[rows])
        what = "images" if groups is None else "patients"
        reason = f"no finding that {FEWEST} {what} have and {FEWEST} have not"
        score = None
        if judged[name].any() and not takes_part[name]:
            reason = f"{int(judged[name].sum())} of {most} findings can be judged; a mean takes half of them"
        elif takes_part[name]:
            reason = "" if common.any() else "no finding can be judged in all subgroups"
            own = None if groups is None else groups[rows]
            _, score = scored_findings(asked[rows], [fold[rows] for fold in folds], own)
        found.append(Subgroup(name, rows, len(whose), score, reason, whose))
    return tuple(found), common


def gaps(groups: Sequence[Subgroup], *, shared_rows: float | None = None, level: float = LEVEL, seed: int = 0) -> Gaps:
    """Every two subgroups compared, as one family.

    A pair's own p is that of `Unpaired`, with what images or patients of both give the two scores in common. It is
    adjusted by the chance that of scores that are all equal any pair would have so small a p: simulated from a normal
    distribution with the covariance that all units give all scores, and by Bonferroni where that is less.

    Args:
        groups: of one test set, with the same heads; those without a score take no part.
        shared_rows: of two heads' training rows, see `crossed`: gaps of the method, over training sets; None: of these
            very heads.
        level: of the intervals, together.
        seed: of the simulation.

    Returns:
        No pair where fewer than two subgroups have a score.

    Source: Westfall and Young 1993, section 2.3, for the smallest p of several; Hothorn, Bretz and Westfall 2008 for
        the joint distribution of contrasts.
    """
    some = [each for each in groups if each.scored is not None]
    if len(some) < 2:
        return Gaps((), f"{len(some)} of {len(groups)} subgroups have a score; a gap is between two")
    parts = _parts(some)  # by subgroup (U, J)
    pairs = list(combinations(range(len(some)), 2))
    apart = {(g, h): Unpaired(_of(some[g]), _of(some[h]), shared_rows, parts[g].T @ parts[h]) for g, h in pairs}
    largest = _largest(parts, np.stack([_of(each).folds for each in some]), shared_rows, checked_seed(seed))
    alpha = _own_alpha(1.0 - level, largest, len(pairs))
    return Gaps(
        tuple(
            Gap(some[g].name, some[h].name, one.comparison(1.0 - alpha), _adjusted(one.p, largest, len(pairs)))
            for (g, h), one in apart.items()
        )
    )


def _masks(members: Mapping[str, NDArray[np.bool_]], n_images: int) -> list[tuple[str, NDArray[np.bool_]]]:
    found = [(name, np.asarray(mask, dtype=bool)) for name, mask in members.items()]
    for name, rows in found:
        if rows.shape != (n_images,):
            raise ValueError(f"subgroup {name!r} is {rows.shape}, and there are {(n_images,)} images; pass matching")
    return found


def _unit_of(n_images: int, groups: NDArray[Any] | None) -> NDArray[np.intp]:
    """(N,) number of each image's unit in the whole test set."""
    return np.arange(n_images) if groups is None else np.unique(groups, return_inverse=True)[1]


def _what(groups: NDArray[Any] | None, count: int) -> str:
    return f"{count} {'image' if groups is None else 'patient'}{'' if count == 1 else 's'}"


def _of(group: Subgroup) -> Scored:
    assert group.scored is not None
    return group.scored


def _parts(groups: Sequence[Subgroup]) -> list[NDArray[Any]]:
    """By subgroup (U, J) what each unit of the test set contributes, scaled to the variance that the score has."""
    of_cells = [each.units for each in groups if each.units is not None]
    _, unit = np.unique(np.concatenate(of_cells), return_inverse=True)
    n_units, start, found = int(unit.max()) + 1, 0, []
    for each, cells in zip(groups, of_cells, strict=True):
        one = _of(each)
        sums = np.zeros((n_units, len(one.folds)))
        np.add.at(sums, unit[start : start + len(cells)], one.parts)
        start += len(cells)
        plain = float((sums.mean(axis=1) ** 2).sum())
        found.append(sums * math.sqrt(one.test_variance / plain) if plain > ROUNDING**2 else sums)
    return found


def _largest(parts: Sequence[NDArray[Any]], folds: NDArray[Any], shared_rows: float | None, seed: int) -> NDArray[Any]:
    """(R,) of normal scores without a true gap: the largest difference in its standard deviations, sorted."""
    means = np.stack([each.mean(axis=1) for each in parts])
    total, n_heads = means @ means.T, folds.shape[1]
    if shared_rows is not None and n_heads > 1:
        away = folds - folds.mean(axis=1, keepdims=True)
        total = total + away @ away.T / (n_heads - 1) * (1.0 / n_heads + shared_rows / (1.0 - shared_rows))
    values, vectors = np.linalg.eigh(total)
    rng = np.random.default_rng(seed)
    drawn = rng.standard_normal((N_DRAWS, len(total))) @ (vectors * np.sqrt(np.maximum(values, 0.0))).T
    largest = np.zeros(N_DRAWS)
    for g, h in combinations(range(len(total)), 2):
        deviation = math.sqrt(max(total[g, g] + total[h, h] - 2.0 * total[g, h], 0.0))
        if deviation > ROUNDING:
            np.maximum(largest, np.abs(drawn[:, g] - drawn[:, h]) / deviation, out=largest)
    return np.sort(largest)


def _adjusted(p: float, largest: NDArray[Any], n_pairs: int) -> float:
    """The chance of so small a p in any of the pairs."""
    if math.isnan(p):
        return p
    n = len(largest)
    as_large = n - int(np.searchsorted(largest, -float(special.ndtri(p / 2.0)), side="left"))
    return min(1.0, n_pairs * p, max(p, (as_large + 1) / (n + 1)))


def _own_alpha(alpha: float, largest: NDArray[Any], n_pairs: int) -> float:
    """The p of a pair at which `_adjusted` reaches alpha."""
    n = len(largest)
    n_larger = math.ceil(alpha * (n + 1) - 1.0)
    of_draws = 2.0 * float(special.ndtr(-largest[n - n_larger])) if n_larger > 0 else 0.0
    return max(alpha / n_pairs, min(alpha, of_draws))
