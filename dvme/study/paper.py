"""The scores of a study as papers print them, as a tidy frame, and in a few lines."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan, nan
from typing import Any, Literal, Protocol, get_args

from dvme.errors import OptionError, UnknownNameError
from dvme.shown.table import Entry, Row, Table
from dvme.stats.intervals import Interval
from dvme.study.cells import Cell, Column, Score
from dvme.study.scoring import MAE
from dvme.text import (
    MARKS,
    METRIC_NAMES,
    choose_from,
    counted,
    difference_text,
    ends_text,
    grid_text,
    spread_text,
    together_text,
)

Spread = Literal["std", "interval"]
"""What stands beside a mean: its standard deviation over the draws, or its interval on other test images."""
MOST_METHODS = 4
"""In a terminal."""
COLUMNS = (
    *("method", "head", "backbones", "size", "n_train", "n_validation", "metric"),
    *("mean", "std", "n_draws", "low", "high", "p", "mark", "is_highest"),
    *("difference", "difference_low", "difference_high", "validation", "ceiling", "epochs", "seconds", "n_parameters"),
)
"""Of the frame; `StudyReport.to_frame` says what they are."""


class Scored(Protocol):
    """What of a study is shown."""

    @property
    def cache(self) -> str:
        """Where its embeddings are."""

    @property
    def metric(self) -> str:
        """That its marks are about."""

    @property
    def columns(self) -> Sequence[Column]:
        """Sizes."""

    @property
    def cells(self) -> Sequence[Cell]:
        """Methods within sizes."""

    @property
    def rows(self) -> Sequence[Cell]:
        """The cells of the largest size, best on validation first."""

    @property
    def methods(self) -> Sequence[tuple[str, tuple[str, ...]]]:
        """(head, backbones) of every line."""

    @property
    def verdict(self) -> str:
        """In one sentence."""

    def row(self, head: str, backbones: tuple[str, ...]) -> Sequence[Cell]:
        """The cells of one method, by size."""


def score_records(study: Scored) -> list[dict[str, Any]]:
    """A record of COLUMNS for each method, size and metric."""
    sizes = {column.name: column for column in study.columns}
    return [
        dict(zip(COLUMNS, _values(cell, sizes[cell.size], metric, score, study.metric), strict=True))
        for cell in study.cells
        for metric, score in cell.test.items()
    ]


def _values(cell: Cell, size: Column, metric: str, score: Score, judged: str) -> tuple[Any, ...]:
    """By COLUMNS. What a test says is of the study's own metric."""
    is_judged, interval = metric == judged, _interval(cell, metric, judged)
    low, high = (nan, nan) if interval is None else (interval.low, interval.high)
    gap = cell.difference if is_judged and cell.difference is not None else Interval(nan, nan, nan)
    return (
        *(cell.method, cell.head, "+".join(cell.backbones), cell.size, size.n_train, size.n_validation, metric),
        *(score.mean, score.std, len(score.folds), low, high),
        cell.p_adjusted if is_judged else nan,
        cell.mark if is_judged else "",
        cell.is_highest if is_judged else False,
        *(gap.estimate, gap.low, gap.high),
        cell.validation if is_judged else nan,
        cell.ceiling if is_judged and cell.ceiling is not None else nan,
        nan if cell.epochs is None else cell.epochs.mean,
        *(cell.seconds, cell.n_parameters),
    )


def score_table(study: Scored, metric: str | None = None, spread: str = "std") -> Table:
    """Methods as rows and sizes as columns, the highest of a size in bold, and the verdict in the caption.

    Args:
        study: of any number of sizes.
        metric: of those that it has; None: its own, which alone has marks.
        spread: of Spread.

    Raises:
        UnknownNameError, OptionError: if it has no such metric, or no intervals of it.
    """
    shown = study.metric if metric is None else metric
    _check(study, shown, spread)
    best = {column.name: _best(study, column, shown) for column in study.columns}
    has_ceiling = shown == study.metric and any(cell.ceiling is not None for cell in study.cells)
    rows = []
    for head, backbones in study.methods:
        own = {cell.size: cell for cell in study.row(head, backbones)}
        there = {name: own[name] for name in best if name in own}
        entries = {name: _entry(cell, shown, study.metric, spread, best[name]) for name, cell in there.items()}
        numbers = [entries.get(name, Entry("")) for name in best]
        numbers += [_ceiling(next(iter(own.values())))] if has_ceiling else []
        rows.append(Row((together_text(backbones), head), tuple(numbers)))
    headings = (*map(_heading, study.columns), *(["ceiling"] if has_ceiling else []))
    return Table(("backbone", "head"), headings, tuple(rows), _caption(study, shown, spread))


def score_lines(study: Scored) -> list[str]:
    """The size of the study, its verdict, and the methods that lead on validation."""
    metric, best = METRIC_NAMES.get(study.metric, study.metric), study.rows
    methods, sizes = counted(len(study.methods), "method"), counted(len(study.columns), "size")
    lines = [f"{methods} at {sizes} on {study.cache}", *([study.verdict] if study.verdict else [])]
    lines += [f"test {metric} at size {best[0].size}, the best on validation first:"] if best else []
    lines += [f"  {_shown(cell, study.metric)} {cell.mark or ' '} {cell.method}" for cell in best[:MOST_METHODS]]
    more = len(best) - MOST_METHODS
    return [*lines, f"{f'and {more:,} more; ' if more > 0 else ''}to_frame(), to_markdown() and to_latex() have all"]


def _check(study: Scored, metric: str, spread: str) -> None:
    known = list(dict.fromkeys(name for cell in study.cells for name in cell.test))
    if known and metric not in known:
        raise UnknownNameError(f"the study has no metric {metric!r}; {choose_from(metric, known)}")
    if spread not in get_args(Spread):
        raise OptionError(
            f"spread {spread!r} is not known; {choose_from(spread, get_args(Spread))}: the standard deviation over the "
            "draws, or the 95% interval"
        )
    if spread == "interval" and any(_interval(cell, metric, study.metric) is None for cell in study.cells):
        raise OptionError(
            f"the study has no intervals of {metric}; intervals are of {study.metric}: choose spread 'std'"
        )


def _interval(cell: Cell, metric: str, judged: str) -> Interval | None:
    if metric == judged:
        return cell.interval
    return cell.error_in_grades if metric == MAE else None


def _best(study: Scored, column: Column, metric: str) -> float:
    """The best mean of a size; nan where none is defined."""
    own = [cell.test[metric].mean for cell in study.cells if cell.size == column.name]
    known = sorted((mean for mean in own if not isnan(mean)), reverse=metric != MAE)
    return known[0] if known else nan


def _entry(cell: Cell, metric: str, judged: str, spread: str, best: float) -> Entry:
    score, interval = cell.test[metric], _interval(cell, metric, judged)
    if isnan(score.mean):
        return Entry("not defined")
    is_judged = metric == judged
    text, below = spread_text(score), "" if interval is None else ends_text(interval, signed=False)
    if spread == "interval" and interval is not None:
        text, below = difference_text(Interval(score.mean, interval.low, interval.high), signed=False), ""
    is_best = cell.is_highest if is_judged else score.mean == best
    return Entry(text, cell.mark if is_judged else "", is_best, below)


def _ceiling(cell: Cell) -> Entry:
    if cell.ceiling is None:
        return Entry("-")
    return Entry(f"{cell.ceiling:.3f}", below="" if cell.grid is None else grid_text(cell.grid))


def _heading(column: Column) -> str:
    """`50`; of a size that is no number also its training images: `full (384)`."""
    n = f"{column.n_train:,.0f}"
    is_number = column.name.partition(" ")[0].isdecimal()  # also of `50 (S)`
    return column.name if is_number else f"{column.name} ({n})"


def _shown(cell: Cell, metric: str) -> str:
    return spread_text(cell.test[metric])


def _caption(study: Scored, metric: str, spread: str) -> str:
    """What the numbers are, what the marks mean, and what the study says."""
    if not study.cells:
        return ""
    n_draws = len(study.cells[0].test[metric].folds)
    over = f"mean ± std over {n_draws} draws" if n_draws > 1 else "of one draw"
    what = over if spread == "std" else "mean and 95% interval on other test images"
    parts = [f"Test {METRIC_NAMES.get(metric, metric)}, {what}; the best of a size is bold, which claims nothing."]
    if metric == study.metric and len(study.methods) > 1:
        parts.append(MARKS)
    several = dict.fromkeys(backbones for _, backbones in study.methods if len(backbones) > 1)
    parts += [f"{together_text(each)}: {', '.join(each)}." for each in several]
    return " ".join([*parts, *([study.verdict] if study.verdict else [])])
