"""Who may write to a cache: one writer, or the parts of an extraction, each to shards of its own.

A part begins under the lock of the one writer. There it lays out what all parts share and takes a lock of its own; then
it lets go of the first, and from there on writes files of its shards only. So who holds the first lock and finds no
part's lock held is alone, and stays alone: no part can begin.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from numpy.typing import NDArray

from dvme_cache.creation import make_ready
from dvme_cache.errors import CacheAccessError, CacheLockedError
from dvme_cache.files import PARTIAL_SUFFIX, LocalFiles, open_files
from dvme_cache.layout import EMBEDDING_CHUNK, LOCK_SUFFIX, PARTS_SUFFIX
from dvme_cache.locks import ASK_EVERY_S, Lease, is_held, lock_file, read_holder, refusal, writer_lock
from dvme_cache.protocol import Files
from dvme_cache.recognition import check_is_cache, is_anything_there
from dvme_cache.remote import RemoteFiles

LetGo = Callable[[], None]
"""Ends being the one writer, so that other parts can begin."""

WRITTEN = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")
LOCK = re.compile(r"([0-9]{1,9})-of-([0-9]{1,9})" + re.escape(LOCK_SUFFIX))
ASIDE = re.compile(EMBEDDING_CHUNK.pattern + r"(?:(\d+)/\.0|\.(\d+))\.[0-9a-f]+" + re.escape(PARTIAL_SUFFIX))
"""What a killed commit left of a file of a shard, and the shard."""
LOOK_EVERY_S, BELIEVED_AFTER_S = 0.5, 5.0
"""How often a waiting writer looks for parts; for how long a lock has to name another writer before a part gives up."""


@dataclass(frozen=True)
class Part:
    """One of several processes that extract into one cache."""

    number: int
    """From 1 to n_parts."""
    n_parts: int

    def __post_init__(self) -> None:
        """Refuse what is none."""
        if not 1 <= self.number <= self.n_parts:
            raise ValueError(f"there is no part {self}; parts are 1/{self.n_parts} to {self.n_parts}/{self.n_parts}")

    def __str__(self) -> str:
        return f"{self.number}/{self.n_parts}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `3/16`, the third of sixteen.

        Raises:
            ValueError: if it is not written so, or there is no such part.
        """
        found = WRITTEN.fullmatch(text)
        if found is None or not int(found[2]):
            raise ValueError(f"{text!r} is no part")
        return cls(int(found[1]), int(found[2]))

    def owns(self, shards: NDArray[Any] | int) -> Any:
        """Whether a shard, by its number, is this part's: bool, or (S,) bool of an array of S shards."""
        return shards % self.n_parts == self.number - 1

    def shards(self, n_shards: int) -> range:
        """Those of some shards that are this part's."""
        return range(self.number - 1, n_shards, self.n_parts)

    def cannot_run_beside(self, other: Part) -> bool:
        """Whether both would write the same shards: they are one part, or, it may be, of different totals."""
        return self == other or self.n_parts != other.n_parts

    def may_remove(self, key: str) -> bool:
        """Whether no other part can be writing a file that is made aside, while this one begins."""
        found = ASIDE.fullmatch(key)
        return bool(self.owns(int(found[1] or found[2]))) if found else EMBEDDING_CHUNK.match(key) is None

    @property
    def lock(self) -> str:
        """The name of its lock among those of the parts."""
        return f"{self.number}-of-{self.n_parts}{LOCK_SUFFIX}"


@contextmanager
def one_writer(location: str | Path, *, wait: bool = False) -> Iterator[Files]:
    """Be the one writer of a cache for as long as the context lasts: no other process writes, and no part.

    Yields:
        The files of the cache; an empty one was made if nothing was there.

    Raises:
        CacheLockedError: another process writes to this cache.
        NotACacheError: the place holds something else.
        CacheAccessError: it cannot be reached, or its locks cannot be made or looked at.
    """
    files = _writable(location)
    locks = PartLocks(files)
    while True:
        with writer_lock(files, wait=wait):
            living = locks.living(lambda _: True)
            if living is None:
                make_ready(files)
                yield files
                return
        _wait_for(living, files, None, wait=wait)


@contextmanager
def one_part(location: str | Path, part: Part, *, wait: bool = False) -> Iterator[tuple[Files, LetGo]]:
    """Be a part of an extraction for as long as the context lasts.

    It begins as the one writer. Other parts that are just beginning are waited for.

    Yields:
        The files as of `one_writer`, and what ends being the one writer, so that other parts can begin.

    Raises:
        CacheLockedError: another process writes to this cache, and no part beside which this one can run.
        NotACacheError, CacheAccessError: as `one_writer`.
    """
    files = _writable(location)
    locks = PartLocks(files)
    while True:
        with ExitStack() as own, ExitStack() as beginning:
            beginning.enter_context(writer_lock(files, wait=_Beginners(wait=wait), part=str(part)))
            living = locks.living(part.cannot_run_beside)
            if living is None:
                name = f"{_folder(files)}/{part.lock}"  # held by nobody, at most looked at
                own.enter_context(writer_lock(files, wait=True, name=name, part=str(part)))
                make_ready(files, part.may_remove)
                yield files, beginning.close
                return
        _wait_for(living, files, part, wait=wait)


def check_unlocked(location: str | Path, part: Part | None = None) -> None:
    """Refuse a cache to which another process writes, before anything is prepared; `one_writer` decides in the end.

    Args:
        location: path or URL.
        part: who asks; None: who would be the one writer.

    Raises:
        CacheLockedError: another process writes to this cache. In an object store only the locks themselves show it.
    """
    files = open_files(location)
    if not isinstance(files, LocalFiles):
        return
    place, is_patient = lock_file(files.root), (lambda _: False) if part is None else _Beginners(wait=False)
    with suppress(CacheAccessError):
        # A writer says who it is, and takes that back when it ends; one that was killed cannot.
        while (holder := read_holder(place)) and not (part is not None and "part" in holder) and is_held(place):
            if not is_patient(holder):
                raise CacheLockedError(refusal(str(files.root), holder))
        living = PartLocks(files).living((lambda _: True) if part is None else part.cannot_run_beside)
        if living is not None:
            raise CacheLockedError(_refusal(files, living, part))


@dataclass(frozen=True)
class Living:
    """A part that lives, or may."""

    part: Part
    holder: Mapping[str, str]
    """What its lock says."""
    is_doubtful: bool = False
    """Whether its lease looks abandoned: it has to be watched for a while."""


class PartLocks:
    """The locks of a cache's parts. Leases are watched from one look to the next."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._leases: dict[str, Lease] = {}

    def living(self, matters: Callable[[Part], bool]) -> Living | None:
        """A part that lives and matters; None if there is none. A dead one's lease is removed."""
        if isinstance(self._files, RemoteFiles):
            return self._leased(matters)
        assert isinstance(self._files, LocalFiles)
        folder = self._files.root.parent / _folder(self._files)
        for name in sorted(LocalFiles(folder).names("")):
            part = _part_of(name)
            if part is not None and matters(part) and is_held(folder / name):
                return Living(part, read_holder(folder / name))
        return None

    def _leased(self, matters: Callable[[Part], bool]) -> Living | None:
        url, folder, found = str(self._files), _folder(self._files), []
        for name in RemoteFiles(f"{url.rpartition('/')[0]}/{folder}").names(""):
            part = _part_of(name)
            if part is None or not matters(part):
                continue
            lease = self._leases.setdefault(name, Lease(url, name=f"{folder}/{name}"))
            if lease.acquire():
                lease.release()
                del self._leases[name]
            else:
                found.append(Living(part, lease.other, is_doubtful=lease.looks_dead))
        return min(found, key=lambda living: living.is_doubtful, default=None)


@dataclass
class _Beginners:
    """The patience of a part with who holds the lock of the one writer: parts that begin let go of it soon.

    What a lock says may be torn, or of a process that died: its next holder is about to write who it is.
    """

    wait: bool
    _said: Mapping[str, str] | None = None
    _said_since: float = 0.0

    def __call__(self, holder: Mapping[str, str]) -> bool:
        if holder != self._said:
            self._said, self._said_since = holder, time.monotonic()
        return self.wait or "part" in holder or time.monotonic() - self._said_since < BELIEVED_AFTER_S


def _writable(location: str | Path) -> Files:
    """The files of a place where there is a cache, or nothing."""
    files = open_files(location)
    if is_anything_there(files):
        check_is_cache(files)
    return files


def _wait_for(living: Living, files: Files, part: Part | None, *, wait: bool) -> None:
    """Wait a moment for a part to end.

    Raises:
        CacheLockedError: if nobody waits for one that lives.
    """
    if not wait and not living.is_doubtful:
        raise CacheLockedError(_refusal(files, living, part))
    time.sleep(ASK_EVERY_S if isinstance(files, RemoteFiles) else LOOK_EVERY_S)


def _refusal(files: Files, living: Living, part: Part | None) -> str:
    """What is said to who does not wait for a part: another part, or who would be the one writer."""
    text = refusal(str(files), living.holder, is_lease=isinstance(files, RemoteFiles))
    if part is None or living.part.n_parts == part.n_parts:
        return text
    return f"parts of {part.n_parts} cannot run beside parts of {living.part.n_parts}, whose shards they share: {text}"


def _folder(files: Files) -> str:
    """Where the parts' locks are, beside the cache."""
    name = files.root.name if isinstance(files, LocalFiles) else str(files).rpartition("/")[2]
    return f".{name}{PARTS_SUFFIX}"


def _part_of(name: str) -> Part | None:
    """Whose lock it is; None of what is none."""
    found = LOCK.fullmatch(name)
    with suppress(ValueError):
        return Part(int(found[1]), int(found[2])) if found else None
    return None
