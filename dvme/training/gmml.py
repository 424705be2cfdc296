"""Group masked model learning: groups of neighbouring patches are hidden, and a transformer learns to restore them.

Source: Atito et al. 2022, "GMML is all you need" (arXiv:2205.14986), and its code; Krones et al. 2026, appendix A.9.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dvme.limits import positive

Fill = Literal["mean", "noise", "another"]
FILLS: tuple[Fill, ...] = ("mean", "noise", "another")
LARGEST_SIDE = 0.3
"""Of a block, as a share of the grid's; GMML's code."""


def group_mask(n: int, grid: int, share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which patches of n images are hidden: random blocks, until they are as many as asked for.

    A block has from one patch to three tenths of the grid either way, and may reach beyond the border, so that patches
    there are hidden as often. Blocks overlap. Of the last one only as much is hidden as is still lacking.

    Args:
        n: images.
        grid: patches of a side.
        share: of the patches that are hidden, above 0 and below 1. One patch at least is hidden, and one is not if
            there are two.
        rng: of these images.

    Returns:
        (n, grid, grid), the same number of patches in each image.

    Raises:
        OptionError: if the share is none.
    """
    assert grid > 0, grid
    wanted = max(1, min(round(positive("share", share, below=1.0) * grid**2), grid**2 - 1))
    largest, places = max(1, int(LARGEST_SIDE * grid)), np.arange(grid)
    mask = np.zeros((n, grid, grid), dtype=bool)
    while len(rows := np.flatnonzero(mask.sum(axis=(1, 2)) < wanted)):
        sides = rng.integers(1, largest + 1, (2, len(rows), 1))
        starts = rng.integers(1 - sides, grid)
        down, across = (places >= starts) & (places < starts + sides)
        fresh = (down[:, :, None] & across[:, None, :] & ~mask[rows]).reshape(len(rows), -1)
        lacking = wanted - mask[rows].sum(axis=(1, 2))
        fresh &= np.cumsum(fresh, axis=1) <= lacking[:, None]
        mask[rows] |= fresh.reshape(-1, grid, grid)
    return mask


def corrupted(
    images: Tensor, mask: NDArray[np.bool_], rng: np.random.Generator, fills: Sequence[Fill] = FILLS
) -> Tensor:
    """The images with something else in place of the patches that are hidden.

    One kind for each image, all alike: the mean colour of the minibatch, which is about 0 to a network; normal noise
    of its mean and deviation; or what another image of the minibatch has there, and a single image has none.

    Args:
        images: (B, C, S, S).
        mask: (B, grid, grid); S is a multiple of grid.
        rng: of this minibatch; noise is drawn on the device of the images, by a generator that it seeds.
        fills: the kinds to choose from.

    Returns:
        (B, C, S, S), new.
    """
    n_images = len(images)
    possible = [fill for fill in fills if fill != "another" or n_images > 1] or ["mean"]
    kinds = np.array(possible)[rng.integers(len(possible), size=n_images)]
    others = (np.arange(n_images) + 1 + rng.integers(max(n_images - 1, 1), size=n_images)) % n_images
    generator = torch.Generator(device=images.device).manual_seed(int(rng.integers(1 << 63)))
    deviation, mean = torch.std_mean(images, dim=(0, 2, 3), correction=0, keepdim=True)
    replacement = mean.expand_as(images).clone()
    noisy, replaced = (torch.from_numpy(np.flatnonzero(kinds == kind)).to(images.device) for kind in FILLS[1:])
    shape = len(noisy), *images.shape[1:]
    noise = torch.randn(shape, generator=generator, device=images.device, dtype=images.dtype)
    replacement[noisy] += deviation * noise
    replacement[replaced] = images[torch.from_numpy(others).to(images.device)[replaced]]
    return torch.where(_of_pixels(mask, images), replacement, images)


class Decoder(nn.Module):
    """From patch tokens to pixels: pointwise layers, and a linear one that lays the patches side by side.

    Three layers with GELU, as in GMML's code. The first outputs are within about 1 of 0: so should be what it is to
    restore. First weights are drawn by torch's own generator (`randomness.seed_torch`).
    """

    def __init__(self, dim: int, patch: int, channels: int) -> None:
        """Draw the first weights.

        Args:
            dim: D of the tokens.
            patch: pixels of a side of a patch.
            channels: of the pixels.
        """
        super().__init__()
        hidden = [layer for _ in range(3) for layer in (nn.Linear(dim, dim), nn.GELU())]
        self.layers = nn.Sequential(*hidden, nn.Linear(dim, channels * patch**2))
        self.patch = patch

    def forward(self, tokens: Tensor, grid: int) -> Tensor:
        """Pixels of the patches.

        Args:
            tokens: (B, T, D), such as `forward_features` of a ViT of timm: the last grid * grid are those of the
                patches, row by row, and others, such as that of the class, come before.
            grid: patches of a side.

        Returns:
            (B, C, grid * patch, grid * patch).
        """
        n_images, n_tokens, _ = tokens.shape
        assert n_tokens >= grid**2, f"{n_tokens} tokens for {grid} x {grid} patches"
        pixels: Tensor = self.layers(tokens[:, n_tokens - grid**2 :])
        parts = pixels.reshape(n_images, grid, grid, -1, self.patch, self.patch)
        side = grid * self.patch
        return parts.permute(0, 3, 1, 4, 2, 5).reshape(n_images, -1, side, side)


def reconstruction_loss(images: Tensor, restored: Tensor, mask: NDArray[np.bool_]) -> Tensor:
    """The mean of |x - x'| over the pixels and channels of what was hidden.

    Args:
        images: (B, C, S, S) as they are, in the units that are to be restored.
        restored: (B, C, S, S).
        mask: (B, grid, grid); S is a multiple of grid.

    Returns:
        A scalar in float32; 0 if nothing was hidden. What was not hidden counts for nothing, whatever it is.
    """
    assert images.shape == restored.shape, f"{tuple(images.shape)} and {tuple(restored.shape)}"
    is_hidden = _of_pixels(mask, images).expand_as(images)
    errors = torch.where(is_hidden, restored.float() - images.float(), 0.0).abs()
    return errors.sum() / is_hidden.sum().clamp(min=1)


def _of_pixels(mask: NDArray[Any], images: Tensor) -> Tensor:
    """(B, 1, S, S) on the device of the images."""
    side = images.shape[-1]
    assert images.ndim == 4, f"(B, C, S, S), not {tuple(images.shape)}"
    assert mask.shape[0] == len(images), f"{len(images)} images and masks of {mask.shape[0]}"
    assert side % mask.shape[1] == 0, f"{side} pixels in {mask.shape[1]} patches"
    patch = side // mask.shape[1]
    patches = torch.from_numpy(mask).to(images.device)
    return patches.repeat_interleave(patch, dim=1).repeat_interleave(patch, dim=2)[:, None]
