from __future__ import annotations

import numpy as np
import pytest
import torch

from dvme.data.masks import VOID
from dvme.metrics.segmentation import dice
from dvme.segmentation.ceiling import ceiling, regained


@pytest.mark.parametrize(("size", "shape"), [((32, 32), (8, 8)), ((30, 20), (3, 4)), ((14, 14), (14, 14))])
def test_ceiling__edges_along_cells_are_kept_to_the_pixel(size: tuple[int, int], shape: tuple[int, int]) -> None:
    """Bands across the whole image: the interpolation passes a half where the cells meet."""
    height, width = size[0] // shape[0], size[1] // shape[1]
    planes = np.zeros((2, *size), dtype=np.uint8)
    planes[0, height : 2 * height] = 1
    planes[1, :, : 2 * width] = 1
    np.testing.assert_array_equal(regained(planes, shape, is_exclusive=False), planes == 1)
    assert dice(ceiling(planes, shape, is_exclusive=False)).tolist() == [1.0, 1.0]


def test_ceiling__of_exclusive_bands_is_one_as_well() -> None:
    planes = np.zeros((2, 24, 8), dtype=np.uint8)
    planes[0, 8:16], planes[1, 16:] = 1, 1
    assert dice(ceiling(planes, (3, 1), is_exclusive=True)).tolist() == [1.0, 1.0]


def test_ceiling__corners_of_cells_are_rounded() -> None:
    """Near a corner both ways pass a half together: u v < 1 / 2 for values u and v above it."""
    planes = np.zeros((1, 64, 64), dtype=np.uint8)
    planes[0, 16:48, 16:48] = 1
    one_way = np.clip(np.minimum((np.arange(64) + 0.5 - 12) / 8, (52 - np.arange(64) - 0.5) / 8), 0, 1)
    expected = one_way[:, None] * one_way > 0.5
    np.testing.assert_array_equal(regained(planes, (8, 8), is_exclusive=True)[0], expected)
    both, predicted, true = ceiling(planes, (8, 8), is_exclusive=True)[0].tolist()
    assert (both, predicted, true) == (expected.sum(), expected.sum(), 1024)
    assert 0.95 < dice(np.array([both, predicted, true])) < 1.0


def test_ceiling__is_that_of_torch_pooled_and_interpolated() -> None:
    planes = (np.random.default_rng(0).random((3, 24, 36)) < 0.4).astype(np.uint8)
    pooled = torch.nn.functional.avg_pool2d(torch.from_numpy(planes)[None].float(), (4, 6))
    up = torch.nn.functional.interpolate(pooled, (24, 36), mode="bilinear", align_corners=False)[0].numpy()
    found = regained(planes, (6, 6), is_exclusive=False)
    clear = np.abs(up - 0.5) > 1e-5
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(found[clear], (up > 0.5)[clear])


def test_ceiling__what_is_smaller_than_a_cell_is_lost_and_void_counts_for_nothing() -> None:
    planes = np.zeros((1, 32, 32), dtype=np.uint8)
    planes[0, 5:7, 5:7] = 1
    assert ceiling(planes, (2, 2), is_exclusive=True).tolist() == [[0, 0, 4]]
    planes[0, :16] = VOID
    assert ceiling(planes, (2, 2), is_exclusive=True).tolist() == [[0, 0, 0]]
