"""What a paper says of its statistics: the metric, intervals, tests, corrections, and what was asked beside them."""

from __future__ import annotations

from dvme.paper.material import Material
from dvme.paper.wording import all_of, cited, coded, literal, sentences
from dvme.stats.intervals import LEVEL
from dvme.stats.multiple import ALPHA
from dvme.study.by_subgroup import BySubgroup
from dvme.text import CONTROL, METRIC_NAMES, SINGLE, counted

OF_IMAGES = ("dice", "iou")
PERCENT = f"{LEVEL:.0%}".replace("%", " per cent")
OF_WHAT = {
    "balanced_accuracy": "put together from those of the classes' recalls, ",
    "kappa": "moved to the range of kappa, ",
}
"""What is else to be said of Wilson's interval."""
JOINED = {"mean": "their mean", "max": "their maximum", "noisy-or": "1 - prod(1 - p)"}


def about_judging(material: Material) -> str:
    """One paragraph."""
    return sentences(
        [
            _metric(material),
            _intervals(material),
            _tests(material),
            _gains(material),
            _single(material),
            _people(material),
            _sites(material),
        ]
    )


def _metric(material: Material) -> str:
    summary, called = material.summary, METRIC_NAMES[material.metric]
    what = f"Methods were ranked by {called} on validation and judged by {called} on the test set"
    if material.metric in OF_IMAGES:
        outlines = ""
        if summary.boundary is not None:
            outlines = f" Outlines were scored by HD95, and by boundary Dice within {summary.boundary:g} pixels."
        of = "the mean over images of the mean over classes, at the resolution of the mask"
        return f"{what}: {of}. Where a class is neither there nor predicted it is 1.{outlines}"
    if summary.task.is_multilabel:
        judged = len(summary.reliability.leading.judged) if summary.reliability is not None else 0
        which = f"the {judged} findings" if judged else "the findings"
        return f"{what}: the mean over {which} of which test images have enough with and without."
    is_macro = material.metric == "auc" and len(summary.task.classes) > 2
    macro = " (macro, one class against the others)" if is_macro else ""
    order = ", of classes in the order given" if material.metric == "kappa" else ""
    return f"{what}{macro}{order}; scores are means over the heads of the draws."


def _intervals(material: Material) -> str:
    if not material.has_intervals:
        return "The test images were too few for an interval or a test."
    grouped = material.n_test_groups is not None
    unit = "groups" if grouped else "images"
    variance = "the variance of the score over test images"
    if material.metric == "auc":
        works = cited("delong1988comparing", *(["obuchowski1997clustered"] if grouped else []))
        variance = f"its variance by DeLong et al. {works}"
    return (
        f"Intervals of {PERCENT} are of these heads on other test {unit}: Wilson's {cited('wilson1927probable')}, "
        f"{OF_WHAT.get(material.metric, '')}for the number of observations that has {variance}."
    )


def _tests(material: Material) -> str:
    if not material.has_tests:
        return ""
    n_draws, n = len(material.manifest.draws), material.n_comparisons
    if n_draws == 1:
        unit = "images" if material.n_test_groups is None else "groups"
        how = f"by a t test over test {unit}, for a single draw leaves the training images as they are"
    else:
        how = (
            f"by a test that crosses the {n_draws} draws' heads with the test images and leaves both to chance, after "
            f"Obuchowski and Rockette {cited('obuchowski1995hypothesis')}, with a correction for the training images "
            "that draws have in common"
        )
    many = "one comparison" if n == 1 else f"all {n} comparisons of the table"
    return (
        f"Each method was compared with the one that led on validation at the same size, {how}. p values are "
        f"two-sided; they and the intervals of differences are for {many} together (Bonferroni, level {ALPHA:g})."
    )


def _gains(material: Material) -> str:
    roles = {gain.role for gain in material.summary.gains}
    if not roles or not material.has_tests:
        return ""
    rivals = [SINGLE] if SINGLE in roles else []
    rivals += ["fusion without attention"] if CONTROL in roles else []
    saved = any(gain.saved is not None for gain in material.summary.gains)
    labels = ""
    if saved:
        labels = " Labels saved are by interpolation of the learning curves, made monotone, on a logarithmic scale."
    fusions = coded(sorted({gain.fusion for gain in material.summary.gains}))
    return (
        f"A gain of {fusions} is one over every {' and every '.join(rivals)} that could not be told apart from the one "
        f"of its kind that led on validation, by the same test.{labels}"
    )


def _single(material: Material) -> str:
    """Operating points and calibration, finding by finding or class by class."""
    found = material.summary.reliability
    if found is None or not found.leading.judged:
        return ""
    pointed = any(each.at is not None for each in found.leading.judged)
    at = f" Operating points were chosen on validation for a {found.at.replace(' ', ' of ')}." if pointed else ""
    scaled = " Calibration was measured before and after temperature and Platt scaling, both fitted on validation."
    fits = scaled if any(each.fits for each in found.leading.judged) else ""
    return f"The leading methods were scored for each {found.what} by itself.{at}{fits}"


def _people(material: Material) -> str:
    said, by, per = [], material.summary.subgroups, material.summary.per_patient
    if by is not None:
        said.append(_subgroups(by))
    if per is not None:
        joined = JOINED.get(per.join, per.join)
        said.append(f"Predictions were also joined for each {literal(per.unit)}, by {joined}, and scored as such.")
    return sentences(said)


def _subgroups(by: BySubgroup) -> str:
    columns = coded(dict.fromkeys(each.column for each in by.divisions))
    return (
        f"The leading method was scored in subgroups by {columns}; the largest gap of a column was tested, with p for "
        "all pairs of subgroups and all columns."
    )


def _sites(material: Material) -> str:
    sites = material.summary.sites
    if sites is None or not sites.sites:
        return ""
    each = all_of([f"{coded([site.name])} ({counted(site.n_images, 'image')})" for site in sites.sites])
    return (
        f"The heads of the largest size were tested as they are on images of other sites, {each}. Drops from the "
        "study's own test set to a site have intervals of unpaired differences over both sets of images."
    )
