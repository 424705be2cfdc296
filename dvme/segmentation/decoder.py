"""A small convolutional decoder: from the maps of several layers to logits on a grid twice as fine as the finest."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from dvme.backbones.description.dense import Grid
from dvme.segmentation.maps import FINER, finest_of

WIDTH = 64
"""Channels between the layers."""


class Decoder(nn.Module):
    """Every map is standardised and projected, brought to the finest grid and added; two convolutions, and one finer.

    Batch normalisation comes before the first weights as well, for channels of other units would outweigh the rest.

    Source: facebookresearch/dinov2, issue 385, for that; ConvMS of kaiko-eva 0.4.5 for the shape, which is near to it.
    """

    def __init__(self, grids: Sequence[Grid], n_outputs: int) -> None:
        """For the maps of one backbone, in their order."""
        super().__init__()
        self.grids = tuple(grids)
        finest = finest_of(grids)
        self.finest = finest.rows, finest.columns
        self.projections = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(grid.channels, affine=False),
                nn.Conv2d(grid.channels, WIDTH, 1, bias=False),
                nn.BatchNorm2d(WIDTH),
            )
            for grid in grids
        )
        self.coarse = nn.Sequential(*_convolved(), *_convolved())
        self.fine = nn.Sequential(*_convolved(), nn.Conv2d(WIDTH, n_outputs, 1))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of what it gives."""
        return FINER * self.finest[0], FINER * self.finest[1]

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """(B, outputs, 2 r, 2 c) logits.

        Args:
            maps: (B, n_tokens, channels) of each layer.
        """
        total = None
        for grid, tokens, project in zip(self.grids, maps, self.projections, strict=True):
            own = project(tokens.mT.reshape(len(tokens), grid.channels, grid.rows, grid.columns))
            own = own if (grid.rows, grid.columns) == self.finest else _resized(own, self.finest)
            total = own if total is None else total + own
        logits: Tensor = self.fine(_resized(self.coarse(total), self.shape))
        return logits


def _convolved() -> tuple[nn.Module, ...]:
    return nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU()


def _resized(maps: Tensor, shape: tuple[int, int]) -> Tensor:
    return functional.interpolate(maps, shape, mode="bilinear", align_corners=False)
