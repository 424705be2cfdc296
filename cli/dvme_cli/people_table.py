"""Subgroups and patients of a study as text."""

from __future__ import annotations

import math
from collections.abc import Sequence, Set
from typing import TYPE_CHECKING

from dvme.text import METRIC_NAMES, counted, difference_text, ends_text, number_text, p_text, some_of
from dvme_cli.console import console, say
from dvme_cli.table import NARROW, Table

if TYPE_CHECKING:
    from dvme.study.by_subgroup import BySubgroup, Division, SubgroupGap
    from dvme.study.outcome import StudyReport
    from dvme.study.per_unit import PerUnit, Side


def show_people(report: StudyReport) -> None:
    """Print what was asked about subgroups and patients."""
    if report.subgroups is not None:
        _show_subgroups(report.subgroups)
    if report.per_patient is not None:
        _show_per_unit(report.per_patient)


def _show_subgroups(found: BySubgroup) -> None:
    counts = any(score.n_positive is not None for each in found.overall for score in each.scores)
    metric = "mean AUC" if any(each.finding for each in found.divisions) else METRIC_NAMES[found.metric]
    units = [] if found.unit == "image" else [f"{found.unit}s"]
    headings = ("by", "subgroup", metric, "95% CI", "images", *units, *(["positive"] if counts else []))
    table = Table(columns=headings, keys=2, numeric=len(headings) - 4, grouped=1, padding=NARROW)
    for each in found.overall:
        for score in each.scores:
            numbers = [f"{score.n_images:,}", *([f"{score.n_units:,}"] if units else [])]
            numbers += [] if score.n_positive is None else [f"{score.n_positive:,}"]
            shown = number_text(score.score.estimate, undefined="-"), ends_text(score.score, signed=False)
            table.add_row(each.column, score.name, shown[0], shown[1] or f"none: {score.why_not}", *numbers)
    table.show(console())
    say(f"{found.method} by subgroups of the test images.")
    for each in found.overall:
        say(f"by {each.column}: " + (each.why_no_gap if each.gap is None else f"{metric} of {_gap(each.gap)}"))
    say(
        f"The largest gap of each column: crossed test over heads and test {found.unit}s, for all pairs of a column "
        "and all columns. A gap may be one of something else that the subgroups differ in."
    )
    _show_findings([each for each in found.divisions if each.finding])
    for remark in found.remarks:
        say(remark)
    say(found.said())


def _show_findings(divisions: list[Division]) -> None:
    """The largest gap of each finding."""
    names = list(dict.fromkeys(each.finding for each in divisions))
    gaps = [(name, each.column, each.gap) for name in names for each in divisions if each.finding == name]
    tested = [(name, column, gap) for name, column, gap in gaps if gap is not None]
    if tested:
        table = Table(columns=("finding", "by", "largest gap of AUC (95% CI), p"), keys=2, numeric=0, padding=NARROW)
        for name, column, gap in tested:
            table.add_row(name, column, _gap(gap))
        table.show(console())
        say("These are one more family of tests: intervals and p are for all findings and columns.")
    _say_left_out(names, {name for name, *_ in tested}, "two subgroups to compare")


def _say_left_out(names: Sequence[str], shown: Set[str], what: str) -> None:
    left = [name for name in names if name not in shown]
    if left:
        say(f"{counted(len(left), 'finding')} without {what}: {some_of(left)} (--json says why)")


def _gap(gap: SubgroupGap) -> str:
    apart = difference_text(gap.comparison.difference, named="95% CI", without="no interval")
    p = "no test" if math.isnan(gap.p_adjusted) else f"p {p_text(gap.p_adjusted)}"
    return f"{gap.better} minus {gap.worse} {apart}, {p}: {'a gap' if gap.is_shown else 'no gap shown'}"


def _show_per_unit(found: PerUnit) -> None:
    heading = "finding" if any(each.finding for each in found.scores) else "metric"
    headings = (heading, f"per {found.unit}", "n", "per image", "images")
    table = Table(columns=headings, keys=1, numeric=0, padding=NARROW)
    judged = [each for each in found.scores if not (each.finding and each.units.why_not and each.images.why_not)]
    for each in judged:
        name = each.finding or ("mean AUC" if heading == "finding" else METRIC_NAMES[each.metric])
        table.add_row(name, _side(each.units), _counts(each.units), _side(each.images), _counts(each.images))
    table.show(console())
    _say_left_out([each.finding for each in found.scores], {each.finding for each in judged}, "enough of either kind")
    say(f"{found.method}: {found.counts}")
    for remark in found.remarks:
        say(remark)
    say(found.said())


def _side(side: Side) -> str:
    return f"none: {side.why_not}" if side.why_not else difference_text(side.score, signed=False, without="no interval")


def _counts(side: Side) -> str:
    return f"{side.n:,}" if side.n_positive is None else f"{side.n_positive:,} of {side.n:,}"
