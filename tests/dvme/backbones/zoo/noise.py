"""Noise for networks of any size, of which only a short piece is drawn."""

from __future__ import annotations

import math

import torch
from torch import Tensor

PERIOD = 16_381
"""A prime: no two filters of a layer are the same piece of the repeated noise."""


def repeated(piece: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The piece again and again, in a shape."""
    n_values = math.prod(shape)
    return piece.repeat(-(-n_values // len(piece)))[:n_values].view(shape)


def draw(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Standard normal values, which repeat after PERIOD of them."""
    if math.prod(shape) <= PERIOD:
        return torch.randn(shape, generator=generator)
    return repeated(torch.randn(PERIOD, generator=generator), shape)
