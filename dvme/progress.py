"""How far a call has come: bars where someone watches, lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from dvme.runtime import Progress, automatic, silent

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import ProgressColumn

SECONDS_BETWEEN_LINES = 10.0
LEAST_WITH_BAR, LEAST_WITH_LONG_BAR = 80, 100
"""Columns of a terminal."""
SHORT_BAR, LONG_BAR = 10, 40
UNITS = {
    **dict.fromkeys(("sweep", "probe", "fit"), "jobs"),
    "adapt": "epochs",
    "score": "cells",
    "attention": "folds",
    "shards": "shards",
    "stream": "passes",
    "maps": "maps",
    "train": "epochs",
    **dict.fromkeys(("load", "compare images", "embed again"), "backbones"),
}
"""What is counted, by the first words of a stage or its last; images for all others."""
UNLIKE = {"jobs", "cells", "maps", "backbones", "epochs"}
"""These differ in cost by orders of magnitude: how long those took that are done says little of those that are left."""


@contextmanager
def watched(progress: Progress | None) -> Iterator[Progress]:
    """What a call tells its progress to.

    Yields:
        The caller's function; nothing for None; and for `automatic` bars in a terminal or a notebook, else nothing.
    """
    if progress is None or (progress is automatic and not _is_watched()):
        yield silent
    elif progress is not automatic:
        yield progress
    else:
        from rich.console import Console

        console = Console(stderr=True)
        # rich would warn in such a notebook; a dumb terminal (TERM=dumb) has no bars. Both would show nothing.
        has_bars = find_spec("ipywidgets") is not None if console.is_jupyter else console.is_interactive
        if not has_bars:
            yield lines(lambda line: print(line, file=sys.stderr))  # noqa: T201 - the caller's own stderr
        else:
            with bars(console) as tell:
                yield tell


def unit_of(stage: str) -> str:
    """What a stage counts."""
    return (
        UNITS.get(stage) or UNITS.get(stage.split(maxsplit=1)[0]) or UNITS.get(stage.rsplit(maxsplit=1)[-1]) or "images"
    )


@contextmanager
def bars(console: Console) -> Iterator[Progress]:
    """A bar for each stage, gone on with until the context ends; in a narrow terminal its numbers alone.

    Yields:
        The function to call with (stage, done, total).
    """
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    shown, stages = Bars(*_columns(console.width), console=console), dict[str, TaskID]()

    def tell(stage: str, done: int, total: int) -> None:
        if stage not in stages:
            shown.start()  # not before: a call that tells nothing leaves no blank line
            stages[stage] = shown.add_task(stage, total=total, unit=unit_of(stage))
        shown.update(stages[stage], completed=done, total=total)

    try:
        yield tell
    finally:
        if stages:
            shown.stop()


def lines(say: Callable[[str], None]) -> Progress:
    """A line when a stage begins and ends, and at most one every so often between.

    Returns:
        The function to call with (stage, done, total).
    """
    begun: dict[str, tuple[float, int]] = {}
    told: dict[str, float] = {}
    ended: dict[str, int] = {}

    def tell(stage: str, done: int, total: int) -> None:
        is_over, now = done >= total, time.monotonic()
        if is_over and ended.get(stage) == done:
            return
        is_first = stage not in begun  # loading and the first shard may take a while
        begin, before = begun.setdefault(stage, (now, done))
        if not (is_first or is_over) and now - told[stage] < SECONDS_BETWEEN_LINES:
            return
        told[stage] = now
        if is_over:
            ended[stage] = done
        unit, took, pace = unit_of(stage), now - begin, ""
        if not (is_first or is_over):
            pace = f", {duration(took)} so far"
            if unit not in UNLIKE and done > before:
                speed = (done - before) / max(took, 1e-9)
                pace = f", {speed:,.1f}/s, {duration((total - done) / speed)} left"
        say(f"{stage}: {done:,} of {total:,} {unit}{pace}")

    return tell


def duration(seconds: float) -> str:
    """`40 s`, `12 min` or `3.5 h`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:,.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"


def _columns(width: int) -> tuple[ProgressColumn, ...]:
    """What is said of a stage in so many columns: its name folds, and numbers are whole."""
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeElapsedColumn
    from rich.table import Column
    from rich.text import Text

    class Pace(ProgressColumn):
        """`41.2/s, 0:02:10 left` of what is alike; what is not has no such numbers."""

        def render(self, task: Task) -> Text:
            # At the end as the tables have it, over all; until then of late.
            speed = task.completed / task.finished_time if task.finished_time else task.speed
            if task.fields["unit"] in UNLIKE or not speed:
                return Text()
            left = "" if task.time_remaining is None or task.finished else f", {duration(task.time_remaining)} left"
            return Text(f"{speed:,.1f}/s{left}", style="progress.data.speed")

    name = TextColumn("{task.description}", markup=False, table_column=Column(overflow="fold"))
    counts = MofNCompleteColumn(table_column=Column(no_wrap=True))
    elapsed, pace = TimeElapsedColumn(Column(no_wrap=True)), Pace(Column(no_wrap=True))
    if width < LEAST_WITH_BAR:
        return name, counts, elapsed, pace
    bar = BarColumn(LONG_BAR if width >= LEAST_WITH_LONG_BAR else SHORT_BAR)
    return name, bar, counts, TextColumn("{task.fields[unit]}"), elapsed, pace


def _is_watched() -> bool:
    """Whether stderr is a terminal, or a notebook shows it."""
    if sys.stderr is not None and sys.stderr.isatty():
        return True
    if "IPython" not in sys.modules:
        return False
    from rich.console import Console

    return Console(stderr=True).is_jupyter
