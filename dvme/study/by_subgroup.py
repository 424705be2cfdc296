"""What a mean over all test images hides: each subgroup by itself, and the largest gap between two."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.stats.findings import can_be_judged
from dvme.stats.influence import FEWEST
from dvme.stats.intervals import Comparison, Interval
from dvme.stats.multiple import ALPHA
from dvme.stats.shares import share
from dvme.stats.subgroups import Gap, Subgroup, gaps, subgroups, subgroups_of_findings
from dvme.stats.units import Units
from dvme.study.design.dividing import Divided, Divider
from dvme.study.panel import Panel
from dvme.text import METRIC_NAMES, difference_text, p_text, some_of


@dataclass(frozen=True)
class SubgroupScore:
    """How well the images of one subgroup are recognised."""

    name: str
    n_images: int
    """Of which it is known whether they have the finding, where the score is of one."""
    n_units: int
    """Images, or patients where there are groups."""
    n_positive: int | None
    """Images that have the finding, or are of the second of two classes; None where the score is of several."""
    score: Interval
    why_not: str
    """Why there is no score; mostly nothing."""
    others: dict[str, Interval] = field(default_factory=dict)
    """Of images with one class each, the other metrics; of a finding, `sensitivity` and `specificity` at the operating
    point, which was chosen on the validation images of all subgroups. Their gaps are not tested."""


@dataclass(frozen=True)
class SubgroupGap:
    """The two subgroups of a column that are farthest apart: the better one less the other."""

    better: str
    worse: str
    comparison: Comparison
    p_adjusted: float
    """Of no gap between any two subgroups, for all pairs of the column and all columns; of a finding, for all findings
    as well. The interval leaves out 0 where it is below 0.05, and only there."""

    @property
    def is_shown(self) -> bool:
        """Whether chance is ruled out."""
        return self.p_adjusted < ALPHA


@dataclass(frozen=True)
class Division:
    """The subgroups of one column, by the study's metric or by one finding."""

    column: str
    finding: str
    """Nothing: the study's metric; of images with several findings, the mean AUC over `findings`."""
    findings: tuple[str, ...]
    """That the mean is over; none where an image has one class, or the score is of one finding."""
    scores: tuple[SubgroupScore, ...]
    gap: SubgroupGap | None
    why_no_gap: str


@dataclass(frozen=True)
class BySubgroup:
    """One method at the largest size, by subgroups of the test images."""

    method: str
    metric: str
    unit: str
    """`image` or `group`: what intervals and tests take to be independent."""
    divisions: tuple[Division, ...]
    """By column: the study's metric first, then each finding."""
    remarks: tuple[str, ...]
    """Which test images are in no subgroup, and which findings a mean is without."""

    @property
    def overall(self) -> tuple[Division, ...]:
        """By column, the study's metric."""
        return tuple(each for each in self.divisions if not each.finding)

    def said(self) -> str:
        """The largest gap in one sentence."""
        columns = some_of([each.column for each in self.overall])
        tested = [(each, each.gap) for each in self.overall if each.gap is not None]
        if not tested:
            return f"No gap between subgroups by {columns} could be tested."
        shown = [each for each in tested if each[1].is_shown]
        division, gap = max(shown or tested, key=lambda each: each[1].comparison.difference.estimate)
        metric = "mean AUC" if division.findings else METRIC_NAMES[self.metric]
        apart = difference_text(gap.comparison.difference, named="95% CI", without="no interval", signed=False)
        p = "" if math.isnan(gap.p_adjusted) else f", p {p_text(gap.p_adjusted)}"
        what = f"{metric} is {apart} higher for {gap.better} than for {gap.worse}{p}"
        if shown:
            others = f"; {len(shown)} of {len(tested)} columns show a gap" if len(tested) > 1 else ""
            return f"By {division.column}, {what}{others}."
        return f"No gap by {columns} is shown; the largest is by {division.column}: {what}."


@dataclass(frozen=True)
class _Asked:
    """One question before it is tested."""

    column: str
    finding: str
    findings: tuple[str, ...]
    scores: tuple[SubgroupScore, ...]
    groups: tuple[Subgroup, ...]


def by_subgroup(
    method: str,
    panel: Panel,
    dividers: Sequence[Divider],
    kept: Mapping[str, NDArray[Any]],
    *,
    metrics: Sequence[str],
    is_multilabel: bool,
    shared_rows: float,
    thresholds: Sequence[NDArray[Any]] = (),
) -> BySubgroup:
    """A method's scores by subgroup, with the largest gap of every column.

    The gaps by the study's metric are one family of tests, those by single findings another: Bonferroni over columns,
    and over findings, on top of what `gaps` does for the pairs of a column.

    Args:
        method: what it is called.
        panel: what its heads of the largest size say of the N test images.
        dividers: the columns, and where they are cut.
        kept: by column (N,) texts.
        metrics: the study's, then others to show of images with one class each. Of images that may have several
            findings the score is the AUC.
        is_multilabel: whether they may.
        shared_rows: of two heads' training rows, see `gaps`: of the method, heads and test images left to chance.
        thresholds: J of (L,) log odds above which a head says yes to a finding, nan where there is none.

    Raises:
        OptionError: if a column has too many values.
    """
    asked, remarks = list[_Asked](), list[str]()
    judged = np.array(panel.names)[can_be_judged(panel.truth, panel.groups)].tolist() if is_multilabel else []
    for divider in dividers:
        divided = divider.divide(kept[divider.column])
        remarks += divided.left_out
        if is_multilabel:
            asked += (own := _by_findings(panel, divider.column, divided, thresholds))
            left = [name for name in judged if name not in own[0].findings]
            if left and own[0].findings:
                rule = f"it takes {FEWEST} with and {FEWEST} without in each subgroup"
                over = f"means are over {some_of(own[0].findings)}, and without {some_of(left)}"
                remarks.append(f"by {divider.column}, {over}: {rule}")
        else:
            asked.append(_by_metric(panel, divider.column, divided, metrics))
    families = [[each for each in asked if bool(each.finding) == is_finding] for is_finding in (False, True)]
    tested = {id(each): sum(_is_tested(other) for other in family) for family in families for each in family}
    return BySubgroup(
        method=method,
        metric="auc" if is_multilabel else metrics[0],
        unit="image" if panel.groups is None else "group",
        divisions=tuple(_division(each, tested[id(each)], shared_rows) for each in asked),
        remarks=tuple(remarks),
    )


def _by_metric(panel: Panel, column: str, divided: Divided, metrics: Sequence[str]) -> _Asked:
    """Of images with one class each."""
    labels, folds = panel.classes()
    is_binary = len(panel.names) == 1
    names = (f"without {panel.names[0]}", f"with {panel.names[0]}") if is_binary else panel.names
    named = names if is_binary else tuple(f"of class {name!r}" for name in names)
    units, members = Units(labels, panel.groups), divided.members
    metric = metrics[0]
    by_metric = {each: subgroups(labels, folds, units, members, each, named) for each in dict.fromkeys(metrics)}
    others = [
        {name: own[place].interval() for name, own in by_metric.items() if name != metric}
        for place in range(len(by_metric[metric]))
    ]
    has_it = labels == 1 if is_binary else None
    return _Asked(column, "", (), _scores(by_metric[metric], has_it, others), by_metric[metric])


def _by_findings(panel: Panel, column: str, divided: Divided, thresholds: Sequence[NDArray[Any]]) -> list[_Asked]:
    """The mean over findings, then each of them on the images of which it is known."""
    groups, is_common = subgroups_of_findings(panel.truth, panel.odds, panel.groups, divided.members)
    over = tuple(name for name, own in zip(panel.names, is_common, strict=True) if own)
    found = [_Asked(column, "", over, _scores(groups, None), groups)]
    for label, name in enumerate(panel.names):
        rows = ~np.isnan(panel.truth[:, label])
        own = panel.at(rows)
        has_it = own.truth[:, label].astype(np.int64)
        folds = [np.stack([-fold[:, label], fold[:, label]], axis=1) for fold in own.odds]
        members = {each: mask[rows] for each, mask in divided.members.items()}
        classes = (f"without {name}", f"with {name}")
        alone = subgroups(has_it, folds, Units(has_it, own.groups), members, "auc", classes) if len(own) else ()
        cuts = [(fold[:, label], own[label]) for fold, own in zip(own.odds, thresholds, strict=False)]
        yes = [odds > cut for odds, cut in cuts if not np.isnan(cut)]
        others = [_decided(np.stack(yes, axis=1), has_it == 1, each, own.groups) if yes else {} for each in alone]
        found.append(_Asked(column, name, (), _scores(alone, has_it == 1, others), alone))
    return found


def _decided(
    yes: NDArray[np.bool_], has_it: NDArray[np.bool_], subgroup: Subgroup, groups: NDArray[Any] | None
) -> dict[str, Interval]:
    """Of (n, J) decisions on the images of which a finding is known."""
    found = {}
    for name, holds, rows in (("sensitivity", yes, has_it), ("specificity", ~yes, ~has_it)):
        own = subgroup.rows & rows
        found[name] = share(holds[own], None if groups is None else groups[own])
    return found


def _scores(
    groups: Sequence[Subgroup], has_it: NDArray[np.bool_] | None, others: Sequence[dict[str, Interval]] = ()
) -> tuple[SubgroupScore, ...]:
    return tuple(
        SubgroupScore(
            name=each.name,
            n_images=each.n_images,
            n_units=each.n_units,
            n_positive=None if has_it is None else int(has_it[each.rows].sum()),
            score=each.interval(),
            why_not=each.reason,
            others=others[place] if others else {},
        )
        for place, each in enumerate(groups)
    )


def _is_tested(asked: _Asked) -> bool:
    return sum(each.scored is not None for each in asked.groups) > 1


def _division(asked: _Asked, n_tests: int, shared_rows: float) -> Division:
    """With its largest gap, of as many tests."""
    found = gaps(asked.groups, shared_rows=shared_rows, level=1.0 - ALPHA / max(1, n_tests))
    gap = None if found.largest is None else _turned(found.largest, n_tests)
    return Division(asked.column, asked.finding, asked.findings, asked.scores, gap, found.reason)


def _turned(gap: Gap, n_tests: int) -> SubgroupGap:
    """The better subgroup first."""
    one, other, comparison = gap.one, gap.other, gap.comparison
    difference = comparison.difference
    if difference.estimate < 0.0:
        one, other = other, one
        turned = Interval(-difference.estimate, -difference.high, -difference.low)
        comparison = Comparison(turned, comparison.p, comparison.statistic, comparison.df)
    return SubgroupGap(one, other, comparison, min(1.0, n_tests * gap.p_adjusted))
