"""Sentences on a judged study: names, scores and differences with their intervals, in the same words everywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dvme.stats.intervals import Interval
from dvme.study.answers import Difference, Finding
from dvme.study.judge import Judge
from dvme.study.methods import method_name
from dvme.study.outcome import Gain
from dvme.study.roles import Leaders
from dvme.study.standing import Against
from dvme.text import METRIC_NAMES, difference_text, p_text

TOO_FEW = "Too few test images or patients, or draws, for an interval, and so for a verdict; take more of them."
NAMED = 3
"""Methods that a sentence names; of more it says how many."""


@dataclass(frozen=True)
class Table:
    """A judged study at its largest size."""

    judge: Judge
    gains: Sequence[Gain]

    @property
    def leaders(self) -> Leaders:
        """Who leads."""
        return self.judge.leaders

    @property
    def metric(self) -> str:
        """What the study's metric is called."""
        return METRIC_NAMES[self.judge.metric]

    def name(self, method: int) -> str:
        """What a method is called in a sentence."""
        return method_name(*self.judge.methods[method])

    def scored(self, method: int) -> str:
        """Its test score."""
        return with_interval(self.judge.scored[method, self.leaders.size].interval(), signed=False)

    def difference(self, method: int, rival: int) -> Difference:
        """One method less another at the largest size, as one of all comparisons of the table."""
        versus = self.judge.standing.versus(method, rival, self.leaders.size)
        size = self.judge.manifest.sizes[self.leaders.size]
        return Difference(self.name(method), self.name(rival), size, versus.comparison, versus.p_adjusted)

    @property
    def together(self) -> str:
        """For how many comparisons intervals are."""
        n = self.judge.standing.n_comparisons
        return f" (intervals for {n} comparisons)" if n > 1 else ""

    def against(self, method: int, kind: str, rivals: str, shown: Against) -> str:
        """A method less the rivals that it has to beat.

        Args:
            method: the one that leads on validation of its kind.
            kind: such as `the fusion`.
            rivals: what it is held against, such as `single backbone`.
            shown: how it stands.
        """
        nearest = sorted(shown.rivals.items(), key=lambda item: item[1].comparison.difference.estimate)
        lines = "; ".join(
            f"minus {self.name(m)} {with_interval(each.comparison.difference)}{p_value(each.p_adjusted)}"
            for m, each in nearest[:NAMED]
        )
        n = len(nearest)
        others = f"the {n - 1} that cannot be told apart from it" if shown.word != "no test" else f"{n - 1} others"
        alike = f" and {others}, the nearest first" if n > 1 else ""
        more = f"; and {n - NAMED} more, below" if n > NAMED else ""
        which = f"{self.name(method)}, {kind} that leads on validation, against the {rivals} that leads there"
        return f"{which}{alike}{self.together}: {lines}{more}."

    def answered(
        self, question: str, shown: Against, details: Sequence[str], doing: str, rivals: str, words: tuple[str, str]
    ) -> Finding:
        """The answer on what has to beat all rivals that may be the best.

        Args:
            question: that is answered.
            shown: how it stands.
            details: what the answer rests on.
            doing: such as `fine-tuning`.
            rivals: such as `frozen methods`.
            words: the answer's first word if it gains, and if it is worse.
        """
        if shown.word == "no test":
            return Finding(question, "Too few test images to say", (*details, TOO_FEW))
        if shown.word == "gain":
            least = shown.rivals[shown.hardest].comparison.difference.estimate
            alone = len(shown.rivals) == 1
            over = "" if alone else f" or more over each of the {len(shown.rivals)} {rivals} that may be the best"
            answer = f"{words[0]}: {doing} gains {least:+.3f}{'' if alone else ' or more'}"
            return Finding(question, answer, tuple(details), f"{doing} gains {least:+.3f} {self.metric}{over}")
        if shown.word == "loss":
            clause = f"{doing} is worse than {self.name(shown.leader)}"
            return Finding(question, f"{words[1]}: {doing} is worse", tuple(details), clause)
        return Finding(question, "No gain is shown", tuple(details), f"no gain by {doing} is shown")


def judged(each: Difference) -> str:
    """A method, its difference from what it is against, and p."""
    return f"{each.name} {with_interval(each.comparison.difference)}{p_value(each.p_adjusted)}"


def p_value(value: float) -> str:
    """Nothing where none was made."""
    return "" if math.isnan(value) else f", p {p_text(value)}"


def listed(differences: Sequence[Difference]) -> str:
    """The methods' names, the first few."""
    names = [each.name for each in differences]
    if len(names) > NAMED:
        names = [*names[: NAMED - 1], f"{len(names) - NAMED + 1} others"]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def with_interval(interval: Interval, *, signed: bool = True) -> str:
    """An estimate and its 95 per cent interval."""
    return difference_text(interval, named="95% CI", without="no interval", signed=signed)
