"""Other sites in a report: in words, as a forest, and in tables."""

from __future__ import annotations

import math
from dataclasses import replace

from markupsafe import Markup

from dvme.report.figures import sites as figures
from dvme.report.html.page import Page, Section
from dvme.report.html.tables import Row, table
from dvme.report.html.template import heading, paragraph, soft
from dvme.stats.intervals import Interval
from dvme.study.sites.outcome import SiteResult, SitesResult
from dvme.text import METRIC_NAMES, difference_text, ends_text, number_text, p_text, some_of


def sites_section(page: Page, found: SitesResult | None, *, is_anonymous: bool) -> Section | None:
    """What the heads do at other sites; None without any.

    Args:
        page: that keeps the figure.
        found: of the study's summary.
        is_anonymous: whether sites become numbers, as their names may tell a hospital.
    """
    if found is None:
        return None
    if is_anonymous:
        found = numbered(found)
    body = paragraph(found.said())
    body += Markup("").join(paragraph(line) for site in found.sites for line in site.why_not_external)
    body += Markup("").join(paragraph(_judged(site)) for site in found.sites)
    if any(site.judged and site.drops for site in found.sites):
        body += page.figure("sites", figures.sites(found), _caption(found))
    body += Markup("").join(_of_site(found, site) for site in found.sites)
    body += _scores(found) + _shifts(found)
    return Section("sites", "At other sites", body)


def numbered(found: SitesResult) -> SitesResult:
    """The same with numbers for names, which may tell a hospital."""
    names = {site.name: f"site {number}" for number, site in enumerate(found.sites, start=1)}
    sites = tuple(replace(site, name=names[site.name], cache="", why_not_external=()) for site in found.sites)
    scores = tuple(
        replace(
            each,
            portions=tuple(replace(own, name=names.get(own.name, own.name)) for own in each.portions),
            why_not="" if not each.why_not else "a portion has too few images of a class",
        )
        for each in found.scores
    )
    return replace(found, sites=sites, scores=scores)


def _judged(site: SiteResult) -> str:
    groups = "" if site.n_groups is None else f" of {site.n_groups:,} groups"
    renamed = [f"{name} is {' or '.join(own)} there" for name, own in site.pairs.items() if own != (name,)]
    left = [f"{count:,} {reason}" for reason, count in site.n_left_out.items()]
    parts = [
        f"{site.name}: {site.n_images:,} images{groups}, judged over {some_of(site.judged) or 'nothing'}",
        *([some_of(renamed)] if renamed else []),
        *([f"it lacks {some_of(site.ours_only)}"] if site.ours_only else []),
        *([f"the study lacks {some_of(site.theirs_only)}"] if site.theirs_only else []),
        *([f"left out: {some_of(left)}"] if left else []),
    ]
    return "; ".join(parts) + "."


def _caption(found: SitesResult) -> str:
    return (
        f"{METRIC_NAMES[found.metric]} of the heads of the largest size, fitted once: on the study's own test images, "
        "over what both have, and at each site. Dotted: chance, where it is one number."
    )


def _of_site(found: SitesResult, site: SiteResult) -> Markup:
    """Every method, and every finding by the leading one."""
    rows = [
        Row(
            (each.method,),
            (
                *(_interval(own) for own in (each.internal, each.external)),
                _interval(each.shown.difference, signed=True),
                "" if math.isnan(each.shown.p) else p_text(each.shown.p),
                ends_text(each.anew.difference),
                each.why_not or each.word,
            ),
        )
        for each in site.drops
    ]
    headings = ("own test images", f"at {site.name}", "drop (95% CI)", "p", "heads fitted anew", "")
    body = heading(site.name)
    body += table(("method",), headings, rows, f"{METRIC_NAMES[found.metric]} at {site.name}")
    body += soft(
        "Drop: own minus theirs, of these heads on other images of both places, patients as units; "
        f"{found.families}. Scores are each for itself. Heads fitted anew: the interval of the drop, for itself, "
        "where heads are left to chance, too."
    )
    if len(site.findings) > 1 or any(each.why_not for each in site.findings):
        body += _findings(found, site)
    return body


def _findings(found: SitesResult, site: SiteResult) -> Markup:
    rows = [
        Row(
            (each.finding, ", ".join(each.theirs)),
            (
                *(f"{n:,} of {known:,}" for n, known in zip(each.n_positive, each.n_known, strict=True)),
                *(_interval(own) for own in (each.internal, each.external)),
                each.why_not or f"{_interval(each.shown.difference, signed=True)} {each.word}",
            ),
        )
        for each in site.findings
    ]
    headings = ("with it, own", "with it, there", "own AUC", f"AUC at {site.name}", "drop (95% CI)")
    return table(("finding", "there"), headings, rows, f"Findings at {site.name}, by {found.leader}")


def _scores(found: SitesResult) -> Markup:
    if not found.scores:
        return Markup()
    portions = found.scores[0].portions
    rows = [
        Row((each.method,), (_interval(each.total), *(_interval(own.score) for own in each.portions), each.why_not))
        for each in found.scores
    ]
    headings = ("weighted score (95% CI)", *(f"{own.name}, {own.weight:g}" for own in portions), "")
    return heading("Weighted score") + table(("method",), headings, rows, "Weighted score")


def _shifts(found: SitesResult) -> Markup:
    rows = []
    for site in found.sites:
        for number, each in enumerate(site.shifts):
            robust, apart = each.robustness, each.discrepancy
            reasons = dict.fromkeys(why for why in (each.classifier.reason, apart.reason, robust.reason) if why)
            numbers = (
                _interval(each.classifier.auc),
                number_text(apart.squared, 4, undefined=""),
                "" if math.isnan(apart.p) else p_text(apart.p),
                _interval(robust.index),
                number_text(robust.by_chance, undefined=""),
                "; ".join(reasons),
            )
            rows.append(Row((site.name, each.backbone), numbers, is_first=number == 0))
    headings = ("told apart, AUC", "MMD²", "p", "robustness index", "by chance", "")
    said = (
        "Told apart: how well a linear classifier tells which place an image is of; 0.5: not at "
        "all. MMD²: squared mean discrepancy of the embeddings, with a permutation test of whole patients. Robustness: "
        "of the 20 nearest neighbours, those with the same findings at another place, against those with other "
        "findings at the same place; 1: the place does not matter. Compare it with chance, which depends on how "
        "frequent findings and places are."
    )
    shown = table(("site", "backbone"), headings, rows, "Shift by site and backbone")
    return heading("How far apart the images are") + shown + soft(said)


def _interval(interval: Interval, *, signed: bool = False) -> str:
    return "" if math.isnan(interval.estimate) else difference_text(interval, without="no interval", signed=signed)
