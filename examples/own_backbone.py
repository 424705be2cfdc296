"""A backbone of your own that timm does not have: any torch module, in one file.

    dvme backbones check examples/own_backbone.py:gabor
    dvme extract images/ embeddings.zarr --backbones examples/own_backbone.py:gabor,efficientnet-lite0

This one has no weights at all: a bank of Gabor filters, whose mean response and spread describe texture. As a
baseline it says how much of a task texture alone solves. An installed package offers such specs to every
`dvme` by an entry point of the group `dvme.backbones`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from dvme.backbones import BackboneSpec, Preprocess

N_ORIENTATIONS = 8
WAVELENGTHS = (4.0, 8.0, 16.0)  # pixels
RADIUS = 15  # pixels


class GaborBank(nn.Module):
    """Mean and standard deviation over the image of the magnitude of every filter's response."""

    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        pairs = [_gabor(wavelength, k / N_ORIENTATIONS) for wavelength in WAVELENGTHS for k in range(N_ORIENTATIONS)]
        self.register_buffer("filters", torch.stack([part for pair in pairs for part in pair])[:, None])

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, H, W) to (B, 48)."""
        responses = conv2d(images, self.filters, stride=4)  # (B, 2 F, h, w), even and odd in turns
        even, odd = responses[:, 0::2], responses[:, 1::2]
        magnitudes = (even.square() + odd.square()).sqrt().flatten(start_dim=2)  # (B, F, h w)
        return torch.cat([magnitudes.mean(dim=2), magnitudes.std(dim=2)], dim=1)


def _gabor(wavelength: float, half_turns: float) -> tuple[Tensor, Tensor]:
    """The even and the odd filter of a wavelength and an orientation, without response to constant images."""
    axis = torch.arange(-RADIUS, RADIUS + 1, dtype=torch.float32)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    along = x * math.cos(math.pi * half_turns) + y * math.sin(math.pi * half_turns)
    envelope = torch.exp(-(x.square() + y.square()) / (2 * (wavelength / 2) ** 2))
    envelope /= envelope.sum()
    phase = 2 * math.pi * along / wavelength
    even = envelope * phase.cos()
    return even - even.sum() * envelope, envelope * phase.sin()


gabor = BackboneSpec(
    name="gabor",
    method="none",
    architecture="GaborBank",
    dim=2 * N_ORIENTATIONS * len(WAVELENGTHS),
    pooling="model",
    preprocess=Preprocess(mean=(0.5,), std=(0.5,)),  # one value: the images arrive in grey
    checkpoint=None,
    source="built",
    build=GaborBank,
    licence="none",
    paper="Gabor 1946; no training",
)
