"""What a study found: plain values, ready for a table or JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from dvme.data import Task
from dvme.json_values import plain, rebuilt
from dvme.notices import asides
from dvme.shown import markup
from dvme.shown.result import Shown
from dvme.shown.table import Table
from dvme.stats.curves import LabelsSaved
from dvme.stats.intervals import Comparison
from dvme.study.answers import Findings
from dvme.study.by_class import ClassScores
from dvme.study.by_subgroup import BySubgroup
from dvme.study.cells import Cell, Column, Score
from dvme.study.diagnosis import Diagnosis
from dvme.study.paper import COLUMNS, Spread, score_lines, score_records, score_table
from dvme.study.per_unit import PerUnit
from dvme.study.reliability import Reliability
from dvme.study.sites.outcome import SitesResult
from dvme.study.suspects import Suspect
from dvme.study.trust import with_trust
from dvme.text import counted

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Cell", "Column", "Gain", "PartDone", "Rival", "Score", "StudyReport"]


@dataclass(frozen=True)
class Rival:
    """What a fusion is compared with."""

    method: str
    comparison: Comparison
    """The fusion less the rival: crossed test, heads and test images both left to chance."""
    p_adjusted: float


@dataclass(frozen=True)
class Gain:
    """A fusion against every rival of a kind that cannot be told apart from the leading one, at one size."""

    fusion: str
    rival: str
    """The one that it exceeds the least, of those that `word` is about."""
    role: str
    """`single backbone` or `control`."""
    size: str
    leader: str
    """Of the rivals, the one that leads on validation at this size."""
    comparison: Comparison
    """With `rival`: crossed test, heads and test images both left to chance, for all comparisons of the table."""
    p_adjusted: float
    """With `rival`, over all comparisons of the table."""
    word: str
    """`gain` over every rival, `loss` against the leader, `no gain shown`, or `no test` where one could not be made."""
    rivals: list[Rival]
    """All that it has to beat."""
    effect: float
    """Difference of the draws from `rival` in units of their standard deviation, corrected for small samples."""
    saved: LabelsSaved | None
    """Labels that the fusion saves against `rival`, a single backbone; None against a control."""


@dataclass(frozen=True)
class PartDone:
    """What has become of one part of a study."""

    part: str
    """`3/16`."""
    n_left: int
    """Jobs of the whole study that nobody has finished yet."""


@dataclass(frozen=True, repr=False)
class StudyReport(Shown):
    """The outcome of `dvme probe`, which is a study of one size, and of `dvme sweep`."""

    run: str | None
    """The run's folder, where there is one."""
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
    suspects: list[Suspect]
    """Images whose labels are likely wrong, the least likely label first."""
    notices: list[str]
    n_jobs: int
    n_reused: int
    """Jobs that were finished before this call."""
    seconds: dict[str, float]
    """Where this call's time went."""
    findings: Findings | None = None
    """The verdict in words, and what it rests on; None in the summary of an older dvme."""
    diagnoses: tuple[Diagnosis, ...] = ()
    """How the leading methods err on the test images: the one that leads first; none in that of an older dvme."""
    subgroups: BySubgroup | None = None
    """The leading method by subgroups of the test images, where they were asked for."""
    per_patient: PerUnit | None = None
    """The leading method per image and per patient or study, where that was asked for."""
    reliability: Reliability | None = None
    """How far the leading methods can be trusted, finding by finding or class by class; None in an older summary."""
    asides: tuple[str, ...] = ()
    """Those of the notices that change no decision; in the summary of an older dvme any may."""
    n_left_out: dict[str, int] = field(default_factory=dict)
    """Images that take no part, by reason."""
    saved: list[str] = field(default_factory=list)
    """Folders of the heads of the largest size, where they were asked for beside the run's."""
    sites: SitesResult | None = None
    """The heads of the largest size on other caches, where there are any."""
    part: PartDone | None = None
    """Where one part was fitted: `n_jobs`, `n_reused` and `seconds` are its, no cell is there, nothing is judged."""
    classes: dict[str, list[ClassScores]] = field(default_factory=dict)
    """Of a segmentation, by method, the classes at the largest size; none in the summary of an older dvme."""
    boundary: float | None = None
    """Pixels within which outlines meet in their scores; None where nobody asked for these."""

    @property
    def verdict(self) -> str:
        """What the table allows to be said, in one sentence; nothing in the summary of an older dvme."""
        return "" if self.findings is None else self.findings.verdict

    @property
    def rows(self) -> list[Cell]:
        """The cells of the largest size, best on validation first."""
        largest = max(self.columns, key=lambda column: column.n_train).name if self.columns else ""
        cells = [cell for cell in self.cells if cell.size == largest]
        return sorted(cells, key=lambda cell: (math.isnan(cell.validation), -cell.validation))

    def row(self, head: str, backbones: tuple[str, ...]) -> list[Cell]:
        """The cells of one method, by size."""
        return [cell for cell in self.cells if (cell.head, cell.backbones) == (head, backbones)]

    @property
    def methods(self) -> list[tuple[str, tuple[str, ...]]]:
        """(head, backbones) of every line."""
        return list(dict.fromkeys((cell.head, cell.backbones) for cell in self.cells))

    def with_sites(self, sites: SitesResult, lines: Sequence[str]) -> Self:
        """The same, with what was found at other sites and the lines on it."""
        return replace(self, sites=sites, notices=[*self.notices, *lines], asides=(*self.asides, *asides(lines)))

    def with_trust(self) -> Self:
        """The same, whose answers begin with what can be trusted, where that was asked; see `dvme.study.trust`."""
        if self.findings is None:
            return self
        return replace(self, findings=with_trust(self.findings, self.reliability, self.sites, self.subgroups))

    def to_frame(self) -> pd.DataFrame:
        """The scores, a row for each method, size and metric.

        Returns:
            The columns are:

            - `method`, its `head`, its `backbones` with + between them, and `size`.
            - `n_train` and `n_validation`: images that train and that are chosen on, means over the draws.
            - `metric`, and `mean` and `std` of its test scores over `n_draws` heads.
            - `low` and `high`: the 95% interval on other test images, of the study's own metric and of `mae`.
            - Of the study's own metric alone: `p`, `mark` and `is_highest`, which `Cell` explains; `difference` from
              the method that leads on validation, with an interval for the whole table from `difference_low` to
              `difference_high`; `validation`, the mean score there; and `ceiling`, what the grid of a segmentation
              could reach.
            - The same for all metrics: `epochs` until the best on validation, `seconds` of all fits, and
              `n_parameters` of one head.
        """
        import pandas as pd

        return pd.DataFrame(score_records(self), columns=[*COLUMNS])

    def to_markdown(self, *, metric: str | None = None, spread: Spread = "std") -> str:
        """The table of methods and sizes in Markdown, as `to_latex`."""
        return markup.markdown(score_table(self, metric, spread))

    def to_latex(
        self,
        *,
        caption: str | None = None,
        label: str = "",
        metric: str | None = None,
        spread: Spread = "std",
    ) -> str:
        r"""The table of methods and sizes in LaTeX, for the package booktabs: the best in bold, and the verdict below.

        Args:
            caption: other words than the usual ones; "": none.
            label: what `\ref` takes; "": none.
            metric: None: the one that the study is judged by, which alone has marks.
            spread: what stands beside a mean: `std` over the draws, or the `interval` on other test images.

        Raises:
            UnknownNameError, OptionError: if there is no such metric, or no intervals of it.
        """
        table = score_table(self, metric, spread)
        return markup.latex(table if caption is None else replace(table, caption=caption), label)

    def _repr_html_(self) -> str:
        counts, *others = self._lines()
        said = [self.verdict, counts] if self.verdict else [counts, *others]
        table = self._table()
        return markup.html(replace(table, caption=table.caption.removesuffix(self.verdict).rstrip()), said)

    def _lines(self) -> list[str]:
        if self.part is None:
            return score_lines(self)
        n_fitted = counted(self.n_jobs - self.n_reused, "job")
        left = f"{counted(self.part.n_left, 'job')} left to other parts"
        return [f"part {self.part.part} of a study: {n_fitted} fitted into {self.run}", left]

    def _records(self) -> list[dict[str, Any]]:
        return score_records(self)

    def _table(self) -> Table:
        return score_table(self)

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`: nan is None, an infinity "inf" or "-inf"."""
        values: dict[str, Any] = plain(asdict(self))
        cells = zip(values["cells"], self.cells, strict=True)
        return values | {
            "task": self.task.to_json(),
            "cells": [own | {"method": cell.method} for own, cell in cells],
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The report whose `to_json` these are, also after a way through JSON.

        Raises:
            TypeError, ValueError, KeyError: if they are not those of a report.
        """
        report: Self = rebuilt(cls, values)
        return report
