"""Tokens of some layers of a backbone in one pass: the patch tokens of transformers, the levels of other networks.

Source: Oquab et al. 2023 (DINOv2), `get_intermediate_layers(norm=True)` of the authors' code: every block's tokens go
through the final norm. Levels of convolutional networks are what timm's `forward_intermediates` gives.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dvme.backbones.description.dense import Grid
from dvme.backbones.description.layers import layer_numbers
from dvme.errors import OptionError


@dataclass(frozen=True)
class DensePool:
    """From images to the tokens of layers, as `POOLS` go from images to one vector."""

    name: str
    """Of the backbone."""
    layers: str
    """As its name has them."""

    def maps(self, model: Any, images: Tensor) -> list[Tensor]:
        """The tokens of each layer over its grid, the shallowest layer first.

        Args:
            model: with `forward_intermediates`, in evaluation mode.
            images: (B, C, H, W).

        Returns:
            (B, rows, columns, channels) of each.

        Raises:
            OptionError: if the model has no grid, or not these layers.
        """
        n_layers = len(getattr(model, "feature_info", None) or ())
        if not n_layers or not hasattr(model, "forward_intermediates"):
            raise OptionError(f"{self.name} has no grid of tokens, its pooling is all there is; leave out dense")
        wanted = [number - 1 for number in layer_numbers(self.layers, n_layers, self.name)]
        known = inspect.signature(model.forward_intermediates).parameters
        options = {"norm": _is_transformer(model), "stop_early": True, "output_fmt": "NCHW"}
        found = model.forward_intermediates(
            images,
            indices=wanted,
            intermediates_only=True,
            **{option: value for option, value in options.items() if option in known},
        )
        if len(found) != len(wanted) or not all(isinstance(each, Tensor) and each.ndim == 4 for each in found):
            raise OptionError(f"{self.name} gives no single grid of tokens a layer; leave out dense")
        return [each.permute(0, 2, 3, 1) for each in found]

    def __call__(self, model: Any, images: Tensor) -> Tensor:
        """(B, D): map after map, each its tokens row by row, each token its channels."""
        return torch.cat([each.flatten(start_dim=1) for each in self.maps(model, images)], dim=1)


def grids_of_maps(maps: Sequence[Tensor]) -> tuple[Grid, ...]:
    """Of maps (B, rows, columns, channels)."""
    return tuple(Grid(*(int(size) for size in each.shape[1:])) for each in maps)


def _is_transformer(model: nn.Module) -> bool:
    """Whether images are cut into patches that become tokens, whose final norm is a part of what they mean."""
    return hasattr(model, "patch_embed") or hasattr(model, "num_prefix_tokens")
