"""Who may write to a run: one study, or parts of one, each for its own jobs.

As with a cache (`dvme_cache.parts`): a part begins under the lock of the one writer. There it writes what all parts
share and takes a lock of its own; then it lets go of the first. Who holds the first lock and finds no part's lock held
is alone, and stays alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from dvme.errors import OptionError, parameter
from dvme_cache import CacheLockedError
from dvme_cache.files import LocalFiles
from dvme_cache.layout import LOCK_SUFFIX, PARTS_SUFFIX
from dvme_cache.locks import folder_lock, writer_lock
from dvme_cache.parts import Part, PartLocks

SILENT_S = 10.0
"""For how long a lock may not say who holds it: its file is written just after it is taken."""
OUT = parameter("out")


@contextmanager
def one_writer(folder: Path) -> Iterator[Callable[[], None]]:
    """Let no second study write to a run meanwhile, nor a part of one.

    Yields:
        What `one_part` yields; here it does nothing.

    Raises:
        OptionError: if one does.
        CacheAccessError: if the lock file beside the folder cannot be made or locked.
    """
    folder = folder.resolve()
    with ExitStack() as stack:
        try:
            stack.enter_context(folder_lock(folder))
        except CacheLockedError as error:
            raise _refused(folder) from error
        if (living := _living(folder)) is not None:
            raise OptionError(
                f"part {living} of {folder} is being fitted; wait until all parts are done, then run the same without "
                + parameter("part")
            )
        _remove_locks(folder)
        yield lambda: None


@contextmanager
def one_part(folder: Path, part: Part) -> Iterator[Callable[[], None]]:
    """Be a part of a study for as long as the context lasts. It begins as the one writer.

    Yields:
        What ends being the one writer, so that other parts can begin.

    Raises:
        OptionError: if a study that is no part writes to the run, or this very part, or parts of another total.
        CacheAccessError: if a lock file beside the folder cannot be made or locked.
    """
    folder = folder.resolve()
    files = LocalFiles(folder)
    with ExitStack() as own, ExitStack() as beginning:
        try:
            beginning.enter_context(writer_lock(files, wait=_for_parts(), part=str(part)))
        except CacheLockedError as error:
            raise _refused(folder) from error
        other = _living(folder, part.cannot_run_beside)
        if other == part:
            raise OptionError(f"part {part} of {folder} is being fitted already; wait for it, or stop it")
        if other is not None:
            raise OptionError(
                f"{folder} is being fitted in {other.n_parts} parts; wait for them, or pass "
                + parameter("part", f"{min(part.number, other.n_parts)}/{other.n_parts}")
            )
        own.enter_context(writer_lock(files, name=f"{_locks(folder).name}/{part.lock}", part=str(part)))
        yield beginning.close


def _refused(folder: Path) -> OptionError:
    return OptionError(f"another dvme is writing to {folder}; wait for it, or name another " + OUT)


def _locks(folder: Path) -> Path:
    """Where the parts' locks are, beside the run."""
    return folder.with_name(f".{folder.name}{PARTS_SUFFIX}")


def _living(folder: Path, matters: Callable[[Part], bool] = lambda _: True) -> Part | None:
    """A part whose lock is held; None if there is none that matters."""
    found = PartLocks(LocalFiles(folder)).living(matters)
    return None if found is None else found.part


def _remove_locks(folder: Path) -> None:
    """Remove what dead parts left. No part can begin meanwhile."""
    for place in _locks(folder).glob(f"*{LOCK_SUFFIX}"):
        with suppress(OSError):
            place.unlink()
    with suppress(OSError):
        _locks(folder).rmdir()


def _for_parts() -> Callable[[Mapping[str, str]], bool]:
    """Patience with parts that begin, which let go of the lock soon; with a study that is none, there is none."""
    since, said = time.monotonic(), list[Mapping[str, str]]()

    def is_worth_it(holder: Mapping[str, str]) -> bool:
        is_news = not said or holder != said[-1]  # a lock may still name a process that died before
        said.append(holder)
        return "part" in holder or is_news or (not holder and time.monotonic() - since < SILENT_S)

    return is_worth_it
