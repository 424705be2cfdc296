"""Zip archives: the images of one as those of a folder, read in place by any number of threads."""

from __future__ import annotations

import lzma
import os
import struct
import zipfile
import zlib
from contextlib import suppress
from dataclasses import replace
from errno import EBADMSG, EIO, ENOENT
from pathlib import Path
from stat import S_IFMT, S_ISDIR, S_ISLNK, S_ISREG
from threading import Lock
from typing import NamedTuple

from dvme.data.columns import Columns
from dvme.data.encoded import Encoded
from dvme.data.folder import listed_samples
from dvme.data.listing import NOT_A_FILE, Listing, why
from dvme.data.samples import Samples
from dvme.data.sources import opened
from dvme.data.sources.entries import LINK_TO_NOTHING, Entries, bytes_at, refuse_columns
from dvme.errors import DataError
from dvme.text import counted

STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
IN_PYTHON = frozenset({zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, getattr(zipfile, "ZIP_ZSTANDARD", zipfile.ZIP_LZMA)})
"""Methods that `zipfile` reads for us, one member at a time."""
UNPACKING = (zipfile.BadZipFile, EOFError, ValueError, RuntimeError, lzma.LZMAError, OSError)
"""What `zipfile` raises on damaged members."""
METHODS = {1: "Shrink", 6: "Implode", 9: "Deflate64", 93: "Zstandard", 95: "XZ", 98: "PPMd", 99: "AES"}
"""Names of others. Source: PKWARE, APPNOTE.TXT, section 4.4.5."""
ENCRYPTED, UTF_8 = 0x1, 0x800
"""Flags of a member. Source: the same, section 4.4.4."""
FILE = b"PK\x03\x04"
LOCAL_HEADER = struct.Struct("<4s22xHH")
"""The signature, and the lengths of the name and of the extra field behind it."""
SLACK = 512
"""Bytes read beyond a member's own, for the extra field, whose length only the local header has."""
DOS, UNIX = 0, 3
"""Systems that may have made a member."""


class Stored(NamedTuple):
    """Where a member lies, and how."""

    header: int
    """Offset of its local header."""
    n_packed: int
    n_bytes: int
    crc: int
    method: int
    """Of compression; or one of METHODS that cannot be read, AES standing for every encryption."""


class ZipMembers:
    """An open zip archive."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._archive: zipfile.ZipFile | None = None
        self._infos: dict[int, zipfile.ZipInfo] = {}
        self._lock = Lock()
        self._fd = os.open(path, os.O_RDONLY)
        try:
            self.entries = self._listed()
        except BaseException:
            os.close(self._fd)
            raise

    def read(self, member: str) -> Encoded:
        """The image of a name."""
        place = self.entries.places.get(member)
        if place is None:
            raise OSError(ENOENT, f"not in {self.path.name}")
        return Encoded(self._bytes(place))

    def holds(self, member: str) -> bool:
        """Whether there is a file of this name."""
        return member in self.entries.places

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)
        if self._archive is not None:
            self._archive.close()

    def _listed(self) -> Entries[Stored]:
        entries = Entries[Stored]()
        links = []
        for info in _directory(self.path):
            name, mode = _name(info), info.external_attr >> 16 if info.create_system == UNIX else 0
            place = _place(info)
            if info.is_dir() or S_ISDIR(mode):
                entries.add_folder(name)
            elif S_ISLNK(mode):
                links.append((name, place))
            elif S_IFMT(mode) and not S_ISREG(mode):
                entries.add_other(name, NOT_A_FILE)
            else:
                entries.add(name, place)
        for name, place in links:
            try:
                target = self._bytes(place).decode("utf-8", "surrogateescape")
            except OSError:
                entries.add_other(name, LINK_TO_NOTHING)
                continue
            entries.add_link(name, target, is_relative=True)
        entries.follow_links()
        return entries

    def _bytes(self, place: Stored) -> bytes:
        """What a member holds.

        Raises:
            OSError: if it cannot be read, or is damaged.
        """
        if place.method not in {STORED, DEFLATED}:
            return self._by_python(place)
        packed = self._packed(place)
        try:
            data = packed if place.method == STORED else zlib.decompressobj(-15).decompress(packed, place.n_bytes + 1)
        except zlib.error as error:
            raise OSError(EBADMSG, f"damaged in {self.path.name} ({error})") from error
        if len(data) != place.n_bytes or zlib.crc32(data) != place.crc:
            raise OSError(EBADMSG, f"damaged in {self.path.name} (its CRC-32 is another)")
        return data

    def _packed(self, place: Stored) -> bytes:
        """A member as it lies in the file: `zipfile` would have threads wait for each other's reads."""
        size = LOCAL_HEADER.size
        found = bytes_at(self._fd, size + SLACK + place.n_packed, place.header)
        if found[:4] != FILE or len(found) < size:
            raise OSError(EBADMSG, f"damaged in {self.path.name} (nothing lies where its directory says)")
        _, n_name, n_extra = LOCAL_HEADER.unpack_from(found)
        start = size + n_name + n_extra
        if n_name + n_extra > SLACK:
            return bytes_at(self._fd, place.n_packed, place.header + start)
        return found[start : start + place.n_packed]

    def _by_python(self, place: Stored) -> bytes:
        if place.method not in IN_PYTHON:
            raise OSError(EIO, f"{_hindrance(place)} in {self.path.name}")
        try:
            with self._lock:
                if self._archive is None:
                    self._archive = zipfile.ZipFile(self.path)
                    self._infos = {info.header_offset: info for info in self._archive.infolist()}
            return self._archive.read(self._infos[place.header])
        except UNPACKING as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk's own, bz2 has none
            raise OSError(EBADMSG, f"damaged in {self.path.name} ({error})") from error


class ZipSource:
    """A zip archive is a folder."""

    called = "a zip archive"
    suffixes = (".zip",)

    def finds(self, place: Path) -> bool:  # noqa: ARG002 - zip archives have no form of many files
        """Never."""
        return False

    def list(self, place: Path, columns: Columns, *, images_only: bool) -> Samples:
        """The images inside, by the rules for a folder."""
        refuse_columns(place, self.called, columns)
        listing = Listing()
        try:
            with opened(place) as members:
                assert isinstance(members, ZipMembers)
                entries = members.entries
        except OSError as error:
            raise DataError(f"{place} cannot be read: {why(error)}") from error
        entries.list_into(listing, place)
        samples = listed_samples(place, listing, images_only=images_only)
        _refuse_locked(place, samples, entries)
        return replace(samples, remarks=(*samples.remarks, *entries.remarks(place)))

    def open(self, container: Path) -> ZipMembers:
        """Open one."""
        return ZipMembers(container)


SOURCE = ZipSource()


def _directory(path: Path) -> list[zipfile.ZipInfo]:
    """The members of an archive.

    Raises:
        OSError: if it is none, or is cut off.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
        with path.open("rb") as file:
            begins_well = file.read(4) == FILE
        if begins_well:
            what = "it begins as a zip archive and has no directory at its end, so it is cut off or damaged"
            raise OSError(EBADMSG, f"{what}; fetch or pack it again") from error
        raise OSError(EBADMSG, f"it is no zip archive ({error})") from error


def _place(info: zipfile.ZipInfo) -> Stored:
    method = 99 if info.flag_bits & ENCRYPTED else info.compress_type
    return Stored(info.header_offset, info.compress_size, info.file_size, info.CRC, method)


def _name(info: zipfile.ZipInfo) -> str:
    """The name, with slashes. Many programs write UTF-8 without the mark of it, and `zipfile` then reads cp437."""
    name = info.filename
    if not name.isascii() and not info.flag_bits & UTF_8:
        with suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name.replace("\\", "/") if info.create_system == DOS else name


def _hindrance(place: Stored) -> str:
    method = METHODS.get(place.method, f"method {place.method}")
    return "encrypted" if method == "AES" else f"compressed by {method}, which dvme does not read,"


def _refuse_locked(archive: Path, samples: Samples, entries: Entries[Stored]) -> None:
    """Refuse images that cannot be read for a reason that the directory tells.

    Raises:
        DataError: naming the reason and one of them.
    """
    readable = {STORED, DEFLATED, *IN_PYTHON}
    locked = [name for name in samples.ids if entries.places[name].method not in readable]
    if locked:
        reason = _hindrance(entries.places[locked[0]]).rstrip(",")
        said = f"{archive} has {counted(len(locked), 'image')} {reason} (such as {locked[0]})"
        raise DataError(f"{said}; unpack it with a program that can, and name the folder")
