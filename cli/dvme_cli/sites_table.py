"""Other sites as text: a column for each, the drops, each finding, and how far apart the images are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from dvme.text import METRIC_NAMES, difference_text, number_text, p_text, some_of
from dvme_cli.console import console, say
from dvme_cli.table import NARROW, Table

if TYPE_CHECKING:
    from dvme.stats.intervals import Interval
    from dvme.study.sites.outcome import SiteResult, SitesResult


def show_sites(found: SitesResult | None) -> None:
    """Print what the heads do at other sites; nothing where there are none."""
    if found is None:
        return
    _show_drops(found)
    for site in found.sites:
        _show_findings(found, site)
    _show_scores(found)
    _show_shifts(found)
    say(found.said())


def _show_drops(found: SitesResult) -> None:
    """Own test sets of the same findings are one column."""
    headings, columns, before = list[str](), list[list[str]](), None
    for site in found.sites:
        own = [_interval(each.internal) for each in site.drops]
        if own != before:
            headings.append("own test")
            columns.append(own)
        before = own
        headings += [site.name, "drop"]
        columns += [
            [_interval(each.external) for each in site.drops],
            [_change(each.shown.difference) for each in site.drops],
        ]
    methods = list(dict.fromkeys(each.method for site in found.sites for each in site.drops))
    if methods:
        table = Table(columns=("method", *headings), keys=1, numeric=len(headings), padding=NARROW)
        for number, method in enumerate(methods):
            table.add_row(method, *(column[number] for column in columns))
        table.show(console())
        say(
            f"Test {METRIC_NAMES[found.metric]} at other sites, without a new fit, and on the study's own test images "
            f"over what both have; 95% CI. Drop: own minus theirs, of these heads; {found.families}."
        )
    for site in found.sites:
        groups = "" if site.n_groups is None else f" of {site.n_groups:,} groups"
        why = "" if site.judged else f": {site.drops[0].why_not if site.drops else 'no head is kept'}"
        say(f"{site.name}: {site.n_images:,} images{groups}, judged over {some_of(site.judged) or 'nothing'}{why}.")


def _show_findings(found: SitesResult, site: SiteResult) -> None:
    if len(site.findings) < 2 and all(not each.why_not for each in site.findings):
        return
    headings = ("with it", f"with it at {site.name}", "own AUC", f"AUC at {site.name}", "drop")
    table = Table(columns=("finding", *headings), keys=1, numeric=len(headings), padding=NARROW)
    for each in site.findings:
        counts = [f"{n:,} of {known:,}" for n, known in zip(each.n_positive, each.n_known, strict=True)]
        change = "-" if each.why_not else _change(each.shown.difference)
        table.add_row(each.finding, *counts, _interval(each.internal), _interval(each.external), change)
    table.show(console())
    say(f"Each finding, or class against the others, by {found.leader}, which leads on validation.")
    for each in site.findings:
        if each.why_not:
            say(f"{each.finding}: {each.why_not}.")


def _show_scores(found: SitesResult) -> None:
    if not found.scores:
        return
    names = [portion.name for portion in found.scores[0].portions]
    table = Table(columns=("method", "weighted score", *names), keys=1, numeric=1 + len(names), padding=NARROW)
    for each in found.scores:
        table.add_row(each.method, _interval(each.total), *(_interval(portion.score) for portion in each.portions))
    table.show(console())
    weights = " + ".join(f"{portion.weight:g} {portion.name}" for portion in found.scores[0].portions)
    say(f"Weighted score: {weights}, {METRIC_NAMES[found.metric]} with 95% CI, of these heads on other images.")
    for why in dict.fromkeys(each.why_not for each in found.scores if each.why_not):
        say(f"{why}.")


def _show_shifts(found: SitesResult) -> None:
    headings = ("told apart, AUC", "MMD²", "p", "robustness", "by chance")
    table = Table(columns=("site", "backbone", *headings), keys=2, numeric=len(headings), grouped=1, padding=NARROW)
    reasons = []
    for site in found.sites:
        for each in site.shifts:
            classifier, apart, robust = each.classifier, each.discrepancy, each.robustness
            table.add_row(
                *(site.name, each.backbone, _interval(classifier.auc), number_text(apart.squared, 4, undefined="-")),
                "-" if math.isnan(apart.p) else p_text(apart.p),
                _interval(robust.index),
                number_text(robust.by_chance, undefined="-"),
            )
            parts = (("told apart", classifier.reason), ("MMD", apart.reason), ("robustness", robust.reason))
            reasons += [f"{site.name}, {each.backbone}: {what}: {why}." for what, why in parts if why]
    table.show(console())
    say(
        "Told apart: how well a linear classifier tells which site an image is of (0.5: not at all). MMD²: squared "
        "mean discrepancy with a permutation test. Robustness: neighbours of the same findings at another site, "
        "against those of others at the same site (1: the site does not matter); compare it with chance. 95% CI."
    )
    for reason in dict.fromkeys(reasons):
        say(reason)


def _interval(interval: Interval) -> str:
    return difference_text(interval, signed=False, without="no interval") if not math.isnan(interval.estimate) else "-"


def _change(interval: Interval) -> str:
    return difference_text(interval, without="no interval") if not math.isnan(interval.estimate) else "-"
