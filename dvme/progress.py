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

SECONDS_BETWEEN_LINES = 20.0
UNITS = {
    **dict.fromkeys(("sweep", "probe", "fit"), "jobs"),
    "adapt": "epochs",
    "score": "cells",
    "attention": "folds",
    "shards": "shards",
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
        if console.is_jupyter and find_spec("ipywidgets") is None:  # rich would warn, and show nothing
            yield lines(lambda line: print(line, file=sys.stderr))  # noqa: T201 - a notebook's own stderr
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
    """A bar for each stage, gone on with until the context ends.

    Yields:
        The function to call with (stage, done, total).
    """
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TaskID, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars
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

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeElapsedColumn(),
        Pace(),
    )
    shown, stages = Bars(*columns, console=console), dict[str, TaskID]()

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
    """A line when a stage begins and ends, and one every so often between.

    Returns:
        The function to call with (stage, done, total).
    """
    started: dict[str, float] = {}
    told: dict[str, float] = {}
    ended: dict[str, int] = {}

    def tell(stage: str, done: int, total: int) -> None:
        if done >= total and ended.get(stage) == done:
            return
        ended[stage] = done
        now = time.monotonic()
        begin = started.setdefault(stage, now)
        is_start = stage not in told and done == 0 < total  # loading and the first shard may take a while
        if not is_start and done < total and now - told.setdefault(stage, begin) < SECONDS_BETWEEN_LINES:
            return
        told[stage] = now
        unit, took = unit_of(stage), now - begin
        pace = ""
        if done < total and not is_start and (unit in UNLIKE or not done):
            pace = f", {duration(took)} so far"
        elif 0 < done < total:
            speed = done / max(took, 1e-9)
            pace = f", {speed:,.1f}/s, {duration((total - done) / speed)} left"
        say(f"{stage}: {done:,} of {total:,} {unit}{pace}")

    return tell


def duration(seconds: float) -> str:
    """`40 s`, `12 min` or `3.5 h`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:,.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"


def _is_watched() -> bool:
    """Whether stderr is a terminal, or a notebook shows it."""
    if sys.stderr is not None and sys.stderr.isatty():
        return True
    if "IPython" not in sys.modules:
        return False
    from rich.console import Console

    return Console(stderr=True).is_jupyter
