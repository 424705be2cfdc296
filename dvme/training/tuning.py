"""A backbone and its classifier trained on from where they are: every learning rate, epoch by epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from dvme.runtime import keep_freed_memory
from dvme.training.checkpoints import Epochs
from dvme.training.course import Course, Position, digest
from dvme.training.epochs import Lesson, Trained, Watched
from dvme.training.randomness import own_random_numbers
from dvme.training.recipe import Recipe
from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    import torch
    from torch import nn
else:
    torch = deferred("torch")

NOTHING_KEPT = Epochs()


def tune(
    model: nn.Module,
    classifier: nn.Module,
    lesson: Lesson,
    recipe: Recipe,
    seed: int,
    tell: Callable[[int, int], None],
    kept: Epochs = NOTHING_KEPT,
) -> Course:
    """Train both on copies of them, and keep what has the lowest validation loss over learning rates and epochs.

    Every learning rate starts from the same weights and sees the same images in the same order, moved alike. The start
    itself is one of the choices. Without validation rows, the middle learning rate is trained to its end. Result and
    bits follow from the arguments alone, on as many threads; torch's own random numbers are left as they were.

    What is kept after each epoch is gone on from, to the bit on as many threads of the same device; on others, last
    bits differ. A training that is over is not repeated. What other arguments left there counts for nothing. Of the
    pixels only the shapes are compared: whoever names the place of `kept` sees to them.

    Args:
        model: from images (B, C, S, S) float32, 0 to 255, to features (B, D), in full float32.
        classifier: from features to logits (B, C); its `learns` (C,) bool says which columns training knows. That of a
            training that is gone on with counts in its place, for it may have been fitted on other threads.
        lesson: pixels, rows and targets.
        recipe: how.
        seed: of order, motions and dropout.
        tell: called after every epoch with how many are through, of how many at most; at the beginning as well, where
            some are.
        kept: where a state is kept after every epoch.

    Raises:
        DataError: if no weights with a finite loss are found.
        OptionError: if statistics are to be updated from single images.
    """
    from dvme.float32 import full_float32

    device = next(model.parameters()).device
    if device.type == "cpu":
        keep_freed_memory()
    watched = lesson.watched(classifier, device)
    middle = recipe.learning_rates[len(recipe.learning_rates) // 2]
    rates = recipe.learning_rates if watched.has_rows else (middle,)
    position = Position(kept, digest(model, lesson, recipe, seed), classifier)
    length = recipe.max_epochs
    if position.epoch:
        tell(position.rate * length + (length if position.is_over else position.epoch), len(rates) * length)
    with full_float32(device), own_random_numbers(device), torch.enable_grad():
        for number in range(position.rate + position.is_over, len(rates)):
            trained = Trained(model, position.classifier, lesson, recipe, seed, rates[number])

            def tell_own(epoch: int, before: int = number * length) -> None:
                tell(before + epoch, len(rates) * length)

            _try_rate(number, trained, watched, position, tell_own)
    return replace(position.best.course(rates), seconds_before=position.seconds_before)


def _try_rate(number: int, trained: Trained, watched: Watched, position: Position, tell: Callable[[int], None]) -> None:
    """Train at one learning rate to its end, or until it has no new best of its own for long."""
    last, best = trained.recipe.max_epochs, position.best
    if watched.has_rows and best.start is None:  # the same for every learning rate
        best.start = watched.loss(trained)
        best.offer(trained, 0, best.start)
    position.begin(number, trained)
    while not position.is_over:
        epoch = position.epoch + 1
        is_finite = trained.train_epoch(epoch)
        best.saw(trained, epoch)
        value = None
        if is_finite:
            with trained.averaged():
                if watched.has_rows:
                    value = watched.loss(trained)
                    best.offer(trained, epoch, value)
                elif epoch == last:
                    best.take(trained, epoch)
        if value is not None:
            trained.watch(value)
        position.saw(trained, value, is_over=not is_finite or epoch == last)
        tell(last if position.is_over else epoch)
