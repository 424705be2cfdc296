"""What a compressed frame says of its own size, before anything decodes it."""

from __future__ import annotations

import struct
from dataclasses import dataclass

STARTS_OF_FRAME = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}) | {0xF7}
"""JPEG's, and JPEG-LS's."""
WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
JPEG = b"\xff\xd8"
JPEG_2000 = b"\xff\x4f\xff\x51"


@dataclass(frozen=True)
class Codestream:
    """The size of a compressed frame."""

    rows: int
    columns: int
    components: int
    bits: int
    """Of the first component."""


def codestream_of(frame: bytes) -> Codestream | None:
    """What a frame of JPEG, JPEG-LS or JPEG 2000 says of itself; None where it says nothing.

    Source: ITU-T T.81, section B.2.2; ITU-T T.87, section C.2.2; ITU-T T.800, section A.5.1.
    """
    try:
        return _jpeg(frame) if frame.startswith(JPEG) else _jpeg_2000(frame)
    except (struct.error, IndexError):
        return None


def unboxed(frame: bytes) -> bytes:
    """A frame without the boxes of a JP2 file, over which pydicom stumbles where they are damaged."""
    start = -1 if frame.startswith(JPEG) else frame.find(JPEG_2000)
    return frame[start:] if start > 0 else frame


def _jpeg(frame: bytes) -> Codestream | None:
    at = len(JPEG)
    while at + 4 <= len(frame):
        if frame[at] != 0xFF:
            return None
        marker = frame[at + 1]
        if marker == 0xFF or marker in WITHOUT_LENGTH:
            at += 1 if marker == 0xFF else 2
        elif marker in STARTS_OF_FRAME:
            bits, rows, columns, components = struct.unpack_from(">BHHB", frame, at + 4)
            return Codestream(rows, columns, components, bits)
        elif marker in (START_OF_SCAN, END_OF_IMAGE):
            return None
        else:
            at += 2 + int.from_bytes(frame[at + 2 : at + 4])
    return None


def _jpeg_2000(frame: bytes) -> Codestream | None:
    if not frame.startswith(JPEG_2000):
        return None
    right, bottom, left, top = struct.unpack_from(">4I", frame, 8)
    (components,) = struct.unpack_from(">H", frame, 40)
    return Codestream(bottom - top, right - left, components, (frame[42] & 0x7F) + 1)
