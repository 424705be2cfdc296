"""What a U-Net learns from masks, and what is watched meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dvme.segmentation.unet.losses import Loss, cross_entropies, dice_loss, shares_of, sums
from dvme.segmentation.unet.targets import FULL, UNKNOWN, with_something_known
from dvme.training.epochs import Lesson, Trained, Watched
from dvme.training.motions import drawn, moved
from dvme.training.recipe import Recipe


class Whole(nn.Module):
    """Stands for a classifier where the network is one piece: logits as they are."""

    learns: Tensor

    def __init__(self, n_classes: int, device: torch.device) -> None:
        super().__init__()
        self.register_buffer("learns", torch.ones(n_classes, dtype=torch.bool, device=device))

    def forward(self, logits: Tensor) -> Tensor:
        """The same."""
        return logits


@dataclass(frozen=True)
class MaskLesson(Lesson):
    """A lesson whose targets are `share_planes` of masks: (N, L, S, S) uint8.

    A mask is moved as its image is, by the same bilinear resampling of its shares, so that the targets of pixels on an
    edge lie between 0 and 1 and none jumps to a neighbour. What is not known of a class counts for nothing.
    """

    loss: Loss = "dice"
    """Of a minibatch, and of validation."""

    def has_frozen_statistics(self, recipe: Recipe) -> bool:
        """Never: the statistics of feature maps are over pixels as well, so that a single image has some."""
        del recipe
        return False

    def minibatch_loss(self, trained: Trained, positions: NDArray[Any], rng: np.random.Generator) -> Tensor:
        """The loss over the whole of a minibatch, images and masks moved alike."""
        rows, crop = self.train[positions], self.pictures.crop
        motions = drawn(len(rows), trained.recipe, rng)
        images = moved(self.pictures.square(rows, trained.device), motions, crop)
        logits = trained.logits(images)
        planes, n_classes = torch.from_numpy(self.targets[rows]).to(trained.device), self.targets.shape[1]
        shares, known = _shares_and_known(planes)
        if known is not None:
            weight = moved(known, motions, crop)
            known = (weight >= 0.5).float()
            shares = moved(shares, motions, crop) / weight.clamp_min(0.5)
        else:
            shares = moved(shares, motions, crop)
        if self.loss == "cross-entropy":
            total, n_known = cross_entropies(logits, shares, known)
            return total / n_known.clamp_min(1.0)
        return dice_loss(sums(shares_of(logits, n_classes), shares, known))

    def watched(self, classifier: Any, device: torch.device) -> Watched:
        """The validation rows of which a pixel is known."""
        del classifier, device
        nothing = torch.zeros(0)
        return WatchedMasks(with_something_known(self.truth, self.validation), nothing, nothing)


@dataclass(frozen=True)
class WatchedMasks(Watched):
    """Images and masks as they are, squashed and nothing else."""

    def loss(self, trained: Trained) -> float:
        """Over all validation pixels together, in float64: 1 - their Dice, the mean over classes, or cross entropy."""
        trained.model.eval()
        lesson, device, size = trained.lesson, trained.device, trained.recipe.batch_size
        assert isinstance(lesson, MaskLesson)
        n_classes, is_dice = lesson.truth.shape[1], lesson.loss == "dice"
        totals = torch.zeros(*((3, n_classes) if is_dice else (2,)), dtype=torch.float64, device=device)
        with torch.no_grad():
            for start in range(0, len(self.rows), size):
                rows = self.rows[start : start + size]
                shares, known = _shares_and_known(torch.from_numpy(lesson.truth[rows]).to(device))
                logits = trained.classifier(trained.model(lesson.pictures.plain(rows, device)))
                known, shares = None if known is None else known.double(), shares.double()
                if is_dice:
                    totals += sums(shares_of(logits, n_classes).double(), shares, known)
                else:
                    totals += torch.stack(cross_entropies(logits.double(), shares, known))
        return dice_loss(totals).item() if is_dice else (totals[0] / totals[1]).item()


def _shares_and_known(planes: Tensor) -> tuple[Tensor, Tensor | None]:
    """(B, L, S, S) float32 shares, 0 where nothing is known, and 1 where something is; None: everywhere."""
    known = planes != UNKNOWN
    if bool(known.all()):
        return planes.float() / FULL, None
    return torch.where(known, planes, 0).float() / FULL, known.float()
