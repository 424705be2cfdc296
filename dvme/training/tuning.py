"""A backbone and its classifier trained on from where they are: every learning rate, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from dvme.errors import DataError
from dvme.runtime import keep_freed_memory
from dvme.training.epochs import Lesson, Trained, Watched
from dvme.training.randomness import own_random_numbers
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
    """Trained at the learning rate that was chosen."""
    learning_rate: float
    validation_loss: float
    """The mean log loss, by weight; nan without validation rows."""
    n_trained: int
    """Numbers that had a gradient."""


def tune(
    model: nn.Module,
    classifier: nn.Module,
    lesson: Lesson,
    recipe: Recipe,
    seed: int,
    tell: Callable[[int, int], None],
) -> Course:
    """Train both on copies of them, and keep what has the lowest validation loss over learning rates and epochs.

    Every learning rate starts from the same weights and sees the same images in the same order, moved alike. The start
    itself is one of the choices. Without validation rows, the middle learning rate is trained to its end. Result and
    bits follow from the arguments alone, on as many threads; torch's own random numbers are left as they were.

    Args:
        model: from images (B, C, S, S) float32, 0 to 255, to features (B, D), in full float32.
        classifier: from features to logits (B, C); its `learns` (C,) bool says which columns training knows.
        lesson: pixels, rows and targets.
        recipe: how.
        seed: of order, motions and dropout.
        tell: called after every epoch with how many are through, of how many at most.

    Raises:
        DataError: if no weights with a finite loss are found.
        OptionError: if statistics are to be updated from single images.
    """
    from dvme.float32 import full_float32

    device = next(model.parameters()).device
    if device.type == "cpu":
        keep_freed_memory()
    watched = Watched.of(lesson, classifier, device)
    middle = recipe.learning_rates[len(recipe.learning_rates) // 2]
    rates = recipe.learning_rates if watched.has_rows else (middle,)
    best = _Best()
    with full_float32(device), own_random_numbers(device), torch.enable_grad():
        for number, rate in enumerate(rates):
            before, n_all = number * recipe.max_epochs, len(rates) * recipe.max_epochs
            _try_rate(
                Trained(model, classifier, lesson, recipe, seed, rate),
                watched,
                best,
                partial(_tell, tell, before, n_all),
            )
    return best.course(rates)


def _tell(tell: Callable[[int, int], None], before: int, n_all: int, epoch: int) -> None:
    tell(before + epoch, n_all)


def _try_rate(trained: Trained, watched: Watched, best: _Best, tell: Callable[[int], None]) -> None:
    """Train at one learning rate to its end, or until it has no new best of its own for long."""
    recipe = trained.recipe
    if watched.has_rows and best.start is None:  # the same for every learning rate
        best.start = watched.loss(trained)
        best.offer(trained, 0, best.start)
    best_epoch, best_loss = 0, _or_infinite(best.start)
    for epoch in range(1, recipe.max_epochs + 1):
        is_finite = trained.train_epoch(epoch)
        best.saw(trained, epoch)
        if is_finite and watched.has_rows:
            with trained.averaged():
                value = watched.loss(trained)
                best.offer(trained, epoch, value)
            trained.watch(value)
            if value < best_loss:
                best_epoch, best_loss = epoch, value
        is_stalled = epoch - best_epoch >= recipe.stop_patience and epoch >= recipe.min_epochs
        is_over = not is_finite or (watched.has_rows and is_stalled)
        tell(recipe.max_epochs if is_over else epoch)
        if is_over:
            return
    if not watched.has_rows:
        with trained.averaged():
            best.take(trained, epoch)


class _Best:
    """The best weights so far, on the CPU, and how long each learning rate was trained for."""

    def __init__(self) -> None:
        self.start: float | None = None
        """The loss before any step; None as long as it is not known."""
        self._loss = math.inf
        self._epoch, self._rate, self._n_trained = 0, math.nan, 0
        self._states: tuple[dict[str, Tensor], dict[str, Tensor]] | None = None
        self._n_epochs: dict[float, int] = {}

    def saw(self, trained: Trained, epoch: int) -> None:
        """Take note of an epoch."""
        self._n_epochs[trained.rate] = epoch
        self._n_trained = trained.n_trained

    def offer(self, trained: Trained, epoch: int, value: float) -> None:
        """Keep the weights if their loss is the lowest so far; one that is not finite never is."""
        if value < self._loss:
            self.take(trained, epoch)
            self._loss = value

    def take(self, trained: Trained, epoch: int) -> None:
        """Keep the weights, if they are numbers."""
        if not any(bool(value.isnan().any()) for value in trained.parameters()):
            self._epoch, self._rate = epoch, trained.rate
            self._states = _on_cpu(trained.model_state()), _on_cpu(trained.classifier.state_dict())

    def course(self, rates: tuple[float, ...]) -> Course:
        """What became of the training."""
        if self._states is None:
            tried = ", ".join(f"{rate:g}" for rate in rates)
            raise DataError(
                f"training diverged: no weights with a finite loss at the learning rate of {tried}; "
                "choose lower learning_rates"
            )
        return Course(
            *self._states,
            epoch=self._epoch,
            n_epochs=self._n_epochs[self._rate],
            learning_rate=self._rate,
            validation_loss=self._loss if math.isfinite(self._loss) else math.nan,
            n_trained=self._n_trained,
        )


def _or_infinite(value: float | None) -> float:
    return math.inf if value is None or math.isnan(value) else value


def _on_cpu(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, value in state.items()
    }
