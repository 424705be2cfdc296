"""Pixels to a model's input: scaled to [0, 1] and normalised, along whole image rows."""

from __future__ import annotations

import torch
from torch import Tensor

from dvme.backbones.description.spec import Preprocess


def scale_and_shift(preprocess: Preprocess, device: torch.device) -> tuple[Tensor, Tensor]:
    """What pixels in 0..255 are multiplied by, and what is added then, on a device.

    Returns:
        Two of (W * C,): tiled along an image row, so that the normalisation runs over contiguous memory.
    """
    mean, std = (torch.tensor(values, device=device) for values in (preprocess.mean, preprocess.std))
    return (1.0 / (255.0 * std)).repeat(preprocess.crop), (-mean / std).repeat(preprocess.crop)


def normalised(pixels: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Normalised images of pixels, which stay as they are.

    Args:
        pixels: (B, H, W, C) in 0..255, uint8 or float32.
        scale: (W * C,), as `scale_and_shift` gives it.
        shift: (W * C,), likewise.

    Returns:
        (B, C, H, W) float32, in memory as the pixels are: channels last.
    """
    # Of uint8 one product in float32 would be shorter, and takes three times as long on a CPU.
    rows = pixels.flatten(start_dim=2).to(torch.float32, copy=True)  # (B, H, W * C)
    return rows.mul_(scale).add_(shift).view(pixels.shape).permute(0, 3, 1, 2)
