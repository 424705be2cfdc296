"""DICOM files as containers of frames. The address of a frame is FILE/frame=12, from 0 on."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from errno import ENOENT
from pathlib import Path
from threading import Lock

from dvme.data.columns import COLUMN, Columns
from dvme.data.dicom.headers import read_headers
from dvme.data.dicom.names import SUFFIXES, frame_of
from dvme.data.encoded import Encoded
from dvme.data.samples import MISSING, Samples
from dvme.errors import DataError
from dvme_cache import content_id

MOST_BYTES = 256 << 20
"""Of files that are held for their next frames; the one read last is held whatever its size."""


@dataclass
class _Held:
    """The readers that hold the bytes of their file, the ones used last at the end."""

    readers: OrderedDict[int, Frames] = field(default_factory=OrderedDict)
    lock: Lock = field(default_factory=Lock)


_HELD = _Held()


class Frames:
    """The frames of one file, which is read and hashed once for all that are asked for one after the other."""

    def __init__(self, address: Path) -> None:
        self._address = address
        self._lock = Lock()
        self._n_frames: int | None = None
        self._file: tuple[bytes, bytes] | None = None

    def read(self, member: str) -> Encoded:
        """A frame; whether the file has so many shows when it is decoded."""
        frame = frame_of(member)
        if frame is None:
            raise OSError(ENOENT, f"{self._address.name} holds frames, such as frame=0, and not {member}")
        data, digest = self._whole()
        return Encoded(data, frame, digest)

    def holds(self, member: str) -> bool:
        """Whether the file has so many frames."""
        frame = frame_of(member)
        if frame is None:
            return False
        if self._n_frames is None:
            (header,) = read_headers([self._address], (), _bytes_at)
            self._n_frames = 0 if header is None else header.n_frames
        return frame < self._n_frames

    def close(self) -> None:
        """Let go of the bytes."""
        with _HELD.lock:
            _HELD.readers.pop(id(self), None)
        self._file = None

    def _whole(self) -> tuple[bytes, bytes]:
        """The bytes of the file, and their digest."""
        with self._lock:
            found = self._file
            if found is None:
                data = _bytes_at(self._address)
                found = self._file = data, content_id(data)
        _hold(self)
        return found

    @property
    def n_bytes(self) -> int:
        """That are held."""
        found = self._file
        return 0 if found is None else len(found[0])

    def forget(self) -> None:
        """Let go of the bytes until they are asked for again."""
        self._file = None


def _hold(reader: Frames) -> None:
    """Remember who holds bytes, and let those go that were used longest ago."""
    with _HELD.lock:
        _HELD.readers[id(reader)] = reader
        _HELD.readers.move_to_end(id(reader))
        while len(_HELD.readers) > 1 and sum(each.n_bytes for each in _HELD.readers.values()) > MOST_BYTES:
            _HELD.readers.popitem(last=False)[1].forget()


def _bytes_at(address: Path) -> bytes:
    """Of a file, or of one inside of another."""
    from dvme.data.sources import read_image

    return read_image(address).data


class _Source:
    """See `dvme.data.sources.protocol.Source`."""

    called = "a DICOM file"
    suffixes = SUFFIXES

    def finds(self, place: Path) -> bool:
        """A folder of DICOM files is a folder of files."""
        del place
        return False

    def list(self, place: Path, columns: Columns, *, images_only: bool) -> Samples:
        """The file itself; what its header tells, and its frames, are added as to files of every source.

        Raises:
            DataError: if columns of a manifest are named.
        """
        named = [] if images_only else [name for name in COLUMN if getattr(columns, name, None)]
        if named:
            raise DataError(f"{place} is {self.called}, " + COLUMN[named[0]] + " needs a manifest file; leave it out")
        nothing = [MISSING]
        return Samples([place], [place.name], nothing, nothing, nothing, given=frozenset())

    def open(self, container: Path) -> Frames:
        """The frames of a file."""
        return Frames(container)


SOURCE = _Source()
