"""A loaded model for another input: grey instead of colour, or another size."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from dvme.backbones.description.spec import BackboneSpec, PositionResampling
from dvme.errors import OptionError

DINO_OFFSET = 0.1
"""What DINO adds to the size of the grid against rounding, and what so became part of its features."""


def adapt(model: nn.Module, spec: BackboneSpec) -> None:
    """Make a model of published size and three channels take what the spec feeds it, in place.

    Raises:
        OptionError: if the model cannot take that size or that many channels.
    """
    resize_input(model, spec.preprocess.crop, spec.position_resampling, name=spec.name)
    if spec.preprocess.channels == 1:
        sum_first_convolution(model, spec.name)


def sum_first_convolution(model: nn.Module, name: str) -> None:
    """Let the first convolution take one channel: its weights, summed over the three.

    A model that takes one channel already, or that has no convolution, stays as it is.

    Raises:
        OptionError: if the first convolution takes another number of channels, or standardises its weights.
    """
    first = next((layer for layer in model.modules() if isinstance(layer, nn.Conv2d)), None)
    if first is None or first.in_channels == 1:
        return
    if first.in_channels != 3 or first.groups != 1:
        raise OptionError(f"{name} has no first convolution over three channels; leave out in-chans=1")
    if "Std" in type(first).__name__:  # standardised after the sum, the filters would be others
        raise OptionError(f"{name} standardises its first convolution's weights; leave out in-chans=1")
    first.weight = nn.Parameter(first.weight.detach().sum(dim=1, keepdim=True))  # (O, 1, K, K)
    first.in_channels = 1


def resize_input(model: Any, size: int, resampling: PositionResampling, *, name: str) -> None:
    """Let a vision transformer take images of size x size pixels; a convolutional network takes any.

    Raises:
        OptionError: if its patches do not fill that size, or it cannot be changed.
    """
    patches = getattr(model, "patch_embed", None)
    native = getattr(patches, "img_size", None)
    if patches is None or native is None or tuple(native) == (size, size):
        return
    patch = patches.patch_size[0] if isinstance(patches.patch_size, tuple) else patches.patch_size
    if size % patch:
        lower = max(size // patch, 1) * patch
        message = f"{name} has patches of {patch} pixels, which do not fill {size}; try {lower} or {lower + patch}"
        raise OptionError(message)
    positions = getattr(model, "pos_embed", None)
    if getattr(model, "dynamic_img_size", False) or isinstance(positions, nn.Module):  # XCiT's are computed
        return
    if not hasattr(model, "set_input_size"):
        raise OptionError(f"{name} takes images of {native[0]} pixels only; choose that size")
    model.set_input_size(img_size=(size, size))
    if positions is not None and resampling == "dino":
        n_prefix = 0 if model.no_embed_class else model.num_prefix_tokens
        resampled = resample_as_dino(positions.detach(), n_prefix=n_prefix, grid=size // patch)
        model.pos_embed = nn.Parameter(resampled)


def resample_as_dino(positions: Tensor, *, n_prefix: int, grid: int) -> Tensor:
    """Position embeddings (1, n_prefix + T, D) for a grid of grid x grid patches, as DINO and DINOv2 resample them.

    Bicubic without antialiasing, by a scale that is a tenth of a patch too large.

    Source: Caron et al. 2021 (DINO) and Oquab et al. 2023 (DINOv2), the authors' `interpolate_pos_encoding`.
    """
    prefix, patches = positions[:, :n_prefix], positions[:, n_prefix:]
    before = math.isqrt(patches.shape[1])
    if before == grid:
        return positions
    square = patches.reshape(1, before, before, -1).permute(0, 3, 1, 2)  # (1, D, G, G)
    scale = (grid + DINO_OFFSET) / before
    scaled = interpolate(square, scale_factor=(scale, scale), mode="bicubic")
    return torch.cat([prefix, scaled.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)
