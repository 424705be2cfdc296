"""A local Zarr store whose writes survive a power cut: write aside, fsync, rename, fsync the folder."""

from __future__ import annotations

import asyncio
import os
import uuid
from pathlib import Path

from zarr.core.buffer import Buffer
from zarr.storage import LocalStore

PARTIAL_SUFFIX = ".partial"


def sync_folder(folder: Path) -> None:
    """Make the folder's entries durable. POSIX: a rename lasts only once its folder is synced."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folders(folder: Path) -> None:
    """Create the folder and its missing parents, each of them durable."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def write_durably(path: Path, data: bytes | bytearray | memoryview) -> None:
    """Write a whole file so that a reader, or a reboot, sees either the old content or all of the new."""
    make_folders(path.parent)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}{PARTIAL_SUFFIX}")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def remove_partial_files(root: Path) -> None:
    """Delete what killed writers left aside. Only for the holder of the cache's lock."""
    for path in root.rglob(f".*{PARTIAL_SUFFIX}"):
        path.unlink(missing_ok=True)


class DurableStore(LocalStore):
    """zarr's LocalStore, which renames atomically but never syncs, with durable writes."""

    async def set(self, key: str, value: Buffer) -> None:
        """Store one object, whole and durable, or raise and leave the old one."""
        self._check_writable()
        await asyncio.to_thread(write_durably, self.root / key, value.as_buffer_like())

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Store the object unless there is one already."""
        if not (self.root / key).exists():
            await self.set(key, value)

    def set_sync(self, key: str, value: Buffer) -> None:
        """The same as `set`, for zarr versions that write without the event loop."""
        self._check_writable()
        write_durably(self.root / key, value.as_buffer_like())
