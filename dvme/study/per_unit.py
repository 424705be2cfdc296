"""Scores per image and per patient or study, side by side: the predictions of a unit's images joined into one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data import MISSING
from dvme.data.natural import natural_key
from dvme.metrics.joining import Conflicts, Join, joined, joined_truth
from dvme.stats.findings import can_be_judged, scored_findings
from dvme.stats.influence import FEWEST, Scored, scored
from dvme.stats.intervals import Interval
from dvme.stats.units import Units
from dvme.study.design.splits import groups_to_resample, units_of
from dvme.study.panel import Panel
from dvme.text import EXAMPLES, METRIC_NAMES, counted, difference_text, some_of

PATIENT = "patient"
"""The unit that the cache's groups are."""
NOTHING = Interval(float("nan"), float("nan"), float("nan"))


@dataclass(frozen=True)
class Joining:
    """Which images are joined, and how."""

    unit: str
    """What the units are called: `patient`, or a column."""
    join: Join
    """See `joined`."""
    conflicts: Conflicts
    """See `joined_truth`."""


@dataclass(frozen=True)
class Side:
    """One score, of images or of units."""

    n: int
    """Of which the label is known."""
    n_positive: int | None
    """That have the finding, or are of the second of two classes; None where the score is of several."""
    score: Interval
    why_not: str
    """Why there is no interval; mostly nothing."""


@dataclass(frozen=True)
class PerUnitScore:
    """One metric, or one finding by its AUC, per image and per unit."""

    metric: str
    finding: str
    """Nothing: of all; of images with several findings, the mean over those that both sides can judge."""
    images: Side
    units: Side


@dataclass(frozen=True)
class PerUnit:
    """One method at the largest size, per image and per unit. Intervals leave patients to chance on both sides."""

    method: str
    unit: str
    """`patient`, or the column whose values are units."""
    join: str
    conflicts: str
    resampled: str
    """What is independent: `patient`, or the unit where no patient is known."""
    n_images: int
    n_units: int
    n_joined: int
    """Units of several images."""
    findings: tuple[str, ...]
    """That means are over; none where an image has one class."""
    scores: tuple[PerUnitScore, ...]
    conflicting: dict[str, list[str]]
    """By finding the names of the units of which some images have it and some have it not; by "" the units of several
    classes, where an image has one."""
    remarks: tuple[str, ...]
    """What became of conflicts, of images without a unit, and of findings that cannot be judged."""

    @property
    def counts(self) -> str:
        """What was joined, and what is independent."""
        whole = several(self.n_units, self.unit)
        return (
            f"{counted(self.n_images, 'test image')} of {whole}, of which {self.n_joined:,} have several, joined by "
            f"{self.join}; on both sides 95% CI are over {several(2, self.resampled).removeprefix('2 ')}."
        )

    def said(self) -> str:
        """Both scores in one sentence."""
        first = self.scores[0]
        metric = "mean AUC" if self.findings else METRIC_NAMES[first.metric]
        one, other = (
            difference_text(each.score, named="95% CI", without="no interval", signed=False)
            for each in (first.units, first.images)
        )
        return f"Per {self.unit} ({self.join} of its images) {metric} is {one}, per image {other}."


@dataclass(frozen=True)
class _Joined:
    """U units."""

    names: list[str]
    of_image: NDArray[np.intp]
    """(N,) which unit an image is of."""
    patients: NDArray[Any] | None
    """(U,) whom a unit is of; None: each unit is independent."""
    remarks: tuple[str, ...]


def per_unit(
    method: str,
    panel: Panel,
    how: Joining,
    values: NDArray[Any],
    groups: NDArray[Any],
    images: Sequence[str],
    *,
    metrics: Sequence[str],
    is_multilabel: bool,
) -> PerUnit:
    """A method's scores on the test images and on their units.

    A unit of a column is of one patient: the same name at two patients is two units. All images of a unit are joined,
    those as well of which a finding is not known.

    Args:
        method: what it is called.
        panel: what its heads of the largest size say of the N test images.
        how: the images are joined.
        values: (N,) the name of each image's unit; "" for an image that is one of its own.
        groups: (N,) patients, "" for none.
        images: (N,) names, for units of one image without a name.
        metrics: to show where an image has one class.
        is_multilabel: whether it may have several findings, of which the score is the AUC.
    """
    unit, units = how.unit, _units(how.unit, values, groups, images)
    patients = groups_to_resample(groups)
    truth, is_conflict = joined_truth(panel.truth, units.of_image, how.conflicts)
    if not is_multilabel:
        is_conflict = np.asarray(is_conflict.any(axis=1))[:, None]
        if len(panel.names) > 1:  # of several classes nobody is of two
            truth[is_conflict[:, 0]] = np.nan
    names = panel.names if is_multilabel else ("",)
    conflicting = {
        name: [units.names[at] for at in np.flatnonzero(own)]
        for name, own in zip(names, is_conflict.T, strict=True)
        if own.any()
    }
    odds = tuple(joined(fold, units.of_image, how.join) for fold in panel.odds)
    one = Panel(panel.names, panel.truth, panel.odds, units.of_image if patients is None else patients)
    other = Panel(panel.names, truth, odds, units.patients)
    what = unit if patients is None else PATIENT
    findings, scores = _of_findings(one, other, what) if is_multilabel else ((), _of_classes(one, other, metrics, what))
    left = [name for name in _judged(one, other, is_both=False) if is_multilabel and name not in findings]
    remarks = [*units.remarks, *_said_of(conflicting, panel.names, unit, how.conflicts, is_multilabel=is_multilabel)]
    if left:
        rule = f"it takes {FEWEST} with and {FEWEST} without on both sides"
        remarks.append(f"means are over {some_of(findings)}, and without {some_of(left)}: {rule}")
    return PerUnit(
        method=method,
        unit=unit,
        join=how.join,
        conflicts=how.conflicts,
        resampled=what,
        n_images=len(panel),
        n_units=len(units.names),
        n_joined=int((np.bincount(units.of_image) > 1).sum()),
        findings=findings,
        scores=scores,
        conflicting=conflicting,
        remarks=tuple(remarks),
    )


def _units(unit: str, values: NDArray[Any], groups: NDArray[Any], images: Sequence[str]) -> _Joined:
    """Which images are of one unit, and of one patient."""
    patients, own = units_of(groups), units_of(values)
    pairs = np.stack([patients if (groups != MISSING).any() else np.zeros_like(own), own], axis=1)
    _, first, of_image = np.unique(pairs, axis=0, return_index=True, return_inverse=True)
    of_image = of_image.ravel()
    has_patients, is_nameless = (groups != MISSING).any(), values == MISSING
    names = [values[at] or images[at] for at in first.tolist()]
    of_whom = patients[first] if has_patients and len(np.unique(patients[first])) < len(first) else None
    remarks = []
    if is_nameless.any():
        count = counted(int(is_nameless.sum()), "test image")
        remarks.append(f"{count} without a {unit}: each counts as one of its own")
    if len(names) == len(values):
        remarks.append(f"every {unit} has one test image, so both sides are the same")
    n_shared = len(names) - len(np.unique(own)) if has_patients else 0
    if n_shared:
        remarks.append(f"{counted(n_shared, 'name')} of a {unit} occur at several patients, which are taken apart")
    return _Joined(names, of_image, of_whom, tuple(remarks))


def _of_classes(images: Panel, units: Panel, metrics: Sequence[str], what: str) -> tuple[PerUnitScore, ...]:
    """Of images with one class each; units of which it is not known are left out."""
    known = units.at(~np.isnan(units.truth).any(axis=1))
    expected = np.unique(images.classes()[0])
    sides = [_side_of_classes(panel, expected, metrics, what) for panel in (images, known)]
    return tuple(PerUnitScore(metric, "", one, other) for metric, one, other in zip(metrics, *sides, strict=True))


def _side_of_classes(panel: Panel, expected: NDArray[np.int64], metrics: Sequence[str], what: str) -> list[Side]:
    labels, folds = panel.classes() if len(panel) else (np.zeros(0, dtype=np.int64), [])
    is_binary = len(panel.names) == 1
    n_positive = int((labels == 1).sum()) if is_binary else None
    units = Units(labels, panel.groups)
    counts = np.bincount(units.cells[2], minlength=int(expected.max()) + 1)[expected]
    if counts.min() < FEWEST:
        rarest = int(expected[counts.argmin()])
        which = f"{('without', 'with')[rarest]} {panel.names[0]}" if is_binary else f"of class {panel.names[rarest]!r}"
        why = f"{several(int(counts.min()), what)} {which}; it takes {FEWEST} of every class"
        return [Side(len(labels), n_positive, NOTHING, why) for _ in metrics]
    found = scored(labels, folds, units, metrics)
    return [Side(len(labels), n_positive, found[metric].interval(), "") for metric in metrics]


def _of_findings(images: Panel, units: Panel, what: str) -> tuple[tuple[str, ...], tuple[PerUnitScore, ...]]:
    """The mean over the findings that both sides can judge, then each of them; and which those are."""
    names = _judged(images, units, is_both=True)
    is_common = np.isin(images.names, names)
    means, alone = [], []
    for panel in (images, units):
        _, mean = scored_findings(np.where(is_common, panel.truth, np.nan), panel.odds, panel.groups)
        n_known = int((~np.isnan(panel.truth[:, is_common])).any(axis=1).sum())
        means.append(Side(n_known, None, *_interval(mean, "no finding can be judged on both sides")))
        every, _ = scored_findings(panel.truth, panel.odds, panel.groups)
        alone.append([_side_of_finding(panel, label, own, what) for label, own in enumerate(every)])
    rows = zip(images.names, *alone, strict=True)
    return names, (
        PerUnitScore("auc", "", *means),
        *(PerUnitScore("auc", name, one, other) for name, one, other in rows),
    )


def _judged(images: Panel, units: Panel, *, is_both: bool) -> tuple[str, ...]:
    """The findings that both sides can judge, or either."""
    sides = np.stack([can_be_judged(each.truth, each.groups) for each in (images, units)])
    return tuple(np.array(images.names)[sides.all(axis=0) if is_both else sides.any(axis=0)].tolist())


def _side_of_finding(panel: Panel, label: int, own: Scored | None, what: str) -> Side:
    column = panel.truth[:, label]
    units = np.arange(len(column)) if panel.groups is None else panel.groups
    n_with, n_without = (len(np.unique(units[column == side])) for side in (1.0, 0.0))
    why = f"{several(n_with, what)} with it, {n_without} without; it takes {FEWEST}"
    return Side(int((~np.isnan(column)).sum()), int((column == 1.0).sum()), *_interval(own, why))


def _interval(own: Scored | None, why: str) -> tuple[Interval, str]:
    return (NOTHING, why) if own is None else (own.interval(), "")


def several(count: int, unit: str) -> str:
    """`1 study`, `2 studies`."""
    return counted(count, unit, f"{unit[:-1]}ies" if unit.endswith("y") else f"{unit}s")


def _said_of(
    conflicting: dict[str, list[str]], names: Sequence[str], unit: str, conflicts: Conflicts, *, is_multilabel: bool
) -> list[str]:
    """What became of units whose images have other labels."""
    if not conflicting:
        return []
    whose = sorted({name for own in conflicting.values() for name in own}, key=natural_key)
    who = f"{several(len(whose), unit)} with conflicting labels ({some_of(whose, EXAMPLES)})"
    if not is_multilabel and len(names) > 1:
        return [f"{who}: left out, as nobody is of two classes"]
    if conflicts == "drop":
        return [f"{who}: left out{' of the finding in question' if is_multilabel else ''}"]
    what = "what an image of it has" if is_multilabel else f"{names[0]}, if an image of it is"
    return [f"{who}: each counts as {what} (conflicts: any; `drop` leaves them out)"]
