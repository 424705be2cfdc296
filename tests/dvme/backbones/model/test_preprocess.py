from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from dvme.backbones import Preprocess
from dvme.backbones.model.preprocess import MAX_ASPECT_RATIO, crop_image
from dvme.data.images import decode
from dvme.data.reading import Reading
from dvme.errors import ImageError

SIZES = [(300, 200), (201, 333), (97, 50), (256, 256), (224, 500), (700, 31), (255, 257), (1, 1), (61, 61)]
SHAPES = [(256, 224), (292, 260), (65, 64), (64, 64), (61, 40)]


def noise(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(width * 1000 + height)
    return Image.fromarray(rng.integers(0, 256, size=(height, width, 3)).astype(np.uint8))


def by_torchvision(image: Image.Image, preprocess: Preprocess) -> np.ndarray:
    size = (preprocess.resize, preprocess.resize) if preprocess.mode == "squash" else preprocess.resize
    resize = transforms.Resize(size, InterpolationMode(preprocess.interpolation), antialias=True)
    return np.asarray(transforms.CenterCrop(preprocess.crop)(resize(image)))


@pytest.mark.parametrize("mode", ["center", "squash"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize(("resize", "crop"), SHAPES)
def test_crop_image__equals_torchvision(resize: int, crop: int, interpolation: str, mode: str) -> None:
    preprocess = Preprocess(resize=resize, crop=crop, interpolation=interpolation, mode=mode)  # type: ignore[arg-type]
    for width, height in SIZES:
        image = noise(width, height)
        found = crop_image(image, preprocess)
        assert found.shape == (crop, crop, 3)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, by_torchvision(image, preprocess), err_msg=f"{width} x {height}")


@settings(derandomize=True, deadline=None, database=None, max_examples=100)
@given(st.integers(1, 120), st.integers(1, 120), st.integers(1, 50), st.integers(0, 12))
def test_crop_image__equals_torchvision_for_any_size(width: int, height: int, crop: int, border: int) -> None:
    assume(max(width, height) <= MAX_ASPECT_RATIO * min(width, height))
    preprocess = Preprocess(resize=crop + border, crop=crop, interpolation="bicubic")
    image = noise(width, height)
    np.testing.assert_array_equal(crop_image(image, preprocess), by_torchvision(image, preprocess))


@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1)])
def test_crop_image__absurdly_long_image_is_refused_without_building_it(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match="longer than 50 to 1"):
        crop_image(Image.new("L", size), Preprocess())


@pytest.mark.parametrize("mode", ["center", "squash"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_crop_image__grey_equals_conversion_to_rgb_first(interpolation: str, mode: str) -> None:
    preprocess = Preprocess(resize=65, crop=56, interpolation=interpolation, mode=mode)  # type: ignore[arg-type]
    for width, height in SIZES:
        grey = noise(width, height).convert("L")
        np.testing.assert_array_equal(crop_image(grey, preprocess), crop_image(grey.convert("RGB"), preprocess))


def test_crop_image__without_resizing_is_the_centre() -> None:
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    found = crop_image(Image.fromarray(pixels), Preprocess(resize=4, crop=2))
    np.testing.assert_array_equal(found, pixels[1:3, 2:4])


def triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(1 - np.abs(x), 0)


def cubic(x: np.ndarray) -> np.ndarray:
    """Keys 1981 with a = -0.5."""
    x = np.abs(x)
    return np.where(x < 1, 1.5 * x**3 - 2.5 * x**2 + 1, np.where(x < 2, -0.5 * (x**3 - 5 * x**2 + 8 * x - 4), 0))


def lanczos(x: np.ndarray) -> np.ndarray:
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)


FILTERS = {"bilinear": (triangle, 1), "bicubic": (cubic, 2), "lanczos": (lanczos, 3)}
"""Each filter, and how far it reaches."""


def resampling(n: int, n_wanted: int, interpolation: str) -> np.ndarray:
    """(n_wanted, n) weights: the filter is stretched where the image shrinks, and the weights of a pixel sum to 1."""
    shape, reach = FILTERS[interpolation]
    step = n / n_wanted
    width = max(step, 1.0)
    centres = (np.arange(n_wanted) + 0.5) * step
    weights = shape((np.arange(n) + 0.5 - centres[:, None]) / width)
    first = np.trunc(np.maximum(centres - reach * width + 0.5, 0))[:, None]
    behind = np.trunc(np.minimum(centres + reach * width + 0.5, n))[:, None]
    weights[(np.arange(n) < first) | (np.arange(n) >= behind)] = 0
    return weights / weights.sum(axis=1, keepdims=True)


def deep_scene(width: int, height: int, kind: str) -> np.ndarray:
    """12-bit grey in 16 bits, from 37 to 4011: soft tissue with grain and a bright edge, or noise alone."""
    rows, columns = np.mgrid[0:height, 0:width]
    generator = np.random.default_rng(width)
    if kind == "noise":
        values = generator.uniform(size=(height, width))
    else:
        values = np.sin(columns / 40) + np.cos(rows / 60) + generator.normal(0, 0.03, size=(height, width))
        values = np.where((columns - width / 3) ** 2 + (rows - height / 2) ** 2 < 900, values.max(), values)
    low, high = values.min(), values.max()
    return np.round(37 + (values - low) * (4011 - 37) / (high - low)).astype(np.uint16)


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("kind", ["scene", "noise"])
@pytest.mark.parametrize(("by", "low", "high"), [("", 37, 4011), ("12bit", 0, 4095), ("14bit", 0, 16_383)])
def test_crop_image__of_deep_grey_against_float64(interpolation: str, kind: str, by: str, low: int, high: int) -> None:
    """Rounded to 8 bits before, between and after the two passes, it is the float64 picture to one grey level.

    Beyond black and white there is nothing after either pass, as in every image of 8 bits.
    """
    size = 224
    preprocess = Preprocess(resize=size, crop=size, interpolation=interpolation, mode="squash")  # type: ignore[arg-type]
    for width, height in ((500, 420), (150, 190)):
        values = deep_scene(width, height, kind)
        buffer = io.BytesIO()
        Image.fromarray(values).save(buffer, "PNG")
        found = crop_image(decode(buffer.getvalue(), reading=Reading(range=by)).image, preprocess)[..., 0]
        wide = (values.astype(np.float64) - low) * 255 / (high - low)
        across = wide @ resampling(width, size, interpolation).T
        exact = resampling(height, size, interpolation) @ across.clip(0, 255)
        exact = exact.clip(0, 255)
        assert np.abs(found - exact).max() <= (1.45 if width > size else 1.65)  # of 0.5 for each rounding, and ringing
        if width > size:
            assert np.abs(found - np.round(exact)).max() <= 1
