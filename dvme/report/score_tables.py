"""The paper-style table of a study, and what fusions gain, as tables of a page."""

from __future__ import annotations

import math

from markupsafe import Markup

from dvme.report.html.tables import Row, table
from dvme.study.outcome import Cell, StudyReport
from dvme.text import METRIC_NAMES, ends_text, number_text, p_text, saved_text, spread_text, together_text


def scores_table(summary: StudyReport, metric: str) -> Markup:
    """Methods by sizes; marks only for the study's own metric, which the tests are about."""
    headings = [f"{column.name} ({column.n_train:,.0f} + {column.n_validation:,.0f})" for column in summary.columns]
    rows, before = [], None
    is_marked = metric == summary.metric
    for head, backbones in summary.methods:
        cells = summary.row(head, backbones)
        best = frozenset(place for place, cell in enumerate(cells) if is_marked and cell.is_highest)
        shown = [_score(cell, metric, is_marked=is_marked) for cell in cells]
        rows.append(Row((together_text(backbones), head), shown, best, is_first=backbones != before))
        before = backbones
    return table(("backbone", "head"), headings, rows, f"Test {METRIC_NAMES[metric]} by method and size")


def gains_table(summary: StudyReport) -> Markup:
    """Every fusion by attention against its rivals."""
    rows: list[Row] = []
    for gain in summary.gains:
        difference = gain.comparison.difference
        p = "" if math.isnan(gain.p_adjusted) else p_text(gain.p_adjusted)
        estimate, saved = number_text(difference.estimate, signed=True), saved_text(gain.saved)
        numbers = (estimate, ends_text(difference), p, gain.word, saved)
        is_first = not rows or rows[-1].names[0] != gain.size
        rows.append(Row((gain.size, gain.fusion, gain.rival), numbers, is_first=is_first))
    headings = ("difference", "95% CI", "p", "verdict", "labels saved (95% CI)")
    return table(("size", "fusion", "against"), headings, rows, "Gains of fusions")


def cost_table(summary: StudyReport) -> Markup:
    """What the methods cost."""
    rows = []
    for head, backbones in summary.methods:
        cells = summary.row(head, backbones)
        numbers = (f"{sum(cell.seconds for cell in cells):,.1f}", f"{cells[-1].n_parameters:,}")
        rows.append(Row((together_text(backbones), head), numbers))
    return table(("backbone", "head"), ("seconds of all fits", "numbers held"), rows, "Cost")


def _score(cell: Cell, metric: str, *, is_marked: bool) -> str:
    score = cell.test[metric]
    if math.isnan(score.mean):
        return "not defined"
    shown = spread_text(score)
    return f"{shown} {cell.mark or chr(0x2007)}" if is_marked else shown
