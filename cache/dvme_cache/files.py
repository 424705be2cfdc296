"""Where the bytes of a cache lie: a folder, or an object store. Whole files in, byte ranges out."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from dvme_cache.errors import CacheAccessError
from dvme_cache.protocol import Files, Run
from dvme_cache.remote import RemoteFiles

PARTIAL_SUFFIX = ".partial"
PARTIAL_NAME = re.compile(r"\..+\.[0-9a-f]+\.partial", re.DOTALL)
URL_SEPARATOR = "://"
ONE_SLASH = re.compile(r"[a-z][a-z0-9]+:/(?!/)")


class LocalFiles:
    """Files below a folder. A write is made aside, synced, renamed, and its folder synced."""

    n_readers, n_writers = 1, 2

    def __init__(self, root: Path, *, known_as: str | None = None) -> None:
        self.root = root
        self._known_as = str(root) if known_as is None else known_as

    def __str__(self) -> str:
        return self._known_as

    def read(self, key: str) -> bytes | None:
        """The whole file, or None where there is none."""
        try:
            return (self.root / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def read_into(self, key: str, runs: Sequence[Run]) -> None:
        """Fill every buffer from its place in the file."""
        try:
            with (self.root / key).open("rb", buffering=0) as file:
                for start, buffer in runs:
                    read = 0
                    while read < len(buffer):
                        count = os.preadv(file.fileno(), [buffer[read:]], start + read)
                        if not count:
                            raise EOFError(f"{key} ends at byte {start + read}")
                        read += count
        except (NotADirectoryError, IsADirectoryError) as error:
            raise FileNotFoundError(f"{key} is no file") from error

    def write(self, key: str, parts: Sequence[memoryview | bytes]) -> None:
        """Replace a file by the concatenation of the parts."""
        write_durably(self.root / key, *parts)

    def delete(self, key: str) -> None:
        """Remove a file, if it is there."""
        path = self.root / key
        if path.exists():
            path.unlink()
            sync(path.parent)

    def delete_tree(self, prefix: str) -> None:
        """Remove every file below a folder."""
        path = self.root / prefix
        if path.is_dir():
            shutil.rmtree(path)
            sync(path.parent)

    def stamp(self, key: str) -> object:
        """Which file it is, and since when; None where there is none."""
        try:
            with (self.root / key).open("rb", buffering=0) as file:  # to open makes NFS ask its server, stat may not
                found = os.fstat(file.fileno())
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """Key to bytes, of every file below a folder."""
        found = {}
        for folder, _, names in os.walk(self.root / prefix):
            for name in names:
                path = Path(folder) / name
                with suppress(FileNotFoundError):  # a writer renamed or removed it meanwhile
                    found[path.relative_to(self.root).as_posix()] = path.lstat().st_size
        return found

    def names(self, prefix: str) -> list[str]:
        """Names of the files and folders right below a folder."""
        try:
            return [path.name for path in (self.root / prefix).iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return []


def is_url(location: str | Path) -> bool:
    """Whether a location is in an object store."""
    return URL_SEPARATOR in str(location)


def open_files(location: str | Path) -> Files:
    """The files of a cache, by local path or URL.

    Raises:
        CacheAccessError: if the extra `remote` is not installed, or the URL cannot be used.
    """
    if ONE_SLASH.match(str(location)):
        message = f"{location} is neither a path nor a URL; write two slashes, and pass URLs as text, not as a Path"
        raise CacheAccessError(message)
    if is_url(location):
        return RemoteFiles(str(location))
    path = Path(location)
    if path.is_symlink() or path.name in {"", ".."}:  # two names of one folder must mean one lock beside it
        path = Path(os.path.realpath(path))
    return LocalFiles(path, known_as=str(location))


def sync(path: Path) -> None:
    """Make a file's bytes, or a folder's entries, durable. POSIX: a rename lasts only once its folder is synced."""
    descriptor = os.open(path, os.O_RDONLY)
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
        sync(path.parent)


def write_durably(path: Path, *parts: memoryview | bytes) -> None:
    """Write a whole file so that a reader, or a reboot, sees either the old content or all of the new."""
    make_folders(path.parent)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}{PARTIAL_SUFFIX}")
    try:
        with aside.open("xb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync(path.parent)


def remove_partial_files(root: Path, may_remove: Callable[[str], bool] = lambda _: True) -> None:
    """Delete what killed writers left aside, by key. Only for the holder of the cache's lock."""
    for path in root.rglob(f".*{PARTIAL_SUFFIX}"):
        if PARTIAL_NAME.fullmatch(path.name) and may_remove(path.relative_to(root).as_posix()) and path.is_file():
            path.unlink(missing_ok=True)
