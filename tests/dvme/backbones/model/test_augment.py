from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import stats

from dvme.backbones.description.spec import Preprocess
from dvme.backbones.description.view import PLAIN, View
from dvme.backbones.model.augment import LARGEST_ANGLE, LEAST_AREA, motion_of, view_image
from dvme.backbones.model.preprocess import crop_image

SMALL = Preprocess(resize=64, crop=56)
RECIPES = ["flip+rotate+crop", "rotate+crop", "flip", "rotate", "crop", "flip+crop"]


def _ids(n: int) -> list[bytes]:
    return [np.random.default_rng(i).bytes(16) for i in range(n)]


def _smooth(width: int = 160, height: int = 120) -> Image.Image:
    """A picture without any detail that resampling could lose, different in every place."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    channels = [120 + 90 * np.sin(3 * x + 2 * y), 255 * x, 40 + 180 * y * x]
    return Image.fromarray(np.stack(channels, axis=-1).round().astype(np.uint8))


def _by_grid_sample(image: Image.Image, preprocess: Preprocess, view: View, identity: bytes) -> NDArray[np.float64]:
    """The same by coordinates alone, in float: no resizing, bilinear, of an image that has no detail."""
    motion, parts = motion_of(view, identity), view.recipe.split("+")
    angle = math.radians(motion.angle) if "rotate" in parts else 0.0
    spread = math.cos(angle) + abs(math.sin(angle))
    share = math.sqrt(motion.area) if "crop" in parts else preprocess.crop / preprocess.resize
    share = min(share, 1.0 / spread)
    short = min(image.size)
    step = (np.arange(preprocess.crop) + 0.5) / preprocess.crop - 0.5
    along, down = np.meshgrid(step * share, step * share)
    if motion.is_mirrored and "flip" in parts:
        along = -along
    slack = (1.0 - share * spread) / 2.0
    right, below = (motion.right * slack, motion.down * slack) if "crop" in parts else (0.0, 0.0)
    x = (math.cos(angle) * along - math.sin(angle) * down + right) * short
    y = (math.sin(angle) * along + math.cos(angle) * down + below) * short
    grid = torch.from_numpy(np.stack([2 * x / image.width, 2 * y / image.height], axis=-1))[None]
    pixels = torch.from_numpy(np.asarray(image).astype(np.float64)).permute(2, 0, 1)[None]
    return torch.nn.functional.grid_sample(pixels, grid, align_corners=False)[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("recipe", RECIPES)
def test_view_image__shows_what_the_drawn_numbers_say(recipe: str) -> None:
    image = _smooth()
    for number, identity in itertools.product((1, 2) if recipe != "flip" else (1,), _ids(3)):
        view = View(number=number, recipe=recipe)
        found = view_image(image, SMALL, view, identity).astype(float)
        expected = _by_grid_sample(image, SMALL, view, identity)
        # A whole pixel's rounding of place, and a grey's of value: the picture changes by 4 greys a pixel at most.
        assert np.abs(found - expected).max() < 4.5
        assert np.abs(found - expected).mean() < 1.5


def test_view_image__plain_and_flips_are_the_crop_and_its_mirror_image() -> None:
    image, identity = _smooth(), b"i" * 16
    crop = crop_image(image, SMALL)
    np.testing.assert_array_equal(view_image(image, SMALL, PLAIN, identity), crop)
    np.testing.assert_array_equal(view_image(image, SMALL, View(number=1, recipe="flip"), identity), crop[:, ::-1])


def test_view_image__odd_views_are_mirrored_and_else_nothing_depends_on_the_recipe() -> None:
    image = _smooth()
    for number, identity in itertools.product((1, 2, 3, 4), _ids(3)):
        with_flip, without = (
            view_image(image, SMALL, View(number=number, recipe=recipe), identity)
            for recipe in ("flip+rotate+crop", "rotate+crop")
        )
        np.testing.assert_array_equal(with_flip, without[:, ::-1] if number % 2 else without)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("mode", ["center", "squash"])
@pytest.mark.parametrize("size", [(70, 70), (300, 64), (64, 500), (33, 20)])
def test_view_image__never_shows_what_is_beyond_the_image(recipe: str, mode: str, size: tuple[int, int]) -> None:
    for crop, colour, identity in itertools.product((56, 64, 7), ("L", "RGB"), _ids(3)):
        white = Image.new(colour, size, 255 if colour == "L" else (255, 255, 255))
        preprocess = Preprocess(resize=64, crop=crop, mode=mode)  # type: ignore[arg-type]
        found = view_image(white, preprocess, View(number=1, recipe=recipe), identity)
        assert found.min() == 255
        assert found.shape == (crop, crop, 3)


def test_view_image__one_channel_and_grey_images() -> None:
    grey, one = _smooth().convert("L"), Preprocess(resize=64, crop=56, mean=(0.5,), std=(0.5,))
    view, identity = View(number=1), b"g" * 16
    found = view_image(grey, one, view, identity)
    assert found.shape == (56, 56, 1)
    np.testing.assert_array_equal(view_image(grey, SMALL, view, identity), np.repeat(found, 3, axis=2))


def test_view_image__every_backbone_sees_the_same_part() -> None:
    image, view = _smooth(400, 300), View(number=2)
    for identity in _ids(4):
        small = view_image(image, Preprocess(resize=64, crop=64), view, identity).astype(float)
        large = view_image(image, Preprocess(resize=256, crop=192, interpolation="bicubic"), view, identity)
        pooled = large.reshape(64, 3, 64, 3, 3).astype(float).mean(axis=(1, 3))
        assert np.abs(small - pooled).mean() < 1.5  # half a pixel of the small one is about 1


def test_motion_of__uniform_and_unrelated() -> None:
    """(4,000, 4) numbers that should be uniform on (0, 1) each, and independent, over images and over views."""
    drawn = []
    for number, identity in itertools.product((1, 2, 3, 4), _ids(1000)):
        motion = motion_of(View(number=number), identity)
        area = (motion.area - LEAST_AREA) / (1 - LEAST_AREA)
        drawn.append([(motion.angle / LARGEST_ANGLE + 1) / 2, area, (motion.right + 1) / 2, (motion.down + 1) / 2])
    values = np.array(drawn)
    assert ((values >= 0) & (values <= 1)).all()
    assert min(stats.kstest(column, "uniform").pvalue for column in values.T) > 1e-3
    assert np.abs(np.corrcoef(values.T) - np.eye(4)).max() < 0.08
    by_view = values.reshape(4, 1000, 4)
    assert np.abs(np.corrcoef(by_view[:, :, 0]) - np.eye(4)).max() < 0.15


def test_motion_of__the_same_for_ever() -> None:
    """The numbers of the first day: caches hold embeddings that were made by them."""
    assert f"{motion_of(View(number=3), bytes(range(16)))}" == (
        "Motion(is_mirrored=True, angle=0.9407734999247881, area=0.7184809773073375, "
        "right=-0.10213916439920934, down=-0.35350618506211307)"
    )
