from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dvme.backbones import Preprocess
from dvme.backbones.model.normalised import normalised as find_normalised
from dvme.backbones.model.normalised import scale_and_shift

CPU = torch.device("cpu")


def test_normalised__as_torchvision_one_image_after_the_other(
    pixels: Tensor, normalised: Callable[..., Tensor]
) -> None:
    preprocess = Preprocess(resize=64, crop=64, mean=(0.485, 0.1, 0.9), std=(0.228, 0.3, 0.05))
    found = find_normalised(pixels, *scale_and_shift(preprocess, CPU))
    torch.testing.assert_close(found, normalised(pixels, preprocess), rtol=0, atol=1e-5)
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("is_channels_first", [False, True])
def test_normalised__floats_give_the_bits_of_bytes_and_stay_as_they_are(
    pixels: Tensor, is_channels_first: bool
) -> None:
    constants = scale_and_shift(Preprocess(resize=64, crop=64), CPU)
    floats = pixels.float()
    if is_channels_first:
        floats = floats.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    before = floats.clone()
    assert torch.equal(find_normalised(floats, *constants), find_normalised(pixels, *constants))
    assert torch.equal(floats, before)


def test_scale_and_shift__grey_by_hand() -> None:
    scale, shift = scale_and_shift(Preprocess(resize=4, crop=2, mean=(0.5,), std=(0.25,)), CPU)
    torch.testing.assert_close(scale, torch.full((2,), 4 / 255))
    torch.testing.assert_close(shift, torch.full((2,), -2.0))
