"""What a method's heads score on the study's own test images and at a site, over what both have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.metrics.ranking import auc
from dvme.stats.findings import can_be_judged, scored_findings
from dvme.stats.influence import FEWEST, Scored, scored
from dvme.stats.intervals import Comparison, Interval
from dvme.stats.units import Units
from dvme.stats.unpaired import Unpaired, drop, weighted_sum
from dvme.study.panel import Panel
from dvme.study.sites.one_family import Tested
from dvme.study.sites.outcome import Drop, FindingDrop, Portion, WeightedScore

AUC = "auc"
NAN = float("nan")
NOTHING = Interval(NAN, NAN, NAN)
UNTESTED = Comparison(NOTHING, NAN, NAN, NAN)


@dataclass(frozen=True, eq=False)
class Side:
    """One set of images: the study's own test set, or a site."""

    panel: Panel
    """L questions, those of the study's classes."""
    labels: NDArray[np.int64] | None
    """(N,) class indices; None where images may have several findings, or the class is not known."""
    odds: tuple[NDArray[np.float64], ...]
    """(J,) of (N, C), of all classes of the study."""

    def at(self, rows: NDArray[Any]) -> Side:
        """Some of the images."""
        labels = None if self.labels is None else self.labels[rows]
        return Side(self.panel.at(rows), labels, tuple(fold[rows] for fold in self.odds))

    def over(self, questions: NDArray[np.bool_]) -> Side:
        """The same, of which the other questions are not known."""
        truth = np.where(questions, self.panel.truth, np.nan)
        return replace(self, panel=replace(self.panel, truth=truth))

    @property
    def judged(self) -> NDArray[np.bool_]:
        """(L,) whether there are images, or patients, enough with and without."""
        return can_be_judged(self.panel.truth, self.panel.groups)

    def scored(self, metric: str) -> Scored | None:
        """The study's metric; None where it cannot be told. An AUC is the mean over the questions that are judged."""
        if metric == AUC:
            found, mean = scored_findings(self.panel.truth, self.panel.odds, self.panel.groups)
            alone = [each for each in found if each is not None]
            return alone[0] if len(alone) == 1 else mean
        if self.labels is None or len(np.unique(self.labels)) < 2:
            return None
        units = Units(self.labels, self.panel.groups)
        return scored(self.labels, self.odds, units, [metric])[metric]


def comparable(sides: Sequence[Side]) -> list[Side]:
    """The images that compare like with like: where each has one known class, those of the classes that all sides have.

    Args:
        sides: of one method.
    """
    labels = [side.labels for side in sides if side.labels is not None]
    if len(labels) < len(sides):
        return list(sides)
    shared = sorted(set.intersection(*(set(own.tolist()) for own in labels)))
    return [side.at(np.flatnonzero(np.isin(own, shared))) for side, own in zip(sides, labels, strict=True)]


def together(sides: Sequence[Side]) -> list[Side]:
    """Comparable sides over the questions that all of them can judge."""
    judged = np.all([side.judged for side in sides], axis=0)
    return [side.over(judged) for side in sides]


def drop_of(method: str, own: Side, there: Side, metric: str, shared_rows: float) -> Tested[Drop]:
    """A method's drop from the one side to the other, over what both can judge; see `together`."""
    one, other = own.scored(metric), there.scored(metric)
    if one is None or other is None:
        return untested(method, _nothing_in_common(own, there, metric)), None
    found, anew = drop(one, other), drop(one, other, shared_rows=shared_rows)
    why = "" if not np.isnan(found.difference.low) else f"it takes {FEWEST} images or patients of every class"
    return Drop(method, one.interval(), other.interval(), found, anew, why), Unpaired(one, other)


def untested(method: str, why: str) -> Drop:
    """A row that claims nothing."""
    return Drop(method, NOTHING, NOTHING, UNTESTED, UNTESTED, why)


def findings_of(
    method: str,
    own: Side,
    there: Side,
    pairs: Mapping[str, tuple[str, ...]],
    shared_rows: float,
) -> list[Tested[FindingDrop]]:
    """Every finding that the site has, those that cannot be judged as well, with the reason.

    Args:
        method: what it is called.
        own: the study's test images.
        there: the site's, comparable ones.
        pairs: names of the findings to the site's.
        shared_rows: see `drop`.
    """
    both = own, there
    judged = [scored_findings(side.panel.truth, side.panel.odds, side.panel.groups)[0] for side in both]
    areas = [np.mean([auc(side.panel.truth, fold) for fold in side.panel.odds], axis=0) for side in both]
    found = []
    for label, name in enumerate(own.panel.names):
        if name not in pairs and np.isnan(there.panel.truth[:, label]).all():
            continue
        columns = [side.panel.truth[:, label] for side in both]
        scores = [each[label] for each in judged]
        intervals = [
            Interval(float(area[label]), NAN, NAN) if score is None else score.interval()
            for area, score in zip(areas, scores, strict=True)
        ]
        one, other = scores
        own_drop, anew, source = UNTESTED, UNTESTED, None
        if one is not None and other is not None:
            own_drop, anew = drop(one, other), drop(one, other, shared_rows=shared_rows)
            source = Unpaired(one, other)
        lacking = [
            _few(whose, column, side.panel.groups)
            for whose, column, side, score in zip(("own test", "the site's"), columns, both, scores, strict=True)
            if score is None
        ]
        n_known, n_positive = (
            (int(masks[0].sum()), int(masks[1].sum()))
            for masks in ([~np.isnan(column) for column in columns], [column == 1.0 for column in columns])
        )
        row = FindingDrop(
            method=method,
            internal=intervals[0],
            external=intervals[1],
            drop=own_drop,
            anew=anew,
            why_not="; ".join(lacking) and f"{'; '.join(lacking)}: it takes {FEWEST} of each",
            finding=name,
            theirs=pairs.get(name, ()),
            n_known=n_known,
            n_positive=n_positive,
        )
        found.append((row, source))
    return found


def weighted(method: str, sides: dict[str, Side], weights: dict[str, float], metric: str) -> WeightedScore:
    """A method's score over several portions, over what all can judge; see `together`."""
    found = {name: sides[name].scored(metric) for name in weights}
    lacking = [name for name, each in found.items() if each is None]
    intervals = {name: NOTHING if each is None else each.interval() for name, each in found.items()}
    portions = tuple(Portion(name, weight, intervals[name]) for name, weight in weights.items())
    total = weighted_sum(list(intervals.values()), list(weights.values()))
    few = [name for name, each in intervals.items() if np.isnan(each.low)]
    why = f"nothing that all portions have can be judged in {', '.join(lacking)}" if lacking else ""
    why = why or (f"{', '.join(few)}: it takes {FEWEST} images or patients of every class" if few else "")
    return WeightedScore(method, total, portions, why)


def unweighted(method: str, weights: Mapping[str, float], why: str) -> WeightedScore:
    """A weighted score of which nothing is known."""
    return WeightedScore(method, NOTHING, tuple(Portion(*each, NOTHING) for each in weights.items()), why)


def _few(whose: str, column: NDArray[Any], groups: NDArray[Any] | None) -> str:
    units, what = (np.arange(len(column)), "images") if groups is None else (groups, "groups")
    n_with, n_without = (len(np.unique(units[column == side])) for side in (1.0, 0.0))
    return f"{n_with} of {whose} {what} with it, {n_without} without"


def _nothing_in_common(own: Side, there: Side, metric: str) -> str:
    if metric != AUC and own.labels is not None and there.labels is not None:
        return "fewer than two classes that both have"
    return f"no finding or class has {FEWEST} images or patients with it, and {FEWEST} without, on both sides"
