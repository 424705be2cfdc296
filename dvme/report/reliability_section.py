"""The section of a report that one would show to a radiologist: for which findings a method can be trusted."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from markupsafe import Markup

from dvme.report.figures import reliability as figures
from dvme.report.html.page import Page, Section
from dvme.report.html.tables import Row, choice, part, table
from dvme.report.html.template import folded, heading, paragraph, side_by_side, soft
from dvme.stats.influence import FEWEST
from dvme.stats.intervals import Interval
from dvme.study.reliability import SCALINGS, FindingReliability, MethodReliability, Reliability
from dvme.text import counted, difference_text, number_text

MOST_FINDINGS = 30
"""That have figures of their own, the most frequent ones; the tables have all."""
METHOD, FINDING = "reliability-method", "reliability-finding"
ERRORS = {
    "expected_error": "ECE",
    "expected_error_by_mass": "ECE, equal mass",
    "largest_error": "MCE",
    "brier": "Brier",
    "log_loss": "log loss",
}
COLUMNS = {"before": "before", "temperature": "temperature", "platt": "Platt"}


def reliability_section(page: Page, found: Reliability) -> Section:
    """Words, then tables of all findings, then figures of one."""
    shown = _with_figures(found)
    body = paragraph(found.said()) + _explained(found)
    if len(found.methods) > 1:
        body += choice(METHOD, "Method", {str(m): each.method for m, each in enumerate(found.methods)})
    body += Markup("").join(part(METHOD, str(m), _tables(page, found, each, m)) for m, each in enumerate(found.methods))
    if shown:
        body += heading(f"One {found.what} at a time")
        body += choice(FINDING, found.what.capitalize(), {str(place): name for place, name in shown.items()})
        every = sum(not each.why_not for each in found.leading.findings)
        if every > len(shown):
            body += soft(f"The {len(shown)} most frequent of {every}; the tables above have all.")
    for m, method in enumerate(found.methods):
        own = Markup("").join(
            part(FINDING, str(place), _one(page, found, method.findings[place], f"{m}-{place}")) for place in shown
        )
        body += part(METHOD, str(m), own)
    return Section("reliability", "Reliability", body)


def _with_figures(found: Reliability) -> dict[int, str]:
    """Position and name of the findings that have figures, in the order of the tables."""
    rows = found.leading.findings
    judged = [place for place, each in enumerate(rows) if not each.why_not]
    most = sorted(judged, key=lambda place: -rows[place].n_positive)[:MOST_FINDINGS]
    return {place: rows[place].finding for place in sorted(most)}


def _explained(found: Reliability) -> Markup:
    heads = counted(found.n_draws, "head")
    return soft(
        f"{found.n_images:,} test images; every number is the mean over {heads} of the largest size, "
        f"each with the threshold ({found.at}) and the scaling of its own validation images. Nothing was chosen "
        f"on test images. Where it is not known whether an image has a {found.what}, the image takes no part in it. "
        f"To judge one it takes {FEWEST} {found.unit}s with it, and as many without. Intervals are for each number by "
        "itself, of these heads and thresholds on other images, over "
        f"{found.n_units:,} {found.unit}s; those of average precision are of {found.n_resamples:,} resamples."
    )


def _tables(page: Page, found: Reliability, method: MethodReliability, m: int) -> Markup:
    body = heading(method.method) + _counts_table(found, method)
    if not method.judged:
        return body
    body += heading(f"At {found.at} of validation") + _operating_table(found, method)
    body += soft(
        "Missed is 1 less the sensitivity: the false negative rate, or underdiagnosis. PPV and NPV are "
        "the part of positive and of negative calls that are right, by Bayes' rule from sensitivity and specificity; "
        "they hold for the prevalence that is named."
    )
    body += heading("Are the probabilities right?") + _fit_table(found, method, ("expected_error", "brier"))
    low, high = min(method.temperatures), max(method.temperatures)
    body += soft(
        f"Temperatures of the draws: {low:.2f} to {high:.2f}; above 1 the heads were too sure. ECE is "
        "the mean gap between probability and frequency. Chance alone makes it larger than 0, above all with few "
        "images; its interval allows for that."
    )
    others = _fit_table(found, method, ("expected_error_by_mass", "largest_error", "log_loss"))
    body += folded("Other measures, and what could not be scaled", others, _notes(method))
    caption = (
        "As defined, each fraction of the images that the method is least sure of, by the mean of |p - 0.5| over "
        f"{'classes' if found.what == 'class' else 'findings'}, gets its true labels. Published tables refer each "
        "fraction on top of those before it: 0, 5, 15, 30, 50 and 75 per cent. Compare only curves of one kind. Bands: "
        "95% intervals."
    )
    body += page.figure(f"oracle-{m}", figures.draw_oracle(found, method), caption)
    return body + folded(f"Oracle AUC by {found.what}", _oracle_table(found, method))


def _counts_table(found: Reliability, method: MethodReliability) -> Markup:
    has_masked = any(each.n_masked for each in method.findings)
    rows = []
    for each in method.findings:
        numbers = [f"{each.n_positive:,}", f"{each.n_known:,}"]
        if has_masked:
            unsure = "?" if each.n_uncertain is None else f"{each.n_uncertain:,}"
            numbers += [unsure, f"{each.n_masked:,}"]
        scores = [each.brief, ""] if each.why_not else [_cell(each.auc), _cell(each.average_precision)]
        rows.append(Row((each.finding,), [*numbers, _cell(each.prevalence), *scores]))
    masked = ("uncertain", "not known") if has_masked else ()
    headings = ["with it", "known", *masked, "prevalence (95% CI)", "AUC (95% CI)", "average precision (95% CI)"]
    return table((found.what,), headings, rows, f"Counts and ranking by {found.what}")


def _operating_table(found: Reliability, method: MethodReliability) -> Markup:
    has_stated = any(each.at is not None and not math.isnan(each.at.stated_prevalence) for each in method.judged)
    has_reason = any(each.why_not_at for each in method.judged)
    rows = []
    for each in method.judged:
        at, reason = each.at, [each.why_not_at] if has_reason else []
        if at is None:
            rows.append(Row((each.finding,), [*[""] * (10 if has_stated else 7), *reason]))
            continue
        measures = (
            at.sensitivity, at.missed, at.specificity, at.balanced_accuracy, at.f1, at.positive_predictive_value,
            at.negative_predictive_value,
        )  # fmt: skip
        numbers = [_cell(measure) for measure in measures]
        if has_stated:
            stated = (at.stated_positive_predictive_value, at.stated_negative_predictive_value)
            numbers += [number_text(at.stated_prevalence, undefined=""), *map(_cell, stated)]
        rows.append(Row((each.finding,), [*numbers, *reason]))
    headings = ["sensitivity", "missed", "specificity", "balanced accuracy", "F1", "PPV here", "NPV here"]
    headings += ["stated prevalence", "PPV there", "NPV there"] if has_stated else []
    headings += ["what is missing"] if has_reason else []
    return table((found.what,), headings, rows, f"Operating points by {found.what}")


def _fit_table(found: Reliability, method: MethodReliability, errors: Sequence[str]) -> Markup:
    rows = [
        Row((each.finding,), [_cell(getattr(each.fits[name], error)) for error in errors for name in SCALINGS])
        for each in method.judged
    ]
    headings = [f"{ERRORS[error]} {COLUMNS[name]}" for error in errors for name in SCALINGS]
    return table((found.what,), headings, rows, f"Calibration by {found.what}")


def _notes(method: MethodReliability) -> Markup:
    lines = [f"{each.finding}: {note}" for each in method.judged for note in each.notes]
    return Markup("").join(soft(f"{line}.") for line in lines)


def _oracle_table(found: Reliability, method: MethodReliability) -> Markup:
    headings = [f"{fraction:.0%}" for fraction in found.fractions]
    rows = [Row(("all", "as defined"), [_cell(each) for each in method.oracle])]
    rows += [Row(("all", "cumulative"), [_cell(each) for each in method.cumulative_oracle])]
    for each in method.judged:
        rows.append(Row((each.finding, "as defined"), [_cell(own) for own in each.oracle], is_first=True))
        rows.append(Row((each.finding, "cumulative"), [_cell(own) for own in each.cumulative_oracle]))
    return table((found.what, "referral"), headings, rows, f"Oracle AUC by {found.what}")


def _one(page: Page, found: Reliability, finding: FindingReliability, key: str) -> Markup:
    own = re.sub(r"[^A-Za-z0-9]+", "-", finding.finding)[:40] + f"-{key}"
    drawn = {"missed": figures.draw_missed(found, finding), "fits": figures.draw_fits(finding)}
    if finding.at is not None:
        drawn["risk"] = figures.draw_risk(found, finding)
    shown = (page.figure(f"{name}-{own}", figure) for name, figure in drawn.items())
    return _confusion(found, finding) + side_by_side(shown)


def _confusion(found: Reliability, finding: FindingReliability) -> Markup:
    """What becomes of the test images at the operating point, in words and as a table."""
    at = finding.at
    if at is None:
        return paragraph(f"{finding.why_not_at}.")
    n_without = finding.n_known - finding.n_positive
    said = (
        f"At {found.at} of validation, of {counted(finding.n_positive, 'test image')} with {finding.finding} a head "
        f"finds {at.true_positives:,.1f} and misses {at.false_negatives:,.1f}, and of {n_without:,} without it calls "
        f"{at.false_positives:,.1f}, on average over {counted(at.n_draws, 'head')}."
    )
    rows = [
        Row(("has it",), [f"{at.true_positives:,.1f}", f"{at.false_negatives:,.1f}", _cell(at.sensitivity)]),
        Row(("has it not",), [f"{at.false_positives:,.1f}", f"{at.true_negatives:,.1f}", _cell(at.specificity)]),
    ]
    headings = ("called", "not called", "right (95% CI)")
    return paragraph(said) + table(("truth",), headings, rows, f"Confusion of {finding.finding}")


def _cell(score: Interval) -> str:
    if math.isnan(score.estimate):
        return ""
    return difference_text(score, signed=False, without="no interval")
