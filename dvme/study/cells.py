"""What the table of a study is made of: sizes as columns, methods as rows, and what stands where they meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dvme.stats.intervals import Interval
from dvme.study.methods import method_name


@dataclass(frozen=True)
class Score:
    """One metric on the test set, over the folds' heads."""

    mean: float
    std: float
    """Sample standard deviation; nan with a single fold."""
    folds: list[float]

    @classmethod
    def over(cls, folds: Sequence[float]) -> Score:
        """The summary of the folds' values."""
        values = list(folds)
        std = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
        return cls(float(np.mean(values)), std, values)


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
    """Mean of the study's metric on validation; what baselines are chosen by."""
    test: dict[str, Score]
    """By metric."""
    interval: Interval
    """Of the study's metric on other test images, given these heads."""
    mark: str
    """Against the method that leads on validation at its size: `*` is it, `=` not told apart from it, `+` better, empty
    worse, `?` where no test could be made. Any of them is wrong in at most 5 per cent of tables."""
    is_highest: bool
    """Whether its mean on the test set is the highest of its size, which claims nothing."""
    difference: Interval | None
    """Less the method that leads on validation, with an interval for the whole table; None for that one."""
    p_adjusted: float
    """Of no difference from it: crossed test, Bonferroni over the table; nan where none was made."""
    epochs: Score | None
    """Epochs until the best on validation; None for heads that have no epochs."""
    seconds: float
    """Of all its fits, one after another or together."""
    n_parameters: int
    """Numbers that one head holds; of `knn`, its bank."""
    chosen: list[dict[str, Any]] = field(default_factory=list)
    """What validation chose, by draw."""
    error_in_grades: Interval | None = None
    """Mean absolute error of classes in order, with its interval on other test images; lower is better. None of others,
    of two classes, and in the summary of an older dvme."""
    ceiling: float | None = None
    """Of a segmentation, what the grid of the method could reach at best on the test images: the masks themselves, down
    to it and up again."""
    grid: tuple[int, int] | None = None
    """Of a segmentation, rows and columns of what the method tells classes of."""

    @property
    def method(self) -> str:
        """What it is called in a sentence."""
        return method_name(self.head, self.backbones)
