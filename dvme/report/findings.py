"""What a study says, in words: which backbone, whether fusion pays, how many labels.

Whatever is singled out was chosen on validation; the test set only judges it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dvme.report.forest import WORDS, Difference
from dvme.report.study import Study
from dvme.report.style import METRIC_NAMES
from dvme.stats.curves import labels_needed, monotone
from dvme.stats.intervals import LEVEL, Interval
from dvme.stats.multiple import ALPHA

WITHIN = 0.02
"""Of the score at the largest size: what counts as near it, in the metric's units."""
UNTRAINED = "random"
"""The backbone that is a control itself."""
TOO_FEW = "Too few test images or patients, or draws, for an interval, and so for a verdict; take more of them."
NAMED = 3
"""Methods that a sentence names; of more it says how many."""


@dataclass(frozen=True)
class Finding:
    """An answer, as short as it can be said, and what it rests on."""

    question: str
    answer: str
    details: tuple[str, ...]
    clause: str = ""
    """The answer as a part of the verdict."""


@dataclass(frozen=True)
class Findings:
    """The answers, and the comparisons that they rest on."""

    verdict: str
    answers: tuple[Finding, ...]
    differences: tuple[Difference, ...]
    """At the largest size, each less the best single backbone: other backbones first, then fusions."""


def find(study: Study) -> Findings:
    """Answer the three questions of a study."""
    single = study.leader(study.singles)
    leading = study.lead if single is None else single
    others = _compared(study, _best_of_other_backbones(study, leading), leading)
    fusions = _compared(study, study.fusions, leading) if single is not None else []
    fusion = study.leader([method for method, _ in fusions])
    is_gain = fusion is not None and dict(fusions)[fusion].word == "gain"
    answers = (
        _no_single(study, leading) if single is None else _which_backbone(study, single, others),
        _is_fusion_worth_it(study, leading, fusions),
        _how_many_labels(study, fusion if fusion is not None and is_gain else leading),
    )
    clauses = [each.clause for each in answers if each.clause]
    verdict = f"{'; '.join(clauses)}." if clauses else "These data allow no verdict."
    return Findings(verdict, answers, tuple(each for _, each in (*others, *fusions)))


def _best_of_other_backbones(study: Study, single: int) -> list[int]:
    """Of every backbone but the leading one's, its method that leads on validation."""
    backbones = dict.fromkeys(study.run.methods[m][1] for m in study.singles)
    backbones.pop(study.run.methods[single][1], None)
    found = (study.leader([m for m in study.singles if study.run.methods[m][1] == names]) for names in backbones)
    return [method for method in found if method is not None]


def _compared(study: Study, methods: Sequence[int], baseline: int) -> list[tuple[int, Difference]]:
    """Each method less the baseline at the largest size; intervals and p hold for all of them together (Bonferroni).

    So an interval without 0 and a p below 0.05 are the same thing, and both are what the probe shows.
    """
    rivals = [m for m in methods if m != baseline]
    level = 1.0 - (1.0 - LEVEL) / max(1, len(rivals))
    size = study.run.manifest.sizes[study.last]
    found = []
    for m in rivals:
        comparison = study.judge.compared(m, baseline, study.last, level=level)
        p = min(1.0, comparison.p * len(rivals)) if not math.isnan(comparison.p) else math.nan
        found.append((m, Difference(study.name(m), study.name(baseline), size, comparison, p)))
    return found


def _no_single(study: Study, leading: int) -> Finding:
    name = study.name(leading)
    details = (f"{name}: test {_metric(study)} {_scored(study, leading)}.", "No backbone was tried alone.")
    return Finding("Which backbone?", "Only fusions were fitted", details, f"{name} leads on validation")


def _which_backbone(study: Study, single: int, others: Sequence[tuple[int, Difference]]) -> Finding:
    question, name = "Which backbone?", study.name(single)
    reached = f"{name} leads on validation: test {_metric(study)} {_scored(study, single)}."
    if not others:
        return Finding(question, name, (reached, "No other backbone was tried."), f"{name} was the only backbone tried")
    better, worse, tied, untested = ([each for _, each in others if each.word == word] for word in WORDS)
    details = [reached]
    for some, said in (
        (worse, "Shown to be worse"),
        (tied, "Not told apart from it"),
        (better, "Better on the test set"),
    ):
        if some:
            together = f" ({len(others)} comparisons together)" if len(others) > 1 else ""
            details.append(f"{said}{together}: {'; '.join(map(_judged, some))}.")
    untrained = [each.name for each in (*tied, *better) if each.name.partition("@")[0].split(" + ")[0] == UNTRAINED]
    if untrained:
        details.append(f"{UNTRAINED} is a network that learned nothing: that pre-training helps here is not shown.")
    if untested:
        return Finding(question, "Too few test images to say", (*details, TOO_FEW), f"{name} leads on validation")
    if better:
        clause = f"{name} leads on validation, but {_listed(better)} is better on the test set: trust neither yet"
        return Finding(question, "Validation and test disagree", tuple(details), clause)
    if tied:
        answer = f"{name} leads, none stands out" if len(tied) == len(others) else f"{name} leads, not alone"
        clause = f"{name} leads, but {_listed(tied)} cannot be told apart from it"
        return Finding(question, answer, tuple(details), clause)
    return Finding(question, name, tuple(details), f"{name} is better than every other backbone")


def _is_fusion_worth_it(study: Study, single: int, fusions: Sequence[tuple[int, Difference]]) -> Finding:
    question = "Is fusion worth it?"
    if not fusions:
        return Finding(question, "Not asked", ("It takes single backbones and fusions: --head linear,dvme.",))
    lead = study.leader([method for method, _ in fusions])
    shown = fusions[0][1] if lead is None else dict(fusions)[lead]
    head = shown.name.partition(" of ")[0]
    against = f"{study.name(single)}, the single backbone that leads on validation"
    together = f" ({len(fusions)} comparisons together)" if len(fusions) > 1 else ""
    details = [f"The fusion that leads on validation, against {against}: {_judged(shown)}{together}."]
    if shown.word == "no test":
        return Finding(question, "Too few test images to say", (*details, TOO_FEW))
    if shown.word == "gain":
        answer = f"{head} gains {shown.comparison.difference.estimate:+.3f}"
        clause = f"fusing by {answer} {_metric(study)}"
    elif shown.word == "loss":
        answer, clause = "It is worse", f"fusing by {head} is worse than {study.name(single)}"
    else:
        answer, clause = "No gain is shown", "no gain by fusion is shown"
    others = [each for _, each in fusions if each.word == "gain" and each is not shown]
    if others:
        picked = "picked on the test set, so taken with salt"
        details.append(f"Shown to gain as well, but {picked}: {'; '.join(map(_judged, others))}.")
    elif len(fusions) > 1 and shown.word != "gain":
        details.append(f"Nor is any other of the {len(fusions)} fusions shown to gain.")
    attention = [each for each in study.summary.gains if each.role == "best control"]
    if attention:
        won = sum(each.word == "gain" for each in attention)
        if won:
            details.append(f"Attention beats the best fusion without it in {won} of {len(attention)} comparisons.")
        else:
            details.append("At no size is attention shown to beat the best fusion without it.")
    return Finding(question, answer, tuple(details), clause)


def _how_many_labels(study: Study, method: int) -> Finding:
    question, name = "How many labels?", study.name(method)
    places = {column.n_train: size for size, column in enumerate(study.judge.columns())}
    n = sorted(places)
    if len(n) < 2:
        reached = f"{name} with {n[-1]:,.0f} training images: {_scored(study, method)}. Pass more --sizes for a curve."
        return Finding(question, "One size shows no curve", (reached,))
    # The last doubling: two sizes that hardly differ say nothing of growth.
    half = max((size for size in n if size <= n[-1] / 2), default=n[0])
    growth = study.judge.grown(method, places[half], places[n[-1]])
    from_to = f"from {half:,.0f} to {n[-1]:,.0f}"
    p = "" if math.isnan(growth.p) else f", p {growth.p:.3f}"
    details = [f"{name}, {from_to} training images: {_with_interval(growth.difference, signed=True)}{p}."]
    if math.isnan(growth.difference.low):
        return Finding(question, "Too few test images to say", (*details, TOO_FEW))
    near, interval, is_known = _nearly_there(study, method, n, [places[size] for size in n])
    if near:
        column = study.judge.columns()[places[n[-1]]]
        details.append(
            f"Within {WITHIN} of its score with all {n[-1]:,.0f}: {near} ({interval}). These train; to choose on come "
            f"{column.n_validation / column.n_train:.0%} more."
        )
    if growth.p < ALPHA and growth.difference.estimate > 0:
        answer = f"More than {half:,.0f}: still rising at {n[-1]:,.0f}"
        clause = f"more labels still help: {growth.difference.estimate:+.3f} {_metric(study)} {from_to}"
        return Finding(question, answer, tuple(details), clause)
    details[0] += " That is not shown to be more than chance."
    if not is_known:
        return Finding(question, "Too uncertain to say", tuple(details))
    answer = f"{near[:1].upper()}{near[1:]}, {interval}"
    clause = f"{near} labels ({interval}) come within {WITHIN} of all {n[-1]:,.0f}"
    return Finding(question, answer, tuple(details), clause)


def _nearly_there(study: Study, method: int, n: Sequence[float], sizes: Sequence[int]) -> tuple[str, str, bool]:
    """How many labels come near the score at the largest size, the interval, and whether that says anything."""
    judge = study.judge
    means = [judge.resampled[method, size].estimate for size in sizes]
    many = [judge.both_ways(method, size, shared_rows=judge.shared_rows(size)) for size in sizes]
    curves = np.stack(many, axis=1)  # (R, S)
    estimate = labels_needed(n, means, means[-1] - WITHIN)
    defined = curves[~np.isnan(curves).any(axis=1)]
    if not len(defined) or not np.isfinite(estimate.n[0]):
        return "", "", False
    targets = np.minimum(defined[:, -1], monotone(defined)[:, -1]) - WITHIN
    needed = np.sort(labels_needed(n, defined, targets).n)
    low, high = (float(np.quantile(needed, q, method="inverted_cdf")) for q in (0.025, 0.975))
    bound = "at most" if estimate.is_at_most[0] else "about"
    interval = f"95% CI {'≤ ' if low <= n[0] else ''}{low:,.0f} to {high:,.0f}"
    return f"{bound} {estimate.n[0]:,.0f}", interval, low > n[0] or high < n[-2]


def _metric(study: Study) -> str:
    return METRIC_NAMES[study.run.metric]


def _scored(study: Study, method: int) -> str:
    return _with_interval(study.judge.resampled[method, study.last].interval())


def _judged(each: Difference) -> str:
    p = "" if math.isnan(each.p_adjusted) else f", p {each.p_adjusted:.3f}"
    return f"{each.name} {_with_interval(each.comparison.difference, signed=True)}{p}"


def _listed(differences: Sequence[Difference]) -> str:
    names = [each.name for each in differences]
    if len(names) > NAMED:
        names = [*names[: NAMED - 1], f"{len(names) - NAMED + 1} others"]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _with_interval(interval: Interval, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    if math.isnan(interval.low):
        return f"{interval.estimate:{sign}.3f} (no interval)"
    return f"{interval.estimate:{sign}.3f} (95% CI {interval.low:{sign}.3f} to {interval.high:{sign}.3f})"
