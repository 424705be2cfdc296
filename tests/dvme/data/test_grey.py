"""Ranges of deep grey, against plain formulas in float64."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dvme.data.encoded import Encoded
from dvme.data.grey import Scale, eight_bits
from dvme.data.images import decode
from dvme.data.reading import Reading
from dvme.data.stretch import FewGreys
from dvme.errors import ImageError

ROWS, COLUMNS = np.mgrid[0:40, 0:50]
RAMP = ROWS * 100 + COLUMNS  # 0..3949, of 12 bits
RANGES = ["", "image", "declared", "dtype", "12bit", "percentile:1:99"]


def by_range(values: NDArray[Any], by: str, scale: Scale | None = None) -> NDArray[np.uint8]:
    return eight_bits(values, by, lambda: scale).pixels


def plain(values: NDArray[Any], low: float, high: float) -> NDArray[Any]:
    return np.round((np.clip(values.astype(np.float64), low, high) - low) * 255 / (high - low))


@pytest.mark.parametrize(
    ("dtype", "by", "low", "high"),
    [
        ("u2", "", 0, 3949),
        ("u2", "image", 0, 3949),
        ("u2", "dtype", 0, 65_535),
        ("u2", "12bit", 0, 4095),
        ("u2", "13bit", 0, 8191),
        ("u2", "declared", 0, 5000),
        ("i2", "dtype", -32_768, 32_767),
        ("i2", "13bit", -4096, 4095),
        ("i4", "dtype", -(2**31), 2**31 - 1),
        ("u4", "dtype", 0, 2**32 - 1),
        ("u4", "16bit", 0, 65_535),
        ("f4", "12bit", 0, 4095),
        ("f4", "declared", 0, 5000),
    ],
)
def test_eight_bits__by_a_formula(dtype: str, by: str, low: float, high: float) -> None:
    values = RAMP.astype(dtype)
    np.testing.assert_array_equal(by_range(values, by, Scale(0, 5000)), plain(values, low, high))


@pytest.mark.parametrize("dtype", ["u2", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize(("low", "high"), [(1, 99), (0, 100), (0.5, 99.5), (12.34, 56.78)])
def test_eight_bits__percentiles_are_numpys(dtype: str, low: float, high: float) -> None:
    generator = np.random.default_rng(0)
    for shape in ((40, 50), (300, 301)):
        values = (generator.gamma(2, 800, size=shape) - (500 if dtype[0] != "u" else 0)).astype(dtype)
        ends = np.percentile(values.astype(np.float64), [low, high])
        found = by_range(values, f"percentile:{low}:{high}")
        np.testing.assert_array_equal(found, plain(values, *ends))
        assert {0, 255} <= set(found.ravel().tolist())


def test_eight_bits__floating_point_of_a_unit_range() -> None:
    values = RAMP.astype("f4") / 4000
    np.testing.assert_array_equal(by_range(values, "dtype"), plain(values, 0, 1))


@pytest.mark.parametrize(
    ("values", "by", "reason"),
    [
        (RAMP.astype("u2"), "9bit", "has 3,949 as its largest grey, beyond the 511 of @range=9bit; @range=12bit, "),
        (
            RAMP.astype("u2") + 60_000,
            "12bit",
            "has 63,949 .* beyond the 4,095 .*; @range=16bit, @range=dtype, @range=im",
        ),
        (RAMP.astype("i2") - 3000, "12bit", "has -3,000 as its least grey, below the -2,048 .*; @range=13bit, "),
        (
            RAMP.astype("i2"),
            "12bit",
            "has 3,949 as its largest grey, beyond the 2,047 .*; @range=13bit, @range=16bit, ",
        ),
        (RAMP.astype("u4") + 2**20, "16bit", "has 1,052,525 .* 65,535 of @range=16bit; @range=21bit, @range=dtype, "),
        (
            RAMP.astype("f4"),
            "dtype",
            "has 3,949 as its largest grey, beyond the 1 of @range=dtype; @range=12bit, @range",
        ),
        (RAMP.astype("f4") - 0.5, "dtype", "below|beyond"),
        (
            RAMP.astype("f4"),
            "declared",
            r"declares no range of grey.*0 to 3,949: @range=12bit, @range=16bit, @range=im",
        ),
        (RAMP.astype("f4") / 4000, "declared", r"declares no range .*: @range=.*dtype, @range=image and @range=perc"),
    ],
)
def test_eight_bits__nothing_is_clipped_in_silence(values: NDArray[Any], by: str, reason: str) -> None:
    with pytest.raises(ImageError, match=reason) as caught:
        by_range(values, by)
    for other in str(caught.value).replace(",", " ").split("@range=")[1:]:  # each that is named does fit
        name = other.split()[0].rstrip(";:")
        if name != by:
            by_range(values, name)


def test_eight_bits__percentiles_that_are_one_grey() -> None:
    values = np.zeros((20, 20), dtype="u2")
    values[0, 0] = 9
    with pytest.raises(ImageError, match="has the grey 0 from end to end of @range=percentile:5:95; pass wider"):
        by_range(values, "percentile:5:95")
    assert not by_range(np.full((20, 20), 7, "u2"), "percentile:5:95").any()


def test_eight_bits__few_greys() -> None:
    """A range of which the picture uses a small part, told with the range that fits."""
    values = RAMP.astype("u2")
    found = {by: eight_bits(values, by, lambda: None).outliers for by in ("dtype", "15bit", "14bit", "12bit", "image")}
    # 3949 * 255 / 65535 = 15.4 and 3949 * 255 / 32767 = 30.7, so greys 0 to 15 and 0 to 31; ROWS x COLUMNS values
    assert found.pop("dtype") == FewGreys(16, 2000, fits="12bit")
    assert set(found.values()) == {None}
    for narrow, n_greys in (((60_000 + COLUMNS).astype("u2"), 2), ((60_000 + COLUMNS).astype("i4"), 1)):
        # 60000 * 255 / 65535 = 233.46, and of 60049 it is 233.65
        assert eight_bits(narrow, "dtype", lambda: None).outliers == FewGreys(n_greys, 50, fits="image")
    spot = values.copy()
    spot[0, 0] = 65_535
    assert eight_bits(spot, "dtype", lambda: None).outliers == FewGreys(17, 2000, fits="percentile:0.5:99.5")
    for few in (np.full((9, 9), 7, "u2"), np.where(RAMP % 2, 0, 65_535).astype("u2")):  # of which no range shows more
        assert eight_bits(few, "dtype", lambda: None).outliers is None


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("by", RANGES)
def test_decode__every_range_reads_eight_bits_as_ever(by: str) -> None:
    colours = np.random.default_rng(0).integers(0, 256, size=(24, 20, 3)).astype(np.uint8)
    grey, colour = Image.fromarray(colours[..., 0] // 2), Image.fromarray(colours)
    files = [encoded(image, kind) for image in (grey, colour) for kind in ("PNG", "JPEG", "TIFF", "PPM", "GIF", "BMP")]
    files += [
        encoded(colour.quantize(9), "PNG"),
        encoded(colour.convert("LA"), "PNG"),
        encoded(colour.convert("1"), "PNG"),
    ]
    for data in files:
        usual, other = decode(data).image, decode(Encoded(data), reading=Reading(range=by)).image
        assert usual.mode == other.mode
        assert usual.tobytes() == other.tobytes()


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "PNG"])
def test_decode__a_frame_is_of_dicom(kind: str) -> None:
    frames = [Image.new("L", (4, 4), value) for value in (10, 200)]
    several = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="has several images, of which the first is read; @frame=middle is for DICOM"):
        decode(several, reading=Reading(frame="middle"))
    assert np.unique(np.asarray(decode(several, reading=Reading(frame="0")).image.convert("L"))).tolist() == [10]
    assert np.unique(np.asarray(decode(encoded(frames[1], kind), reading=Reading(frame="1")).image)).tolist() == [200]
