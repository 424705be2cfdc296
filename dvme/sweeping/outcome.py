"""What a sweep found: plain values, ready for a table or JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

from dvme.data import Task
from dvme.evaluation.outcome import Score
from dvme.evaluation.study import method_name
from dvme.stats.curves import LabelsSaved
from dvme.stats.intervals import Comparison, Interval
from dvme.stats.multiple import ALPHA, gain_word
from dvme.sweeping.plain import rebuilt, with_infinities


@dataclass(frozen=True)
class Column:
    """One size."""

    name: str
    n_train: float
    """Training images, mean over the draws."""
    n_validation: float
    """Images to choose on, mean over the draws."""


@dataclass(frozen=True)
class Cell:
    """One method at one size, over the draws."""

    head: str
    backbones: tuple[str, ...]
    size: str
    validation: float
    """Mean of the sweep's metric on validation; what baselines are chosen by."""
    test: dict[str, Score]
    """By metric."""
    interval: Interval
    """Of the sweep's metric, BCa over test images, given these heads."""
    is_best: bool
    """Whether its mean on the test set is the highest of its size."""
    p_worse: float
    """Of no difference from the best of its size: crossed test, Holm over the size's methods; nan for the best."""
    epochs: Score | None
    """Epochs until the best on validation; None for heads that have no epochs."""
    seconds: float
    """Of all its fits, one after another or together."""
    n_parameters: int
    """Numbers that one head holds; of `knn`, its bank."""

    @property
    def method(self) -> str:
        """What it is called in a sentence."""
        return method_name(self.head, self.backbones)

    @property
    def is_equal(self) -> bool:
        """Whether it is not the best, and not shown to be worse by a test that could be made."""
        return not self.is_best and self.p_worse >= ALPHA


@dataclass(frozen=True)
class Gain:
    """A fusion against one rival, at one size."""

    fusion: str
    rival: str
    role: str
    """`best single backbone` or `best control`; both are chosen on validation, at this size."""
    size: str
    comparison: Comparison
    """Crossed test: heads and test images both left to chance."""
    p_adjusted: float
    """Holm over all comparisons of the sweep."""
    effect: float
    """Difference of the draws in units of their standard deviation, corrected for small samples."""
    saved: LabelsSaved | None
    """Labels that the fusion saves against the best single backbone; None against a control."""

    @property
    def word(self) -> str:
        """`gain`, `loss`, `no gain shown`, or `no test` where none could be made."""
        return gain_word(self.comparison, self.p_adjusted)


@dataclass(frozen=True)
class SweepReport:
    """The outcome of `dvme sweep`."""

    run: str
    """The run's folder."""
    cache: str
    subsets: str
    """Hash of the manifest."""
    task: Task
    plan: str
    metric: str
    """That the table, the marks and the verdicts are about."""
    columns: list[Column]
    cells: list[Cell]
    """Methods within sizes: all methods of the first size first."""
    gains: list[Gain]
    notices: list[str]
    n_jobs: int
    n_reused: int
    """Jobs that were finished before this call."""
    seconds: dict[str, float]
    """Where this call's time went."""

    def row(self, head: str, backbones: tuple[str, ...]) -> list[Cell]:
        """The cells of one method, by size."""
        return [cell for cell in self.cells if (cell.head, cell.backbones) == (head, backbones)]

    @property
    def methods(self) -> list[tuple[str, tuple[str, ...]]]:
        """(head, backbones) of every line."""
        return list(dict.fromkeys((cell.head, cell.backbones) for cell in self.cells))

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`; an infinity is "inf" or "-inf"."""
        plain: dict[str, Any] = with_infinities(asdict(self))
        cells = zip(plain["cells"], self.cells, strict=True)
        gains = zip(plain["gains"], self.gains, strict=True)
        return plain | {
            "task": self.task.to_json(),
            "cells": [values | {"method": cell.method, "is_equal": cell.is_equal} for values, cell in cells],
            "gains": [values | {"verdict": gain.word} for values, gain in gains],
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The report whose `to_json` these are, also after a way through JSON, which makes None of nan.

        Raises:
            TypeError, ValueError, KeyError: if they are not those of a report.
        """
        report: Self = rebuilt(cls, values)
        return report
