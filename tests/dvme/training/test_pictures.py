from __future__ import annotations

import numpy as np
import torch

from dvme.training.pictures import Pictures


def test_pictures__rows_as_tensors() -> None:
    rng = np.random.default_rng(0)
    crops, squares = (rng.integers(0, 256, (5, size, size, 3), dtype=np.uint8) for size in (4, 6))
    pictures = Pictures(crops, squares)
    rows = np.array([3, 0, 3])
    for found, source in ((pictures.plain(rows), crops), (pictures.square(rows), squares)):
        assert found.dtype == torch.float32
        np.testing.assert_array_equal(found.numpy(), source[rows].transpose(0, 3, 1, 2))
        assert found.is_contiguous(memory_format=torch.channels_last)
    assert pictures.crop == 4
    assert pictures.n_bytes == 5 * 3 * (16 + 36)


def test_ten__are_those_of_torchvision() -> None:
    from torchvision.transforms.functional import ten_crop

    squares = np.random.default_rng(0).integers(0, 256, (3, 11, 11, 3), dtype=np.uint8)
    pictures = Pictures(squares[:, 2:-2, 2:-2], squares)
    rows = np.array([2, 0])
    expected = ten_crop(torch.from_numpy(squares[rows]).permute(0, 3, 1, 2), 7)
    for own, other in zip(pictures.ten(rows), expected, strict=True):
        assert torch.equal(own, other.float())
