"""One writer per cache: a lock that the system releases with its process, or a lease in an object store."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from dvme_cache.errors import CacheAccessError, CacheLockedError
from dvme_cache.files import Files, LocalFiles, make_folders
from dvme_cache.layout import LOCK_SUFFIX
from dvme_cache.remote import RemoteFiles, access_errors, open_store

if TYPE_CHECKING:
    from obstore import PutMode, UpdateVersion

LEASE_S, RENEW_EVERY_S, ASK_EVERY_S = 90.0, 20.0, 2.0


@contextmanager
def writer_lock(files: Files, *, wait: bool = False) -> Iterator[None]:
    """Be the one writer of a cache for as long as the context lasts.

    Args:
        files: of the cache.
        wait: whether to wait for another writer to finish, or to refuse.

    Raises:
        CacheLockedError: another process writes to this cache.
    """
    if isinstance(files, RemoteFiles):
        with _lease(files, wait=wait):
            yield
        return
    assert isinstance(files, LocalFiles)
    with _local_lock(files.root, wait=wait):
        yield


@contextmanager
def _local_lock(path: Path, *, wait: bool) -> Iterator[None]:
    """A lock file beside the cache. The system lets go of it when the process dies, however it dies."""
    make_folders(path.absolute().parent)
    place = path.with_name(f".{path.name}{LOCK_SUFFIX}")
    lock = FileLock(place, timeout=-1 if wait else 0)
    try:
        lock.acquire()
    except Timeout as error:
        raise CacheLockedError(_refusal(str(path), _read_holder(place))) from error
    except NotImplementedError as error:
        raise CacheAccessError(f"the file system of {path} has no file locks; write the cache elsewhere") from error
    try:
        place.write_text(json.dumps(_holder()))
        yield
        place.write_text("")
    finally:
        lock.release()


@contextmanager
def _lease(files: RemoteFiles, *, wait: bool) -> Iterator[None]:
    """An object beside the cache, made only if there is none, and renewed while its holder lives.

    A lease that was not renewed for 90 seconds belongs to a dead process and is taken over. A writer that
    lost its lease (its machine slept, say) is stopped before its next write.
    """
    lease = Lease(files.url)
    while not lease.acquire():
        if not wait:
            raise CacheLockedError(_refusal(files.url, lease.other))
        time.sleep(ASK_EVERY_S)
    renewal = threading.Thread(target=lease.keep, name="lease", daemon=True)
    renewal.start()
    files.before_write = lease.check
    try:
        yield
    finally:
        files.before_write = None
        lease.release()
        renewal.join()


class Lease:
    """A lock object in an object store, by conditional writes; clocks may differ by less than the lease."""

    def __init__(self, url: str) -> None:
        parent, _, name = url.rpartition("/")
        self.url = url
        self.other: dict[str, str] = {}
        self._place = f".{name}{LOCK_SUFFIX}"
        self._store = open_store(parent)
        self._content = json.dumps(_holder()).encode()
        self._version: UpdateVersion = {}
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
                    held = obstore.get(self._store, self._place)
                    self.other = json.loads(bytes(held.bytes()))
                    age = (datetime.now(UTC) - held.meta["last_modified"]).total_seconds()
                    if age < LEASE_S:
                        return False
                    self._put({"e_tag": held.meta["e_tag"]})
                except (FileNotFoundError, PreconditionError):  # let go, or taken by someone faster
                    return False
        return True

    def keep(self) -> None:
        """Renew until released or lost. Runs in a thread of its own."""
        from obstore.exceptions import PreconditionError

        renewed = time.monotonic()
        while not self._is_released.wait(RENEW_EVERY_S):
            try:
                with access_errors(self.url):
                    self._put(self._version)
                renewed = time.monotonic()
            except (PreconditionError, FileNotFoundError):
                self._is_lost.set()
            except CacheAccessError:
                if time.monotonic() - renewed > LEASE_S - RENEW_EVERY_S:
                    self._is_lost.set()

    def check(self) -> None:
        """Refuse to write on behalf of a lease that someone else may hold by now.

        Raises:
            CacheLockedError: if the lease is lost.
        """
        if self._is_lost.is_set():
            raise CacheLockedError(f"{self.url}: another writer took over; what was committed is kept, run again")

    def release(self) -> None:
        """Let go, unless someone else holds it already."""
        import obstore

        self._is_released.set()
        if not self._is_lost.is_set():
            with access_errors(self.url):
                obstore.delete(self._store, self._place)

    def _put(self, mode: PutMode) -> None:
        import obstore

        with access_errors(self.url, is_writing=mode == "create"):
            result = obstore.put(self._store, self._place, self._content, mode=mode, use_multipart=False)
        self._version = {"e_tag": result["e_tag"]}


def _holder() -> dict[str, str]:
    """Who writes, for the message that others get."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"process": str(os.getpid()), "host": socket.gethostname(), "since": now, "token": uuid.uuid4().hex}


def _read_holder(place: Path) -> dict[str, str]:
    """Who wrote into a lock file; empty if that cannot be read."""
    try:
        holder = json.loads(place.read_text())
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _refusal(location: str, holder: dict[str, str]) -> str:
    who = "another process"
    if {"process", "host", "since"} <= set(holder):
        who = f"process {holder['process']} on {holder['host']} (since {holder['since']})"
    return f"{location} is being written by {who}; wait for it (--wait), or stop it, then run again"
