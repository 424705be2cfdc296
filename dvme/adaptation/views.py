"""Images as a task sees them: each augmented on its own."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dvme.training.augmentations import Augmentation, applied, varied
from dvme.training.pictures import Pictures


def augmented(
    pictures: Pictures,
    rows: NDArray[np.int64],
    augmentation: Augmentation,
    rng: np.random.Generator,
    device: torch.device,
) -> Tensor:
    """(B, C, S, S) each image once, augmented on its own."""
    squares = pictures.square(rows, device)
    views = applied(squares, varied(len(rows), augmentation, rng), pictures.crop)
    return views.contiguous(memory_format=torch.channels_last)
