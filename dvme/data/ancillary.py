"""What lies beside the pixels of an image file, taken out of it where it keeps the pixels from being read."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

PNG, JPEG, GIF, TIFF = b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"GIF8", (b"II*\0", b"MM\0*", b"II+\0")
PNG_IS_ANCILLARY = 0x20
"""The bit of a chunk's first letter that is set where the pixels do not depend on the chunk."""
JPEG_SCAN, JPEG_COMMENT, JPEG_APPLICATION = 0xDA, 0xFE, range(0xE0, 0xF0)
JPEG_KEPT = {b"JFIF\0": 14, b"Adobe": 12}
"""What says of which colours the channels are, and the bytes that it has to have."""
GIF_EXTENSION, GIF_HEADER, GIF_HAS_COLOURS = 0x21, 13, 0x80
TIFF_ORIENTATION, TIFF_XMP, TIFF_SHORT, TIFF_LONG = 274, 700, 3, 4
TIFF_NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 11: "f", 12: "d", 16: "Q", 17: "q"}
"""Types of tags that are plain numbers."""
TIFF_MOST_CHANNELS = 8
TOO_DAMAGED = (struct.error, IndexError, OverflowError)
"""What is raised where a file says that its parts lie outside of it."""
TIFF_KEPT = frozenset({
    254, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324,
    325, 332, 338, 339, 347, *range(512, 522), 529, 530, 531, 532,
})  # fmt: skip
"""Tags on which the pixels depend."""


def without_ancillary(data: bytes) -> Iterator[bytes]:
    """The same image with less beside its pixels: first all but its orientation, then that as well.

    Other formats than GIF, JPEG, PNG and TIFF give none, for nothing beside their pixels was seen to cost them.

    Source: PNG (third edition), 5.4; ITU-T T.81, B.1.1; GIF 89a, appendix B; TIFF 6.0, section 2.
    """
    seen = data
    for has_exif in (True, False):
        try:
            lean = _way_for(data)(data, has_exif)
        except TOO_DAMAGED:
            return
        if lean != seen:
            yield lean
        seen = lean


def _way_for(data: bytes) -> Callable[[bytes, bool], bytes]:
    known = {PNG: _png, JPEG: _jpeg, GIF: _gif} | dict.fromkeys(TIFF, _tiff)
    return next((way for start, way in known.items() if data.startswith(start)), lambda data, _: data)


def with_pixels_only(data: bytes) -> bytes:
    """A TIFF without the tags on which its pixels do not depend; as it is where it is too damaged for that.

    Pillow stops at the first tag whose value lies outside of the file, without the tags behind it, which may be the
    one that says that samples are floating point.
    """
    try:
        return _tiff(data, has_exif=True)
    except TOO_DAMAGED:
        return data


def _png(data: bytes, has_exif: bool) -> bytes:
    kept, place = [PNG], len(PNG)
    while place + 8 <= len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4])
        kind = data[place + 4 : place + 8]
        if not kind[0] & PNG_IS_ANCILLARY or (has_exif and kind == b"eXIf"):
            kept.append(data[place:end])
        place = end
    return b"".join(kept)


def _jpeg(data: bytes, has_exif: bool) -> bytes:
    kept, place = [JPEG], len(JPEG)
    while data[place] == 0xFF and data[place + 1] != JPEG_SCAN:
        marker = data[place + 1]
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4])
        content = data[place + 4 : end]
        is_beside = marker in JPEG_APPLICATION or marker == JPEG_COMMENT
        is_kept = any(content.startswith(name) and len(content) >= size for name, size in JPEG_KEPT.items())
        if not is_beside or is_kept or (has_exif and content.startswith(b"Exif")):
            kept.append(data[place:end])
        place = end
    return b"".join([*kept, data[place:]])


def _gif(data: bytes, _: bool) -> bytes:
    """Without the extensions before the first frame, which say nothing of its colours."""
    place = GIF_HEADER + (3 << (data[10] & 7) + 1 if data[10] & GIF_HAS_COLOURS else 0)
    start = data[:place]
    while data[place] == GIF_EXTENSION:
        place += 2
        while data[place]:
            place += 1 + data[place]
        place += 1
    return start + data[place:]


def _tiff(data: bytes, has_exif: bool) -> bytes:
    """With a shorter directory of the first image; offsets stay what they are, for nothing moves."""
    directory = _Directory(data)
    kept = []
    for entry in directory.entries():
        is_orientation = entry.tag == TIFF_XMP or (
            entry.tag == TIFF_ORIENTATION and entry.kind in {TIFF_SHORT, TIFF_LONG} and entry.n_values == 1
        )
        if entry.tag in TIFF_KEPT or (has_exif and is_orientation):
            kept.append(data[entry.start : entry.start + directory.entry_size])
    order, count, offset = directory.order, directory.count, directory.offset
    lean = struct.pack(order + count, len(kept)) + b"".join(kept) + bytes(struct.calcsize(order + offset))
    view = memoryview(data)
    return b"".join([view[: directory.place], lean, view[directory.place + len(lean) :]])


def tiff_numbers(data: bytes, tags: Collection[int]) -> dict[int, float]:
    """The numbers that some tags of a TIFF's first image have, finite and the same for each of its channels.

    Tags that are not there, are no such number, or lie outside of the file, are left out.
    """
    found = {}
    try:
        directory = _Directory(data)
        for entry in directory.entries():
            numbers = directory.numbers(entry) if entry.tag in tags else ()
            if len(set(numbers)) == 1 and math.isfinite(numbers[0]):
                found[entry.tag] = numbers[0]
    except TOO_DAMAGED:
        return found
    return found


def has_pages(data: bytes) -> bool:
    """Whether a TIFF has another image behind the first."""
    try:
        return not _Directory(data).is_last
    except TOO_DAMAGED:
        return False


class _Entry(NamedTuple):
    tag: int
    kind: int
    n_values: int
    value: bytes
    """Of the tag, or where it lies."""
    start: int
    """Where the entry lies."""


class _Directory:
    """The tags of a TIFF's first image; what it raises where they lie outside of the file is in `TOO_DAMAGED`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        is_big = data[2:3] == b"+"
        self.order = "<" if data[:2] == b"II" else ">"
        self.offset, self.count, self._entry = ("Q", "Q", "HHQ8s") if is_big else ("I", "H", "HHI4s")
        self.entry_size = struct.calcsize(self.order + self._entry)
        (self.place,) = struct.unpack_from(self.order + self.offset, data, 8 if is_big else 4)

    def entries(self) -> Iterator[_Entry]:
        (n,) = struct.unpack_from(self.order + self.count, self._data, self.place)
        first = self.place + struct.calcsize(self.order + self.count)
        for start in range(first, min(first + n * self.entry_size, len(self._data)), self.entry_size):
            tag, kind, n_values, value = struct.unpack_from(self.order + self._entry, self._data, start)
            yield _Entry(tag, kind, n_values, value, start)

    @property
    def is_last(self) -> bool:
        """Whether no other image follows."""
        (n,) = struct.unpack_from(self.order + self.count, self._data, self.place)
        end = self.place + struct.calcsize(self.order + self.count) + n * self.entry_size
        return not struct.unpack_from(self.order + self.offset, self._data, end)[0]

    def numbers(self, entry: _Entry) -> tuple[float, ...]:
        if entry.kind not in TIFF_NUMBERS or not 1 <= entry.n_values <= TIFF_MOST_CHANNELS:
            return ()
        layout = f"{self.order}{entry.n_values}{TIFF_NUMBERS[entry.kind]}"
        size = struct.calcsize(layout)
        if size <= len(entry.value):
            return struct.unpack_from(layout, entry.value)
        (place,) = struct.unpack(self.order + self.offset, entry.value)
        return struct.unpack_from(layout, self._data, place) if place + size <= len(self._data) else ()
