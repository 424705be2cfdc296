from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dvme.training.motions import Motions, _affine, drawn, moved
from dvme.training.recipe import Recipe


def motions(n: int = 1, **given: Any) -> Motions:
    """That show the whole square as it is, but for what is given."""
    no, zero, one = np.zeros(n, dtype=bool), np.zeros(n), np.ones(n)
    return replace(
        Motions(no, no, zero, one, one, zero, zero), **{name: np.array(value) for name, value in given.items()}
    )


SMALL = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])


def test_moved__flips_by_hand() -> None:
    both = motions(4, is_mirrored=[False, True, False, True], is_upturned=[False, False, True, True])
    found = moved(SMALL.expand(4, 1, 2, 2), both, 2)[:, 0].tolist()
    expected = [[[1, 2], [3, 4]], [[2, 1], [4, 3]], [[3, 4], [1, 2]], [[4, 3], [2, 1]]]
    assert found == [pytest.approx(np.array(each), abs=1e-5) for each in expected]


def test_moved__quarter_turns_by_hand() -> None:
    """Counter-clockwise: what was on the right is at the top."""
    found = moved(SMALL.expand(2, 1, 2, 2), motions(2, angles=[90.0, -90.0]), 2)[:, 0].tolist()
    assert found == [pytest.approx(np.array(each), abs=1e-5) for each in ([[2, 4], [1, 3]], [[3, 1], [4, 2]])]


def test_moved__the_identity_shows_the_whole_square_resized() -> None:
    squares = torch.rand(2, 3, 8, 8) * 255
    torch.testing.assert_close(moved(squares, motions(2), 8), squares, atol=1e-3, rtol=0)
    halved = torch.nn.functional.avg_pool2d(squares, 2)  # bilinear at half the size is the mean of four
    torch.testing.assert_close(moved(squares, motions(2), 4), halved, atol=1e-3, rtol=0)


def test_moved__a_part_by_hand() -> None:
    """A quarter of the area, at the right and the top, is the right upper one."""
    squares = torch.arange(16.0).reshape(1, 1, 4, 4)
    found = moved(squares, motions(areas=[0.25], right=[1.0], down=[-1.0]), 2)
    torch.testing.assert_close(found[0, 0], torch.tensor([[2.0, 3.0], [6.0, 7.0]]), atol=1e-5, rtol=0)


def test_moved__a_part_that_is_not_square_by_hand() -> None:
    """Half of the area, twice as wide as high, at the bottom: the lower half. Its rows are enlarged."""
    squares = torch.arange(16.0).reshape(1, 1, 4, 4)
    found = moved(squares, motions(areas=[0.5], stretches=[2.0], down=[1.0]), 4)[0, 0]
    expected = 4 * torch.tensor([[1.75], [2.25], [2.75], [3.0]]) + torch.arange(4.0)  # the last one at the border
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("angle", "area", "right", "down", "is_mirrored", "is_upturned"),
    [(7.0, 0.8, 0.6, -0.4, False, False), (-5.0, 0.9, -1.0, 1.0, True, False), (33.0, 0.3, 0.2, 0.9, True, True)],
)
def test_moved__equals_pillow(
    angle: float, area: float, right: float, down: float, is_mirrored: bool, is_upturned: bool
) -> None:
    size, crop = 24, 18
    pixels = np.random.default_rng(0).uniform(0, 255, (size, size)).astype(np.float32)
    radians = math.radians(angle)
    cos, sin = math.cos(radians), math.sin(radians)
    upright = abs(cos) + abs(sin)
    side = min(math.sqrt(area), 1 / upright) * size
    slack = (size - side * upright) / 2
    x, y, k = size / 2 + right * slack, size / 2 + down * slack, side / crop
    a, b, d, e = k * cos, -k * sin, k * sin, k * cos
    half = crop / 2
    coefficients = a, b, x - half * (a + b), d, e, y - half * (d + e)
    shown = Image.fromarray(pixels).transform(
        (crop, crop), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
    )
    expected = np.asarray(shown)[:: -1 if is_upturned else 1, :: -1 if is_mirrored else 1]
    motion = motions(
        angles=[angle],
        areas=[area],
        right=[right],
        down=[down],
        is_mirrored=[is_mirrored],
        is_upturned=[is_upturned],
    )
    found = moved(torch.from_numpy(pixels)[None, None], motion, crop)[0, 0].numpy()
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_moved__layouts_of_memory_agree() -> None:
    squares = torch.rand(3, 3, 16, 16)
    motion = drawn(3, Recipe(), np.random.default_rng(0))
    found = moved(squares.contiguous(memory_format=torch.channels_last), motion, 12)
    torch.testing.assert_close(found, moved(squares, motion, 12), atol=1e-6, rtol=0)


@given(seed=st.integers(0, 10_000), degrees=st.floats(0, 180), scale=st.floats(0.01, 1.0))
def test_drawn__no_corner_is_made_up(seed: int, degrees: float, scale: float) -> None:
    recipe = Recipe(degrees=degrees, least_scale=scale, flips="both")
    found = drawn(20, recipe, np.random.default_rng(seed))
    assert (np.abs(found.angles) <= degrees).all()
    assert (found.areas >= scale).all()
    corners = np.array([[x, y, 1] for x in (-1, 1) for y in (-1, 1)])
    assert np.abs(_affine(found) @ corners.T).max() <= 1 + 1e-12


def test_drawn__flips_of_a_half_and_only_those_that_are_wanted() -> None:
    kinds: tuple[Any, ...] = ("none", "horizontal", "both")
    none, one, both = (drawn(4000, Recipe(flips=kind), np.random.default_rng(3)) for kind in kinds)
    assert not none.is_mirrored.any()
    assert not one.is_upturned.any()
    np.testing.assert_array_equal(one.is_mirrored, both.is_mirrored)
    np.testing.assert_array_equal(none.angles, both.angles)  # drawn whatever the recipe
    assert both.is_mirrored.mean() == pytest.approx(0.5, abs=0.03)
    assert both.is_upturned.mean() == pytest.approx(0.5, abs=0.03)
    assert (both.is_mirrored & both.is_upturned).mean() == pytest.approx(0.25, abs=0.03)
    assert both.areas.mean() == pytest.approx(0.9, abs=0.01)


def test_moved__a_wide_part_by_hand() -> None:
    """Twice as wide as high, half of the area at most: the upper half, at half its width."""
    squares = torch.arange(16.0).reshape(1, 1, 4, 4)
    found = moved(squares, motions(areas=[0.5], stretches=[2.0], down=[-1.0]), 2)
    torch.testing.assert_close(found[0, 0], torch.tensor([[0.5, 2.5], [4.5, 6.5]]), atol=1e-5, rtol=0)


def test_drawn__areas_and_aspects_are_within_the_recipe() -> None:
    recipe = Recipe(least_scale=0.1, most_scale=0.3, most_aspect=4 / 3)
    found = drawn(2000, recipe, np.random.default_rng(0))
    assert 0.1 <= found.areas.min() < 0.11
    assert 0.29 < found.areas.max() <= 0.3
    assert 3 / 4 <= found.stretches.min() < 0.76
    assert 1.32 < found.stretches.max() <= 4 / 3
    assert np.median(found.stretches) == pytest.approx(1.0, abs=0.02), "as often wide as high"
