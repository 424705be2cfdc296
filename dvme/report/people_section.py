"""The section of a report on subgroups and patients: words, a forest of subgroups, and all numbers as tables."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from dvme.report.figures.subgroups import subgroups
from dvme.report.html.page import Page, Section
from dvme.report.html.tables import Row, table
from dvme.report.html.template import folded, heading, paragraph, soft
from dvme.study.by_subgroup import BySubgroup, Division, SubgroupScore
from dvme.study.outcome import StudyReport
from dvme.study.per_unit import PerUnit, Side
from dvme.text import METRIC_NAMES, difference_text, ends_text, number_text, p_text


def people_section(page: Page, summary: StudyReport, *, is_anonymous: bool) -> Section | None:
    """Who is recognised less well, and what changes per patient; None where a study was not asked.

    Args:
        page: takes the figure.
        summary: of the study.
        is_anonymous: leave out what may name columns' values, images or patients.
    """
    body = Markup()
    if summary.subgroups is not None and not is_anonymous:
        body += _subgroups(page, summary.subgroups)
    if summary.per_patient is not None:
        body += _per_unit(summary.per_patient, is_anonymous=is_anonymous)
    return Section("people", "Subgroups and patients", body) if body else None


def _subgroups(page: Page, found: BySubgroup) -> Markup:
    overall, single = found.overall, [each for each in found.divisions if each.finding]
    metric = "mean AUC" if single else METRIC_NAMES[found.metric]
    caption = (
        f"{found.method}: {metric} on each subgroup of the test images; in words, the two of a column that are "
        f"farthest apart. Heads and test {found.unit}s are left to chance (crossed test), for all pairs of a column "
        "and all columns. A gap may be one of something else that the subgroups differ in."
    )
    body = paragraph(found.said())
    body += page.figure("subgroups", subgroups(overall, metric=found.metric), caption)
    body += _remarks(found.remarks)
    body += folded("The same in numbers", _scores(overall, found), _gaps(overall))
    if single:
        note = "Gaps by finding are one more family of tests: intervals and p are for all findings and columns."
        body += folded("Each finding by subgroup", _gaps(single), _scores(single, found), soft(note))
    return body


def _scores(divisions: Sequence[Division], found: BySubgroup) -> Markup:
    rows = []
    others = list(dict.fromkeys(name for each in divisions for score in each.scores for name in score.others))
    for each in divisions:
        for place, score in enumerate(each.scores):
            counts = [f"{score.n_images:,}", f"{score.n_units:,}"]
            counts += ["" if score.n_positive is None else f"{score.n_positive:,}"]
            interval = ends_text(score.score, signed=False) or score.why_not
            further = [_other(score, name) for name in others]
            numbers = (number_text(score.score.estimate, undefined="none"), interval, *counts, *further)
            names = (each.finding or "all", each.column, score.name)
            rows.append(Row(names, numbers, is_first=place == 0))
    units = f"{found.unit}s" if found.unit != "image" else "units"
    headings = ("score", "95% CI", "images", units, "positive", *(METRIC_NAMES.get(name, name) for name in others))
    return table(("finding", "by", "subgroup"), headings, rows, "Scores by subgroup")


def _other(score: SubgroupScore, name: str) -> str:
    own = score.others.get(name)
    return "" if own is None else difference_text(own, signed=False, without="no interval")


def _gaps(divisions: Sequence[Division]) -> Markup:
    rows = []
    for each in divisions:
        names, gap = (each.finding or "all", each.column), each.gap
        if gap is None:
            rows.append(Row(names, ("none", each.why_no_gap, "", "")))
            continue
        difference = gap.comparison.difference
        p = "no test" if math.isnan(gap.p_adjusted) else p_text(gap.p_adjusted)
        apart = number_text(difference.estimate, signed=True)
        rows.append(Row(names, (apart, ends_text(difference), p, f"{gap.better} minus {gap.worse}")))
    return table(("finding", "by"), ("largest gap", "95% CI", "p", "of"), rows, "Largest gaps")


def _per_unit(found: PerUnit, *, is_anonymous: bool) -> Markup:
    has_findings = any(each.finding for each in found.scores)
    rows = []
    for each in found.scores:
        name = each.finding or ("mean AUC" if has_findings else METRIC_NAMES[each.metric])
        rows.append(Row((name,), (*_side(each.units), *_side(each.images))))
    headings = (f"per {found.unit}", "95% CI", "positive", "per image", "95% CI", "positive")
    body = heading(f"Per {found.unit}") + paragraph(found.said())
    body += table(("finding" if has_findings else "metric",), headings, rows, f"Per {found.unit} and per image")
    body += soft(f"{found.method}: {found.counts}")
    return body if is_anonymous else body + _remarks(found.remarks)  # which may name patients


def _remarks(remarks: Sequence[str]) -> Markup:
    return Markup("").join(soft(f"{remark[:1].upper() + remark[1:]}.") for remark in remarks)


def _side(side: Side) -> tuple[str, str, str]:
    count = f"of {side.n:,}" if side.n_positive is None else f"{side.n_positive:,} of {side.n:,}"
    interval = ends_text(side.score, signed=False) or side.why_not
    return number_text(side.score.estimate, undefined="none"), interval, count
