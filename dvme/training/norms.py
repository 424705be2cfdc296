"""The statistics of batch normalisation, which a training may leave as they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def normalisations(module: nn.Module) -> Iterator[nn.Module]:
    """The modules within one that keep running statistics."""
    from torch.nn.modules.batchnorm import _NormBase

    return (each for each in module.modules() if isinstance(each, _NormBase) and each.running_mean is not None)


def begin_training(module: nn.Module, *, is_frozen: bool) -> None:
    """Put a module into training; with frozen statistics, normalisations go by them and leave them.

    Their scales and shifts are trained all the same. Parts of which no weight is trained stay as they are: no dropout,
    no statistics.
    """
    module.train()
    for part in module.modules():
        weights = list(part.parameters())
        if weights and not any(each.requires_grad for each in weights):
            part.eval()
    if is_frozen:
        for each in normalisations(module):
            each.eval()
