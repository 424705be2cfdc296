"""Bits per channel, in the formats beside TIFF: read right to rounding, or refused."""

from __future__ import annotations

import io
import struct
import zlib
from base64 import b85decode
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dvme.data import decode_image
from dvme.data.depth import depth_of_jpeg_2000, grey_values
from dvme.data.images import FORMATS, decode, opened
from dvme.data.reading import Reading
from dvme.errors import ImageError

ROWS, COLUMNS = np.mgrid[0:24, 0:32]
COLOURS = np.stack([COLUMNS * 7, ROWS * 9, COLUMNS + ROWS], axis=-1).astype(np.uint8)
AVIF_GREY_10 = b85decode(
    "0000SW^{RQVRmU|00000VRmU|ZE0pPZE0a<0002#ZDn*}000000000XXk=`10000000000aA{+7000000000000000000004sdC7"
    "Z2$lO000310016oY;R)#0000)000310RR910RR924FCWDAOHXWC~0YKW&i*H00031000_kZf0cy000000RRADb}%tRZ)|UJ00000"
    "XlZbAZ~y=RNojCnZvX%Q6lrsCWdHyG000001ONa41ONa44sdCBX#fBK009aB000bOb}>VN09*h7000wXZ)|dIV{CW;0ssO40)PMj"
    "02gU+ZD9Za00000009621OWnr1ONa4C~ah6bP@mx1sDW>oj@`b5CDe@&G)-5edEXF3{7bF8517@fB"
)
AVIF_GREY_12 = b85decode(
    "0000SW^{RQVRmU|00000VRmU|ZE0pPZE0a<0002#ZDn*}000000000XXk=`10000000000aA{+7000000000000000000004sdC7"
    "Z2$lO000310016oY;R)#0000)000310RR910RR924FCWDA^-pYC~0YKW&i*H00031000_kZf0cy000000RRADb}%tRZ)|UJ00000"
    "XlZbAZ~y=RNojCnZvX%Q6lrsCWdHyG000001ONa41ONa44sdCBX#fBK009gD000bOb}>VNKzslI000wXZ)|dIV{CW;0ssO40)PMj"
    "02gU+ZD9Za00000009621OWnr1ONa4Ds5z8bP@mx1y}@sj-WCZ5CDe@&G)-5edCfOoKfpUD4ZUG1<H5"
)
AVIF_COLOUR_10 = b85decode(
    "0000WW^{RQVRmU|00000VRmU|ZE0pPZE0a<O+hh10002%ZDn*}000000000XXk=`10000000000aA{+700000000000000000000"
    "4sdC7Z2$lO000310016oY;R)#0000)000310RR910RR926951JD*ylhC~0YKW&i*H00031000_kZf0cy000000RRADb}%tRZ)|UJ"
    "00000YH4tCZ~y=ROKEUpZvX%Q6lrsCWdHyG000001ONa41ONa45O8UDX#fBK00RmN3IG5A3}JRLLxCVb000006Ju{|a&BX6cmM(b"
    "0ssJj0000NX>e^}0000000001009I60)qqq001*>WMOm?015~=1b>_e2m(Md9S{Hji`Mv{W|}%3z}}7nPo>@O{`~_R1LxUlRSW"
)
"""4 x 4 pixels, lossless, by libavif: red is 60 + 255 x, green 100 + 255 y, and blue 512, of 1023."""
needs_jpeg_2000 = pytest.mark.skipif("JPEG2000" not in FORMATS, reason="this Pillow has no JPEG 2000")


def encoded(array: NDArray[Any], kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


def eight(array: NDArray[Any]) -> NDArray[np.uint8]:
    """The policy for deep grey, in words of numpy."""
    wide = array.astype(np.float64)
    return np.round((wide - wide.min()) * 255 / (wide.max() - wide.min())).astype(np.uint8)


def decoded(data: bytes) -> NDArray[np.uint8]:
    """Grey as (H, W), colour as (H, W, 3)."""
    pixels = np.asarray(decode_image(data))
    is_grey = pixels.ndim == 3 and (pixels == pixels[..., :1]).all()
    return pixels[..., 0] if is_grey else pixels


def png(array: NDArray[Any], bits: int, colour_type: int, **chunks: bytes) -> bytes:
    """A PNG of rows of whole bytes, as the file has them."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", COLUMNS.shape[1], COLUMNS.shape[0], bits, colour_type, 0, 0, 0)
    beside = b"".join(chunk(kind.encode(), content) for kind, content in chunks.items())
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in array))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + beside + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("colour_type", [2, 4, 6])  # RGB, grey with alpha, RGB with alpha
def test_decode_image__sixteen_bits_of_a_png(colour_type: int) -> None:
    n_channels = {2: 3, 4: 2, 6: 4}[colour_type]
    array = np.repeat((COLUMNS * 90 + ROWS)[..., None], n_channels, axis=2).astype(">u2")
    with pytest.raises(ImageError, match="has 16 bits per colour channel; convert it to 8 bits, or to 16-bit grey"):
        decode_image(png(array, 16, colour_type))


def test_decode_image__transparent_colour_of_a_png() -> None:
    deep = (1000 + COLUMNS * 90 + ROWS).astype(">u2")
    np.testing.assert_array_equal(decoded(png(deep, 16, 0, tRNS=struct.pack(">H", 1000))), eight(deep))
    np.testing.assert_array_equal(decoded(png(COLOURS, 8, 2, tRNS=bytes(6))), COLOURS)
    palette = np.random.default_rng(0).integers(0, 256, size=(256, 3)).astype(np.uint8)
    index = COLOURS[..., 0]
    for alpha in (bytes(range(256)), b"\0"):  # Pillow warns of the first, and warnings are errors here
        data = png(index, 8, 3, PLTE=palette.tobytes(), tRNS=alpha)
        np.testing.assert_array_equal(decoded(data), palette[index])


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_decode_image__few_bits_of_a_png(bits: int) -> None:
    values = (COLUMNS + ROWS) % 2**bits
    unpacked = (values[..., None] >> np.arange(bits)[::-1]) & 1
    packed = np.packbits(unpacked.reshape(len(values), -1), axis=1)
    np.testing.assert_array_equal(decoded(png(packed, bits, 0)), values * (255 // (2**bits - 1)))


@pytest.mark.parametrize("maxval", [1, 15, 100, 255])
def test_decode_image__ppm_of_up_to_eight_bits(maxval: int) -> None:
    grey = ((COLUMNS + ROWS) % (maxval + 1)).astype(np.uint8)
    colour = np.dstack([grey, grey // 2, grey // 3])
    size = b" 32 24 %d\n" % maxval
    for data, values in ((b"P5" + size + grey.tobytes(), grey), (b"P6" + size + colour.tobytes(), colour)):
        np.testing.assert_array_equal(decoded(data), np.round(values * 255.0 / maxval))


@pytest.mark.parametrize("maxval", [256, 1023, 4095, 40_000, 65_000, 65_535])
def test_decode_image__deep_grey_of_a_ppm(maxval: int) -> None:
    """Narrow ranges as well, where Pillow's own rounding to 16 bits would leave steps of uneven height."""
    for values in ((COLUMNS * 17 + ROWS) % (maxval + 1), maxval // 2 + COLUMNS % 4):
        wide = values.astype(">u2")
        plain = b" ".join(b"%d" % value for value in values.ravel())
        for data in (b"P5 32 24 %d\n" % maxval + wide.tobytes(), b"P2 32 24 %d\n" % maxval + plain):
            np.testing.assert_array_equal(decoded(data), eight(values))


@pytest.mark.parametrize(("maxval", "bits"), [(256, 9), (4095, 12), (65_535, 16)])
def test_decode_image__deep_colour_of_a_ppm(maxval: int, bits: int) -> None:
    for data in (b"P6 32 24 %d\n" % maxval + bytes(32 * 24 * 6), b"P3 32 24 %d\n" % maxval + b"0 " * (32 * 24 * 3)):
        with pytest.raises(ImageError, match=f"has {bits} bits per colour channel"):
            decode_image(data)


@pytest.mark.parametrize(("order", "scale"), [("<", -1.0), (">", 1.0), ("<", -3.5)])
def test_decode_image__pfm(order: str, scale: float) -> None:
    values = (COLUMNS * 0.1 - ROWS * 0.3).astype("f4")
    data = b"Pf\n32 24\n%.1f\n" % scale + values[::-1].astype(order + "f4").tobytes()  # from the lowest row up
    np.testing.assert_array_equal(decoded(data), eight(values))


@pytest.mark.parametrize("data", [b"PF\n2 1\n-1.0\n" + bytes(24), b"P7\nWIDTH 1\nHEIGHT 1\nENDHDR\n"])
def test_decode_image__relatives_of_ppm(data: bytes) -> None:
    with pytest.raises(ImageError, match="not an image that Pillow can read"):
        decode_image(data)


def test_decode_image__bitmap() -> None:
    def bitmap(bits: int, rows: bytes, masks: tuple[int, ...] = ()) -> bytes:
        fields = struct.pack(f"<{len(masks)}I", *masks)
        offset = 14 + 40 + len(fields)
        header = struct.pack("<IiiHHIIiiII", 40, 32, 24, 1, bits, 3 if masks else 0, len(rows), 0, 0, 0, 0)
        return b"BM" + struct.pack("<IHHI", offset + len(rows), 0, 0, offset) + header + fields + rows

    red, green, blue = (COLOURS[..., i].astype(np.uint16) for i in range(3))
    five = ((red >> 3) << 11 | (green >> 2) << 5 | blue >> 3)[::-1].astype("<u2")
    found = decoded(bitmap(16, five.tobytes(), (0xF800, 0x07E0, 0x001F))).astype(int)
    assert (
        np.abs(found - np.dstack([(red >> 3) * (255 / 31), (green >> 2) * (255 / 63), (blue >> 3) * (255 / 31)])).max()
        <= 1
    )
    with_alpha = np.dstack([COLOURS[..., ::-1], COLOURS[..., 0]])[::-1]
    np.testing.assert_array_equal(decoded(bitmap(32, with_alpha.tobytes())), COLOURS)


@needs_jpeg_2000
def test_decode_image__jpeg_2000() -> None:
    deep = (1000 + COLUMNS * 90 + ROWS).astype(np.uint16)
    np.testing.assert_array_equal(decoded(encoded(deep, "JPEG2000")), eight(deep))
    np.testing.assert_array_equal(decoded(encoded(COLOURS, "JPEG2000")), COLOURS)
    data = bytearray(encoded(COLOURS, "JPEG2000"))
    size = data.index(b"\xff\x4f\xff\x51") + 42
    data[size : size + 9] = bytes([11, 1, 1] * 3)  # says 12 bits, of which Pillow would leave the upper 8
    with pytest.raises(ImageError, match="has 12 bits per colour channel"):
        decode_image(bytes(data))


@pytest.mark.skipif("AVIF" not in FORMATS, reason="this Pillow has no AVIF")
def test_decode_image__avif() -> None:
    data = encoded(COLOURS, "AVIF", quality=100, subsampling="4:4:4")
    assert np.abs(decoded(data).astype(int) - COLOURS).max() <= 2
    for deep, bits in ((AVIF_GREY_10, 10), (AVIF_GREY_12, 12)):
        with pytest.raises(ImageError, match=f"has {bits} bits of grey"):
            decode_image(deep)
    y, x = np.mgrid[0:4, 0:4]
    colours = np.dstack([60 + 255 * x, 100 + 255 * y, np.full((4, 4), 512)]) * (255 / 1023)
    assert np.abs(decoded(AVIF_COLOUR_10).astype(int) - colours).max() <= 1


def test_decode_image__twelve_bits_of_a_jpeg() -> None:
    data = encoded(COLOURS, "JPEG")
    place = data.index(b"\xff\xc0") + 4
    with pytest.raises(ImageError, match="cannot be decoded: cannot handle 12-bit layers"):
        decode_image(data[:place] + b"\x0c" + data[place + 1 :])


def paeth(left: int, above: int, corner: int) -> int:
    guess = left + above - corner
    return min((left, above, corner), key=lambda value: abs(guess - value))  # the first of equals


def by_the_book(data: bytes) -> NDArray[np.uint16]:
    """(H, W) of a 16-bit grey PNG without interlacing, by the five filters of section 9 of its specification."""
    place, stream, size = 8, b"", (0, 0)
    while place < len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        content = data[place + 8 : place + 8 + length]
        if kind == b"IHDR":
            size = struct.unpack(">II", content[:8])
            assert content[8:10] == b"\x10\x00"
        stream += content if kind == b"IDAT" else b""
        place += length + 12
    width, height = size
    raw, n = zlib.decompress(stream), 2 * width
    rows = [bytes(n)]
    for y in range(height):
        kind_of_filter, line = raw[y * (n + 1)], bytearray(raw[y * (n + 1) + 1 : (y + 1) * (n + 1)])
        above = rows[-1]
        for x in range(n):
            left, corner = (line[x - 2], above[x - 2]) if x >= 2 else (0, 0)
            guess = [0, left, above[x], (left + above[x]) // 2, paeth(left, above[x], corner)][kind_of_filter]
            line[x] = (line[x] + guess) % 256
        rows.append(bytes(line))
    return np.frombuffer(b"".join(rows[1:]), ">u2").reshape(height, width).astype(np.uint16)


def values_of(data: bytes) -> NDArray[Any]:
    """What a file has, before any range."""
    file = opened(data)
    return grey_values(file, data)


NOISE = np.random.default_rng(0).integers(0, 65_536, size=COLUMNS.shape).astype(np.uint16)
SMOOTH = (COLUMNS * 90 + ROWS * 7 + 300).astype(np.uint16)


@pytest.mark.parametrize("values", [NOISE, SMOOTH, SMOOTH % 4096], ids=["noise", "smooth", "twelve"])
def test_grey_values__png(values: NDArray[Any]) -> None:
    """Of each of the five filters, of Pillow's own choice among them, and of several chunks of pixels."""
    for kind_of_filter in range(5):
        above = (
            np.vstack([values[:1] * 0, values[:-1]]).astype(">u2").view(np.uint8).reshape(len(values), -1).astype(int)
        )
        line = values.astype(">u2").view(np.uint8).reshape(len(values), -1).astype(int)
        left, corner = np.pad(line, ((0, 0), (2, 0)))[:, :-2], np.pad(above, ((0, 0), (2, 0)))[:, :-2]
        nearest = [paeth(*each) for each in zip(left.ravel(), above.ravel(), corner.ravel(), strict=True)]
        guess = [0, left, above, (left + above) // 2, np.reshape(nearest, line.shape)][kind_of_filter]
        filtered = ((line - guess) % 256).astype(np.uint8)
        stream = zlib.compress(b"".join(bytes([kind_of_filter]) + row.tobytes() for row in filtered))
        data = png_of_stream(stream)
        np.testing.assert_array_equal(by_the_book(data), values)
        np.testing.assert_array_equal(values_of(data), values)
    for options in ({}, {"compress_level": 0}, {"optimize": True}):
        data = encoded(values, "PNG", **options)
        np.testing.assert_array_equal(values_of(data), by_the_book(data))


def png_of_stream(stream: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", COLUMNS.shape[1], COLUMNS.shape[0], 16, 0, 0, 0, 0)
    pixels = b"".join(chunk(b"IDAT", stream[i : i + 500]) for i in range(0, len(stream), 500))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize("maxval", [256, 4095, 40_000, 65_535])
@pytest.mark.parametrize("comment", [b"", b"# a comment\n"])
def test_grey_values__pgm(maxval: int, comment: bytes) -> None:
    values = (NOISE.astype(int) % (maxval + 1)).astype(np.uint16)
    head = b"%s\n" + comment + b"32 24\n%d\n"
    for data in (
        head % (b"P5", maxval) + values.astype(">u2").tobytes() + b"P5 1 1 9\n0",
        head % (b"P2", maxval) + b" ".join(b"%d" % value for value in values.ravel()),
    ):
        found = values_of(data)
        assert found.dtype == np.uint16
        np.testing.assert_array_equal(found, values)
    with pytest.raises(ImageError, match="truncated"):
        decode_image(head % (b"P5", maxval) + values.astype(">u2").tobytes()[:-1])


def test_grey_values__pfm() -> None:
    values = NOISE.astype("f4") / 77
    for order, scale in (("<", -1), (">", 2)):
        data = b"Pf\n32 24\n%d\n" % scale + values[::-1].astype(order + "f4").tobytes()
        np.testing.assert_array_equal(values_of(data), values)


@needs_jpeg_2000
def test_grey_values__jpeg_2000() -> None:
    for values in (NOISE, SMOOTH):
        np.testing.assert_array_equal(values_of(encoded(values, "JPEG2000")), values)


@needs_jpeg_2000
@pytest.mark.parametrize(("name", "dtype", "n_bits"), [("693", "i2", 14), ("RG3", "u2", 10), ("MR_small", "i2", 16)])
def test_grey_values__jpeg_2000_of_fewer_bits_and_of_signed_ones(name: str, dtype: str, n_bits: int) -> None:
    """Code streams of scanners, against the same pictures as their makers left them without compression."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.data import get_testdata_file

    pair = (
        ("MR_small_jp2klossless.dcm", "MR_small.dcm")
        if name == "MR_small"
        else (f"{name}_J2KR.dcm", f"{name}_UNCR.dcm")
    )
    paths = [get_testdata_file(each, download=False) for each in pair]
    if None in paths:
        pytest.skip("pip install pydicom-data")
    packed, plain = (pydicom.dcmread(path) for path in paths)
    data = next(pydicom.encaps.generate_frames(packed.PixelData, number_of_frames=1))
    values = np.frombuffer(plain.PixelData, f"<{dtype}").reshape(plain.Rows, plain.Columns)
    found = values_of(data)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, values)
    assert depth_of_jpeg_2000(data) == (n_bits, dtype == "i2")
    if found.size < 100_000:
        image = decode(data, reading=Reading(range="declared")).image
        by_scale = np.round((values.astype(np.float64) + 2 ** (n_bits - 1)) * 255 / (2**n_bits - 1))
        np.testing.assert_array_equal(np.asarray(image), by_scale)


@needs_jpeg_2000
def test_decode_image__jpeg_2000_of_more_than_sixteen_bits() -> None:
    data = bytearray(encoded(SMOOTH, "JPEG2000"))
    data[data.index(b"\xff\x4f\xff\x51") + 42] = 23
    with pytest.raises(ImageError, match="has 24 bits of grey, of which Pillow would drop the lowest; save it as TIFF"):
        decode_image(bytes(data))


@pytest.mark.parametrize(("maxval", "bits"), [(300, 9), (4095, 12), (65_535, 16)])
def test_deep_colours__of_a_ppm(maxval: int, bits: int) -> None:
    """Exactly by a fixed range, which is the same for all three colours, and refused by any other."""
    noise = np.random.default_rng(1).integers(0, maxval + 1, size=(24, 32, 3))
    data = b"P6 32 24 %d\n" % maxval + noise.astype(">u2").tobytes()
    for by, high in (("declared", maxval), ("dtype", 65_535), ("16bit", 65_535)):
        found = decode(data, reading=Reading(range=by)).image
        np.testing.assert_array_equal(np.asarray(found), np.round(noise * 255.0 / high))
    for by in ("", "image", "percentile:1:99"):
        with pytest.raises(ImageError, match=f"has {bits} bits per colour channel; .* @range=dtype reads it as it is"):
            decode(data, reading=Reading(range=by))
    with pytest.raises(ImageError, match="truncated"):
        decode(data[:-1], reading=Reading(range="dtype"))
    with pytest.raises(ImageError, match="has 65,535 as its largest grey, beyond the 511 of @range=9bit"):
        decode(b"P6 1 1 65535\n\xff\xff" + bytes(4), reading=Reading(range="9bit"))


@pytest.mark.parametrize("colour_type", [2, 4, 6])
@pytest.mark.parametrize("by", ["declared", "dtype", "16bit"])
def test_deep_colours__of_a_png_are_refused_by_every_range(colour_type: int, by: str) -> None:
    n_channels = {2: 3, 4: 2, 6: 4}[colour_type]
    array = np.repeat((COLUMNS * 90 + ROWS)[..., None], n_channels, axis=2).astype(">u2")
    with pytest.raises(ImageError, match=r"has 16 bits per colour channel; convert it .* as PNG or TIFF$"):
        decode(png(array, 16, colour_type), reading=Reading(range=by))
