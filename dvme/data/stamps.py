"""Sizes and times of files that vouch for hashes of an earlier run, kept in the user's cache folder.

A file that is as it was then is not read to be identified. What changes bytes and leaves size, mtime and ctime as they
were goes unnoticed; so nothing here is used unless a run asks for it.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from dvme.data.sources import file_of
from dvme.runtime import kept_folder
from dvme_cache import content_id

FOLDER = "hashes"
START = b"dvme hashes 1\n"
ENTRY = struct.Struct("<16sqqq16s?")
"""Digest of the address, size, mtime and ctime in nanoseconds, content id, whether it is a DICOM file. No names: those
of images may be those of patients."""
DIGEST_BYTES = 16
SETTLED_NS = 2_000_000_000
"""A file that changed later than this before it was hashed could change once more without showing it."""


class Stamp(NamedTuple):
    """A file, or the container of an image, as the system described it."""

    size: int
    mtime_ns: int
    ctime_ns: int


class Vouched(NamedTuple):
    """What is known of an image without a look at it."""

    content_id: bytes
    is_dicom: bool


@dataclass
class Stamps:
    """The stamps of one source of images. Threads may ask and tell at a time, for no two of them have one address."""

    place: str
    """What the images were asked for as: a folder, a table, an archive."""
    _known: dict[bytes, tuple[Stamp, Vouched]] = field(default_factory=dict)
    _now: dict[bytes, tuple[Stamp, Vouched]] = field(default_factory=dict)

    @classmethod
    def of(cls, place: str) -> Stamps:
        """What earlier runs have kept; nothing where nothing is whole."""
        stamps = cls(place)
        with suppress(OSError, RuntimeError):  # the second: there is no home
            data = stamps._file.read_bytes()
            seal, entries = data[len(START) : len(START) + DIGEST_BYTES], data[len(START) + DIGEST_BYTES :]
            if data.startswith(START) and seal == content_id(entries) and len(entries) % ENTRY.size == 0:
                for key, size, mtime, ctime, digest, is_dicom in ENTRY.iter_unpack(entries):
                    stamps._known[key] = Stamp(size, mtime, ctime), Vouched(digest, is_dicom)
        return stamps

    def recall(self, address: Path) -> Vouched | None:
        """What is known of an image whose file is as it was; None where it has to be read."""
        key = _key(address)
        known = self._known.get(key)
        if known is None or known[0] != stamp_of(address):
            return None
        self._now[key] = known
        return known[1]

    def note(self, address: Path, before: Stamp | None, looked_at: int, vouched: Vouched) -> None:
        """Remember what a look at an image has shown, if its file has settled and stayed as it was.

        Args:
            address: of the image.
            before: its stamp before it was read.
            looked_at: when that was, in nanoseconds.
            vouched: what is known of it now.
        """
        is_settled = before is not None and max(before.mtime_ns, before.ctime_ns) + SETTLED_NS < looked_at
        if before is not None and is_settled and stamp_of(address) == before:
            self._now[_key(address)] = before, vouched

    def forget(self, addresses: Collection[Path]) -> None:
        """Let go of images whose files turned out to be others."""
        for address in addresses:
            self._now.pop(_key(address), None)

    def save(self, *, is_whole: bool = True) -> None:
        """Keep what was recalled and noted, and nothing else if that is all; where nothing can be written, nothing."""
        kept = self._now if is_whole else self._known | self._now
        if kept == self._known:
            return
        entries = b"".join(ENTRY.pack(key, *stamp, *vouched) for key, (stamp, vouched) in sorted(kept.items()))
        with suppress(OSError, RuntimeError):
            path = self._file
            aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                aside.write_bytes(START + content_id(entries) + entries)
                aside.replace(path)
            finally:
                aside.unlink(missing_ok=True)
        self._known = dict(kept)

    @property
    def _file(self) -> Path:
        return kept_folder(FOLDER) / content_id(os.fsencode(self.place)).hex()


def stamp_of(address: Path) -> Stamp | None:
    """Of an image's file, or of the container that it lies in; None where there is none."""
    try:
        try:
            found = os.stat(address)  # noqa: PTH116 - once for each image
        except (FileNotFoundError, NotADirectoryError):
            found = file_of(address).stat()
    except (OSError, ValueError):
        return None
    return Stamp(found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def now() -> int:
    """In nanoseconds, by the clock that files are dated by."""
    return time.time_ns()


def _key(address: Path) -> bytes:
    return content_id(os.fsencode(os.path.abspath(address)))  # noqa: PTH100 - once for each image
