from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawings import drawn

from dvme.segmentation.unet.targets import FULL, UNKNOWN, share_planes, with_something_known


def test_share_planes__by_hand(tmp_path: Path) -> None:
    label = np.array([[1, 1, 0, 0], [1, 0, 0, 2], [255, 255, 2, 2], [255, 255, 255, 0]], dtype=np.uint8)
    image, told = np.zeros((4, 4, 3), dtype=np.uint8), []
    drawings = drawn(tmp_path, [image, image], [label, label], 2)
    found = share_planes(drawings.masks, np.array([1]), 2, tell=lambda *each: told.append(each))
    shares = np.array([[[0.75, 0.0], [np.nan, 0.0]], [[0.0, 0.25], [np.nan, 2 / 3]]])
    expected = np.where(np.isnan(shares), UNKNOWN, np.rint(np.nan_to_num(shares) * FULL))
    np.testing.assert_array_equal(found[1], expected)
    assert not found[0].any(), "no job asked for it"
    assert told == [(0, 1), (1, 1)]


def test_share_planes__a_thin_line_keeps_its_share(tmp_path: Path) -> None:
    """The nearest pixel of each cell would lose it, or make it four times as wide."""
    label = np.zeros((64, 64), dtype=np.uint8)
    label[:, 21] = 1
    drawings = drawn(tmp_path, [np.zeros((64, 64, 3), dtype=np.uint8)], [label], 1)
    found = share_planes(drawings.masks, np.array([0]), 16, tell=lambda *_: None)
    assert (found / FULL).mean() == pytest.approx(label.mean(), rel=0.01)


def test_with_something_known__leaves_void_masks_out() -> None:
    planes = np.full((3, 1, 2, 2), UNKNOWN, dtype=np.uint8)
    planes[1, 0, 0, 0] = 0
    np.testing.assert_array_equal(with_something_known(planes, np.array([2, 1])), [1])
