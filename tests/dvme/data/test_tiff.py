"""TIFFs as others write them: each is read right, or refused for what it is.

tifffile writes them and reads them back; what must come out is worked out from its arrays.
"""

from __future__ import annotations

import io
import struct
import zlib
from itertools import product
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from dvme.data import decode_image
from dvme.data.images import decode, opened
from dvme.data.reading import Reading
from dvme.data.tiff import Tiff
from dvme.errors import ImageError

ROWS, COLUMNS = np.mgrid[0:40, 0:56]
SCENE = (1000 + 400 * np.sin(COLUMNS / 7) + 300 * np.cos(ROWS / 5) + 12 * COLUMNS - 250) / 2500  # about 0..1
COLOURS = np.stack([COLUMNS * 4, ROWS * 6, COLUMNS + ROWS], axis=-1).astype(np.uint8)
LAYOUTS: list[dict[str, Any]] = [{}, {"rowsperstrip": 7}, {"tile": (16, 32)}]


def written(array: NDArray[Any], **options: Any) -> bytes:
    """By tifffile, which must read the same again."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **{"photometric": "minisblack", "metadata": None} | options)
    buffer.seek(0)
    np.testing.assert_array_equal(tifffile.imread(buffer), array)
    return buffer.getvalue()


def by_hand(tags: dict[int, tuple[int, int | tuple[int, ...]]], pixels: bytes, order: str = "<") -> bytes:
    """A TIFF of one strip, tag to (type, value or values); 273 and 279 are filled in."""
    sizes = {1: 1, 3: 2, 4: 4}
    tags = tags | {273: (4, 0), 279: (4, len(pixels))}
    beside, entries = b"", []
    start = 8 + 2 + 12 * len(tags) + 4
    for tag, (kind, value) in sorted(tags.items()):
        values = value if isinstance(value, tuple) else (value,)
        content = struct.pack(order + {1: "B", 3: "H", 4: "I"}[kind] * len(values), *values)
        if len(values) * sizes[kind] > 4:
            content, beside = struct.pack(order + "I", start + len(beside)), beside + content
        entries.append((tag, kind, len(values), content.ljust(4, b"\0")))
    place = struct.pack(order + "I", start + len(beside))
    body = b"".join(
        struct.pack(order + "HHI", tag, kind, n) + (place if tag == 273 else value) for tag, kind, n, value in entries
    )
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(tags))
    return head + body + bytes(4) + beside + pixels


def grey_tags(width: int, height: int, bits: int, photometric: int = 1) -> dict[int, tuple[int, Any]]:
    return {256: (3, width), 257: (3, height), 258: (3, bits), 259: (3, 1), 262: (3, photometric), 278: (3, height)}


def eight(array: NDArray[Any]) -> NDArray[np.uint8]:
    """The policy for deep grey, in words of numpy."""
    wide = array.astype(np.float64)
    return np.round((wide - wide.min()) * 255 / (wide.max() - wide.min())).astype(np.uint8)


def scene(dtype: str) -> NDArray[Any]:
    """SCENE over most of the range of a type."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return (3 * SCENE - 1).astype(kind)
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    return (low + SCENE.clip(0, 1) * (float(high) - low) * 0.99).astype(kind)


def expected(array: NDArray[Any], *, is_inverted: bool) -> NDArray[np.uint8]:
    if array.dtype == np.uint8:
        grey = array
    elif array.dtype == np.int8:
        grey = (array.astype(int) + 128).astype(np.uint8)
    else:
        grey = eight(array)
    return 255 - grey if is_inverted else grey


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i1", "i2", "i4", "f4"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_decode_image__grey_tiff(dtype: str, byteorder: str) -> None:
    array = scene(dtype)
    for compression, photometric, layout in product([None, "zlib"], ["minisblack", "miniswhite"], LAYOUTS):
        data = written(array, byteorder=byteorder, compression=compression, photometric=photometric, **layout)
        image = decode_image(data)
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), expected(array, is_inverted=photometric == "miniswhite"))


def values_of(data: bytes) -> NDArray[Any]:
    """What a file has, before any range."""
    file = opened(data)
    assert isinstance(file, Tiff)
    return file.grey()


@pytest.mark.parametrize("dtype", ["u2", "u4", "i2", "i4", "f4"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_grey__to_the_bit(dtype: str, byteorder: str) -> None:
    """Of all bits, as tifffile reads them; a file of several pages gives its first."""
    size = (40, 56)
    noise = np.random.default_rng(0).integers(0, 256, size=(2, *size, np.dtype(dtype).itemsize)).astype(np.uint8)
    pages = np.ascontiguousarray(noise).view(dtype)[..., 0]
    pages[~np.isfinite(pages)] = 1
    for compression, photometric, layout in product([None, "zlib"], ["minisblack", "miniswhite"], LAYOUTS):
        options = {"byteorder": byteorder, "compression": compression, "photometric": photometric} | layout
        found = values_of(written(pages, **options))
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, pages[0])


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_grey__predictor_of_floating_point(byteorder: str) -> None:
    """By hand: of each row first the highest bytes, then the next, each less the byte before it."""
    array = scene("f4")
    height, width = array.shape
    planes = array.astype(">f4").view(np.uint8).reshape(height, width, 4).transpose(0, 2, 1).reshape(height, -1)
    steps = np.diff(planes, axis=1, prepend=np.uint8(0)).astype(np.uint8)
    tags = grey_tags(width, height, 32) | {259: (3, 8), 317: (3, 3), 339: (3, 3)}
    np.testing.assert_array_equal(values_of(by_hand(tags, zlib.compress(steps.tobytes()), byteorder)), array)


@pytest.mark.parametrize("bits", [9, 10, 11, 12, 13, 14, 15])
@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("width", [8, 5])
def test_grey__packed_bits(bits: int, compression: int, width: int) -> None:
    """Twelve are read, to the bit; what Pillow cannot unpack is refused."""
    values = np.random.default_rng(bits).integers(0, 2**bits, size=(6, width))
    rows = ["".join(f"{value:0{bits}b}" for value in row) for row in values]
    packed = b"".join(int(row + "0" * (-len(row) % 8), 2).to_bytes((len(row) + 7) // 8) for row in rows)
    data = by_hand(
        grey_tags(width, 6, bits) | {259: (3, compression)}, zlib.compress(packed) if compression == 8 else packed
    )
    if bits == 12:
        np.testing.assert_array_equal(values_of(data), values)
        found = decode(data, reading=Reading(range="declared")).image
        np.testing.assert_array_equal(np.asarray(found), np.round(values * 255.0 / 4095))
    else:
        with pytest.raises(ImageError, match=rf"is a TIFF that Pillow cannot read \({bits}-bit unsigned grey"):
            decode_image(data)


def test_grey__jpeg_of_twelve_bits() -> None:
    """An 8-bit JPEG that is called 12-bit: its middle, 128, becomes 2048, and its steps stay what they are."""
    buffer = io.BytesIO()
    Image.fromarray(COLUMNS.astype(np.uint8) + 60).save(buffer, "JPEG", quality=95)
    jpeg = buffer.getvalue()
    place = jpeg.index(b"\xff\xc0") + 4
    deep = jpeg[:place] + b"\x0c" + jpeg[place + 1 :]
    try:
        found = values_of(by_hand(grey_tags(*COLUMNS.shape[::-1], 12) | {259: (3, 7)}, deep))
    except OSError:
        pytest.skip("this libtiff has no JPEG of 12 bits")
    assert np.abs(found.astype(int) - 2048 - (np.asarray(Image.open(buffer)).astype(int) - 128)).max() <= 1


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i1", "i2", "i4"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_decode_image__predictor(dtype: str, byteorder: str) -> None:
    """By hand: each value but the first of a row is stored as the difference to the one before it."""
    array = scene(dtype)
    height, width = array.shape
    steps = np.diff(array, axis=1, prepend=array[:, :1] * 0).astype(array.dtype.newbyteorder(byteorder))
    sample_format = 2 if array.dtype.kind == "i" else 1
    tags = grey_tags(width, height, 8 * array.itemsize) | {259: (3, 8), 317: (3, 2), 339: (3, sample_format)}
    data = by_hand(tags, zlib.compress(steps.tobytes()), byteorder)
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(data)), array)
    np.testing.assert_array_equal(np.asarray(decode_image(data)), expected(array, is_inverted=False))


@pytest.mark.parametrize("dtype", ["u2", "i2", "f4"])
def test_decode_image__little_endian_bigtiff(dtype: str) -> None:
    array = scene(dtype)
    data = written(array, bigtiff=True, compression="zlib", photometric="miniswhite")
    np.testing.assert_array_equal(np.asarray(decode_image(data)), 255 - eight(array))


def test_decode_image__big_endian_bigtiff() -> None:
    with pytest.raises(ImageError, match="is a big-endian BigTIFF, which Pillow cannot read; save it as"):
        decode_image(written(scene("u2"), bigtiff=True, byteorder=">"))


@pytest.mark.parametrize("photometric", [0, 1])
def test_decode_image__twelve_bits(photometric: int) -> None:
    values = np.array([[0, 1000, 2000, 3000], [4095, 5, 17, 256]])
    bits = "".join(f"{value:012b}" for value in values.ravel())
    packed = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))
    found = np.asarray(decode_image(by_hand(grey_tags(4, 2, 12, photometric), packed)))
    np.testing.assert_array_equal(found, 255 - eight(values) if photometric == 0 else eight(values))


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [
        ("f2", "16-bit floating point grey"),
        ("f8", "64-bit floating point grey"),
        ("u8", "64-bit unsigned grey"),
        ("i8", "64-bit signed grey"),
    ],
)
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_decode_image__grey_that_pillow_cannot_read(dtype: str, kind: str, compression: str | None) -> None:
    array = (SCENE * 1000).astype(dtype)
    with pytest.raises(ImageError, match=rf"is a TIFF that Pillow cannot read \({kind}.*; save it as 8-bit grey"):
        decode_image(written(array, compression=compression))


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("planarconfig", ["contig", "separate"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize(
    ("dtype", "n_channels", "photometric", "extra", "refusal"),
    [
        ("u1", 3, "rgb", (), ""),
        ("u1", 4, "rgb", ("unassalpha",), ""),
        ("u1", 5, "rgb", ("unspecified", "unspecified"), ""),
        ("u2", 3, "rgb", (), "16 bits per colour channel"),
        ("u2", 4, "rgb", ("unassalpha",), "16 bits per colour channel"),
        ("u2", 4, "rgb", ("assocalpha",), "16 bits per colour channel"),
        ("u2", 4, "separated", (), "16 bits per colour channel"),
        ("i1", 3, "rgb", (), "8-bit signed RGB"),
        ("i2", 3, "rgb", (), "16-bit signed RGB"),
        ("f4", 3, "rgb", (), "32-bit floating point RGB"),
        ("u4", 3, "rgb", (), "32-bit unsigned RGB"),
        ("u1", 2, "minisblack", ("unspecified",), "whose channels have no colours"),
        ("u1", 3, "minisblack", (), "whose channels have no colours"),
        ("u2", 4, "minisblack", (), "whose channels have no colours"),
        ("u1", 2, "miniswhite", ("unassalpha",), "8-bit unsigned grey, white at zero, 2 channels"),
        ("u2", 2, "minisblack", ("unassalpha",), "16-bit unsigned grey, 2 channels"),
        ("u1", 3, "cielab", (), "8-bit unsigned CIELab"),
        ("u1", 3, "icclab", (), "photometric 9"),
    ],
)
def test_decode_image__channels(
    dtype: str,
    n_channels: int,
    photometric: str,
    extra: tuple[str, ...],
    refusal: str,
    byteorder: str,
    planarconfig: str,
    compression: str | None,
) -> None:
    values = np.concatenate([COLOURS, COLOURS[..., ::-1]], axis=-1)[..., :n_channels]
    array = values.astype(dtype)
    stored = np.ascontiguousarray(np.moveaxis(array, -1, 0)) if planarconfig == "separate" else array
    options = {"planarconfig": planarconfig, "byteorder": byteorder, "compression": compression}
    data = written(stored, photometric=photometric, extrasamples=extra or None, **options)
    if n_channels == 5 and planarconfig == "separate" and compression is None:
        refusal = "8-bit unsigned RGB, 5 channels, planes"
    if refusal:
        with pytest.raises(ImageError, match=refusal):
            decode_image(data)
    else:
        np.testing.assert_array_equal(np.asarray(decode_image(data)), COLOURS)


@pytest.mark.parametrize("planarconfig", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_decode_image__associated_alpha(planarconfig: str, compression: str | None) -> None:
    alpha = (128 + ROWS + COLUMNS).astype(np.uint8)
    times_alpha = np.round(COLOURS * (alpha[..., None] / 255)).astype(np.uint8)
    for colours, photometric in ((times_alpha, "rgb"), (times_alpha[..., :1], "minisblack")):
        array = np.dstack([colours, alpha])
        stored = np.ascontiguousarray(np.moveaxis(array, -1, 0)) if planarconfig == "separate" else array
        options = {"planarconfig": planarconfig, "compression": compression, "extrasamples": ["assocalpha"]}
        data = written(stored, photometric=photometric, **options)
        if planarconfig == "separate" and (photometric == "minisblack" or compression is None):
            with pytest.raises(ImageError, match=r"that Pillow (cannot read|does not read right) .*planes"):
                decode_image(data)
            continue
        found = np.asarray(decode_image(data))[..., : colours.shape[-1]].astype(int)
        assert np.abs(found - np.round(colours / (alpha[..., None] / 255)).clip(0, 255)).max() <= 1


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("factor", [257, 1])  # 16-bit colours, as they must be, and the 8-bit ones that some write
def test_decode_image__palette_of_a_tiff(factor: int, byteorder: str) -> None:
    colours = np.random.default_rng(0).integers(0, 256, size=(256, 3))
    index = (COLUMNS // 4 + ROWS).astype(np.uint8)
    data = written(index, photometric="palette", colormap=(colours.T * factor).astype(np.uint16), byteorder=byteorder)
    np.testing.assert_array_equal(np.asarray(decode_image(data)), colours[index])


def test_decode_image__cmyk_of_a_tiff() -> None:
    inks = np.dstack([COLOURS, COLOURS[..., 2] // 2])
    found = np.asarray(decode_image(written(inks, photometric="separated", compression="zlib"))).astype(int)
    light = (255 - COLOURS.astype(float)) * (255 - inks[..., 3:].astype(float)) / 255
    assert np.abs(found - light).max() <= 1


@pytest.mark.parametrize("places", [(2, 2), (1, 1)])
def test_decode_image__ycbcr_without_compression(places: tuple[int, int]) -> None:
    tags = grey_tags(4, 4, 8) | {258: (3, (8, 8, 8)), 262: (3, 6), 277: (3, 3), 530: (3, places)}
    with pytest.raises(ImageError, match=r"does not read right \(8-bit unsigned YCbCr, 3 channels\)"):
        decode_image(by_hand(tags, bytes(4 * 4 * 3)))


@pytest.mark.parametrize("planarconfig", ["contig", "separate"])
def test_decode_image__ycbcr(planarconfig: str) -> None:
    light, blue, red = (COLUMNS + 100).astype(float), 120.0, 150.0
    array = np.dstack([light, np.full_like(light, blue), np.full_like(light, red)]).astype(np.uint8)
    stored = np.ascontiguousarray(np.moveaxis(array, -1, 0)) if planarconfig == "separate" else array
    data = written(stored, photometric="ycbcr", compression="zlib", planarconfig=planarconfig)
    # ITU-R BT.601: 1.402 (Cr - 128), -0.344 (Cb - 128) - 0.714 (Cr - 128), 1.772 (Cb - 128)
    colours = np.dstack([light + 30.844, light + 2.753 - 15.711, light - 14.176])
    assert np.abs(np.asarray(decode_image(data)) - colours).max() <= 1


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("photometric", [0, 1])
def test_decode_image__few_bits(bits: int, photometric: int) -> None:
    values = np.arange(32).reshape(4, 8) % 2**bits
    rows = ["".join(f"{value:0{bits}b}" for value in row) for row in values]
    packed = b"".join(int(row, 2).to_bytes(bits) for row in rows)
    grey = values * 255 / (2**bits - 1)
    found = decode_image(by_hand(grey_tags(8, 4, bits, photometric), packed)).convert("L")
    assert np.asarray(found).tolist() == (255 - grey if photometric == 0 else grey).tolist()


def test_decode_image__compression_that_nobody_knows() -> None:
    with pytest.raises(ImageError, match=r"cannot read \(8-bit unsigned grey, compression 60000\)"):
        decode_image(by_hand(grey_tags(2, 2, 8) | {259: (3, 60_000)}, bytes(4)))


@pytest.mark.parametrize("tag", [270, 271, 305, 306])
@pytest.mark.parametrize("dtype", ["u2", "i4", "f4"])
def test_decode_image__tag_outside_of_the_file(tag: int, dtype: str) -> None:
    """Pillow stops reading tags there, and would not see that these samples are signed, or floating point."""
    array = scene(dtype)
    height, width = array.shape
    sample_format = {"u": 1, "i": 2, "f": 3}[array.dtype.kind]
    tags = grey_tags(width, height, 8 * array.itemsize) | {339: (3, sample_format), 65_000: (3, 1)}
    data = by_hand(tags | {tag: (1, tuple(b"a description"))}, array.tobytes())
    place = data.index(struct.pack("<HHI", tag, 1, 13)) + 8
    broken = data[:place] + struct.pack("<I", 2**31 - 1) + data[place + 4 :]
    np.testing.assert_array_equal(np.asarray(decode_image(broken)), eight(array))


@pytest.mark.parametrize("orientation", [1, 6, 0, 9, 65_535])
def test_decode_image__orientation_of_a_tiff(orientation: int) -> None:
    stored = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.uint8)
    data = by_hand(grey_tags(3, 2, 8) | {274: (3, orientation)}, stored.tobytes())
    turned = stored[::-1].T if orientation == 6 else stored
    assert np.asarray(decode_image(data)).tolist() == turned.tolist()


def test_decode_image__truncated_tiff() -> None:
    data = written(scene("f4"), byteorder=">", compression="zlib")
    for end in (len(data) // 2, len(data) * 9 // 10):
        with pytest.raises(ImageError):
            decode_image(data[:end])


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about the damage
@pytest.mark.parametrize("directory", [2**64 - 1, 2**63, 2**32, 0])
def test_decode_image__directory_outside_of_the_file(directory: int) -> None:
    data = written(scene("u2"), bigtiff=True)
    with pytest.raises(ImageError):
        decode_image(data[:8] + struct.pack("<Q", directory) + data[16:])


@pytest.mark.parametrize("bits", [8, 16])
def test_decode_image__a_tiff_that_does_not_say_which_end_is_white_is_refused(bits: int) -> None:
    """Readers differ in what they make of a missing PhotometricInterpretation: Pillow takes white for zero."""
    tags = {tag: value for tag, value in grey_tags(4, 4, bits).items() if tag != 262}
    with pytest.raises(ImageError, match=r"does not say what its values mean"):
        decode_image(by_hand(tags, bytes(range(16)) * (bits // 8)))
