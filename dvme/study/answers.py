"""What a study says, as plain values: its verdict, the answers, and the differences that they rest on."""

from __future__ import annotations

from dataclasses import dataclass

from dvme.stats.curves import Crossing
from dvme.stats.intervals import Comparison
from dvme.stats.multiple import gain_word


@dataclass(frozen=True)
class Difference:
    """One method against another, at one size."""

    name: str
    against: str
    size: str
    """Such as `50`; nothing where there is only one."""
    comparison: Comparison
    """The method less the other."""
    p_adjusted: float

    @property
    def word(self) -> str:
        """`gain`, `loss`, `no gain shown`, or `no test`."""
        return gain_word(self.comparison, self.p_adjusted)


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
    """At the largest size: other backbones, or other heads of the only one, less the method that leads on validation,
    then every fusion less every single backbone that cannot be told apart from that one, then what was adapted or
    fine-tuned less every such rival."""
    crossing: Crossing | None = None
    """From how many labels on fine-tuning is not below the frozen method that leads; None where that was not asked."""
