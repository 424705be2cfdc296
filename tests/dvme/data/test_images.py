from __future__ import annotations

import io
import struct
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from dvme.backbones import Preprocess
from dvme.backbones.model.preprocess import crop_image
from dvme.data import decode_image
from dvme.data.images import FORMATS, SUFFIXES
from dvme.errors import ImageError

ORIENTATION = 274  # the EXIF tag
NOISE = np.random.default_rng(0).integers(0, 256, size=(24, 20, 3)).astype(np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


SEEDS = {
    "png": encoded(Image.fromarray(NOISE), exif=oriented(6)),
    "png16": encoded(Image.fromarray(NOISE[..., 0].astype(np.uint16) * 200)),
    "palette": encoded(Image.fromarray(NOISE).quantize(16)),
    "jpeg": encoded(Image.fromarray(NOISE), "JPEG", exif=oriented(6)),
    "cmyk": encoded(Image.fromarray(NOISE).convert("CMYK"), "JPEG"),
    "gif": encoded(Image.fromarray(NOISE), "GIF"),
    "bmp": encoded(Image.fromarray(NOISE), "BMP"),
    "ppm": encoded(Image.fromarray(NOISE), "PPM"),
    "tiff": encoded(Image.fromarray(NOISE), "TIFF", exif=oriented(3)),
    "lzw": encoded(Image.fromarray(NOISE), "TIFF", compression="tiff_lzw"),
    "webp": encoded(Image.fromarray(NOISE), "WEBP"),
}


def test_suffixes__are_pillows_own() -> None:
    Image.init()
    known = {suffix: name for suffix, name in Image.registered_extensions().items() if name in FORMATS}
    moving = {".avifs"}  # a sequence, which holds films
    dicom = dict.fromkeys((".dcm", ".dic", ".dicom", ".ima"), "DICOM")
    assert {suffix: name for suffix, name in known.items() if suffix not in moving} | dicom == SUFFIXES


@pytest.mark.parametrize("kind", FORMATS)
def test_decode_image__every_format(kind: str) -> None:
    lossless = {"WEBP": {"lossless": True}}
    image = decode_image(encoded(Image.new("RGB", (16, 16), (200, 100, 40)), kind, **lossless.get(kind, {})))
    assert image.size == (16, 16)
    assert np.abs(np.asarray(image.convert("RGB")).astype(int) - (200, 100, 40)).max() <= (40 if kind == "GIF" else 3)


def test_decode_image__rgb_png_is_unchanged() -> None:
    image = decode_image(encoded(Image.fromarray(NOISE)))
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), NOISE)


def test_decode_image__grey_png_stays_grey() -> None:
    image = decode_image(encoded(Image.fromarray(NOISE[..., 0])))
    assert image.mode == "L"
    np.testing.assert_array_equal(np.asarray(image), NOISE[..., 0])
    crop = crop_image(image, Preprocess(resize=16, crop=12))
    assert crop.shape == (12, 12, 3)
    np.testing.assert_array_equal(crop[..., 0], crop[..., 1])
    np.testing.assert_array_equal(crop[..., 0], crop[..., 2])


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_decode_image__deep_grey_is_stretched(kind: str) -> None:
    deep = np.array([[1000, 2000], [4000, 5000]], dtype=np.uint16)
    image = decode_image(encoded(Image.fromarray(deep), kind))
    assert image.mode == "L"
    # (v - 1000) * 255 / 4000 = 0, 63.75, 191.25, 255
    assert np.asarray(image).tolist() == [[0, 64], [191, 255]]


def test_decode_image__float_tiff_is_stretched() -> None:
    deep = np.array([[-1.0, 0.0], [0.5, 3.0]], dtype=np.float32)
    # (v + 1) * 255 / 4 = 0, 63.75, 95.625, 255
    assert np.asarray(decode_image(encoded(Image.fromarray(deep), "TIFF"))).tolist() == [[0, 64], [96, 255]]


def test_decode_image__constant_deep_image_is_black() -> None:
    image = decode_image(encoded(Image.fromarray(np.full((3, 2), 40_000, dtype=np.uint16))))
    assert image.mode == "L"
    assert np.asarray(image).tolist() == [[0, 0]] * 3


def test_decode_image__pixels_that_are_not_finite() -> None:
    data = encoded(Image.fromarray(np.array([[0.0, np.nan]], dtype=np.float32)), "TIFF")
    with pytest.raises(ImageError, match="not finite"):
        decode_image(data)


def test_decode_image__deep_grey_is_turned_by_its_orientation() -> None:
    deep = np.array([[1000, 2000], [4000, 5000]], dtype=np.uint16)
    image = decode_image(encoded(Image.fromarray(deep), exif=oriented(6)))
    assert np.asarray(image).tolist() == [[191, 0], [255, 64]]


def test_decode_image__alpha_is_dropped() -> None:
    alpha = np.arange(480, dtype=np.uint16).reshape(24, 20).astype(np.uint8)
    image = decode_image(encoded(Image.fromarray(np.dstack([NOISE, alpha]))))
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), NOISE)


def test_decode_image__grey_with_alpha() -> None:
    grey_alpha = Image.merge("LA", [Image.fromarray(NOISE[..., 0]), Image.fromarray(NOISE[..., 1])])
    image = decode_image(encoded(grey_alpha))
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), NOISE[..., :1].repeat(3, axis=2))


@pytest.mark.parametrize("options", [{}, {"transparency": 0}])
def test_decode_image__palette(options: dict[str, int]) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 1, 2, 3, 9, 8, 7])
    image.putdata([0, 1, 2])
    decoded = decode_image(encoded(image, **options))
    assert decoded.mode == "RGB"
    assert np.asarray(decoded).tolist() == [[[255, 0, 0], [1, 2, 3], [9, 8, 7]]]


def test_decode_image__black_and_white() -> None:
    image = Image.fromarray(np.array([[True, False]]))
    assert image.mode == "1"
    assert np.asarray(decode_image(encoded(image)).convert("RGB")).tolist() == [[[255] * 3, [0] * 3]]


@pytest.mark.parametrize(
    ("inks", "colour"),
    [((0, 255, 255, 0), (255, 0, 0)), ((255, 0, 255, 0), (0, 255, 0)), ((0, 0, 0, 255), (0, 0, 0))],
)
def test_decode_image__cmyk_jpeg(inks: tuple[int, ...], colour: tuple[int, ...]) -> None:
    image = decode_image(encoded(Image.new("CMYK", (16, 16), inks), "JPEG", quality=95))
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image).astype(int) - colour).max() <= 3


def test_decode_image__cmyk_jpeg_of_either_sense() -> None:
    data = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG")
    start = data.index(b"\xff\xee\x00\x0eAdobe")
    with pytest.raises(ImageError, match="four inks, and no Adobe marker"):
        decode_image(data[:start] + data[start + 16 :])


def test_decode_image__first_frame_of_an_animation() -> None:
    frames = [Image.new("L", (4, 4), value) for value in (10, 200)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.unique(np.asarray(decode_image(data))).tolist() == [10]


UPRIGHT = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.T,
    6: lambda stored: stored[::-1].T,  # the first row is the right-hand side
    7: lambda stored: stored[::-1, ::-1].T,
    8: lambda stored: stored.T[::-1],  # the first row is the left-hand side
}


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_decode_image__orientation(orientation: int, kind: str) -> None:
    stored = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.uint8)
    decoded = decode_image(encoded(Image.fromarray(stored), kind, exif=oriented(orientation)))
    assert np.asarray(decoded).tolist() == UPRIGHT[orientation](stored).tolist()


def test_decode_image__orientation_of_a_jpeg() -> None:
    stored = np.zeros((16, 32, 3), dtype=np.uint8)
    stored[:8, :, 0] = 255  # red above, black below; turned clockwise by 90 degrees, red is on the right
    decoded = np.asarray(decode_image(encoded(Image.fromarray(stored), "JPEG", quality=95, exif=oriented(6))))
    assert decoded.shape == (32, 16, 3)
    assert decoded[:, :6].max() < 40
    assert decoded[:, 10:, 0].min() > 215


@pytest.mark.parametrize("kind", ["png", "jpeg", "tiff", "gif", "webp"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_decode_image__truncated(kind: str, share: float) -> None:
    data = SEEDS[kind]
    with pytest.raises(ImageError) as caught:
        decode_image(data[: int(len(data) * share)])
    assert "\n" not in str(caught.value)


def test_decode_image__empty_file() -> None:
    with pytest.raises(ImageError, match="the file is empty"):
        decode_image(b"")


@pytest.mark.parametrize("data", [b"hello", b"<!DOCTYPE html><html></html>", bytes(200), b"\x89PNG\r\n\x1a\n"])
def test_decode_image__not_an_image(data: bytes) -> None:
    with pytest.raises(ImageError):
        decode_image(data)


@pytest.mark.parametrize("kind", sorted(SEEDS))
def test_decode_image__largest_image(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 24 * 20 - 1)  # Pillow itself would warn, and warnings are errors
    assert set(decode_image(SEEDS[kind], 24 * 20).size) == {20, 24}
    with pytest.raises(ImageError, match="has 480 pixels, more than 479; dvme extract --max-pixels 480 reads it"):
        decode_image(SEEDS[kind], 479)


@pytest.mark.parametrize("kind", sorted(set(SEEDS) - {"webp"}))
def test_decode_image__larger_than_pillow_allows(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.asarray(decode_image(SEEDS[kind]))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    np.testing.assert_array_equal(np.asarray(decode_image(SEEDS[kind])), whole)


def test_decode_image__limit_without_an_option() -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    with pytest.raises(
        ImageError, match="has 400,000,000 pixels, more than 178,956,970; dvme extract --max-pixels 400000000"
    ):
        decode_image(data)


def image_or_error(data: bytes) -> None:
    """The whole contract: an 8-bit grey or RGB image, or an ImageError of one line."""
    reason = ""
    try:
        image = decode_image(data)
    except ImageError as error:
        reason = str(error)
    if reason:
        assert "\n" not in reason
        return
    assert image.mode in {"L", "RGB"}
    assert np.asarray(image).dtype == np.uint8


@settings(derandomize=True, deadline=None, database=None, max_examples=200)
@given(st.binary(max_size=300))
def test_decode_image__random_bytes(data: bytes) -> None:
    image_or_error(data)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about the damage
@settings(derandomize=True, deadline=None, database=None, max_examples=600)
@given(
    st.sampled_from(sorted(SEEDS)),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=12),
    st.floats(0, 1),
)
def test_decode_image__damaged_files(kind: str, damages: list[tuple[float, int]], kept: float) -> None:
    data = bytearray(SEEDS[kind])
    for place, value in damages:
        data[int(place**2 * len(data))] = value  # headers, at the front, break more than pixels do
    image_or_error(bytes(data[: max(1, round(len(data) * (1 if kept > 0.3 else kept)))]))


@pytest.mark.parametrize(
    ("kind", "intact", "damaged"),
    [
        pytest.param("AVIF", b"iloc", b"ilox", marks=pytest.mark.skipif(not features.check("avif"), reason="no AVIF")),
        ("DDS", bytes([64, 0, 0, 0, 0, 0, 0, 0]), bytes(8)),  # the flags that name the pixel format
    ],
)
def test_decode_image__pillow_runtime_error(kind: str, intact: bytes, damaged: bytes) -> None:
    data = encoded(Image.fromarray(NOISE), kind).replace(intact, damaged)
    with pytest.raises(ImageError):
        decode_image(data)


def test_decode_image__sixteen_bit_colour_is_refused_not_blackened() -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))  # 2 x 1 pixels, 16 bits, RGB
    pixels = chunk(b"IDAT", zlib.compress(b"\0" + struct.pack(">6H", 0, 50, 100, 150, 200, 249)))
    with pytest.raises(ImageError, match="16 bits per colour channel"):
        decode_image(b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b""))


def test_decode_image__threads_leave_the_warning_filters_alone() -> None:
    interval = sys.getswitchinterval()
    with warnings.catch_warnings():
        before = list(warnings.filters)
        sys.setswitchinterval(1e-5)
        try:
            for _ in range(20):
                with ThreadPoolExecutor(4) as pool:
                    list(pool.map(decode_image, [SEEDS["png"]] * 200))
                assert warnings.filters == before
        finally:
            sys.setswitchinterval(interval)
