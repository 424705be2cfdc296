"""Output: results on stdout, progress on stderr, expected errors as one line."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import typer
from rich.console import Console
from rich.text import Text as Styled

from dvme.errors import DvmeError, Text, message_of
from dvme_cli.spelling import spelled
from dvme_cli.streams import drawable

if TYPE_CHECKING:
    from dvme.runtime import Progress

WIDTH_WITHOUT_TERMINAL = 120
CACHE_IS_GONE = (
    "dvme_cache, a part of dvme, is gone, as after pip uninstall dvme-cache; "
    "install dvme again with --force-reinstall --no-deps"
)


class Report(Protocol):
    """What every command of the library gives."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""


R = TypeVar("R", bound=Report)
EXPECTED_ERRNOS = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EROFS),
        *(errno.EACCES, errno.EPERM),
        *(errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG),
    }
)


def console(*, is_error: bool = False) -> Console:
    """A console on stdout, or on stderr. Without a terminal it is wide enough for every table.

    COLUMNS says nothing there: whatever a Python program with readline starts has it, at 80.
    """
    stream = sys.stderr if is_error else sys.stdout
    width = None if stream.isatty() else WIDTH_WITHOUT_TERMINAL
    target = Console(stderr=is_error, width=width, highlight=False, soft_wrap=False, emoji=False)
    if target.is_dumb_terminal:  # which rich takes for one of 80 columns
        with suppress(OSError, ValueError):
            size = os.get_terminal_size(stream.fileno())
            target.width, target.height = size.columns or target.width, size.lines or target.height
    return target


def say(message: str, *, is_error: bool = False) -> None:
    """Print a line, with options for parameters: no markup in it is read, and only a terminal breaks it."""
    target = console(is_error=is_error)
    target.print(drawable(spelled(message), target.encoding), markup=False, soft_wrap=not target.is_terminal)


def note(message: str) -> None:
    """Print a line to stderr, beside the progress."""
    say(message, is_error=True)


def show_json(value: dict[str, Any] | list[Any]) -> None:
    """Print strict JSON to stdout: nan is null, an infinity "inf" or "-inf", and parameters are options."""
    from dvme.json_values import as_json

    print(as_json(_with_options(value), indent=2))  # noqa: T201


def answer(report: R, show: Callable[[R], None], *, is_json: bool) -> None:
    """Print a report as JSON, or in words."""
    if is_json:
        show_json(report.to_json())
    else:
        show(report)


def say_some(lines: Sequence[str], at_most: int) -> None:
    """Print the first lines, indented, and how many more there are; one more is printed in place of its number."""
    shown = lines if len(lines) == at_most + 1 else lines[:at_most]
    for line in shown:
        say(f"  {line}")
    if len(lines) > len(shown):
        say(f"  ... and {len(lines) - len(shown)} more (--json lists all)")


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Bars on stderr, one per stage, or plain lines in a log file and in a dumb terminal (TERM=dumb).

    Yields the function to call with (stage, done, total).
    """
    from dvme.progress import bars, lines

    target = console(is_error=True)
    if not (sys.stderr.isatty() and target.is_interactive):
        yield lines(note)
        return
    with bars(target) as tell:
        yield tell


@contextmanager
def expected_errors() -> Iterator[None]:
    """Print an expected error as one line and exit with 1; anything else is a defect and keeps its traceback.

    Ctrl-C passes as KeyboardInterrupt, whatever it became on its way: `interrupted.py` says what is kept.
    """
    try:
        yield
    except typer.Exit:  # whose reason was told
        raise
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "dvme_cache":
            _fail(CACHE_IS_GONE)
        if is_interrupt(error):
            raise KeyboardInterrupt from error
        if isinstance(error, ModuleNotFoundError):
            from dvme.requirements import lacking

            if line := lacking(error):
                _fail(line)
        if isinstance(error, DvmeError):
            _fail(spelled(message_of(error)))
        from dvme_cache.errors import CacheError  # whose package needs numpy

        if isinstance(error, CacheError):
            _fail(spelled(message_of(error)))
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


def size(n_bytes: int) -> str:
    """`3.2 MB`, in powers of ten."""
    return f"{n_bytes / 1e6:,.1f} MB" if n_bytes < 1e9 else f"{n_bytes / 1e9:,.1f} GB"


def _fail(message: str) -> None:
    console(is_error=True).print(Styled.assemble(("error: ", "bold red"), " ".join(message.split())), soft_wrap=True)
    raise typer.Exit(1)


def _with_options(value: Any) -> Any:
    """The same with parameters in its texts as options."""
    if isinstance(value, Text):
        return spelled(value)
    if isinstance(value, dict):
        return {key: _with_options(item) for key, item in value.items()}
    return [_with_options(item) for item in value] if isinstance(value, list | tuple) else value
