from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.v2 import functional as peer

from dvme.errors import OptionError
from dvme.training.augmentations import (
    AUGMENTATIONS,
    BRIGHTNESS,
    CONTRAST,
    HUE,
    SATURATION,
    Augmentation,
    Variations,
    applied,
    varied,
)
from dvme.training.motions import Motions, _affine

CHANGES: dict[int, Callable[[Tensor, float], Tensor]] = {
    BRIGHTNESS: peer.adjust_brightness,
    CONTRAST: peer.adjust_contrast,
    SATURATION: peer.adjust_saturation,
    HUE: peer.adjust_hue,
}
CLOSE: dict[str, Any] = {"atol": 255e-4, "rtol": 0}


def unvaried(n: int = 1, **given: Any) -> Variations:
    """That change nothing but what is given."""
    same = varied(n, Augmentation(), np.random.default_rng(0))
    upright = replace(same.motions, right=np.zeros(n), down=np.zeros(n))
    return replace(same, motions=upright, **{name: np.array(value) for name, value in given.items()})


def of_rows(variations: Variations, rows: Any) -> Variations:
    motions = Motions(**{name: values[rows] for name, values in asdict(variations.motions).items()})
    rest = {name: getattr(variations, name)[rows] for name in ("orders", "factors", "is_greyed", "sigmas")}
    return Variations(motions, **rest)


def photographs(n: int, channels: int, size: int) -> Tensor:
    """Noise, with grey, black, white and saturated pixels, where hues have corners."""
    images = torch.from_numpy(np.random.default_rng(1).uniform(0, 255, (n, channels, size, size))).float()
    images[:, :, 0] = images[:, :1, 0]
    images[:, :, 1, 0], images[:, :, 1, 1] = 0.0, 255.0
    images[:, 0, 2], images[:, -1, 3] = 255.0, 0.0
    return images


@pytest.mark.parametrize("channels", [3, 1])
def test_applied__colours_equal_torchvision_in_every_order(channels: int) -> None:
    orders = np.array(list(permutations(range(4))))
    rng = np.random.default_rng(0)
    factors = np.concatenate([rng.uniform(0.0, 2.0, (24, 3)), rng.uniform(-0.5, 0.5, (24, 1))], axis=1)
    images = photographs(24, channels, 9)
    found = applied(images, unvaried(24, orders=orders, factors=factors), 9)
    for image, order, own, result in zip(images, orders, factors, found, strict=True):
        expected = image / 255
        for change in order:
            if channels == 3 or change in (BRIGHTNESS, CONTRAST):
                expected = CHANGES[change](expected, float(own[change]))
        torch.testing.assert_close(result, 255 * expected, **CLOSE)


@pytest.mark.parametrize("change", CHANGES)
def test_applied__each_change_equals_torchvision(change: int) -> None:
    """At the ends of what can be asked for, too."""
    values = [-0.5, -0.21, 0.0, 1 / 6, 0.5] if change == HUE else [0.0, 0.3, 1.0, 1.7, 5.0]
    factors = np.tile([1.0, 1.0, 1.0, 0.0], (5, 1))
    factors[:, change] = values
    images = photographs(5, 3, 8)
    found = applied(images, unvaried(5, factors=factors), 8)
    expected = torch.stack([CHANGES[change](each / 255, own) for each, own in zip(images, values, strict=True)])
    torch.testing.assert_close(found, 255 * expected, **CLOSE)


def test_applied__hues_by_hand() -> None:
    """A third of a turn makes red green, green blue and blue red; grey stays."""
    colours = torch.tensor([[255.0, 0, 0], [0, 255, 0], [0, 0, 255], [90, 90, 90]]).T.reshape(1, 3, 2, 2)
    found = applied(colours, unvaried(factors=[[1.0, 1.0, 1.0, 1 / 3]]), 2)
    expected = torch.tensor([[0.0, 255, 0], [0, 0, 255], [255, 0, 0], [90, 90, 90]]).T.reshape(1, 3, 2, 2)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


def test_applied__grey_equals_torchvision() -> None:
    images = photographs(2, 3, 8)
    found = applied(images, unvaried(2, is_greyed=[True, False]), 8)
    torch.testing.assert_close(found[0], peer.rgb_to_grayscale(images[0], 3), **CLOSE)
    torch.testing.assert_close(found[1], images[1], **CLOSE)


@pytest.mark.parametrize("channels", [3, 1])
def test_applied__blur_equals_torchvision(channels: int) -> None:
    """Sigmas are of images of 224: those of a quarter of the size are a quarter. The border is reflected."""
    images = photographs(3, channels, 56)
    found = applied(images, unvaried(3, sigmas=[0.0, 4.0, 1.3]), 56)
    torch.testing.assert_close(found[0], images[0], **CLOSE)
    for image, sigma, result in zip(images[1:], (1.0, 0.325), found[1:], strict=True):
        expected = peer.gaussian_blur(image, [15, 15], [sigma, sigma])
        torch.testing.assert_close(result, expected, atol=0.02, rtol=0)  # of weights beyond four sigmas


@pytest.mark.parametrize("crop", [1, 2, 5])
def test_applied__blur_of_few_pixels_keeps_their_range(crop: int) -> None:
    images = photographs(2, 3, 8)
    found = applied(images, unvaried(2, sigmas=[300.0, 50.0]), crop)
    assert found.shape == (2, 3, crop, crop)
    assert found.min() >= 0
    assert found.max() <= 255.001


def test_applied__crops_equal_torchvision() -> None:
    """A part of 12 by 6 pixels, three from the left and two from the top, of 18."""
    images = photographs(1, 3, 18)
    given = {"areas": 72 / 18**2, "stretches": 2.0, "right": 0.0, "down": (2 - 6) / 6}
    motions = replace(unvaried().motions, **{name: np.array([value]) for name, value in given.items()})
    found = applied(images, replace(unvaried(), motions=motions), 12)
    expected = peer.resized_crop(images, 2, 3, 6, 12, [12, 12], antialias=False)
    # Pixels beyond the part's border are seen here and not there.
    torch.testing.assert_close(found[:, :, 1:-1, 1:-1], expected[:, :, 1:-1, 1:-1], **CLOSE)


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("channels", [3, 1])
def test_applied__images_of_a_minibatch_do_not_touch_each_other(name: str, channels: int) -> None:
    variations = varied(30, AUGMENTATIONS[name], np.random.default_rng(2))
    squares = photographs(30, channels, 20)
    before = squares.clone()
    found = applied(squares, variations, 16)
    torch.testing.assert_close(squares, before, atol=0, rtol=0)
    assert found.shape == (30, channels, 16, 16)
    assert found.is_contiguous()
    assert found.min() >= 0
    assert found.max() <= 255.001
    for rows in ([4], [29, 0, 11]):
        alone = applied(squares[rows], of_rows(variations, rows), 16)
        torch.testing.assert_close(alone, found[rows], atol=1e-2, rtol=0)


def test_applied__layouts_of_memory_agree() -> None:
    squares, variations = photographs(4, 3, 12), varied(4, AUGMENTATIONS["photo"], np.random.default_rng(0))
    found = applied(squares.contiguous(memory_format=torch.channels_last), variations, 9)
    torch.testing.assert_close(found, applied(squares, variations, 9), atol=1e-3, rtol=0)


def test_varied__the_default_changes_nothing() -> None:
    images = photographs(3, 3, 8)
    torch.testing.assert_close(applied(images, varied(3, Augmentation(), np.random.default_rng(0)), 8), images, **CLOSE)


@given(seed=st.integers(0, 10_000), name=st.sampled_from(sorted(AUGMENTATIONS)))
def test_varied__within_what_is_asked_for_and_no_corner_is_made_up(seed: int, name: str) -> None:
    asked = AUGMENTATIONS[name]
    found = varied(20, asked, np.random.default_rng(seed))
    motions = found.motions
    assert (np.abs(motions.angles) <= asked.degrees).all()
    assert ((motions.areas >= asked.least_area) & (motions.areas <= 1.0)).all()
    assert (np.abs(np.log(motions.stretches)) <= math.log(asked.most_aspect) + 1e-12).all()
    corners = np.array([[x, y, 1] for x in (-1, 1) for y in (-1, 1)])
    assert np.abs(_affine(motions) @ corners.T).max() <= 1 + 1e-12
    strengths = np.array([asked.brightness, asked.contrast, asked.saturation, asked.hue])
    assert (np.abs(found.factors - [1, 1, 1, 0]) <= strengths).all()
    assert (np.sort(found.orders, axis=1) == np.arange(4)).all()
    assert (found.is_greyed <= (asked.greyed > 0)).all()
    blurred = found.sigmas[found.sigmas > 0]
    assert ((blurred >= 0.1) & (blurred <= 2.0)).all()
    assert asked.blurred or not len(blurred)


def test_varied__as_often_and_as_far_as_asked_for() -> None:
    found = varied(20_000, AUGMENTATIONS["photo"], np.random.default_rng(0))
    is_jittered = (found.factors != [1, 1, 1, 0]).any(axis=1)
    assert is_jittered.mean() == pytest.approx(0.8, abs=0.02)
    assert found.is_greyed.mean() == pytest.approx(0.2, abs=0.02)
    assert (found.sigmas > 0).mean() == pytest.approx(0.5, abs=0.02)
    assert found.motions.is_mirrored.mean() == pytest.approx(0.5, abs=0.02)
    assert not found.motions.is_upturned.any()
    assert found.motions.areas.mean() == pytest.approx(0.54, abs=0.01)
    assert np.log(found.motions.stretches).std() == pytest.approx(math.log(4 / 3) / math.sqrt(3), rel=0.02)
    assert found.factors[is_jittered].mean(axis=0) == pytest.approx([1, 1, 1, 0], abs=0.02)
    assert found.factors[is_jittered].std(axis=0) * math.sqrt(3) == pytest.approx([0.8, 0.8, 0.8, 0.2], rel=0.03)
    assert found.sigmas[found.sigmas > 0].mean() == pytest.approx(1.05, abs=0.03)
    _, counts = np.unique(found.orders, axis=0, return_counts=True)
    assert counts == pytest.approx([20_000 / 24] * 24, rel=0.2)
    own = [found.motions.angles * 0 + found.motions.areas, found.factors[:, 0], found.motions.right, found.sigmas]
    assert np.abs(np.corrcoef(own) - np.eye(4)).max() < 0.03  # no number is used twice


def test_varied__the_same_numbers_whatever_is_asked_for() -> None:
    first, second = (varied(9, AUGMENTATIONS[name], np.random.default_rng(3)) for name in ("xray", "pathology"))
    np.testing.assert_array_equal(first.orders, second.orders)
    np.testing.assert_array_equal(first.motions.is_mirrored, second.motions.is_mirrored)
    np.testing.assert_allclose(first.motions.angles * 4, second.motions.angles)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("least_area", 0.0),
        ("least_area", 1.5),
        ("most_aspect", 0.5),
        ("most_aspect", math.inf),
        ("degrees", -1.0),
        ("jittered", 1.1),
        ("brightness", -0.1),
        ("brightness", "strong"),
        ("contrast", math.nan),
        ("saturation", math.inf),
        ("hue", 0.6),
        ("blurred", math.nan),
        ("sigmas", (0.0, 1.0)),
        ("sigmas", (2.0, 1.0)),
        ("flips", "sideways"),
    ],
)
def test_augmentation__refuses_what_cannot_be_drawn(name: str, value: Any) -> None:
    with pytest.raises(OptionError, match=name):
        Augmentation(**{name: value})
