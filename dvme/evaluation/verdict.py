"""What a table of methods allows to be said: paired differences on the shared test set, with their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dvme.evaluation.outcome import FusionVerdict, ProbeRow, Verdict
from dvme.evaluation.standing import Against, Standing, Versus
from dvme.heads import ATTENTION_HEADS, CONTROLS, FUSIONS
from dvme.wording import CONTROL, SINGLE, ends_text, number_text


def verdict_of(rows: Sequence[ProbeRow], standing: Standing) -> Verdict | None:
    """Compare the best on validation with the best on other backbones, sample by sample on the test set.

    A fusion is compared with every single backbone that may be the best, as in `fusion_verdicts`.

    Both the folds' heads and the test images are left to chance (dvme.stats.crossed). With one fold, nothing tells how
    much the choice of training images matters, and the interval is of these very heads. With one set of backbones only,
    its heads are compared.

    Args:
        rows: best on validation first.
        standing: of the rows, by their position, at one size.

    Returns:
        None with a single row, or where no test could be made.
    """
    if len(rows) < 2:
        return None
    best, against = rows[0], None
    second = next((n for n, row in enumerate(rows) if row.backbones != best.backbones), 1)
    if len(best.backbones) > 1:
        against = standing.against(0, _singles(rows), 0)
    versus = standing.versus(0, second, 0)
    word, other = versus.word, rows[second].method
    if against is not None:
        second, word = against.hardest, against.word
        versus, other = against.rivals[second], _hardest(rows, against)
    if word == "no test":
        return None
    name, said = best.method, _said(versus, standing.n_comparisons)
    if word == "no gain shown":
        sentence = f"{name} leads on validation; against {other}: {said}, so these data do not tell them apart."
    elif word == "gain":
        sentence = f"{name} leads on validation and beats {other} by {said}."
    else:
        sentence = f"{name} leads on validation, but {other} is better on the test set: {said}. Trust neither yet."
    return Verdict(name, rows[second].method, versus.comparison.difference, versus.p_adjusted, sentence)


def fusion_verdicts(rows: Sequence[ProbeRow], standing: Standing) -> list[FusionVerdict]:
    """Compare every fusion by attention with the single backbones and with each control.

    It is worth its cost where it beats every single backbone, under whichever head, that cannot be told apart from the
    one that leads on validation.

    Args:
        rows: best on validation first.
        standing: of the rows, by their position, at one size.
    """
    singles, verdicts = _singles(rows), []
    for position, fusion in enumerate(rows):
        if fusion.head not in ATTENTION_HEADS:
            continue
        controls = [n for n, row in enumerate(rows) if row.head in CONTROLS and row.backbones == fusion.backbones]
        for role, pool in ((SINGLE, singles), *((CONTROL, [n]) for n in controls)):
            against = standing.against(position, pool, 0)
            if against is not None and against.word != "no test":
                verdicts.append(_fusion_verdict(rows, fusion, role, against, standing.n_comparisons))
    return verdicts


def _fusion_verdict(
    rows: Sequence[ProbeRow], fusion: ProbeRow, role: str, against: Against, n_comparisons: int
) -> FusionVerdict:
    hardest = against.rivals[against.hardest]
    rival, word = rows[against.hardest], against.word
    said = _said(hardest, n_comparisons)
    named = f"its control {rival.head}"
    if role != CONTROL:
        is_alone = len(against.rivals) == 1
        named = (
            f"the single backbone that leads on validation ({rival.method})" if is_alone else _hardest(rows, against)
        )
    if word == "gain":
        sentence = f"{fusion.head} beats {named}: {said}."
    elif word == "loss":
        sentence = f"{fusion.head} is worse than {named}: {said}."
    else:
        sentence = f"{fusion.head} against {named}: {said}: no gain is shown."
    return FusionVerdict(
        fusion.method, rival.method, role, word, hardest.comparison.difference, hardest.p_adjusted, sentence
    )


def _singles(rows: Sequence[ProbeRow]) -> list[int]:
    return [n for n, row in enumerate(rows) if len(row.backbones) == 1 and row.head not in FUSIONS]


def _hardest(rows: Sequence[ProbeRow], against: Against) -> str:
    """The rival that it exceeds the least, and how many there are."""
    n_alike = len(against.rivals)
    others = f", the hardest of the {n_alike} single backbones that may be the best" if n_alike > 1 else ""
    return f"{rows[against.hardest].method}{others}"


def _said(versus: Versus, n_comparisons: int) -> str:
    difference = versus.comparison.difference
    estimate = number_text(difference.estimate, signed=True)
    together = f" for {n_comparisons} comparisons" if n_comparisons > 1 else ""
    if math.isnan(difference.low):
        return f"{estimate} test AUC (no interval: both are right about the same images)"
    return f"{estimate} test AUC (95% CI {ends_text(difference)}{together})"
