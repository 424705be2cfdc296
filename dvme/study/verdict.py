"""What one size of a study allows to be said: paired differences on the shared test set, with their intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dvme.study.methods import method_name
from dvme.study.outcome import FusionVerdict, Verdict
from dvme.study.roles import Roles
from dvme.study.standing import Against, Standing, Versus
from dvme.text import CONTROL, METRIC_NAMES, SINGLE, ends_text, number_text


@dataclass(frozen=True)
class Verdicts:
    """The sentences of one size."""

    roles: Roles
    standing: Standing
    size: int
    metric: str

    def leading(self) -> Verdict | None:
        """Compare the best on validation with the best on other backbones, sample by sample on the test set.

        A fusion is compared with every single backbone that may be the best, as in `fusions`. With one set of backbones
        only, its heads are compared. Both the draws' heads and the test images are left to chance
        (dvme.stats.crossed). With one draw, nothing tells how much the choice of training images matters, and the
        interval is of these very heads.

        Returns:
            None with a single method, or where no test could be made.
        """
        best = self.standing.leader(self.size)
        others = self._ranked(best)
        if best is None or not others:
            return None
        against, own = None, self.roles.methods[best][1]
        second = next((m for m in others if self.roles.methods[m][1] != own), others[0])
        if len(own) > 1:
            against = self.standing.against(best, self.roles.singles, self.size)
        versus = self.standing.versus(best, second, self.size)
        word, other = versus.word, self._name(second)
        if against is not None:
            second, word = against.hardest, against.word
            versus, other = against.rivals[second], self._hardest(against)
        if word == "no test":
            return None
        name, said = self._name(best), self._said(versus)
        if word == "no gain shown":
            sentence = f"{name} leads on validation; against {other}: {said}, so these data do not tell them apart."
        elif word == "gain":
            sentence = f"{name} leads on validation and beats {other} by {said}."
        else:
            sentence = f"{name} leads on validation, but {other} is better on the test set: {said}. Trust neither yet."
        return Verdict(name, self._name(second), versus.comparison.difference, versus.p_adjusted, sentence)

    def fusions(self) -> list[FusionVerdict]:
        """Compare every fusion by attention with the single backbones and with each control.

        It is worth its cost where it beats every single backbone, under whichever head, that cannot be told apart from
        the one that leads on validation.
        """
        found, best = [], self.standing.leader(self.size)
        ranked = [*([] if best is None else [best]), *self._ranked(best)]
        for fusion in ranked:
            if fusion not in self.roles.attention:
                continue
            own = self.roles.controls_of(fusion)
            controls = [m for m in ranked if m in own]
            for role, pool in ((SINGLE, self.roles.singles), *((CONTROL, [m]) for m in controls)):
                against = self.standing.against(fusion, pool, self.size)
                if against is not None and against.word != "no test":
                    found.append(self._fusion(fusion, role, against))
        return found

    def _fusion(self, fusion: int, role: str, against: Against) -> FusionVerdict:
        hardest, head = against.rivals[against.hardest], self.roles.methods[fusion][0]
        rival, word, said = self._name(against.hardest), against.word, self._said(hardest)
        named = f"its control {self.roles.methods[against.hardest][0]}"
        if role != CONTROL:
            is_alone = len(against.rivals) == 1
            named = f"the single backbone that leads on validation ({rival})" if is_alone else self._hardest(against)
        if word == "gain":
            sentence = f"{head} beats {named}: {said}."
        elif word == "loss":
            sentence = f"{head} is worse than {named}: {said}."
        else:
            sentence = f"{head} against {named}: {said}: no gain is shown."
        name, difference = self._name(fusion), hardest.comparison.difference
        return FusionVerdict(name, rival, role, word, difference, hardest.p_adjusted, sentence)

    def _ranked(self, besides: int | None) -> list[int]:
        """Methods by their mean on validation, the best first, but for one; those without such a mean last."""
        values = {m: self.standing.validation[m, self.size] for m in self.standing.methods if m != besides}
        return sorted(values, key=lambda m: (math.isnan(values[m]), -values[m]))

    def _name(self, method: int) -> str:
        return method_name(*self.roles.methods[method])

    def _hardest(self, against: Against) -> str:
        """The rival that it exceeds the least, and how many there are."""
        n_alike = len(against.rivals)
        others = f", the hardest of the {n_alike} single backbones that may be the best" if n_alike > 1 else ""
        return f"{self._name(against.hardest)}{others}"

    def _said(self, versus: Versus) -> str:
        difference, n = versus.comparison.difference, self.standing.n_comparisons
        together, what = f" for {n} comparisons" if n > 1 else "", f"test {METRIC_NAMES[self.metric]}"
        estimate = number_text(difference.estimate, signed=True)
        if math.isnan(difference.low):
            return f"{estimate} {what} (no interval: both are right about the same images)"
        return f"{estimate} {what} (95% CI {ends_text(difference)}{together})"
