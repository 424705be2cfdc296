from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from dvme.backbones import Preprocess
from dvme.backbones.model.preprocess import MAX_ASPECT_RATIO, crop_image
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
