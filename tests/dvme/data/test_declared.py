"""What files say of their greys, in files that are made by hand or by tifffile."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from dvme.data.images import FORMATS, decode
from dvme.data.reading import Reading
from dvme.errors import ImageError

ROWS, COLUMNS = np.mgrid[0:24, 0:32]
TWELVE = (COLUMNS * 130 + ROWS).astype(np.uint16)  # 0..4053
DECLARED = Reading(range="declared")


def declared(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(decode(data, reading=DECLARED).image)


def plain(values: NDArray[Any], low: float, high: float) -> NDArray[Any]:
    return np.round((values.astype(np.float64) - low) * 255 / (high - low))


def png(
    values: NDArray[Any], *, sbit: bytes = b"", damage: int = 0, colour_type: int = 0, kind: bytes = b"sBIT"
) -> bytes:
    def chunk(kind: bytes, content: bytes, damage: int = 0) -> bytes:
        check = zlib.crc32(kind + content) ^ damage
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, colour_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row.astype(">u2").tobytes() for row in values))
    beside = chunk(kind, sbit, damage) if sbit else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + beside + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("sbit", "n_bits"),
    [(b"", 16), (b"\x0c", 12), (b"\x0d", 13), (b"\x10", 16), (b"\0", 16), (b"\x11", 16), (b"\x0c\x0c", 16)],
)
def test_declared_scale__significant_bits_of_a_png(sbit: bytes, n_bits: int) -> None:
    np.testing.assert_array_equal(declared(png(TWELVE, sbit=sbit)), plain(TWELVE, 0, 2**n_bits - 1))


@pytest.mark.parametrize("way", ["shifted", "repeated", "rounded"])
def test_declared_scale__significant_bits_that_were_scaled_up(way: str) -> None:
    """As section 12.4 of PNG has it, in three ways; such a picture is of all 16 bits."""
    twelve = TWELVE.astype(int)
    scaled = {
        "shifted": twelve * 16,
        "repeated": twelve * 16 + twelve // 256,
        "rounded": np.round(twelve * (65_535 / 4095)),
    }
    values = scaled[way].astype(np.uint16)
    np.testing.assert_array_equal(declared(png(values, sbit=b"\x0c")), plain(values, 0, 65_535))


def test_declared_scale__significant_bits_of_either_end() -> None:
    with pytest.raises(
        ImageError, match=r"12 of its 16 bits count, but not whether these are .*; @range=12bit .* @range=16b"
    ):
        declared(png(TWELVE // 16 * 16, sbit=b"\x0c"))
    assert not declared(png(TWELVE * 0, sbit=b"\x0c")).any()


def test_declared_scale__png_that_exceeds_its_bits() -> None:
    with pytest.raises(
        ImageError, match="has 4,053 as its largest grey, beyond the 2,047 of @range=declared; @range=12bit"
    ):
        declared(png(TWELVE, sbit=b"\x0b"))


def test_declared_scale__chunk_beside_damage() -> None:
    """What costs nothing but its own chunk: the significant bits stay, where they are intact themselves."""
    np.testing.assert_array_equal(declared(png(TWELVE, sbit=b"\x0c", damage=1)), plain(TWELVE, 0, 65_535))
    whole = png(TWELVE, sbit=b"\x0c")
    place = whole.index(b"IDAT") - 4
    torn = struct.pack(">I", 4) + b"iCCP" + b"\xff\xff\xff\xff" + bytes(4)  # no profile, and a wrong checksum
    np.testing.assert_array_equal(declared(whole[:place] + torn + whole[place:]), plain(TWELVE, 0, 4095))


@pytest.mark.parametrize("maxval", [4095, 5000, 65_535])
def test_declared_scale__maxval(maxval: int) -> None:
    data = b"P5 32 24 %d\n" % maxval + TWELVE.astype(">u2").tobytes()
    text = b"P2 32 24 %d\n" % maxval + b" ".join(b"%d" % value for value in TWELVE.ravel())
    for each in (data, text):
        np.testing.assert_array_equal(declared(each), plain(TWELVE, 0, maxval))


def test_declared_scale__values_above_maxval() -> None:
    data = b"P5 32 24 3000\n" + TWELVE.astype(">u2").tobytes()
    for reading in (DECLARED, Reading()):
        with pytest.raises(ImageError, match="has the value 4,053, and its header says that 3,000 is the largest"):
            decode(data, reading=reading)


@pytest.mark.parametrize("by", ["declared", "12bit", "dtype"])
def test_declared_scale__pfm(by: str) -> None:
    data = b"Pf\n32 24\n-1.0\n" + TWELVE.astype("<f4").tobytes()
    if by == "12bit":
        np.testing.assert_array_equal(
            np.asarray(decode(data, reading=Reading(range=by)).image), plain(TWELVE[::-1], 0, 4095)
        )
        return
    with pytest.raises(ImageError, match="@range=12bit"):
        decode(data, reading=Reading(range=by))


@pytest.mark.skipif("JPEG2000" not in FORMATS, reason="this Pillow has no JPEG 2000")
def test_declared_scale__jpeg_2000() -> None:
    buffer = io.BytesIO()
    Image.fromarray(TWELVE).save(buffer, "JPEG2000")
    np.testing.assert_array_equal(declared(buffer.getvalue()), plain(TWELVE, 0, 65_535))


def tiff(values: NDArray[Any], *extra: tuple[int, str, int, Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    tags = [(*each, True) for each in extra]
    tifffile.imwrite(buffer, values, **{"photometric": "minisblack", "metadata": None, "extratags": tags} | options)
    return buffer.getvalue()


SIGNED, FLOATS = TWELVE.astype("i2") - 2000, TWELVE.astype("f4")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("values", "tags", "low", "high"),
    [
        (TWELVE, [], 0, 65_535),
        (TWELVE, [(281, "H", 1, 4095)], 0, 4095),
        (TWELVE, [(280, "H", 1, 0), (281, "H", 1, 5000)], 0, 5000),
        (TWELVE, [(340, "H", 1, 0), (341, "H", 1, 4999), (281, "H", 1, 65_535)], 0, 4999),
        (TWELVE, [(341, "d", 1, 4500.0)], 0, 4500),
        (TWELVE, [(281, "H", 1, 0)], 0, 65_535),  # no range
        (TWELVE, [(341, "I", 1, 70_000)], 0, 65_535),  # more than there can be
        (TWELVE, [(341, "H", 2, (4095, 4096))], 0, 65_535),  # of which channel?
        (SIGNED, [], -32_768, 32_767),
        (SIGNED, [(281, "H", 1, 4095)], -32_768, 32_767),  # of unsigned samples
        (SIGNED, [(340, "h", 1, -2048), (341, "h", 1, 2055)], -2048, 2055),
        (TWELVE.astype("u4"), [], 0, 2**32 - 1),
        (TWELVE.astype("i4"), [(340, "i", 1, 0), (341, "i", 1, 4095)], 0, 4095),
        (FLOATS, [(340, "f", 1, -1.0), (341, "f", 1, 4095.5)], -1, 4095.5),
        (FLOATS, [(340, "d", 1, -1.0), (341, "d", 1, 4095.5)], -1, 4095.5),
    ],
)
def test_declared_scale__tags_of_a_tiff(
    values: NDArray[Any], tags: list[Any], low: float, high: float, order: str
) -> None:
    for options in ({}, {"compression": "zlib"}):
        data = tiff(values, *tags, byteorder=order, **options)
        np.testing.assert_array_equal(declared(data), plain(values, low, high))
        assert decode(data).image.tobytes() == decode(tiff(values, byteorder=order, **options)).image.tobytes()
    inverted = tiff(values, *tags, byteorder=order, photometric="miniswhite")
    np.testing.assert_array_equal(declared(inverted), 255 - plain(values, low, high))


@pytest.mark.parametrize("tags", [[], [(340, "f", 1, 0.0)], [(340, "f", 1, 0.0), (341, "f", 1, np.nan)]])
def test_declared_scale__floating_point_that_says_nothing(tags: list[Any]) -> None:
    with pytest.raises(ImageError, match="declares no range of grey, as @range=declared needs it"):
        declared(tiff(FLOATS, *tags))


def test_declared_scale__tag_outside_of_the_file() -> None:
    data = tiff(FLOATS, (340, "d", 1, 0.0), (341, "d", 1, 4095.0))
    place = data.index(struct.pack("<HHI", 341, 12, 1)) + 8
    broken = data[:place] + struct.pack("<I", 2**31 - 1) + data[place + 4 :]
    assert decode(broken).image.tobytes() == decode(data).image.tobytes()
    with pytest.raises(ImageError, match="declares no range"):
        declared(broken)


def test_declared_scale__bigtiff() -> None:
    data = tiff(TWELVE, (340, "H", 1, 0), (341, "H", 1, 4095), bigtiff=True)
    np.testing.assert_array_equal(declared(data), plain(TWELVE, 0, 4095))
