"""How a training goes: the best so far, how far it is, and what became of it."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from dvme.errors import DataError
from dvme.training.checkpoints import Epochs
from dvme.training.epochs import Lesson, Trained
from dvme.training.recipe import Recipe
from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
else:
    torch = deferred("torch")


@dataclass(frozen=True)
class Course:
    """What became of it."""

    model_state: Mapping[str, Tensor]
    """Of the backbone at its best, on the CPU."""
    classifier_state: Mapping[str, Tensor]
    epoch: int
    """Whose weights these are; 0 are those that training began with."""
    n_epochs: int
    """Trained at the learning rate that was chosen; of the untouched start those of the longest."""
    learning_rate: float
    """nan of the untouched start, which is the same at every rate."""
    validation_loss: float
    """The mean log loss, by weight; nan without validation rows."""
    n_trained: int
    """Numbers that had a gradient."""
    seconds_before: float = 0.0
    """That calls took which were cut short and are gone on with here."""


@dataclass
class Best:
    """The best weights so far, on the CPU, and how long each learning rate was trained for."""

    start: float | None = None
    """The loss before any step; None as long as it is not known."""
    loss: float = math.inf
    epoch: int = 0
    rate: float = math.nan
    n_trained: int = 0
    states: tuple[dict[str, Tensor], dict[str, Tensor]] | None = None
    """Of the model and of the classifier."""
    n_epochs: dict[float, int] = field(default_factory=dict)
    """By learning rate."""

    def saw(self, trained: Trained, epoch: int) -> None:
        """Take note of an epoch."""
        self.n_epochs[trained.rate] = epoch
        self.n_trained = trained.n_trained

    def offer(self, trained: Trained, epoch: int, value: float) -> None:
        """Keep the weights if their loss is the lowest so far; one that is not finite never is."""
        if value < self.loss and self.take(trained, epoch):
            self.loss = value

    def take(self, trained: Trained, epoch: int) -> bool:
        """Keep the weights, if they are numbers; whether they are."""
        if any(bool(value.isnan().any()) for value in trained.parameters()):
            return False
        self.epoch, self.rate = epoch, trained.rate
        self.states = _on_cpu(trained.model_state()), _on_cpu(trained.classifier.state_dict())
        return True

    def course(self, rates: Sequence[float]) -> Course:
        """What became of the training.

        Raises:
            DataError: if there are no weights.
        """
        if self.states is None:
            tried = ", ".join(f"{rate:g}" for rate in rates)
            raise DataError(
                f"training diverged: the loss was never finite at the learning rate of {tried}; "
                "choose lower learning_rates"
            )
        is_start = not self.epoch  # which is the same at every rate
        return Course(
            *self.states,
            epoch=self.epoch,
            n_epochs=max(self.n_epochs.values()) if is_start else self.n_epochs[self.rate],
            learning_rate=math.nan if is_start else self.rate,
            validation_loss=self.loss if math.isfinite(self.loss) else math.nan,
            n_trained=self.n_trained,
        )


class Position:
    """How far a training is: kept after every epoch, and taken up again."""

    def __init__(self, kept: Epochs, of: str, classifier: nn.Module) -> None:
        """Begin, or take up what is kept of a training that follows from the same.

        Args:
            kept: where states are.
            of: what the training follows from, see `digest`.
            classifier: that every learning rate starts with.
        """
        self._kept, self._of = kept, of
        self.best = Best()
        self.classifier = copy.deepcopy(classifier)
        """That every learning rate starts with; of a training that is taken up its own, if that differs."""
        self.rate, self.epoch, self.is_over = 0, 0, False
        """Number of the learning rate, its epochs that are through, and whether they were its last."""
        self._own_epoch, self._own_loss = 0, math.inf
        """The best of this learning rate, its start left out: the first epochs often lose before they gain."""
        self.seconds_before, self._since = 0.0, time.perf_counter()
        state = kept.read()
        self._found = state if state is not None and state.get("of") == of else None
        if self._found is not None:
            self.rate, self.epoch, self.is_over = (self._found[name] for name in ("rate", "epoch", "is_over"))
            self._own_epoch, self._own_loss = self._found["own"]
            self.seconds_before = self._found["seconds"]
            self.best = Best(**self._found["best"])
            self.classifier.load_state_dict(self._found["classifier"])

    def begin(self, number: int, trained: Trained) -> None:
        """Put the copies of a learning rate where they were left; they are at their start where that was nowhere."""
        if self._found is not None and not self.is_over:
            trained.go_on_from(self._found["trained"])
        else:
            self.rate, self.epoch, self.is_over = number, 0, False
            self._own_epoch, self._own_loss = 0, math.inf
        self._found = None

    def saw(self, trained: Trained, value: float | None, *, is_over: bool) -> None:
        """Take note of one epoch more, and keep where the training is now.

        Args:
            trained: the copies.
            value: their validation loss; None without validation rows.
            is_over: whether the learning rate is, whatever the loss.
        """
        self.epoch += 1
        if value is not None and value < self._own_loss:
            self._own_epoch, self._own_loss = self.epoch, value
        recipe = trained.recipe
        is_stalled = self.epoch - self._own_epoch >= recipe.stop_patience and self.epoch >= recipe.min_epochs
        self.is_over = is_over or (value is not None and is_stalled)
        self._kept.write(
            {
                "of": self._of,
                "seconds": self.seconds_before + time.perf_counter() - self._since - self._kept.seconds,
                "rate": self.rate,
                "epoch": self.epoch,
                "is_over": self.is_over,
                "own": (self._own_epoch, self._own_loss),
                "best": vars(self.best),
                "classifier": self.classifier.state_dict(),
                "trained": None if self.is_over else trained.state(),
            }
        )


def digest(model: nn.Module, lesson: Lesson, recipe: Recipe, seed: int) -> str:
    """32 hexadecimal digits of what a training follows from: starting weights, rows, what they teach, recipe and seed.

    Of the pixels the shapes alone. The classifier's weights are left out: their last bits differ by threads.
    """
    shapes = lesson.pictures.crops.shape, lesson.pictures.squares.shape
    found = hashlib.blake2b(json.dumps([asdict(recipe), seed, shapes]).encode(), digest_size=16)
    train, validation = lesson.train, lesson.validation
    learned, watched = lesson.targets[train], lesson.truth[validation]
    for array in (train, validation, learned, watched, lesson.weights[train], lesson.weights[validation]):
        found.update(f"{array.dtype} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    for name, value in model.state_dict().items():
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def _on_cpu(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, value in state.items()
    }
