"""From what heads say of validation and test images to how far they can be trusted, finding by finding.

Thresholds and scalings are those of each draw's validation images. Every score is the mean over the draws' heads, as in
the tables of a study. What is not known of a test image takes no part in that finding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.metrics.decisions import Decisions
from dvme.metrics.labelled import Labelled
from dvme.metrics.ranking import Ranking
from dvme.metrics.referral import FRACTIONS, risk_coverage
from dvme.stats.draws import resample_weights
from dvme.stats.findings import can_be_judged, scored_findings
from dvme.stats.influence import FEWEST
from dvme.stats.intervals import Interval, percentile_interval
from dvme.stats.multiple import ALPHA
from dvme.stats.selective import area_scored
from dvme.stats.shares import combined, share, share_left_out
from dvme.stats.units import Units
from dvme.study.operation import Operation
from dvme.study.oracle import Oracle
from dvme.study.panel import Panel
from dvme.study.reliability import (
    SCALINGS,
    UNDEFINED,
    FindingReliability,
    MethodReliability,
    OperatingPoint,
    Reliability,
)
from dvme.study.scalings import Scalings
from dvme.text import counted, some_of
from dvme_cache.deferred import deferred

special = deferred("scipy.special")

THRESHOLDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Probabilities at which underdiagnosis is told; dense where rare findings lie."""
COVERAGES = tuple(k / 20 for k in range(1, 21))
MOST_RESAMPLES, FEWEST_RESAMPLES = 1000, 200
CELLS = 200_000_000
"""Resampled test images times findings: of more there are fewer resamples, down to FEWEST_RESAMPLES."""
CELLS_AT_ONCE = 1 << 24
"""Weights held at once."""


def n_resamples_of(n_images: int, n_findings: int) -> int:
    """How often a test set of this size is resampled."""
    return max(FEWEST_RESAMPLES, min(MOST_RESAMPLES, CELLS // max(1, n_images * n_findings)))


def assessed(
    method: str,
    test: Panel,
    validation: Sequence[Panel],
    units: Units,
    asked: Operation,
    *,
    is_exclusive: bool,
    uncertain: NDArray[np.bool_] | None = None,
) -> MethodReliability:
    """One method.

    Args:
        method: what it is called.
        test: what its J heads say of the test images.
        validation: J, for each draw what its head says of the images that it was chosen on.
        units: of the test images; their classes are those that are resampled one by one.
        asked: for which use.
        is_exclusive: whether an image has one of the findings, which are classes then.
        uncertain: (N, L) which test images the labels call uncertain; None: nobody can tell.
    """
    return _Assessment(method, test, validation, units, asked, is_exclusive, uncertain).found()


def gathered(
    methods: Sequence[MethodReliability], test: Panel, units: Units, asked: Operation, what: str
) -> Reliability:
    """Methods on the same test images, the leading one first; `what` is `finding` or `class`."""
    return Reliability(
        what=what,
        at=asked.described,
        unit="test image" if units.groups is None else "test group",
        n_units=units.n,
        n_images=len(test),
        n_draws=len(test.odds),
        n_resamples=n_resamples_of(*test.truth.shape),
        thresholds=THRESHOLDS,
        coverages=COVERAGES,
        fractions=FRACTIONS,
        methods=tuple(methods),
    )


@dataclass
class _Assessment:
    method: str
    test: Panel
    validation: Sequence[Panel]
    units: Units
    asked: Operation
    is_exclusive: bool
    uncertain: NDArray[np.bool_] | None

    def found(self) -> MethodReliability:
        judged = can_be_judged(self.test.truth, self.test.groups)
        aucs, _ = scored_findings(self.test.truth, self.test.odds, self.test.groups)
        precisions = self._average_precisions(judged)
        told = Oracle(self.test)
        oracle, mean_oracle = told.areas(is_cumulative=False)
        cumulative, mean_cumulative = told.areas(is_cumulative=True)
        rows = []
        for label, auc in enumerate(aucs):
            row = self._counted(label)
            if auc is not None:
                row = replace(
                    self._judged(row, label),
                    auc=auc.interval(),
                    auc_together=auc.interval(1.0 - ALPHA / judged.sum()),
                    average_precision=precisions[label],
                    oracle=oracle[label],
                    cumulative_oracle=cumulative[label],
                )
            rows.append(row)
        temperatures = tuple(each.value for each in self._scalings.temperatures)
        return MethodReliability(self.method, tuple(rows), temperatures, mean_oracle, mean_cumulative)

    def _counted(self, label: int) -> FindingReliability:
        """With the counts, and why there may be no more."""
        truth, groups = self.test.truth[:, label], self.test.groups
        known = ~np.isnan(truth)
        unsure = None if self.uncertain is None else int((self.uncertain[:, label] & ~known).sum())
        sides = {side: truth == side for side in (1.0, 0.0)}
        counts = {
            side: int(own.sum()) if groups is None else len(np.unique(groups[own])) for side, own in sides.items()
        }
        why_not = brief = ""
        if min(counts.values()) < FEWEST:
            what = "test image" if groups is None else "test group"
            why_not = f"{counted(counts[1.0], what)} with it, {counts[0.0]} without: it takes {FEWEST} of either"
            side = "with" if counts[1.0] < FEWEST else "without"
            brief = f"{min(counts.values())} {side}, takes {FEWEST}"
        return FindingReliability(
            finding=self.test.names[label],
            n_known=int(known.sum()),
            n_positive=int((truth == 1.0).sum()),
            n_masked=int((~known).sum()),
            n_uncertain=unsure,
            prevalence=share((truth == 1.0)[known, None], None if groups is None else groups[known]),
            why_not=why_not,
            brief=brief,
        )

    def _judged(self, row: FindingReliability, label: int) -> FindingReliability:
        """With all that is of this finding alone."""
        known = np.flatnonzero(~np.isnan(self.test.truth[:, label]))
        has_it = self.test.truth[known, label] == 1.0
        groups = None if self.test.groups is None else self.test.groups[known]
        odds = np.stack([fold[known, label] for fold in self.test.odds], axis=1)  # (n, J)
        sides = _Sides(has_it, groups)
        thresholds = np.array([own[label] for own in self._thresholds])
        there = ~np.isnan(thresholds)
        row = replace(row, why_not_at=self._why_not_at(thresholds))
        if there.any():
            yes, own = odds[:, there] > thresholds[there], odds[:, there]
            at = self._operating_point(sides, yes, thresholds, row)
            wrong = (yes != has_it[:, None]).astype(np.float64).T
            away = _distance(own, thresholds[there]).T
            curves = [risk_coverage(*each) for each in zip(wrong, away, strict=True)]
            at_coverage = [each.risk[np.searchsorted(each.coverage, np.array(COVERAGES) - 1e-9)] for each in curves]
            row = replace(
                row,
                at=at,
                risk=tuple(np.mean(at_coverage, axis=0).tolist()),
                risk_area=area_scored(list(wrong), list(away), groups).interval(),
            )
        p = special.expit(odds)
        yes_at = [p > each for each in THRESHOLDS]
        return replace(
            row,
            fits={name: self._scalings.fit(name, label) for name in SCALINGS},
            notes=self._scalings.notes(label),
            missed=tuple(share_left_out(sides.sensitivity(yes)) for yes in yes_at),
            alarms=tuple(share_left_out(sides.specificity(yes)) for yes in yes_at),
        )

    def _operating_point(
        self, sides: _Sides, yes: NDArray[np.bool_], thresholds: NDArray[Any], row: FindingReliability
    ) -> OperatingPoint:
        sensitivity, specificity = sides.sensitivity(yes), sides.specificity(yes)
        here, stated = row.n_positive / row.n_known, self.asked.stated(row.finding)

        def predictive(prevalence: float) -> tuple[Interval, Interval]:
            if np.isnan(prevalence):
                return UNDEFINED, UNDEFINED
            return (
                combined(
                    lambda a, b: float(_shares(a, b).positive_predictive_value(prevalence)), sensitivity, specificity
                ),
                combined(
                    lambda a, b: float(_shares(a, b).negative_predictive_value(prevalence)), sensitivity, specificity
                ),
            )

        positive, negative = predictive(here)
        stated_positive, stated_negative = predictive(stated)
        n, found, left = row.n_known - row.n_positive, sensitivity.estimate, specificity.estimate
        return OperatingPoint(
            thresholds=tuple(special.expit(thresholds).tolist()),
            sensitivity=sensitivity,
            specificity=specificity,
            missed=share_left_out(sensitivity),
            balanced_accuracy=combined(lambda a, b: (a + b) / 2.0, sensitivity, specificity),
            f1=combined(lambda a, b: float(_shares(a, b, here).f1), sensitivity, specificity),
            positive_predictive_value=positive,
            negative_predictive_value=negative,
            stated_prevalence=stated,
            stated_positive_predictive_value=stated_positive,
            stated_negative_predictive_value=stated_negative,
            true_positives=found * row.n_positive,
            false_negatives=(1.0 - found) * row.n_positive,
            false_positives=(1.0 - left) * n,
            true_negatives=left * n,
        )

    def _why_not_at(self, thresholds: NDArray[np.float64]) -> str:
        gone = np.flatnonzero(np.isnan(thresholds))
        if not len(gone):
            return ""
        side = "has it" if self.asked.measure == "sensitivity" else "is known not to have it"
        which = "any draw" if len(gone) == len(thresholds) else f"draw {some_of((gone + 1).tolist())}"
        rest = "" if len(gone) == len(thresholds) else "; what follows is of the others"
        return f"no threshold: no validation image of {which} {side}{rest}"

    @cached_property
    def _scalings(self) -> Scalings:
        return Scalings(self.test, self.validation, self.is_exclusive)

    @cached_property
    def _thresholds(self) -> list[NDArray[np.float64]]:
        """(J,) of (L,) log odds."""
        return [self.asked.thresholds(each.truth, each.odds[0]) for each in self.validation]

    def _average_precisions(self, judged: NDArray[np.bool_]) -> dict[int, Interval]:
        """By finding; the bootstrap draws whole patients, or images within the classes of `units`."""
        labels = np.flatnonzero(judged)
        if not len(labels):
            return {}
        truth, folds = self.test.truth[:, labels], [fold[:, labels] for fold in self.test.odds]
        given = [Labelled.of(truth, fold) for fold in folds]
        rankings = [[Ranking.of(head, i) for head in given] for i in range(len(labels))]  # once for all resamples
        n_resamples = n_resamples_of(*self.test.truth.shape)
        drawn = np.concatenate([_precisions(rankings, own) for own in _weights(self.units, n_resamples)], axis=1)
        values = _precisions(rankings, np.ones((1, len(truth))))
        return {int(c): percentile_interval(float(values[i, 0]), drawn[i]) for i, c in enumerate(labels)}


@dataclass(frozen=True)
class _Sides:
    """The images that have a finding, and those that have it not."""

    has_it: NDArray[np.bool_]
    groups: NDArray[Any] | None

    def _share(self, holds: NDArray[np.bool_], rows: NDArray[np.bool_]) -> Interval:
        return share(holds[rows], None if self.groups is None else self.groups[rows])

    def sensitivity(self, yes: NDArray[np.bool_]) -> Interval:
        """Of (n, J) decisions."""
        return self._share(yes, self.has_it)

    def specificity(self, yes: NDArray[np.bool_]) -> Interval:
        """Of (n, J) decisions."""
        return self._share(~yes, ~self.has_it)


def _shares(sensitivity: float, specificity: float, prevalence: float = 0.5) -> Decisions:
    """As counts of one image in all."""
    counts = (sensitivity, 1.0 - sensitivity, 1.0 - specificity, specificity)
    parts = (prevalence, prevalence, 1.0 - prevalence, 1.0 - prevalence)
    return Decisions(*(np.asarray(count * part) for count, part in zip(counts, parts, strict=True)))


def _distance(odds: NDArray[Any], thresholds: NDArray[Any]) -> NDArray[np.float64]:
    """(n, J) how far log odds are from the threshold; infinite ones from an equal one: 0."""
    with np.errstate(invalid="ignore"):
        away: NDArray[np.float64] = np.abs(odds - thresholds)
    return np.where(np.isnan(away), 0.0, away)


def _precisions(rankings: Sequence[Sequence[Ranking]], weights: NDArray[Any]) -> NDArray[np.float64]:
    """(L, R) average precision of L findings under (R, N) weights, mean over the rankings of J heads."""
    return np.stack([np.mean([head.average_precision(weights) for head in heads], axis=0) for heads in rankings])


def _weights(units: Units, n_resamples: int) -> Iterator[NDArray[Any]]:
    """(R, N) at a time, in bounded memory; each part has a seed of its own."""
    at_once = max(1, CELLS_AT_ONCE // max(1, len(units.labels)))
    for seed, start in enumerate(range(0, n_resamples, at_once)):
        yield resample_weights(units.labels, units.groups, seed=seed, n_resamples=min(at_once, n_resamples - start))
