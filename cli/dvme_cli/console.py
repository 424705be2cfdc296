"""Output: results on stdout, progress on stderr, expected errors as one line."""

from __future__ import annotations

import errno
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from dvme_cli.streams import drawable

if TYPE_CHECKING:
    from dvme.stats.intervals import Interval

WIDTH_WITHOUT_TERMINAL = 120
SECONDS_BETWEEN_LINES = 20.0
EXPECTED_ERRNOS = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EROFS),
        *(errno.EACCES, errno.EPERM),
        *(errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG),
    }
)


def console(*, is_error: bool = False) -> Console:
    """A console on stdout, or on stderr. Without a terminal it is wide enough for every table."""
    stream = sys.stderr if is_error else sys.stdout
    width = None if stream.isatty() else WIDTH_WITHOUT_TERMINAL
    return Console(stderr=is_error, width=width, highlight=False, soft_wrap=False)


def say(message: str, *, is_error: bool = False) -> None:
    """Print a line as it is: no markup in it is read, and only a terminal breaks it."""
    target = console(is_error=is_error)
    target.print(drawable(message, target.encoding), markup=False, soft_wrap=not target.is_terminal)


def note(message: str) -> None:
    """Print a line to stderr, beside the progress."""
    say(message, is_error=True)


def show_json(value: dict[str, Any] | list[Any]) -> None:
    """Print strict JSON to stdout; what is not a number becomes null."""
    print(json.dumps(_without_nan(value), indent=2, default=str, allow_nan=False))  # noqa: T201


def difference_text(difference: Interval) -> str:
    """`+0.015 (-0.004 to +0.034)`; the estimate alone where there is no interval."""
    if math.isnan(difference.low):
        return f"{difference.estimate:+.3f}"
    return f"{difference.estimate:+.3f} ({difference.low:+.3f} to {difference.high:+.3f})"


def number(value: float) -> str:
    """Three digits after the point; nothing where there is no number."""
    return "" if math.isnan(value) else f"{value:.3f}"


class _Speed(ProgressColumn):
    """Items per second."""

    def render(self, task: Task) -> Text:
        """`41.2/s`, or nothing before there is a speed."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.1f}/s", style="progress.data.speed")


@contextmanager
def progress_bars(unit: str = "images") -> Iterator[Callable[[str, int, int], None]]:
    """Bars on stderr, one per stage, or plain lines where stderr is a log file.

    Yields the function to call with (stage, done, total).
    """
    if not sys.stderr.isatty():
        yield _progress_lines(unit)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        _Speed(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console(is_error=True)) as bars:
        stages: dict[str, TaskID] = {}

        def tell(stage: str, done: int, total: int) -> None:
            if stage not in stages:
                stages[stage] = bars.add_task(stage, total=total)
            bars.update(stages[stage], completed=done)

        yield tell


def _progress_lines(unit: str) -> Callable[[str, int, int], None]:
    """A line when a stage ends, and one every so often before that."""
    started: dict[str, float] = {}
    told: dict[str, float] = {}

    def tell(stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        begin = started.setdefault(stage, now)
        is_start = stage not in told and done == 0 < total  # loading and the first shard may take a while
        if not is_start and done < total and now - told.setdefault(stage, begin) < SECONDS_BETWEEN_LINES:
            return
        told[stage] = now
        speed = done / max(now - begin, 1e-9)
        left = f", {speed:,.1f}/s, {(total - done) / speed:,.0f} s left" if 0 < done < total else ""
        note(f"{stage}: {done:,} of {total:,} {unit}{left}")

    return tell


@contextmanager
def expected_errors() -> Iterator[None]:
    """Print an expected error as one line and exit with 1; anything else is a defect and keeps its traceback.

    Ctrl-C passes as KeyboardInterrupt, whatever it became on its way: `interrupted.py` says what is kept.
    """
    try:
        yield
    except Exception as error:
        from dvme.errors import DvmeError
        from dvme_cache.errors import CacheError

        if is_interrupt(error):
            raise KeyboardInterrupt from error
        if isinstance(error, DvmeError | CacheError):
            _fail(str(error))
        if not isinstance(error, OSError) or error.errno not in EXPECTED_ERRNOS:
            raise
        place = f" at {error.filename}" if error.filename else ""
        _fail(f"cannot write or read{place}: {error.strerror}; what was committed is intact, mend this and run again")


def is_interrupt(error: BaseException | None) -> bool:
    """Whether an exception is a KeyboardInterrupt, or what a module made of one that was being imported."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def duration(seconds: float) -> str:
    """`40 s`, `12 min` or `3.5 h`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:,.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"


def size(n_bytes: int) -> str:
    """`3.2 MB`, in powers of ten."""
    return f"{n_bytes / 1e6:,.1f} MB" if n_bytes < 1e9 else f"{n_bytes / 1e9:,.1f} GB"


def _fail(message: str) -> None:
    console(is_error=True).print(Text.assemble(("error: ", "bold red"), " ".join(message.split())), soft_wrap=True)
    raise typer.Exit(1)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return value
