"""The mean AUC over findings, of which an image may have several, or of which some are not known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.stats.influence import CAP, FEWEST, Scored, scored
from dvme.stats.intervals import ROUNDING
from dvme.stats.t_comparison import satterthwaite
from dvme.stats.units import Units

AUC = "auc"


@dataclass(frozen=True)
class MeanScored(Scored):
    """The mean over L findings of one method, or the difference of two. Its units are of one class, and so its parts.

    Within each finding the numbers of images that have it, and have it not, are held fixed, as for a single one. What
    an image or a patient contributes to all findings is summed before it is squared, so that findings may go together.
    """

    findings: tuple[Scored, ...] = ()
    """(L,) each on the images of which it is known."""
    members: tuple[NDArray[np.intp], ...] = ()
    """(L,) for each cell of a finding's units, the unit of all findings that it belongs to."""

    @classmethod
    def over(cls, findings: Sequence[Scored], members: Sequence[NDArray[np.intp]], n_units: int) -> MeanScored:
        """The mean of findings, all of the same heads.

        Args:
            findings: L at least 1.
            members: see `members`.
            n_units: images or patients of all findings.
        """
        folds = np.mean([each.folds for each in findings], axis=0)
        parts = np.zeros((n_units, len(folds)))
        for each, unit in zip(findings, members, strict=True):
            counts = each.units.counts[each.units.cells[2]].astype(np.float64)
            own = each.parts * np.sqrt(counts / np.maximum(counts - 1.0, 1.0))[:, None]
            for head, column in enumerate(own.T):
                parts[:, head] += np.bincount(unit, column, n_units)
        # `covariance` multiplies by n / (n - 1), which is done above, by finding and class.
        parts *= np.sqrt((n_units - 1.0) / n_units) / len(findings)
        first, units = findings[0], Units(np.zeros(n_units, dtype=np.int64))
        return cls(
            first.metric,
            folds,
            parts,
            units,
            most=first.most,
            is_difference=first.is_difference,
            findings=tuple(findings),
            members=tuple(members),
        )

    @cached_property
    def class_variances(self) -> NDArray[Any]:
        """(2 L,) of every finding the variance that comes from the images that have it not, and have it."""
        return np.concatenate([each.class_variances for each in self.findings]) / len(self.findings) ** 2

    @cached_property
    def test_df(self) -> float:
        """Degrees of freedom: those of a sum of variances, of which a rare finding may decide.

        They are at most those of a sum to which all findings contribute alike, for the reason in `Scored.test_df`.

        Source: Satterthwaite 1946.
        """
        counts = np.concatenate([each.units.counts for each in self.findings])
        own = np.array([each.test_df for each in self.findings])
        if self.class_variances.sum() <= ROUNDING**2:
            return float(max(own.min(), 1.0))
        alike = satterthwaite(np.ones(len(own)), own + 1.0)
        return min(satterthwaite(self.class_variances, counts), alike, self.units.n - 1.0)

    def _most(self) -> tuple[float, float]:
        """See `Scored._most`: the units of the rarer side, over the findings."""
        apart = float(sum(each.units.fewest for each in self.findings))
        return CAP[AUC] * apart, apart

    def __sub__(self, other: Scored) -> MeanScored:
        """See `Scored.__sub__`."""
        if not isinstance(other, MeanScored) or len(self.findings) != len(other.findings):
            raise ValueError("the two are means over other findings; a paired difference needs the same")
        gaps = [mine - its for mine, its in zip(self.findings, other.findings, strict=True)]
        return MeanScored.over(gaps, self.members, self.units.n)


def can_be_judged(truth: NDArray[Any], groups: NDArray[Any] | None = None) -> NDArray[np.bool_]:
    """(L,) whether FEWEST images or patients have a finding, and as many have it not.

    Args:
        truth: (N, L) of 1, 0 and nan.
        groups: (N,) patients; None: every image counts.
    """
    if groups is None:
        n_units = [[int((column == side).sum()) for side in (0.0, 1.0)] for column in truth.T]
    else:
        unit = np.unique(groups, return_inverse=True)[1]
        n_units = [
            [int(np.count_nonzero(np.bincount(unit[column == side]))) for side in (0.0, 1.0)] for column in truth.T
        ]
    fewest: NDArray[np.intp] = np.array(n_units, dtype=np.intp).reshape(-1, 2).min(axis=1, initial=len(truth))
    return fewest >= FEWEST


def scored_findings(
    truth: NDArray[Any], folds: Sequence[NDArray[Any]], groups: NDArray[Any] | None = None
) -> tuple[list[Scored | None], MeanScored | None]:
    """One method's AUC for every finding, and their mean.

    The mean is over the findings that can be judged: FEWEST units have them, and as many have them not. Others would
    make it jump by an image.

    Args:
        truth: (N, L) of 1, 0, and nan where it is not known: such a cell takes no part in that finding.
        folds: J of (N, L) scores, one of each draw's head.
        groups: (N,) patients; None: every image is a unit of its own.

    Returns:
        Each finding's, None where it cannot be judged, and the mean, None where there is none to judge.
    """
    n_images = len(truth)
    unit = np.arange(n_images) if groups is None else np.unique(groups, return_inverse=True)[1]
    found: list[Scored | None] = [None] * truth.shape[1]
    members = []
    for label in np.flatnonzero(can_be_judged(truth, groups)).tolist():
        rows = np.flatnonzero(~np.isnan(truth[:, label]))
        has_it = truth[rows, label].astype(np.int64)
        units = Units(has_it, None if groups is None else unit[rows])
        own = [np.stack([-fold[rows, label], fold[rows, label]], axis=1) for fold in folds]
        found[label] = scored(has_it, own, units, [AUC])[AUC]
        members.append(rows if groups is None else np.unique(unit[rows])[units.cells[1]])
    judged = [each for each in found if each is not None]
    n_units = int(unit.max()) + 1 if n_images else 0
    return found, MeanScored.over(judged, members, n_units) if judged else None
