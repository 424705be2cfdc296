"""What a comparison of methods found: plain values, ready for a table or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dvme.data import Task
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
class ProbeRow:
    """One head on one backbone, or on several that it fuses."""

    backbones: tuple[str, ...]
    head: str
    dim: int
    """Values per image that the head sees."""
    validation_auc: float
    """Mean over the folds; what methods are ranked by."""
    test: dict[str, Score]
    """By metric."""
    mark: str
    """Against the method that leads on validation: `*`, `=`, `+`, empty for worse, or `?`; see dvme.text.MARKS."""
    auc_interval: Interval
    """Test AUC on other test images or groups, given these heads."""
    chosen: list[dict[str, Any]]
    """What validation chose, per fold."""

    @property
    def backbone(self) -> str:
        """The backbones' names, joined."""
        return "+".join(self.backbones)

    @property
    def method(self) -> str:
        """What the row is called in a sentence."""
        return method_name(self.head, self.backbones)


@dataclass(frozen=True)
class Verdict:
    """What the table allows to be said."""

    best: str
    runner_up: str
    difference: Interval
    """Test AUC of the best less that of the runner-up; the interval is for all comparisons of the table."""
    p_adjusted: float
    """Crossed test, over all comparisons of the table."""
    sentence: str


@dataclass(frozen=True)
class FusionVerdict:
    """What a fusion by attention gains over one rival that it has to beat."""

    fusion: str
    rival: str
    role: str
    """`single backbone` or `control`."""
    word: str
    """`gain` over every single backbone that is not told apart from the one that leads on validation, or over the
    control; `loss` against that one; else `no gain shown`."""
    difference: Interval
    """Test AUC of the fusion less that of the rival, the hardest; the interval is for all comparisons of the table."""
    p_adjusted: float
    """Crossed test, over all comparisons of the table."""
    sentence: str


@dataclass(frozen=True)
class ProbeReport:
    """The outcome of `dvme probe`."""

    cache: str
    task: Task
    plan: str
    n_left_out: dict[str, int]
    """Rows that take no part, by reason."""
    notices: list[str]
    """What the reader of the table has to know."""
    rows: list[ProbeRow]
    """Best validation AUC first."""
    verdict: Verdict | None
    """None with a single row, or where the test set is too small."""
    fusion: list[FusionVerdict]
    """Empty without a fusion by attention, or where the test set is too small."""
    saved: list[str]
    """Folders of the heads, where they were asked for."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        rows = [asdict(row) | {"backbone": row.backbone} for row in self.rows]
        return asdict(self) | {"task": self.task.to_json(), "rows": rows}
