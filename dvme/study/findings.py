"""What a study says, in words: which backbone, whether fusion pays, how many labels.

Whatever is singled out was chosen on validation; the test set only judges it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dvme.backbones.description.variation import split_name
from dvme.stats.curves import labels_needed, monotone
from dvme.stats.intervals import Interval
from dvme.stats.multiple import ALPHA
from dvme.study.answers import Difference, Finding, Findings
from dvme.study.judge import Judge
from dvme.study.methods import method_name
from dvme.study.outcome import Gain
from dvme.study.roles import Leaders
from dvme.study.standing import Against
from dvme.text import CONTROL, METRIC_NAMES, WHICH, WORDS, difference_text, p_text

WITHIN = 0.02
"""Of the score at the largest size: what counts as near it, in the metric's units."""
UNTRAINED = "random"
"""The backbone that is a control itself."""
TOO_FEW = "Too few test images or patients, or draws, for an interval, and so for a verdict; take more of them."
DECIDING = ("gain", "no gain shown", "no test", "loss")
"""What of a backbone's methods stands for it: the first of these."""
NAMED = 3
"""Methods that a sentence names; of more it says how many."""


@dataclass(frozen=True)
class _Table:
    """A judged study at its largest size."""

    judge: Judge
    gains: Sequence[Gain]

    @property
    def leaders(self) -> Leaders:
        """Who leads."""
        return self.judge.leaders

    def name(self, method: int) -> str:
        """What a method is called in a sentence."""
        return method_name(*self.judge.methods[method])


def find(judge: Judge, gains: Sequence[Gain]) -> Findings:
    """Answer the three questions of a study.

    Args:
        judge: of it, with every method scored.
        gains: that this judge found.
    """
    table = _Table(judge, gains)
    leaders, roles = table.leaders, table.leaders.roles
    single = leaders.of(roles.singles)
    leading = leaders.overall if single is None else single
    others = _other_backbones(table, leading)
    against = {m: judge.standing.against(m, roles.singles, leaders.size) for m in roles.fusions}
    fusions = {m: each for m, each in against.items() if each is not None}
    fusion = leaders.of(list(fusions))
    is_gain = fusion is not None and fusions[fusion].word == "gain"
    answers = (
        _no_single(table, leading) if single is None else _which_backbone(table, single, others),
        _is_fusion_worth_it(table, fusions),
        _how_many_labels(table, fusion if fusion is not None and is_gain else leading),
    )
    clauses = [each.clause for each in answers if each.clause]
    verdict = f"{'; '.join(clauses)}." if clauses else "These data allow no verdict."
    shown = [_difference(table, m, rival) for m, each in fusions.items() for rival in each.rivals]
    return Findings(verdict, answers, (*others.values(), *shown))


def _other_backbones(table: _Table, single: int) -> dict[int, Difference]:
    """Every other backbone less the leading method: worse where all of its methods are, else one that says why not.

    Of several such methods the one that leads on validation.
    """
    methods: dict[tuple[str, ...], list[int]] = {}
    validation = {m: table.judge.validation[m, table.leaders.size] for m in table.leaders.roles.singles}
    for m in sorted(validation, key=lambda m: (math.isnan(validation[m]), -validation[m])):
        methods.setdefault(table.judge.methods[m][1], []).append(m)
    methods.pop(table.judge.methods[single][1], None)
    every = [{m: _difference(table, m, single) for m in some} for some in methods.values()]
    return dict(min(some.items(), key=lambda each: DECIDING.index(each[1].word)) for some in every)


def _difference(table: _Table, method: int, rival: int) -> Difference:
    """One method less another at the largest size, as one of all comparisons of the table."""
    versus = table.judge.standing.versus(method, rival, table.leaders.size)
    size = table.judge.manifest.sizes[table.leaders.size]
    return Difference(table.name(method), table.name(rival), size, versus.comparison, versus.p_adjusted)


def _no_single(table: _Table, leading: int) -> Finding:
    question, name = WHICH, table.name(leading)
    reached = f"{name}: test {_metric(table)} {_scored(table, leading)}."
    if table.leaders.roles.singles:
        why = f"{_metric(table)} is not defined on the validation images of any single backbone."
        return Finding(question, "Nothing to choose by", (reached, why))
    clause = f"{name} leads on validation"
    if leading in table.leaders.roles.tuned:
        return Finding(question, "None was tried as it is", (reached, "No frozen backbone was tried alone."), clause)
    return Finding(question, "Only fusions were fitted", (reached, "No backbone was tried alone."), clause)


def _which_backbone(table: _Table, single: int, others: Mapping[int, Difference]) -> Finding:
    question, name = WHICH, table.name(single)
    leads = "leads on validation" + (" among frozen backbones" if table.leaders.roles.tuned else "")
    reached = f"{name} {leads}: test {_metric(table)} {_scored(table, single)}."
    if not others:
        clause = f"{name} {leads}, on the only backbone that was tried"
        return Finding(question, name, (reached, "No other backbone was tried."), clause)
    better, worse, tied, untested = ([each for each in others.values() if each.word == word] for word in WORDS)
    details = [reached]
    for some, said in (
        (worse, "Shown to be worse"),
        (tied, "Not told apart from it"),
        (better, "Better on the test set"),
    ):
        if some:
            details.append(f"{said}{_together(table)}: {'; '.join(map(_judged, some))}.")
    alike = (table.judge.methods[m][1][0] for m, each in others.items() if each.word in {"gain", "no gain shown"})
    if any(split_name(backbone)[0] == UNTRAINED for backbone in alike):
        details.append(f"{UNTRAINED} is a network that learned nothing: that pre-training helps here is not shown.")
    if untested:
        return Finding(question, "Too few test images to say", (*details, TOO_FEW), f"{name} {leads}")
    if better:
        clause = f"{name} {leads}, but {_listed(better)} is better on the test set: trust neither yet"
        return Finding(question, "Validation and test disagree", tuple(details), clause)
    if tied:
        answer = f"{name} leads, none stands out" if len(tied) == len(others) else f"{name} leads, not alone"
        clause = f"{name} leads, but {_listed(tied)} cannot be told apart from it"
        return Finding(question, answer, tuple(details), clause)
    return Finding(question, name, tuple(details), f"{name} is better than every other backbone")


def _is_fusion_worth_it(table: _Table, fusions: Mapping[int, Against]) -> Finding:
    question = "Is fusion worth it?"
    lead = table.leaders.of(list(fusions))
    if lead is None:
        return Finding(
            question, "Not asked", ("It takes single backbones and fusions, such as the heads linear and dvme.",)
        )
    shown, name = fusions[lead], table.name(lead)
    head = table.judge.methods[lead][0]
    details = (_against(table, name, shown), *_other_fusions(table, fusions, lead), *_attention(table))
    if shown.word == "no test":
        return Finding(question, "Too few test images to say", (details[0], TOO_FEW))
    if shown.word == "gain":
        least = shown.rivals[shown.hardest].comparison.difference.estimate
        alone = len(shown.rivals) == 1
        answer = f"{head} gains {least:+.3f}{'' if alone else ' or more'}"
        over = "" if alone else f" or more over each of the {len(shown.rivals)} single backbones that may be the best"
        return Finding(question, answer, details, f"fusing by {head} gains {least:+.3f} {_metric(table)}{over}")
    if shown.word == "loss":
        return Finding(question, "It is worse", details, f"fusing by {head} is worse than {table.name(shown.leader)}")
    return Finding(question, "No gain is shown", details, "no gain by fusion is shown")


def _against(table: _Table, name: str, shown: Against) -> str:
    """A fusion less the rivals that it has to beat."""
    nearest = sorted(shown.rivals.items(), key=lambda item: item[1].comparison.difference.estimate)
    rivals = "; ".join(
        f"less {table.name(m)} {_with_interval(each.comparison.difference)}{_p(each.p_adjusted)}"
        for m, each in nearest[:NAMED]
    )
    n = len(nearest)
    alike = f" and the {n - 1} that cannot be told apart from it, the nearest first" if n > 1 else ""
    more = f"; and {n - NAMED} more, below" if n > NAMED else ""
    which = f"{name}, the fusion that leads on validation, against the single backbone that leads there"
    return f"{which}{alike}{_together(table)}: {rivals}{more}."


def _other_fusions(table: _Table, fusions: Mapping[int, Against], lead: int) -> list[str]:
    """Others that gain were found on the test set."""
    others = [m for m, each in fusions.items() if each.word == "gain" and m != lead]
    if others:
        picked = "picked on the test set, so taken with salt"
        each = "; ".join(_judged(_difference(table, m, fusions[m].hardest)) for m in others)
        return [f"Shown to gain as well, but {picked}: {each}."]
    is_alone = len(fusions) == 1 or fusions[lead].word == "gain"
    return [] if is_alone else ["No other fusion is shown to gain."]


def _attention(table: _Table) -> list[str]:
    """Whether attention itself is what gains."""
    attention = [each for each in table.gains if each.role == CONTROL]
    won = sum(each.word == "gain" for each in attention)
    if won:
        return [f"Attention beats the fusions without it in {won} of {len(attention)} comparisons."]
    return ["At no size is attention shown to beat the fusions without it."] if attention else []


def _how_many_labels(table: _Table, method: int) -> Finding:
    question, name = "How many labels?", table.name(method)
    places = {column.n_train: size for size, column in enumerate(table.judge.columns())}
    n = sorted(places)
    if len(n) < 2:
        reached = f"{name} with {n[-1]:,.0f} training images: {_scored(table, method)}. More sizes show a curve."
        return Finding(question, "One size shows no curve", (reached,))
    # The last doubling: two sizes that hardly differ say nothing of growth.
    half = max((size for size in n if size <= n[-1] / 2), default=n[0])
    growth = table.judge.growth(method, places[half], places[n[-1]])
    from_to = f"from {half:,.0f} to {n[-1]:,.0f}"
    details = [f"{name}, {from_to} training images: {_with_interval(growth.difference)}{_p(growth.p)}."]
    if math.isnan(growth.p):
        return Finding(question, "Too few test images to say", (*details, TOO_FEW))
    near, interval, is_known = _nearly_there(table, method, n, [places[size] for size in n])
    if near:
        column = table.judge.columns()[places[n[-1]]]
        details.append(
            f"Within {WITHIN} of its score with all {n[-1]:,.0f}: {near} ({interval}). These train; to choose on come "
            f"{column.n_validation / column.n_train:.0%} more."
        )
    if growth.p < ALPHA and growth.difference.estimate > 0:
        answer = f"More than {half:,.0f}: still rising at {n[-1]:,.0f}"
        clause = f"more labels still help: {growth.difference.estimate:+.3f} {_metric(table)} {from_to}"
        return Finding(question, answer, tuple(details), clause)
    details[0] += " That is not shown to be more than chance."
    if not is_known:
        return Finding(question, "Too uncertain to say", tuple(details))
    answer = f"{near[:1].upper()}{near[1:]}, {interval}"
    clause = f"{near} labels ({interval}) come within {WITHIN} of all {n[-1]:,.0f}"
    return Finding(question, answer, tuple(details), clause)


def _nearly_there(table: _Table, method: int, n: Sequence[float], sizes: Sequence[int]) -> tuple[str, str, bool]:
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


def _metric(table: _Table) -> str:
    return METRIC_NAMES[table.judge.metric]


def _scored(table: _Table, method: int) -> str:
    return _with_interval(table.judge.scored[method, table.leaders.size].interval(), signed=False)


def _judged(each: Difference) -> str:
    return f"{each.name} {_with_interval(each.comparison.difference)}{_p(each.p_adjusted)}"


def _p(value: float) -> str:
    return "" if math.isnan(value) else f", p {p_text(value)}"


def _together(table: _Table) -> str:
    n = table.judge.standing.n_comparisons
    return f" (intervals for {n} comparisons)" if n > 1 else ""


def _listed(differences: Sequence[Difference]) -> str:
    names = [each.name for each in differences]
    if len(names) > NAMED:
        names = [*names[: NAMED - 1], f"{len(names) - NAMED + 1} others"]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _with_interval(interval: Interval, *, signed: bool = True) -> str:
    return difference_text(interval, named="95% CI", without="no interval", signed=signed)
