"""What a method is given that learns from images, and what it has to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dvme.heads.exact.linear import FittedLinear
from dvme.heads.fitting.jobs import Embedded, Job
from dvme.runtime import Runtime
from dvme.training.checkpoints import Epochs
from dvme.training.pictures import Pictures

if TYPE_CHECKING:
    from torch import Tensor

    from dvme.backbones.loading.trainable import Trainable

ROWS = 64
"""Images that are embedded at a time."""


@dataclass(frozen=True)
class Seen:
    """What a job looks at beside the embeddings."""

    pictures: Pictures
    """Of all N images, row by row."""
    load: Callable[[int | None], Trainable]
    """The backbone on the device, anew each time: as it was published, or with random weights of a seed."""
    kept: Epochs = field(default_factory=Epochs)
    """What a kill leaves of the training, and what it goes on from."""


@dataclass(frozen=True)
class FittedTuned:
    """A tuned backbone and a linear head on its embeddings."""

    classifier: FittedLinear
    """Of (B, D) embeddings by the tuned backbone."""
    model: Trainable
    """As it was tuned: (B, C, H, W) float32 pixels of 0 to 255 to (B, D)."""
    chosen: Mapping[str, Any]
    """See `Finetune`."""
    has_ten_crops: bool = False
    """Whether predictions are means over ten crops."""
    seconds_before: float = 0.0
    """That calls took which were cut short and are gone on with here."""

    def embed(self, pictures: Pictures, rows: NDArray[Any]) -> list[NDArray[np.float32]]:
        """(B, D) of some images, as extraction would embed them by the tuned backbone; or so of each of ten crops."""
        if self.has_ten_crops:
            return embedded_crops(self.model, pictures, rows)
        return [embedded(self.model, pictures, rows)]

    @property
    def linear(self) -> FittedLinear:
        """The head on the embeddings of the tuned backbone, with what was chosen."""
        return replace(self.classifier, chosen=dict(self.chosen))

    @property
    def n_parameters(self) -> int:
        """Numbers that it holds, those of the backbone included."""
        own = sum(value.numel() for value in self.model.parameters())
        return own + sum(array.size for array in self.classifier.arrays().values())


def embedded(model: Trainable, pictures: Pictures, rows: NDArray[Any]) -> NDArray[np.float32]:
    """(B, D) of the plain crops of some images."""
    return _embedded(model, lambda some: [pictures.plain(some, model.device)], rows)[0]


def embedded_crops(model: Trainable, pictures: Pictures, rows: NDArray[Any]) -> list[NDArray[np.float32]]:
    """Ten times (B, D) of some images."""
    return _embedded(model, lambda some: pictures.ten(some, model.device), rows)


def _embedded(
    model: Trainable, views: Callable[[NDArray[Any]], Iterable[Tensor]], rows: NDArray[Any]
) -> list[NDArray[np.float32]]:
    """(B, D) of each view of some images."""
    import torch

    from dvme.float32 import full_float32

    model.eval()
    with torch.inference_mode(), full_float32(model.device):
        parts = [
            [model(images).float().cpu().numpy() for images in views(rows[start : start + ROWS])]
            for start in range(0, max(1, len(rows)), ROWS)
        ]
    return [np.concatenate(view) for view in zip(*parts, strict=True)]


@runtime_checkable
class OnImages(Protocol):
    """A head that trains the backbone of its job as well, one job at a time."""

    def check_model(self, model: Trainable) -> None:
        """Refuse a backbone that lacks what is to be trained. Its other weights ask for no gradient any more.

        Raises:
            OptionError: naming the setting.
        """

    def check_room(self, model: Trainable, n_images: int, n_bytes: int) -> int:
        """Refuse a training that does not fit into memory.

        Args:
            model: after `check_model`. It is not used again.
            n_images: of the training rows.
            n_bytes: that training may take, beside the pixels of all images.

        Returns:
            Bytes that it takes.

        Raises:
            OptionError: with what would fit.
        """

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
