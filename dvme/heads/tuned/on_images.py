"""What a method is given that learns from images, and what it has to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dvme.heads.exact.linear import FittedLinear
from dvme.heads.fitting.jobs import Embedded, Job
from dvme.runtime import Runtime
from dvme.training.pictures import Pictures

if TYPE_CHECKING:
    from dvme.backbones.loading.trainable import Trainable

ROWS = 64
"""Images that are embedded at a time."""


@dataclass(frozen=True)
class Seen:
    """What a job looks at beside the embeddings."""

    pictures: Pictures
    """Of all N images, row by row."""
    load: Callable[[], Trainable]
    """The backbone as it was published, on the device, anew each time."""


@dataclass(frozen=True)
class FittedTuned:
    """A tuned backbone and a linear head on its embeddings."""

    classifier: FittedLinear
    """Of (B, D) embeddings by the tuned backbone."""
    model: Trainable
    """As it was tuned: (B, C, H, W) float32 pixels of 0 to 255 to (B, D)."""
    chosen: Mapping[str, Any]
    """See `Finetune`."""

    def embed(self, pictures: Pictures, rows: NDArray[Any]) -> NDArray[np.float32]:
        """(B, D) of some images, as extraction would embed them by the tuned backbone."""
        return embedded(self.model, pictures, rows)

    @property
    def n_parameters(self) -> int:
        """Numbers that it holds, those of the backbone included."""
        own = sum(value.numel() for value in self.model.parameters())
        return own + sum(array.size for array in self.classifier.arrays().values())


def embedded(model: Trainable, pictures: Pictures, rows: NDArray[Any]) -> NDArray[np.float32]:
    """(B, D) of the plain crops of some images."""
    import torch

    from dvme.float32 import full_float32

    model.eval()
    parts = [np.empty((0, model.dim), dtype=np.float32)]
    with torch.inference_mode(), full_float32(model.device):
        for start in range(0, len(rows), ROWS):
            images = pictures.plain(rows[start : start + ROWS]).to(model.device)
            parts.append(model(images).float().cpu().numpy())
    return np.concatenate(parts)


@runtime_checkable
class OnImages(Protocol):
    """A head that trains the backbone of its job as well, one job at a time."""

    def fit_on_images(
        self, job: Job, data: Embedded, seen: Seen, runtime: Runtime, tell: Callable[[int, int], None]
    ) -> FittedTuned:
        """Fit one job.

        Args:
            job: on one backbone.
            data: embeddings and labels of all images.
            seen: the images themselves, and the backbone.
            runtime: the device.
            tell: called with the epochs that are done and those there may be.
        """
