"""What a table of methods allows to be said: paired differences on the shared test set, with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dvme.evaluation.outcome import FusionVerdict, ProbeRow, Verdict
from dvme.heads import ATTENTION_HEADS, CONTROLS, FUSIONS
from dvme.stats.crossed import crossed
from dvme.stats.intervals import LEVEL, Interval
from dvme.stats.resampling import Resampled


def verdict_of(rows: Sequence[ProbeRow], resampled: Mapping[str, Resampled], shared_rows: float) -> Verdict | None:
    """Compare the best on validation with the best on other backbones, sample by sample on the test set.

    Both the folds' heads and the test images are left to chance (dvme.stats.crossed). With one fold, nothing tells how
    much the choice of training images matters, and the interval is of these very heads (the paired bootstrap).

    With one set of backbones only, its heads are compared.

    Args:
        rows: best on validation first.
        resampled: test AUC by method, on the same draws for every method.
        shared_rows: of two folds' training rows, see dvme.stats.overlap.
    """
    if len(rows) < 2:
        return None
    best = rows[0]
    second = next((row for row in rows if row.backbones != best.backbones), rows[1])
    difference = _difference(best, second, resampled, shared_rows, LEVEL)
    if np.isnan(difference.low):
        return None
    name, other = best.method, second.method
    interval = f"{difference.estimate:+.3f} test AUC ({_shown(difference)})"
    if difference.includes_zero:
        sentence = f"{name} leads on validation; against {other}: {interval}, so these data do not tell them apart."
    elif difference.estimate > 0:
        sentence = f"{name} leads on validation and beats {other} by {interval}."
    else:
        sentence = f"{name} leads on validation, but {other} is better on the test set: {interval}. Trust neither yet."
    return Verdict(name, other, difference, sentence)


def fusion_verdicts(
    rows: Sequence[ProbeRow], resampled: Mapping[str, Resampled], shared_rows: float
) -> list[FusionVerdict]:
    """Compare every fusion by attention with the best single backbone and with each control.

    The best single backbone is the one that leads on validation, under whichever head. The intervals are
    widened so that all of them hold together (Bonferroni): with several rivals, one is soon beaten by chance.

    Args:
        rows: best on validation first.
        resampled: test AUC by method, on the same draws for every method.
        shared_rows: as of `verdict_of`.
    """
    pairs: list[tuple[ProbeRow, ProbeRow, str]] = []
    for fusion in (row for row in rows if row.head in ATTENTION_HEADS):
        single = next((row for row in rows if len(row.backbones) == 1 and row.head not in FUSIONS), None)
        controls = [row for row in rows if row.head in CONTROLS and row.backbones == fusion.backbones]
        pairs += [(fusion, single, "best single backbone")] if single is not None else []
        pairs += [(fusion, control, "control") for control in controls]
    level = 1.0 - (1.0 - LEVEL) / max(1, len(pairs))
    verdicts = []
    for fusion, rival, role in pairs:
        difference = _difference(fusion, rival, resampled, shared_rows, level)
        if not np.isnan(difference.low):
            sentence = _fusion_sentence(fusion, rival, role, difference, len(pairs))
            verdicts.append(FusionVerdict(fusion.method, rival.method, role, difference, sentence))
    return verdicts


def _difference(
    row: ProbeRow, other: ProbeRow, resampled: Mapping[str, Resampled], shared_rows: float, level: float
) -> Interval:
    gap = resampled[row.method] - resampled[other.method]
    if len(gap.folds) < 2:
        return gap.interval(level)
    return crossed(gap.folds, gap.test_covariance, shared_rows, level=level).difference


def _fusion_sentence(fusion: ProbeRow, rival: ProbeRow, role: str, difference: Interval, n_pairs: int) -> str:
    against = f"the best single backbone ({rival.method})" if role != "control" else f"its control {rival.head}"
    together = f", {n_pairs} comparisons together" if n_pairs > 1 else ""
    interval = f"{difference.estimate:+.3f} test AUC ({_shown(difference)}{together})"
    if difference.includes_zero:
        return f"{fusion.head} against {against}: {interval}: no gain is shown."
    word = "beats" if difference.estimate > 0 else "is worse than"
    return f"{fusion.head} {word} {against}: {interval}."


def _shown(difference: Interval) -> str:
    return f"95% CI {difference.low:+.3f} to {difference.high:+.3f}"
