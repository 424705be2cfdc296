"""The pixels of images that are trained on, in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = deferred("torch")


@dataclass(frozen=True)
class Pictures:
    """N images, each as it is embedded and as augmentation starts from it."""

    crops: NDArray[np.uint8]
    """(N, H, W, C) what extraction embeds, to the bit."""
    squares: NDArray[np.uint8]
    """(N, S, S, C) the central squares that motions move in."""

    def __post_init__(self) -> None:
        """Hold what the rest relies on."""
        assert self.crops.ndim == self.squares.ndim == 4
        assert len(self.crops) == len(self.squares)
        assert self.crops.shape[1] == self.crops.shape[2]
        assert self.squares.shape[1] == self.squares.shape[2]

    def plain(self, rows: NDArray[Any], device: str | torch.device = "cpu") -> Tensor:
        """(B, C, H, W) float32 crops of some rows, from 0 to 255."""
        return _placed(self.crops[rows], device)

    def square(self, rows: NDArray[Any], device: str | torch.device = "cpu") -> Tensor:
        """(B, C, S, S) float32 squares of some rows, from 0 to 255."""
        return _placed(self.squares[rows], device)

    def ten(self, rows: NDArray[Any], device: str | torch.device = "cpu") -> Iterator[Tensor]:
        """Ten times (B, C, H, W): the corners and the middle of the squares, then the same mirrored.

        As torchvision's TenCrop.
        """
        crop, side = self.crop, int(self.squares.shape[1])
        end, middle = side - crop, round((side - crop) / 2)
        places = ((0, 0), (0, end), (end, 0), (end, end), (middle, middle))
        for is_mirrored in (False, True):
            for top, left in places:
                start = end - left if is_mirrored else left
                cut = self.squares[rows, top : top + crop, start : start + crop]
                yield _placed(np.ascontiguousarray(cut[:, :, ::-1]) if is_mirrored else cut, device)

    @property
    def crop(self) -> int:
        """Pixels of a side of the crops."""
        return int(self.crops.shape[1])

    @property
    def n_bytes(self) -> int:
        """That they take in memory."""
        return self.crops.nbytes + self.squares.nbytes


def _placed(pixels: NDArray[np.uint8], device: str | torch.device) -> Tensor:
    """Channels first, in the layout channels_last; a quarter of the bytes goes to the device."""
    return torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float()
