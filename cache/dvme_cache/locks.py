"""Locks that the system releases with their process, and leases in an object store. Who may hold which: parts.py."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

from filelock import FileLock, Timeout

from dvme_cache.errors import CacheAccessError, CacheLockedError
from dvme_cache.files import LocalFiles, make_folders
from dvme_cache.layout import LOCK_SUFFIX
from dvme_cache.protocol import Files
from dvme_cache.remote import RemoteFiles, access_errors, open_store

if TYPE_CHECKING:
    from obstore import ObjectMeta, PutMode, PutResult, UpdateVersion

LEASE_S, RENEW_EVERY_S, ASK_EVERY_S = 90.0, 20.0, 2.0
GLANCE_S, GLANCE_EVERY_S = 0.1, 0.02
"""For how long a lock file is tried: who only looks whether it is held (`is_held`) has it for an instant as well."""
SAFE_SHARE = 0.75
"""Of the lease, in which its holder may begin a write without renewing it first."""


Patience = Callable[[Mapping[str, str]], bool]
"""Whether to wait for a lock, by what its holder says of itself."""


def writer_lock(
    files: Files, *, wait: bool | Patience = False, name: str = "", part: str = ""
) -> AbstractContextManager[None]:
    """Hold a lock of a cache for as long as the context lasts.

    Args:
        files: of the cache.
        wait: whether to wait for who holds it: always, never, or by who it is.
        name: of the lock, beside the cache; "" is that of the one writer.
        part: of an extraction, of which the holder is.

    Raises:
        CacheLockedError: another process holds it.
        CacheAccessError: it cannot be made or locked.
    """
    patience: Patience = wait if callable(wait) else lambda _: bool(wait)
    if isinstance(files, RemoteFiles):
        return _lease(files, Lease(files.url, name=name, part=part), patience)
    assert isinstance(files, LocalFiles)
    place = files.root.parent / name if name else lock_file(files.root)
    return _file_lock(files.root, place, patience, part)


def folder_lock(path: Path, *, wait: bool = False) -> AbstractContextManager[None]:
    """Hold the lock file beside a folder.

    Raises:
        CacheLockedError: another process holds it.
        CacheAccessError: it cannot be made or locked.
    """
    return _file_lock(path, lock_file(path), lambda _: wait)


def lock_file(path: Path) -> Path:
    """The lock file beside a folder."""
    return path.with_name(f".{path.name}{LOCK_SUFFIX}")


def is_held(place: Path) -> bool:
    """Whether a process holds a lock file, which is there.

    Raises:
        CacheAccessError: if that cannot be known.
    """
    lock = FileLock(place, timeout=GLANCE_S)
    try:
        lock.acquire(poll_interval=GLANCE_EVERY_S)
    except Timeout:
        return True
    except (NotImplementedError, OSError) as error:
        raise _no_lock(place, error) from error
    lock.release()
    return False


@contextmanager
def _file_lock(path: Path, place: Path, patience: Patience, part: str = "") -> Iterator[None]:
    """Hold a lock file. The system lets go of it when the process dies, however it dies.

    The file stays: another process may have it open by then, and would lock what nobody else finds.
    """
    make_folders(place.absolute().parent)
    lock = FileLock(place, timeout=GLANCE_S)
    while True:
        try:
            lock.acquire(poll_interval=GLANCE_EVERY_S)
            break
        except Timeout as error:
            if not place.exists():
                message = f"no lock file can be made at {place}; write where new files are allowed"
                raise CacheAccessError(message) from error
            holder = read_holder(place)
            if not patience(holder):
                raise CacheLockedError(refusal(str(path), holder)) from error
        except (NotImplementedError, OSError) as error:
            raise _no_lock(place, error) from error
    try:
        place.write_text(json.dumps(_holder(part)))
        yield
        place.write_text("")
    finally:
        lock.release()


def _no_lock(place: Path, error: Exception) -> CacheAccessError:
    reason = getattr(error, "strerror", None) or "the file system has no file locks"
    return CacheAccessError(f"{place} cannot be locked ({reason}); write elsewhere, or make locks work")


@contextmanager
def _lease(files: RemoteFiles, lease: Lease, patience: Patience) -> Iterator[None]:
    """An object beside the cache, made only if there is none, and renewed while its holder lives.

    A lease that was watched for 90 seconds and not renewed belongs to a dead process and is taken over. Who does not
    wait is refused, but watches a lease that looks dead by the store's clock until a renewal is seen.
    A writer that lost its lease (its machine slept, say) is stopped before its next write.
    """
    while not lease.acquire():
        if not lease.looks_dead and not patience(lease.other):
            raise CacheLockedError(refusal(files.url, lease.other, is_lease=True))
        time.sleep(ASK_EVERY_S)
    renewal = threading.Thread(target=lease.keep, name="lease", daemon=True)
    renewal.start()
    files.before_write.append(lease.check)
    try:
        yield
    finally:
        files.before_write.remove(lease.check)
        lease.stop()
        renewal.join()
        lease.release()


def seconds_passed() -> float:
    """A clock of this machine alone: never set, and not stopped while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))  # macOS: the latter


class Lease:
    """A lock object in an object store, by conditional writes. No two clocks are compared but for a hint.

    Its holder counts from before the request that renewed it, and who watches it from after the answer that showed it:
    by the time that the lease is taken over, whoever held it has stopped to trust it.
    """

    def __init__(
        self, url: str, *, name: str = "", part: str = "", clock: Callable[[], float] = seconds_passed
    ) -> None:
        parent, _, own = url.rpartition("/")
        self.url = url
        self.other: dict[str, str] = {}
        self._place = name or f".{own}{LOCK_SUFFIX}"
        self.looks_dead = False
        """Whether the store's clock says that nobody renewed it, and no renewal was seen since."""
        self._store, self._clock = open_store(parent), clock
        self._holder = _holder(part)
        self._version: UpdateVersion = {}
        self._content = b""
        self._asked = self._renewed = 0.0
        self._watched, self._watched_since = "", 0.0
        self._renewing = threading.Lock()
        self._is_released, self._is_lost = threading.Event(), threading.Event()

    def acquire(self) -> bool:
        """Take the lease if it is free or its holder is dead. Otherwise `other` says who holds it."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        with access_errors(self.url):
            try:
                self._put("create")
            except AlreadyExistsError:
                try:
                    if self._is_own():
                        return True
                    held = obstore.get(self._store, self._place)
                    self.other = _parsed(bytes(held.bytes()))
                    if not self._is_abandoned(held.meta):
                        return False
                    self._put(_version_of(held.meta))
                except (FileNotFoundError, PreconditionError):  # let go, or taken by someone faster
                    return False
        return True

    def _is_abandoned(self, found: ObjectMeta) -> bool:
        """Whether the lease that is there was seen unchanged for as long as a lease lasts."""
        now, version = self._clock(), str(found["e_tag"])
        if version != self._watched:
            age = time.time() - found["last_modified"].timestamp()
            self.looks_dead = not self._watched and age > LEASE_S
            self._watched, self._watched_since = version, now
        return now - self._watched_since >= LEASE_S

    def keep(self) -> None:
        """Renew until released or lost. Runs in a thread of its own."""
        while not self._is_released.wait(RENEW_EVERY_S) and not self._is_lost.is_set():
            with suppress(CacheAccessError):  # check() knows how long it has been
                self._renew()

    def _renew(self) -> None:
        """Renew, or learn that someone else took over."""
        from obstore.exceptions import PreconditionError

        with self._renewing, access_errors(self.url):
            try:
                self._put(self._version)
            except (PreconditionError, FileNotFoundError):
                if not self._is_own():
                    self._is_lost.set()

    def _is_own(self) -> bool:
        """Whether the write that was refused had been made after all: its answer was lost, and it was sent again."""
        import obstore

        try:
            held = obstore.get(self._store, self._place)
        except FileNotFoundError:
            return False
        if bytes(held.bytes()) != self._content:
            return False
        self._version, self._renewed = _version_of(held.meta), self._asked
        return True

    def check(self) -> None:
        """Refuse to write on behalf of a lease that someone else may hold by now.

        Raises:
            CacheLockedError: if someone else took over, as after a sleep of the machine.
            CacheAccessError: if it is too old to be trusted and cannot be renewed.
        """
        if self._clock() - self._renewed > SAFE_SHARE * LEASE_S and not self._is_lost.is_set():
            self._renew()
        if self._is_lost.is_set():
            raise CacheLockedError(f"{self.url}: another writer took over; what was committed is kept, run again")

    def stop(self) -> None:
        """No longer renew."""
        self._is_released.set()

    def release(self) -> None:
        """Let go, unless someone else holds it already."""
        import obstore

        if self._clock() - self._renewed > SAFE_SHARE * LEASE_S:
            self._renew()  # or someone takes over between the next two requests
        with access_errors(self.url), suppress(FileNotFoundError):
            if obstore.head(self._store, self._place)["e_tag"] == self._version["e_tag"]:
                obstore.delete(self._store, self._place)

    def _put(self, mode: PutMode) -> None:
        """Write the lease. Its content is never the same twice, for an unchanged object keeps its version."""
        import obstore

        self._asked = self._clock()
        self._content = json.dumps(self._holder | {"token": uuid.uuid4().hex}).encode()
        with access_errors(self.url, is_writing=mode == "create"):
            result = obstore.put(self._store, self._place, self._content, mode=mode, use_multipart=False)
        self._version, self._renewed = _version_of(result), self._asked


def _version_of(found: ObjectMeta | PutResult) -> UpdateVersion:
    """What a conditional write has to find: S3 and Azure go by the tag, Google by the version."""
    version = {"e_tag": found["e_tag"]} | ({"version": found["version"]} if found["version"] else {})
    return cast("UpdateVersion", version)


def _holder(part: str) -> dict[str, str]:
    """Who writes, for the message that others get."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    found = {"process": str(os.getpid()), "host": socket.gethostname(), "since": now}
    return found | ({"part": part} if part else {})


def read_holder(place: Path) -> dict[str, str]:
    """Who wrote into a lock file; empty if that cannot be read."""
    try:
        return _parsed(place.read_bytes())
    except OSError:
        return {}


def _parsed(content: bytes) -> dict[str, str]:
    """Who wrote this; empty if it does not say."""
    try:
        holder = json.loads(content)
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}


def refusal(location: str, holder: Mapping[str, str], *, is_lease: bool = False) -> str:
    """What is said to who does not wait for a lock."""
    who = "another process"
    if {"process", "host", "since"} <= set(holder):
        part = f"part {holder['part']}, " if "part" in holder else ""
        who = f"{part}process {holder['process']} on {holder['host']} (since {holder['since']})"
    step = "wait for it, or stop it, then run again"
    gone = f"; if it is gone, run again in {LEASE_S:.0f} s: its lease is then watched for as long and taken over"
    return f"{location} is being written by {who}; {step}" + (gone if is_lease else "")
