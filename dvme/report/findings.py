"""What a study says, in words: which backbone, whether fusion pays, how many labels.

Whatever is singled out was chosen on validation; the test set only judges it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.report.forest import Difference
from dvme.report.study import Study
from dvme.report.style import METRIC_NAMES
from dvme.stats.curves import labels_needed
from dvme.stats.intervals import Interval, percentile_interval
from dvme.stats.multiple import holm
from dvme.wording import counted

LEVEL = 0.05
WITHIN = 0.02
"""Of the score at the largest size: what counts as near it, in the metric's units."""
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
    gains = [method for method, each in fusions if _is_better(each)]
    best = study.leader(gains) if gains else leading
    answers = (
        _no_single(study, leading) if single is None else _which_backbone(study, single, others),
        _is_fusion_worth_it(study, leading, fusions),
        _how_many_labels(study, leading if best is None else best),
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
    """Each method less the baseline at the largest size; p adjusted over them (Holm)."""
    rivals = [m for m in methods if m != baseline]
    comparisons = [study.judge.compared(m, baseline, study.last) for m in rivals]
    size = study.run.manifest.sizes[study.last]
    return [
        (m, Difference(study.name(m), study.name(baseline), size, comparison, float(p)))
        for m, comparison, p in zip(rivals, comparisons, holm([each.p for each in comparisons]), strict=True)
    ]


def _no_single(study: Study, leading: int) -> Finding:
    name = study.name(leading)
    details = (f"{name}: test {_metric(study)} {_scored(study, leading)}.", "No backbone was tried alone.")
    return Finding("Which backbone?", "Only fusions were fitted", details, f"{name} leads on validation")


def _which_backbone(study: Study, single: int, others: Sequence[tuple[int, Difference]]) -> Finding:
    question, name = "Which backbone?", study.name(single)
    reached = f"{name} leads on validation: test {_metric(study)} {_scored(study, single)}."
    if not others:
        return Finding(question, name, (reached, "No other backbone was tried."), f"{name} was the only backbone tried")
    worse = [each for _, each in others if _is_worse(each)]
    better = [each for _, each in others if _is_better(each)]
    tied = [each for _, each in others if each not in worse and each not in better]
    details = [reached]
    if worse:
        details.append(f"Shown to be worse: {'; '.join(map(_judged, worse))}.")
    if tied:
        details.append(f"Not told apart from it: {'; '.join(map(_judged, tied))}.")
    if better:
        details.append(f"Better on the test set: {'; '.join(map(_judged, better))}. Trust neither order yet.")
        clause = f"{name} leads on validation, but {_listed(better)} is better on the test set"
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
    by_method = dict(fusions)
    gains = [method for method, each in fusions if _is_better(each)]
    lead = study.leader(gains or list(by_method))
    shown = fusions[0][1] if lead is None else by_method[lead]
    head = shown.name.partition(" of ")[0]
    against = f"{study.name(single)}, the single backbone that leads on validation"
    among = f"of {counted(len(fusions), 'fusion')}"
    if gains:
        answer = f"{head} gains {shown.comparison.difference.estimate:+.3f}"
        clause = f"fusing by {answer} {_metric(study)}"
        details = [f"Against {against}: {_judged(shown)}; {len(gains)} {among} gain."]
    else:
        answer, clause = "No gain is shown", "no fusion is shown to gain"
        details = [f"None {among} is shown to gain over {against}. The first on validation: {_judged(shown)}."]
    attention = [each for each in study.summary.gains if each.role == "best control"]
    if attention:
        won = sum(each.word == "gain" for each in attention)
        said = f"in {won} of {len(attention)} comparisons" if won else "at no size"
        details.append(f"Attention is shown to beat the best fusion without it {said}.")
    return Finding(question, answer, tuple(details), clause)


def _how_many_labels(study: Study, method: int) -> Finding:
    question, name = "How many labels?", study.name(method)
    places = {column.n_train: size for size, column in enumerate(study.judge.columns())}
    n, sizes = list(places), list(places.values())
    if len(n) < 2:
        reached = f"{name} with {n[-1]:,.0f} training images: {_scored(study, method)}. Pass more --sizes for a curve."
        return Finding(question, "One size shows no curve", (reached,))
    means = [study.judge.resampled[method, size].estimate for size in sizes]
    curves = np.stack([study.judge.both_ways(method, size) for size in sizes], axis=1)  # (R, S)
    # The last doubling: two sizes that hardly differ say nothing of growth.
    half = max((place for place, size in enumerate(n) if size <= n[-1] / 2), default=0)
    step = percentile_interval(means[-1] - means[half], curves[:, -1] - curves[:, half])
    from_to = f"from {n[half]:,.0f} to {n[-1]:,.0f}"
    near, interval = _nearly_there(n, means, curves)
    details = [f"{name}, {from_to} training images: {_with_interval(step, signed=True)} {_metric(study)}."]
    if near:
        details.append(f"Within {WITHIN} of its score with all {n[-1]:,.0f}: {near} of them ({interval}).")
    if math.isnan(step.low):
        return Finding(question, "Too few test images to say", tuple(details))
    if step.low > 0:
        answer = f"More than {n[half]:,.0f}: still rising at {n[-1]:,.0f}"
        clause = f"more labels still help: {step.estimate:+.3f} {_metric(study)} {from_to}"
        return Finding(question, answer, tuple(details), clause)
    if not near:
        return Finding(question, "No growth is shown at the end", tuple(details))
    answer = f"{near[:1].upper()}{near[1:]}"
    return Finding(question, answer, tuple(details), f"{near} labels come within {WITHIN} of all {n[-1]:,.0f}")


def _nearly_there(n: Sequence[float], means: Sequence[float], curves: NDArray[Any]) -> tuple[str, str]:
    """How many labels come near the score at the largest size, and the interval of that; "" where none can be said."""
    estimate = labels_needed(n, means, means[-1] - WITHIN)
    defined = curves[~np.isnan(curves).any(axis=1)]
    if not len(defined) or not np.isfinite(estimate.n[0]):
        return "", ""
    needed = np.sort(labels_needed(n, defined, defined[:, -1] - WITHIN).n)
    low, high = (float(np.quantile(needed, q, method="inverted_cdf")) for q in (0.025, 0.975))
    bound = "at most" if estimate.is_at_most[0] else "about"
    return f"{bound} {estimate.n[0]:,.0f}", f"95% CI {'≤ ' if low <= n[0] else ''}{low:,.0f} to {high:,.0f}"


def _is_better(each: Difference) -> bool:
    return each.p_adjusted < LEVEL and each.comparison.difference.estimate > 0


def _is_worse(each: Difference) -> bool:
    return each.p_adjusted < LEVEL and each.comparison.difference.estimate < 0


def _metric(study: Study) -> str:
    return METRIC_NAMES[study.run.metric]


def _scored(study: Study, method: int) -> str:
    return _with_interval(study.judge.resampled[method, study.last].interval())


def _judged(each: Difference) -> str:
    p = "" if math.isnan(each.p_adjusted) else f", p {each.p_adjusted:.3f} (Holm)"
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
