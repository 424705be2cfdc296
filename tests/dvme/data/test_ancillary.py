"""Pixels are read whatever lies beside them, and a truncated file stays a truncated file."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile, PngImagePlugin

from dvme.data import decode_image
from dvme.errors import ImageError

ROWS, COLUMNS = np.mgrid[0:24, 0:32]
COLOURS = np.stack([COLUMNS * 7, ROWS * 9, COLUMNS + ROWS], axis=-1).astype(np.uint8)
LONG = 1_500_000  # more text than Pillow takes
SIDEWAYS = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # EXIF of orientation 6


def encoded(kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(COLOURS).save(buffer, kind, **options)
    return buffer.getvalue()


def pillow(data: bytes) -> np.ndarray[Any, Any]:
    """What Pillow makes of the same file with nothing beside its pixels."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def chunk(kind: bytes, content: bytes, checksum: int | None = None) -> bytes:
    checksum = zlib.crc32(kind + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


PNG, PNG_HEADER, PNG_END = encoded("PNG"), 33, 12
PACKED = zlib.compress(b"x" * 900_000)
CHUNKS = {
    "text": chunk(b"zTXt", b"workflow\0\0" + zlib.compress(b"x" * LONG)),
    "international text": chunk(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(b"x" * LONG)),
    "much text": b"".join(chunk(b"zTXt", b"%d\0\0" % i + PACKED) for i in range(80)),  # 72 MB, Pillow takes 64
    "text that is not compressed": chunk(b"zTXt", b"key\0\0junk"),
    "text of an unknown compression": chunk(b"zTXt", b"key\0\x07junk"),
    "empty text": chunk(b"zTXt", b""),
    "raw profile": chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n 10\nnot hexadecimal\n")),
    "exif without a header": chunk(b"eXIf", b"\x00\x08not a TIFF header"),
    "short exif": chunk(b"eXIf", b"II*\0"),
    "no exif": chunk(b"eXIf", b""),
    "exif of an orientation that is none": chunk(b"eXIf", SIDEWAYS.replace(b"\x06", b"\x2a")),
    "large profile": chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(LONG))),
    "short profile": chunk(b"iCCP", b"\0"),
    "short gamma": chunk(b"gAMA", b"\0"),
    "short resolution": chunk(b"pHYs", b"\0\0"),
    "short chromaticities": chunk(b"cHRM", b"\0\0"),
    "short animation": chunk(b"fcTL", b"\0\0"),
    "wrong checksum": chunk(b"tEXt", b"key\0value", checksum=1),
    "private": chunk(b"caBX", b"\0\1\2"),
}


@pytest.mark.parametrize("name", CHUNKS)
def test_decode_image__beside_the_pixels_of_a_png(name: str) -> None:
    for place in (PNG_HEADER, len(PNG) - PNG_END):  # before the pixels, and after them
        found = decode_image(PNG[:place] + CHUNKS[name] + PNG[place:])
        np.testing.assert_array_equal(np.asarray(found), COLOURS)


def test_decode_image__orientation_beside_what_is_broken() -> None:
    beside = CHUNKS["large profile"] + chunk(b"eXIf", SIDEWAYS) + CHUNKS["text"]
    found = np.asarray(decode_image(PNG[:PNG_HEADER] + beside + PNG[PNG_HEADER:]))
    np.testing.assert_array_equal(found, np.rot90(COLOURS, -1))


@pytest.mark.parametrize("name", ["text", "large profile", "wrong checksum"])
@pytest.mark.parametrize("lost", [13, 60, 300])
def test_decode_image__truncated_pixels_beside_what_is_broken(name: str, lost: int) -> None:
    data = PNG[:PNG_HEADER] + CHUNKS[name] + PNG[PNG_HEADER:]
    with pytest.raises(ImageError):
        decode_image(data[: -PNG_END - lost])


def test_decode_image__settings_of_pillow_stay() -> None:
    before = PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY, Image.MAX_IMAGE_PIXELS
    decode_image(PNG[:PNG_HEADER] + CHUNKS["text"] + PNG[PNG_HEADER:])
    assert before == (PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY, Image.MAX_IMAGE_PIXELS)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


JPEG = encoded("JPEG", quality=95)


@pytest.mark.parametrize(
    "content",
    [
        segment(0xE1, b"Exif\0\0garbage!"),
        segment(0xE1, b"Exif\0\0II*\0"),
        segment(0xE1, b"Exif\0\0"),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0\0<x:xmpmeta"),
        segment(0xE2, b"ICC_PROFILE\0"),
        segment(0xE2, b"ICC_PROFILE\0\1\2junk"),
        segment(0xED, b"Photoshop 3.0\0008BIM\x03\xed\0\0\0\0\0\x10ab"),
        segment(0xE0, b"JFIF\0"),
        segment(0xEE, b"Adobe"),
        segment(0xFE, b""),
        segment(0xEC, b"Ducky"),
    ],
)
def test_decode_image__beside_the_pixels_of_a_jpeg(content: bytes) -> None:
    for place in (2, 20):  # before the JFIF header, and behind it
        found = decode_image(JPEG[:place] + content + JPEG[place:])
        np.testing.assert_array_equal(np.asarray(found), pillow(JPEG))


def test_decode_image__orientation_beside_a_broken_segment_of_a_jpeg() -> None:
    beside = segment(0xEE, b"Adobe") + segment(0xE1, b"Exif\0\0" + SIDEWAYS)
    found = np.asarray(decode_image(JPEG[:20] + beside + JPEG[20:]))
    np.testing.assert_array_equal(found, np.rot90(pillow(JPEG), -1))


@pytest.mark.parametrize("content", [b"garbage!", b"Exif\0\0garbage!", b"Exif\0\0"])
def test_decode_image__beside_the_pixels_of_a_webp(content: bytes) -> None:
    np.testing.assert_array_equal(np.asarray(decode_image(encoded("WEBP", lossless=True, exif=content))), COLOURS)


@pytest.mark.parametrize(
    "extension",
    [
        b"!\xf9\0",
        b"!\xf9\1\0\0",
        b"!\xff\0",
        b"!\xff\x0bNETSCAPE2.0\0",
        b"!\xff\x0bNETSCAPE2.0\1\1\0",
        b"!\xfe\5hello\0",
        b"!\x01\3abc\0",
    ],
)
def test_decode_image__before_the_first_frame_of_a_gif(extension: bytes) -> None:
    buffer = io.BytesIO()
    Image.fromarray(COLOURS).quantize(16).save(buffer, "GIF", comment=b"here")
    data = buffer.getvalue()
    place = data.index(b"!\xfe\4here")
    found = decode_image(data[:place] + extension + data[place:])
    np.testing.assert_array_equal(np.asarray(found), pillow(data))
