"""The sections of a report, each from a study: what it says in words, in figures and in tables."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from dvme.data import MISSING
from dvme.data.order import order_text
from dvme.explanation.explain import FULL_MAP_IMAGES, ExplainReport
from dvme.explanation.similarity import Similarity
from dvme.report.figures import cost, counts, curves, diagnostics, forest, matrices
from dvme.report.html.page import Page, Section
from dvme.report.html.tables import choice, facts, part
from dvme.report.html.template import filled, folded, heading, paragraph, side_by_side, soft
from dvme.report.score_tables import cost_table, gains_table, scores_table
from dvme.study.answers import Findings
from dvme.study.frozen import overtakes
from dvme.study.loaded import Study
from dvme.study.published import PublishedCell
from dvme.study.scoring import MAE
from dvme.study.suspects import TEST
from dvme.study.trust import QUESTIONS
from dvme.text import CONTROL, MARKS, METRIC_NAMES, counted

COST = (
    "Each method at the largest size: its score with the 95% interval over test images, by the seconds of its fits. "
    "Embeddings are extracted once for all, and are not counted."
)
UNIFORM = 0.05
"""Deviation from even attention, relative to it, up to which it is called even."""
LONGEST_FILE = 60
"""Characters of a method's name in the name of a figure's file."""


def first_screen(title: str, findings: Findings, notices: Sequence[str], described: str) -> Markup:
    """The verdict, the answers that it is made of, and what changes how they are to be taken."""
    return filled("answers", title=title, findings=findings, notices=notices, described=described, wide=QUESTIONS)


def learning_curves(page: Page, study: Study, published: Sequence[PublishedCell]) -> Section:
    """Scores by the number of labels, as the table, and as curves where there is more than one size."""
    own, task = study.run.metric, study.summary.task
    there = [each for each in study.summary.cells[0].test if each != MAE or task.has_grades]
    metrics = [own, *(each for each in there if each != own)]
    named = {**METRIC_NAMES, "kappa": task.kappa_name}
    body = choice("metric", "Score", {each: named[each] for each in metrics})
    if "kappa" in metrics and not task.is_ordered:
        body += part("metric", "kappa", paragraph(order_assumed(study)))
    has_curve = bool(study.summary.columns[1:] or published)
    for metric in metrics if has_curve else ():
        cells = [cell for cell in published if cell.metric == metric]
        figure = curves.learning_curve(study.summary, published=cells, metric=metric)
        caption = "Lines that are pale in the legend appear by a click."
        body += part("metric", metric, page.figure(f"learning-curve-{metric}", figure, caption))
    if has_curve:
        body += heading("Every method at every size")
    for metric in metrics:
        body += part("metric", metric, scores_table(study.summary, metric))
    body += soft(
        f"Test scores, mean ± standard deviation over {len(study.run.manifest.draws)} draws, by images to train + to "
        f"choose on. The highest of a size is bold, which claims nothing. For {METRIC_NAMES[own]}: {MARKS}"
    )
    if published:
        doubts = dict.fromkeys(cell.doubt for cell in published if cell.doubt)
        said = "Published: other images, another test set; a difference is one between studies."
        body += soft(said + "".join(f" ?: {each}." for each in doubts))
    found = study.findings.crossing
    if found is not None and found.estimate.relation == "=":
        said = overtakes(found, "the frozen method that leads on validation")
        body += soft(f"The dotted line: {said[:1].lower() + said[1:]}.")
    several = len(study.summary.methods) > 1
    drawn = page.figure("cost", cost.score_by_cost(study.summary), COST) if several else Markup()
    body += folded("What it cost", drawn, cost_table(study.summary))
    return Section("labels", "How many labels" if has_curve else "Every method", body)


def order_assumed(study: Study) -> str:
    """What to say beside quadratic kappa where nobody gave the order of the classes."""
    order = order_text(study.summary.task.classes)
    return (
        f"Quadratic kappa counts {order} as an order, which nobody gave: do not rely on it. Where they have an order, "
        "dvme cache label CACHE --class-order LOWEST,...,HIGHEST gives it, for the next study."
    )


def differences(page: Page, study: Study) -> Section | None:
    """Who beats whom, with intervals."""
    body = Markup()
    if study.findings.differences:
        caption = (
            f"Test {METRIC_NAMES[study.run.metric]} of each method minus that of another: of a backbone, minus the "
            "single backbone that leads on validation; of a fusion, minus every single backbone not told apart from "
            "that one; of what was adapted or fine-tuned, minus every rival that may be the best. "
            "The intervals leave heads and test images to chance (crossed test) and are widened for all "
            "comparisons of the table (Bonferroni), as its marks are."
        )
        body += page.figure(
            "differences",
            forest.differences(study.findings.differences, metric=study.run.metric, title="At the largest size"),
            caption,
        )
    if study.summary.gains:
        has_attention = any(gain.role == CONTROL for gain in study.summary.gains)
        rivals = ", and the controls without attention," if has_attention else ""
        caption = (
            f"At every size, each fusion{' by attention' if has_attention else ''} minus its hardest rival: of the "
            f"single backbones{rivals} that are not told apart from the one that leads on validation there, and of "
            "those that decide, the one that it exceeds the least. Bars and what is filled are for all comparisons of "
            "the table, as its marks are."
        )
        body += page.figure("gains", forest.gains(study.summary), caption)
        saved = soft(
            "Labels saved: how many more that single backbone needs to score the same; ≤ and ≥ are bounds where the "
            "sizes go no further."
        )
        body += folded("The same in numbers, and labels saved", gains_table(study.summary), saved)
    return Section("differences", "Is it better?", body) if body else None


def fusion(
    page: Page, explained: ExplainReport | None, alike: Similarity | None, tokens: np.ndarray | None
) -> Section | None:
    """What a fusion attends to, what it relies on, and how alike its backbones are."""
    body = Markup()
    if explained is not None and explained.attention is not None:
        shown = page.figure(
            "attention",
            matrices.attention(explained.attention),
            f"Block attention of {explained.head}, mean over {explained.images} and "
            f"{counted(explained.n_folds, 'head')}: a row's backbone gives a column's this part of its attention. It "
            "shows whose projected values stick out, not which backbone knows more; for that, see the losses below.",
        )
        if tokens is not None:
            caption = (
                f"All tokens, averaged to {matrices.PER_BACKBONE} rows and columns for each backbone; first fold's "
                f"head, mean over {counted(min(FULL_MAP_IMAGES, explained.n_images), 'test image')}."
            )
            shown += page.figure("token-attention", matrices.token_attention(tokens, explained.backbones), caption)
        body += _folded_if_uniform(explained, shown)
    if explained is not None:
        caption = (
            "The fusion as it was fitted, with one backbone's embedding replaced by its mean, minus the intact one. "
            "Bars: 95% intervals over test images, given these heads."
        )
        body += page.figure("reliance", forest.reliance(explained.reliance, explained.retrained), caption)
    if alike is not None:
        caption = (
            f"Linear CKA between the backbones' embeddings of {alike.n_samples:,} test images; 1: one is a rotation "
            "and rescaling of the other."
        )
        body += page.figure("similarity", matrices.similarity(alike), caption)
    name = "What the fusion looks at" if explained is not None else "How alike the backbones are"
    return Section("fusion", name, body) if body else None


def _folded_if_uniform(explained: ExplainReport, shown: Markup) -> Markup:
    """Attention that is the same everywhere is one sentence; its pictures are there for who wants to see that."""
    assert explained.attention is not None
    maps = [explained.attention.overall, *explained.attention.classes.values()]
    even = 1.0 / len(explained.backbones)
    most = float(np.nanmax([np.abs(each.mean - even).max() for each in maps]))
    if most > UNIFORM * even:
        return shown
    said = (
        f"Every backbone attends to all {len(explained.backbones)} alike: {even:.3f} each, the largest deviation "
        f"over all classes is {most:.4f}. This fusion has learned no preference that attention could show."
    )
    return paragraph(said) + folded("Attention by class and by token", shown)


def diagnosis(page: Page, study: Study) -> Section | None:
    """Where methods go wrong on the test set, where each image has one class."""
    if not study.diagnoses:
        return None
    methods = {study.run.methods.index((each.head, each.backbones)): each for each in study.diagnoses}
    body = Markup()
    if len(methods) > 1:
        body += choice("method", "Method", {str(m): each.method for m, each in methods.items()})
    for m, each in methods.items():
        drawn = {
            "confusion": diagnostics.draw_confusion(each.confusion),
            "roc": diagnostics.draw_roc(each.roc),
            "precision-recall": diagnostics.draw_precision_recall(each.precision_recall),
            "calibration": diagnostics.draw_calibration(each.calibration),
        }
        own = re.sub(r"[^A-Za-z0-9]+", "-", each.method)[:LONGEST_FILE] or str(m)
        own = f"{own}-{m}" if f"roc-{own}" in page.figures else own
        figures = (page.figure(f"{name}-{own}", figure) for name, figure in drawn.items())
        body += part("method", str(m), heading(each.method) + side_by_side(figures))
    said = (
        f"{len(study.run.manifest.test):,} test images, probabilities averaged over the heads of the largest size; "
        "such an average may score above the table, whose numbers are means of the heads' own scores."
    )
    if (study.run.test_groups != MISSING).any():
        said += (
            " The bars of the calibration take images for independent; with several of a patient they are too short."
        )
    return Section("errors", "Where it goes wrong", body + soft(said))


def data(page: Page, study: Study, notes: Sequence[str]) -> Section:
    """Classes, sides and sizes, and what is worth knowing without changing a decision."""
    manifest, is_test = study.run.manifest, study.sides() == TEST
    counted_by_side = {
        name: dict(zip(manifest.classes, manifest.targets.counts(some).tolist(), strict=True))
        for name, some in (("train + validation", ~is_test), ("test", is_test))
    }
    body = paragraph(f"{study.summary.plan[:1].upper() + study.summary.plan[1:]}.")
    body += page.figure("class-counts", counts.class_counts(counted_by_side))
    body += Markup("").join(soft(note[:1].upper() + note[1:]) for note in notes)
    return Section("data", "Data", body)


def provenance(study: Study, version: str, *, is_anonymous: bool) -> Section:
    """What the numbers come from."""
    described = study.run.described
    heads = ",".join(dict.fromkeys(head for head, _ in study.run.methods))
    backbones = ",".join(str(each["name"]) for each in described["backbones"])
    cache = str(described.get("cache", "")) if study.store is None else study.store.location
    cache, folder = ("CACHE", "RUN") if is_anonymous else (cache, str(study.run.folder))
    words = ["dvme", "sweep", cache, "--out", "AGAIN", "--subsets", f"{folder}/subsets.json", "--head", heads]
    words += ["--no-controls", "--backbones", backbones, "--metric", study.run.metric]
    values = {"to repeat it": shlex.join(words), "subsets (hash)": study.run.manifest.hash}
    values |= {} if is_anonymous else {"run": folder, "cache": cache}
    for each in described["backbones"]:
        values[f"embeddings of {each['name']}"] = f"fingerprint {each['digest']}, {each['dim']} values"
    versions = described.get("versions") or {"dvme": described.get("dvme", "?")}
    values["made by"] = ", ".join(f"{name} {found}" for name, found in versions.items())
    values["report by"] = f"dvme {version}"
    # Fingerprints of imported embeddings, or of one's own backbones, hold texts of their makers.
    rest = [] if is_anonymous else [each for each in described["backbones"] if each.get("fingerprint")]
    details = (
        folded(
            f"Fingerprint of {each['name']}",
            facts({str(key): str(value) for key, value in each["fingerprint"].items()}),
        )
        for each in rest
    )
    return Section("provenance", "Provenance", facts(values) + Markup("").join(details))
