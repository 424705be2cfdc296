"""What weights are adapted by: a task gives a loss for some images, and has a module that is thrown away afterwards."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dvme.adaptation.images import VALIDATION, Images
from dvme.adaptation.settings import CONTRASTIVE, Settings
from dvme.adaptation.views import augmented
from dvme.backbones.loading.trainable import Trainable
from dvme.data.samples import MISSING
from dvme.data.targets import Targets
from dvme.errors import DataError, parameter
from dvme.training.augmentations import Augmentation
from dvme.training.contrastive import nt_xent
from dvme.training.losses import loss
from dvme.training.pairs import epoch_pairs
from dvme.training.pictures import Pictures
from dvme.training.projection import Projection

PROJECTED = 128
"""Numbers that the contrastive loss compares, Azizi et al. 2021, section 4.2."""


class Task(Protocol):
    """One way to adapt weights."""

    @property
    def head(self) -> nn.Module:
        """Trained beside the backbone, from first weights that torch's generator draws."""

    def order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """(m, k) what the steps of an epoch go through, in random order: k positions of images at a time."""

    def loss(self, model: Trainable, items: NDArray[np.int64], rng: np.random.Generator) -> Tensor:
        """The mean loss of some (b, k) of them."""


class Contrast:
    """Two views of a pair are to be alike: of one image (SimCLR), or of two images of a group (MICLe).

    Both views go through the backbone in one pass, so that batch normalisation has the statistics of both, as SimCLR
    has them; these are updated. Images of one group are never held against each other, by either method, where groups
    are known.

    Source: Chen et al. 2020, algorithm 1; Azizi et al. 2021, algorithm 1.
    """

    def __init__(
        self, images: Images, pictures: Pictures, settings: Settings, augmentation: Augmentation, dim: int
    ) -> None:
        self.head = Projection(dim, dim, PROJECTED)
        self._pictures, self._augmentation, self._temperature = pictures, augmentation, settings.temperature
        self._groups, self._is_across = images.groups, settings.method == "micle"

    def order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """See Task."""
        return epoch_pairs(self._groups, rng, across=self._is_across)

    def loss(self, model: Trainable, items: NDArray[np.int64], rng: np.random.Generator) -> Tensor:
        """See Task."""
        views = augmented(self._pictures, items.T.reshape(-1), self._augmentation, rng, model.device)
        first, second = self.head(model(views)).chunk(2)
        return nt_xent(first, second, self._groups_of(items).to(model.device), self._temperature)

    def guessing(self, items: NDArray[np.int64]) -> float:
        """The loss of a minibatch whose projections are all alike, as those of a collapsed head."""
        alike = torch.ones(len(items), 1)
        return nt_xent(alike, alike, self._groups_of(items), self._temperature).item()

    def _groups_of(self, items: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(self._groups[items[:, 0]])


class Labels:
    """All weights and a new linear classifier learn the labels of the training part.

    Source: Taher et al. 2021, section 2.2: domain-adaptive pre-training on a larger labelled set of the domain.
    """

    def __init__(self, images: Images, pictures: Pictures, augmentation: Augmentation, dim: int) -> None:
        """Take the labels.

        Raises:
            DataError: if none is there, or there is nothing to tell apart.
        """
        self._pictures, self._augmentation = pictures, augmentation
        self._rows = np.flatnonzero((images.labels != MISSING) & (images.parts != VALIDATION))
        if not len(self._rows):
            raise DataError("no image that is trained on has a label; name their column with " + parameter("label"))
        targets = Targets.of(images.labels[self._rows], images.findings)
        targets.task.check_trainable()
        self._targets = targets.learned
        self.head = nn.Linear(dim, len(targets.classes))

    def order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """See Task; of a position its row among the labelled images."""
        return rng.permutation(len(self._rows))[:, None]

    def loss(self, model: Trainable, items: NDArray[np.int64], rng: np.random.Generator) -> Tensor:
        """See Task."""
        places = items[:, 0]
        views = augmented(self._pictures, self._rows[places], self._augmentation, rng, model.device)
        logits = self.head(model(views))
        targets = torch.from_numpy(self._targets[places]).to(model.device)
        ones = torch.ones(len(places), device=model.device)
        return loss(logits, targets, ones, torch.ones(logits.shape[1], dtype=torch.bool, device=model.device))


def task_of(
    images: Images, pictures: Pictures, settings: Settings, augmentation: Augmentation, model: Trainable
) -> Task:
    """The task of a method.

    Raises:
        DataError, OptionError: if the images, or the backbone, are nothing for it.
    """
    if settings.method in CONTRASTIVE:
        task: Task = Contrast(images, pictures, settings, augmentation, model.dim)
    elif settings.method == "supervised":
        task = Labels(images, pictures, augmentation, model.dim)
    else:
        from dvme.adaptation.restoring import Restoring

        task = Restoring(len(images), pictures, augmentation, model)
    task.head.to(model.device)
    return task
