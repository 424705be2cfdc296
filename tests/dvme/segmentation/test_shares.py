from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from dvme.data.masks import VOID
from dvme.segmentation.shares import areas, restored, shares, taken, with_background


def planes_of(labels: np.ndarray, n_classes: int) -> np.ndarray:
    planes = np.stack([(labels == c + 1).astype(np.uint8) for c in range(n_classes)])
    planes[:, labels == VOID] = VOID
    return planes


def overlap(pixel: int, cell: int, size: int, n_cells: int) -> Fraction:
    """Of pixel [p, p + 1) with cell [c size / n, (c + 1) size / n), in exact arithmetic."""
    low = max(Fraction(pixel), Fraction(cell * size, n_cells))
    high = min(Fraction(pixel + 1), Fraction((cell + 1) * size, n_cells))
    return max(Fraction(0), high - low)


@pytest.mark.parametrize(("size", "shape"), [((12, 9), (4, 3)), ((7, 11), (3, 4)), ((3, 4), (5, 7)), ((1, 6), (2, 4))])
def test_shares__are_areas_of_known_pixels_by_a_slow_loop(size: tuple[int, int], shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 1, 2, VOID], size, p=[0.4, 0.2, 0.2, 0.2]).astype(np.uint8)
    planes = planes_of(labels, 2)
    expected = np.full((shape[0] * shape[1], 2), np.nan)
    for cell in range(shape[0] * shape[1]):
        i, j = divmod(cell, shape[1])
        known, has = Fraction(0), [Fraction(0), Fraction(0)]
        for y in range(size[0]):
            for x in range(size[1]):
                area = overlap(y, i, size[0], shape[0]) * overlap(x, j, size[1], shape[1])
                known += area * int(labels[y, x] != VOID)
                for c in range(2):
                    has[c] += area * int(labels[y, x] == c + 1)
        if known:
            expected[cell] = [float(own / known) for own in has]
    np.testing.assert_allclose(shares(planes, shape), expected, atol=1e-6)


def test_areas__keep_every_pixel_whole() -> None:
    np.testing.assert_allclose(areas(19, 7).sum(axis=0), 1.0, atol=1e-12)
    np.testing.assert_allclose(areas(19, 7).sum(axis=1), 19 / 7, atol=1e-12)


def test_shares__nothing_known_is_nan_of_that_cell_and_that_structure_alone() -> None:
    planes = np.zeros((2, 4, 4), dtype=np.uint8)
    planes[0, :2, :2] = VOID
    planes[0, 0, 3] = VOID
    planes[0, 1, 3] = 1
    found = shares(planes, (2, 2))
    assert np.isnan(found).tolist() == [[True, False], [False, False], [False, False], [False, False]]
    assert found[1, 0] == np.float32(1 / 3)


@pytest.mark.parametrize(("shape", "size"), [((4, 4), (16, 16)), ((3, 5), (10, 7)), ((1, 1), (4, 3)), ((8, 6), (5, 4))])
def test_restored__is_torch_interpolate(shape: tuple[int, int], size: tuple[int, int]) -> None:
    values = np.random.default_rng(1).normal(size=(shape[0] * shape[1], 3)).astype(np.float32)
    maps = torch.from_numpy(values.T.reshape(1, 3, *shape).copy())
    expected = torch.nn.functional.interpolate(maps, size, mode="bilinear", align_corners=False)[0]
    np.testing.assert_allclose(restored(values, shape, size), expected.numpy(), atol=1e-6)


def test_taken__the_largest_of_classes_and_all_structures_above_a_half() -> None:
    values = np.array([[0.4, 0.5, 0.2], [0.35, 0.5, 0.2], [0.25, 0.0, 0.6]])[:, None]
    assert taken(values, True)[:, 0].tolist() == [[False, False, False], [False, False, True]]
    assert taken(values, False)[:, 0].tolist() == [[False, False, False], [False, False, False], [False, False, True]]


def test_with_background__is_what_classes_leave() -> None:
    found = with_background(np.array([[0.25, 0.5], [0.6, 0.3999999], [np.nan, np.nan]], dtype=np.float32))
    np.testing.assert_allclose(found[:2], [[0.25, 0.25, 0.5], [0.0, 0.6, 0.4]], atol=1e-6)
    assert found[1, 0] == 0.0
    assert np.isnan(found[2]).all()
