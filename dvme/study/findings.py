"""What a study says, in words: which backbone, whether fusion pays, how many labels.

Whatever is singled out was chosen on validation; the test set only judges it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from dvme.backbones.description.variation import split_name
from dvme.stats.curves import labels_needed, monotone
from dvme.stats.multiple import ALPHA
from dvme.study.adapted import did_adapting_help
from dvme.study.answers import Difference, Finding, Findings
from dvme.study.frozen import is_frozen_enough
from dvme.study.judge import Judge
from dvme.study.outcome import Gain
from dvme.study.standing import Against
from dvme.study.wording import TOO_FEW, Table, judged, listed, p_value, with_interval
from dvme.text import CONTROL, WHICH, WORDS

WITHIN = 0.02
"""Of the score at the largest size: what counts as near it, in the metric's units."""
UNTRAINED = "random"
"""The backbone that is a control itself."""
DECIDING = ("gain", "no gain shown", "no test", "loss")
"""What of a backbone's methods stands for it: the first of these."""


def find(judge: Judge, gains: Sequence[Gain]) -> Findings:
    """Answer the three questions of a study, and further ones where a backbone was adapted or fine-tuned.

    Args:
        judge: of it, with every method scored.
        gains: that this judge found.
    """
    table = Table(judge, gains)
    leaders, roles = table.leaders, table.leaders.roles
    single = leaders.of(roles.singles)
    leading = leaders.overall if single is None else single
    others = _other_backbones(table, leading)
    heads = {} if others or single is None else _other_heads(table, single)
    against = {m: judge.standing.against(m, roles.singles, leaders.size) for m in roles.fusions}
    fusions = {m: each for m, each in against.items() if each is not None}
    fusion = leaders.of(list(fusions))
    is_gain = fusion is not None and fusions[fusion].word == "gain"
    tuned, adapted = is_frozen_enough(table), did_adapting_help(table)
    answers = (
        _no_single(table, leading) if single is None else _which_backbone(table, single, others, heads),
        _is_fusion_worth_it(table, fusions),
        *([] if adapted is None else [adapted[0]]),
        *([] if tuned is None else [tuned[0]]),
        _how_many_labels(table, fusion if fusion is not None and is_gain else leading),
    )
    clauses = [each.clause for each in answers if each.clause]
    verdict = f"{'; '.join(clauses)}." if clauses else "These data allow no verdict."
    shown = [table.difference(m, rival) for m, each in fusions.items() for rival in each.rivals]
    _, crossed, of_tuned = tuned or (None, None, [])
    _, of_adapted = adapted or (None, [])
    # What is compared twice is shown once.
    differences = dict.fromkeys([*others.values(), *heads.values(), *shown, *of_adapted, *of_tuned])
    return Findings(verdict, answers, tuple(differences), crossed)


def _other_backbones(table: Table, single: int) -> dict[int, Difference]:
    """Every other backbone less the leading method: worse where all of its methods are, else one that says why not.

    Of several such methods the one that leads on validation.
    """
    methods: dict[tuple[str, ...], list[int]] = {}
    validation = {m: table.judge.validation[m, table.leaders.size] for m in table.leaders.roles.singles}
    for m in sorted(validation, key=lambda m: (math.isnan(validation[m]), -validation[m])):
        methods.setdefault(table.judge.methods[m][1], []).append(m)
    methods.pop(table.judge.methods[single][1], None)
    every = [{m: table.difference(m, single) for m in some} for some in methods.values()]
    return dict(min(some.items(), key=lambda each: DECIDING.index(each[1].word)) for some in every)


def _other_heads(table: Table, single: int) -> dict[int, Difference]:
    """Every other single method less the leading one, where all are on one backbone."""
    return {m: table.difference(m, single) for m in table.leaders.roles.singles if m != single}


def _no_single(table: Table, leading: int) -> Finding:
    question, name = WHICH, table.name(leading)
    reached = f"{name}: test {table.metric} {table.scored(leading)}."
    if table.leaders.roles.singles:
        why = f"{table.metric} is not defined on the validation images of any single backbone."
        return Finding(question, "Nothing to choose by", (reached, why))
    clause = f"{name} leads on validation"
    if leading in table.leaders.roles.tuned:
        return Finding(question, "None was tried as it is", (reached, "No frozen backbone was tried alone."), clause)
    return Finding(question, "Only fusions were fitted", (reached, "No backbone was tried alone."), clause)


def _which_backbone(
    table: Table, single: int, others: Mapping[int, Difference], heads: Mapping[int, Difference]
) -> Finding:
    """The answer by the other backbones less the leading method; of one backbone, by its other heads."""
    question, name = WHICH, table.name(single)
    leads = "leads on validation" + (" among frozen backbones" if table.leaders.roles.tuned else "")
    where, rivals = ("", others) if others else (", on the only backbone that was tried", heads)
    details = [f"{name} {leads}: test {table.metric} {table.scored(single)}."]
    details += [] if others else ["No other backbone was tried."]
    if not rivals:
        return Finding(question, name, tuple(details), f"{name} {leads}{where}")
    better, worse, tied, untested = ([each for each in rivals.values() if each.word == word] for word in WORDS)
    for some, said in (
        (worse, "Shown to be worse"),
        (tied, "Not told apart from it"),
        (better, "Better on the test set"),
    ):
        if some:
            details.append(f"{said}{table.together}: {'; '.join(map(judged, some))}.")
    alike = (table.judge.methods[m][1][0] for m, each in others.items() if each.word in {"gain", "no gain shown"})
    if any(split_name(backbone)[0] == UNTRAINED for backbone in alike):
        details.append(f"{UNTRAINED} is a network that learned nothing: that pre-training helps here is not shown.")
    if untested:
        return Finding(question, "Too few test images to say", (*details, TOO_FEW), f"{name} {leads}{where}")
    if better:
        clause = f"{name} {leads}{where}, but {listed(better)} is better on the test set: trust neither yet"
        return Finding(question, "Validation and test disagree", tuple(details), clause)
    if tied:
        answer = f"{name} leads, none stands out" if len(tied) == len(rivals) else f"{name} leads, not alone"
        clause = f"{name} leads{where}, but {listed(tied)} cannot be told apart from it"
        return Finding(question, answer, tuple(details), clause)
    what = "backbone" if others else "head"
    return Finding(question, name, tuple(details), f"{name} is better than every other {what}{where}")


def _is_fusion_worth_it(table: Table, fusions: Mapping[int, Against]) -> Finding:
    question = "Is fusion worth it?"
    lead = table.leaders.of(list(fusions))
    if lead is None:
        return Finding(
            question, "Not asked", ("It takes single backbones and fusions, such as the heads linear and dvme.",)
        )
    shown = fusions[lead]
    head = table.judge.methods[lead][0]
    details = (
        table.against(lead, "the fusion", "single backbone", shown),
        *_other_fusions(table, fusions, lead),
        *_attention(table),
    )
    if shown.word == "no test":
        return Finding(question, "Too few test images to say", (details[0], TOO_FEW))
    if shown.word == "gain":
        least = shown.rivals[shown.hardest].comparison.difference.estimate
        alone = len(shown.rivals) == 1
        answer = f"{head} gains {least:+.3f}{'' if alone else ' or more'}"
        over = "" if alone else f" or more over each of the {len(shown.rivals)} single backbones that may be the best"
        return Finding(question, answer, details, f"fusing by {head} gains {least:+.3f} {table.metric}{over}")
    if shown.word == "loss":
        return Finding(question, "It is worse", details, f"fusing by {head} is worse than {table.name(shown.leader)}")
    return Finding(question, "No gain is shown", details, "no gain by fusion is shown")


def _other_fusions(table: Table, fusions: Mapping[int, Against], lead: int) -> list[str]:
    """Others that gain were found on the test set."""
    others = [m for m, each in fusions.items() if each.word == "gain" and m != lead]
    if others:
        picked = "picked on the test set, so taken with salt"
        each = "; ".join(judged(table.difference(m, fusions[m].hardest)) for m in others)
        return [f"Shown to gain as well, but {picked}: {each}."]
    is_alone = len(fusions) == 1 or fusions[lead].word == "gain"
    return [] if is_alone else ["No other fusion is shown to gain."]


def _attention(table: Table) -> list[str]:
    """Whether attention itself is what gains."""
    attention = [each for each in table.gains if each.role == CONTROL]
    won = sum(each.word == "gain" for each in attention)
    if won:
        return [f"Attention beats the fusions without it in {won} of {len(attention)} comparisons."]
    return ["At no size is attention shown to beat the fusions without it."] if attention else []


def _how_many_labels(table: Table, method: int) -> Finding:
    question, name = "How many labels?", table.name(method)
    places = {column.n_train: size for size, column in enumerate(table.judge.columns())}
    n = sorted(places)
    if len(n) < 2:
        reached = f"{name} with {n[-1]:,.0f} training images: {table.scored(method)}. More sizes show a curve."
        return Finding(question, "One size shows no curve", (reached,))
    # The last doubling: two sizes that hardly differ say nothing of growth.
    half = max((size for size in n if size <= n[-1] / 2), default=n[0])
    growth = table.judge.growth(method, places[half], places[n[-1]])
    from_to = f"from {half:,.0f} to {n[-1]:,.0f}"
    details = [f"{name}, {from_to} training images: {with_interval(growth.difference)}{p_value(growth.p)}."]
    if math.isnan(growth.p):
        return Finding(question, "Too few test images to say", (*details, TOO_FEW))
    near, interval, is_known = _nearly_there(table, method, n, [places[size] for size in n])
    if near:
        column = table.judge.columns()[places[n[-1]]]
        details.append(
            f"Within {WITHIN} of its score with all {n[-1]:,.0f}: {near} ({interval}). These are training images; "
            f"to choose on come {column.n_validation / column.n_train:.0%} more."
        )
    if growth.p < ALPHA and growth.difference.estimate > 0:
        answer = f"More than {half:,.0f}: still rising at {n[-1]:,.0f}"
        clause = f"more labels still help: {growth.difference.estimate:+.3f} {table.metric} {from_to}"
        return Finding(question, answer, tuple(details), clause)
    details[0] += " That is not shown to be more than chance."
    if not is_known:
        return Finding(question, "Too uncertain to say", tuple(details))
    answer = f"{near[:1].upper()}{near[1:]}, {interval}"
    clause = f"{near} labels ({interval}) come within {WITHIN} of all {n[-1]:,.0f}"
    return Finding(question, answer, tuple(details), clause)


def _nearly_there(table: Table, method: int, n: Sequence[float], sizes: Sequence[int]) -> tuple[str, str, bool]:
    """How many labels come near the score at the largest size, the interval, and whether that says anything."""
    judge = table.judge
    places = [(method, size) for size in sizes]
    means, curves = [judge.scored[place].estimate for place in places], judge.elsewhere(places)
    estimate = labels_needed(n, means, means[-1] - WITHIN)
    defined = curves[~np.isnan(curves).any(axis=1)]
    if not len(defined) or not np.isfinite(estimate.n[0]):
        return "", "", False
    targets = np.minimum(defined[:, -1], monotone(defined)[:, -1]) - WITHIN
    needed = np.sort(labels_needed(n, defined, targets).n)
    low, high = (float(np.quantile(needed, q, method="inverted_cdf")) for q in (0.025, 0.975))
    bound = "at most" if estimate.is_at_most[0] else "about"
    is_below = low <= n[0]  # the smallest size that was tried: below it nothing is known
    if is_below and low == high:
        interval = f"95% CI {high:,.0f} or fewer"
    else:
        interval = f"95% CI {'≤ ' if is_below else ''}{low:,.0f} to {high:,.0f}"
    return f"{bound} {estimate.n[0]:,.0f}", interval, low > n[0] or high < n[-2]
