"""What a comparison of two runs, or of a run and a published table, found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isnan, nan
from typing import Any

from dvme.shown.result import Shown
from dvme.shown.table import Entry, Row, Table
from dvme.stats.intervals import Comparison
from dvme.stats.multiple import ALPHA
from dvme.study.cells import Score
from dvme.text import METRIC_NAMES, counted, difference_text, p_text, spread_text

CROSSED = "crossed test over heads and test images"
"""What `crossed` means."""


@dataclass(frozen=True)
class Pair:
    """Two numbers about one method at one size."""

    method: str
    size: str
    one: Score | None
    """Of the run; None where it has no such cell."""
    other: Score | None
    """Of the other run, or as published (then without folds)."""
    comparison: Comparison | None
    """The first less the second: crossed test between runs, Welch's t beside a published number; None without both."""
    p_adjusted: float
    """Times the number of pairs that are compared (Bonferroni), for which the intervals are widened as well."""
    beside: str = ""
    """The run's method that stands beside a published one."""
    doubt: str = ""
    """Why a published number may be wrong."""


@dataclass(frozen=True, repr=False)
class CompareReport(Shown):
    """The outcome of `dvme compare`.

    `to_frame()` has a row for each pair: `method` and `size`; mean and deviation of `one` and `other`; `difference`,
    the first less the second, with its interval from `low` to `high`, and `p`; `beside` and `doubt` as of `Pair`.
    """

    one: str
    other: str
    metric: str
    """Of several findings the AUC is the mean over those that can be judged, or that of `finding`."""
    test: str
    """The test behind the p values."""
    pairs: list[Pair]
    notices: list[str]
    is_published: bool
    """Whether the other is a published table."""
    finding: str | None = None
    """Which finding this is about; None: all, or images with one class each."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return asdict(self)

    def _lines(self) -> list[str]:
        n_different = sum(pair.p_adjusted < ALPHA for pair in self.pairs)
        n_compared = sum(pair.comparison is not None for pair in self.pairs)
        of = "" if self.finding is None else f" of {self.finding}"
        test = CROSSED if self.test == "crossed" else self.test
        what = f"test {METRIC_NAMES[self.metric]}{of}; {test}, Bonferroni over the pairs"
        return [f"{n_different} of {counted(n_compared, 'pair')} differ: {self.one} minus {self.other}", what]

    def _records(self) -> list[dict[str, Any]]:
        return [_record(pair) for pair in self.pairs]

    def _table(self) -> Table:
        rows = tuple(Row((pair.method, pair.size), _entries(pair)) for pair in self.pairs)
        numbers = (self.one, self.other, "difference (95% CI)", "p")
        return Table(("method", "size"), numbers, rows, f"{'; '.join(self._lines())}. Scores are mean ± std.")


def _record(pair: Pair) -> dict[str, Any]:
    numbers: dict[str, Any] = {"method": pair.method, "size": pair.size}
    for name, score in (("one", pair.one), ("other", pair.other)):
        numbers |= {name: nan, f"{name}_std": nan} if score is None else {name: score.mean, f"{name}_std": score.std}
    found = None if pair.comparison is None else pair.comparison.difference
    ends = (nan, nan, nan) if found is None else (found.estimate, found.low, found.high)
    numbers |= dict(zip(("difference", "low", "high"), ends, strict=True))
    return numbers | {"p": pair.p_adjusted, "beside": pair.beside, "doubt": pair.doubt}


def _entries(pair: Pair) -> tuple[Entry, ...]:
    scores = ("" if score is None else spread_text(score) for score in (pair.one, pair.other))
    if pair.comparison is None:
        return (*map(Entry, scores), Entry(""), Entry(""))
    p = "-" if isnan(pair.p_adjusted) else p_text(pair.p_adjusted)
    return (*map(Entry, scores), Entry(difference_text(pair.comparison.difference)), Entry(p))
