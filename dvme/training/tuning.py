"""A backbone and its classifier trained on from where they are: every learning rate, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError
from dvme.runtime import keep_freed_memory
from dvme.training.averaging import Average
from dvme.training.batches import epoch_order, loss_weights, resolve_sampling
from dvme.training.layers import groups, set_rates
from dvme.training.losses import loss
from dvme.training.motions import drawn, moved
from dvme.training.norms import begin_training
from dvme.training.pictures import Pictures
from dvme.training.randomness import DROPOUT, MOTION, ORDER, generator, own_random_numbers, seed_torch
from dvme.training.rates import cosine
from dvme.training.recipe import Recipe, count_batches, has_frozen_statistics
from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
else:
    torch = deferred("torch")


@dataclass(frozen=True)
class Lesson:
    """What is learned, and what is watched meanwhile."""

    pictures: Pictures
    """Of N images."""
    train: NDArray[Any]
    """(n,) rows, at least one."""
    validation: NDArray[Any]
    """(v,) rows; empty: nothing is chosen."""
    targets: NDArray[Any]
    """(N,) class indices, or (N, L) from 0 to 1, nan where unknown: what training rows teach."""
    truth: NDArray[Any]
    """The same of what validation rows are scored against."""
    weights: NDArray[Any]
    """(N,) how often each row counts, above 0."""


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
    watched = _Watched.of(lesson, classifier, device)
    middle = recipe.learning_rates[len(recipe.learning_rates) // 2]
    rates = recipe.learning_rates if watched.has_rows else (middle,)
    best = _Best()
    with full_float32(device), own_random_numbers(device), torch.enable_grad():
        for number, rate in enumerate(rates):
            before, n_all = number * recipe.max_epochs, len(rates) * recipe.max_epochs
            _try_rate(
                _Trained(model, classifier, lesson, recipe, seed, rate),
                watched,
                best,
                partial(_tell, tell, before, n_all),
            )
    return best.course(rates)


def _tell(tell: Callable[[int, int], None], before: int, n_all: int, epoch: int) -> None:
    tell(before + epoch, n_all)


def _try_rate(trained: _Trained, watched: _Watched, best: _Best, tell: Callable[[int], None]) -> None:
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
            if value < best_loss:
                best_epoch, best_loss = epoch, value
        is_over = not is_finite or (watched.has_rows and epoch - best_epoch >= recipe.stop_patience)
        tell(recipe.max_epochs if is_over else epoch)
        if is_over:
            return
    if not watched.has_rows:
        with trained.averaged():
            best.take(trained, epoch)


class _Trained:
    """Copies of the modules on their way at one learning rate."""

    def __init__(
        self, model: nn.Module, classifier: nn.Module, lesson: Lesson, recipe: Recipe, seed: int, rate: float
    ) -> None:
        self.lesson, self.recipe, self.seed, self.rate = lesson, recipe, seed, rate
        self.model: nn.Module = deepcopy(model).to(memory_format=torch.channels_last)
        self.classifier: Any = deepcopy(classifier)
        self.device = next(self.model.parameters()).device
        n_batches = count_batches(recipe, len(lesson.train))
        self.n_batches, self.n_steps = n_batches, n_batches * recipe.max_epochs
        self.n_warmup = round(recipe.warmup_epochs * n_batches)
        self.is_frozen = has_frozen_statistics(recipe, len(lesson.train))
        # One pass over each parameter, which must lie in memory as its gradient does: autograd sees to it.
        is_fused = self.device.type in {"cpu", "cuda"}
        parameters = groups(self.model, self.classifier, recipe, rate)
        self.optimizer = torch.optim.AdamW(parameters, lr=rate, fused=is_fused)
        modules = [self.model, self.classifier]
        self.average = Average(modules, recipe.average_epochs * n_batches) if recipe.average_epochs else None
        self.n_trained = 0
        own = lesson.weights[lesson.train].astype(np.float64)
        labels = lesson.targets[lesson.train]
        # Of several labels there is no class to draw evenly.
        self.labels = labels if labels.ndim == 1 else np.zeros(len(labels), dtype=np.int64)
        self.sampling = resolve_sampling(recipe.sampling, self.labels, own) if labels.ndim == 1 else "shuffled"
        self.weights = loss_weights(self.labels, self.sampling, own).astype(np.float32)

    def train_epoch(self, epoch: int) -> bool:
        """Take the steps of an epoch, numbered from 1; whether their losses were finite."""
        order = epoch_order(self.labels, self.sampling, generator(self.seed, ORDER, epoch))
        motions = generator(self.seed, MOTION, epoch)
        seed_torch(generator(self.seed, DROPOUT, epoch), self.device)
        begin_training(self.model, is_frozen=self.is_frozen)
        begin_training(self.classifier, is_frozen=self.is_frozen)
        total = torch.zeros((), device=self.device)
        # Of even sizes, so that none is of a few images only.
        for number, positions in enumerate(np.array_split(order, self.n_batches), (epoch - 1) * self.n_batches):
            set_rates(self.optimizer, cosine(number, self.n_steps, self.n_warmup))
            total += self._step(positions, motions)
        return math.isfinite(total.item())

    def parameters(self) -> Iterator[Tensor]:
        """Of both modules."""
        return chain(self.model.parameters(), self.classifier.parameters())

    def averaged(self) -> AbstractContextManager[None]:
        """A context in which the modules are what counts: their average, if there is one."""
        return nullcontext() if self.average is None else self.average.swapped()

    def _step(self, positions: NDArray[Any], rng: np.random.Generator) -> Tensor:
        pictures, rows = self.lesson.pictures, self.lesson.train[positions]
        squares = pictures.square(rows, self.device)
        images = moved(squares, drawn(len(rows), self.recipe, rng), pictures.crop)
        del squares
        logits = self.classifier(self.model(images.contiguous(memory_format=torch.channels_last)))
        targets, weights = _tensors(self.lesson.targets[rows], self.weights[positions], self.device)
        value = loss(logits, targets, weights, self.classifier.learns)
        self.optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        if not self.n_trained:
            self.n_trained = sum(each.numel() for each in self.parameters() if each.grad is not None)
        self.optimizer.step()
        if self.average is not None:
            self.average.update()
        return value.detach()


@dataclass(frozen=True)
class _Watched:
    """What the loss of validation is taken over."""

    rows: NDArray[Any]
    targets: Tensor
    weights: Tensor

    @classmethod
    def of(cls, lesson: Lesson, classifier: Any, device: torch.device) -> _Watched:
        """The validation rows that something can be learned about.

        A class that training lacks has a probability of 0, and its rows an infinite loss, whatever the weights are.
        """
        learns = classifier.learns.cpu().numpy()
        truth = lesson.truth[lesson.validation]
        is_learned = learns[truth] if truth.ndim == 1 else (learns & ~np.isnan(truth)).any(axis=1)
        rows = lesson.validation[is_learned]
        return cls(rows, *_tensors(truth[is_learned], lesson.weights[rows].astype(np.float64), device))

    @property
    def has_rows(self) -> bool:
        return len(self.rows) > 0

    def loss(self, trained: _Trained) -> float:
        """The mean log loss by weight, in float64."""
        trained.model.eval()
        trained.classifier.eval()
        size, found = trained.recipe.batch_size, []
        with torch.no_grad():
            for start in range(0, len(self.rows), size):
                images = trained.lesson.pictures.plain(self.rows[start : start + size], trained.device)
                found.append(trained.classifier(trained.model(images)))
            return loss(torch.cat(found).double(), self.targets, self.weights, trained.classifier.learns).item()


class _Best:
    """The best weights so far, on the CPU, and how long each learning rate was trained for."""

    def __init__(self) -> None:
        self.start: float | None = None
        """The loss before any step; None as long as it is not known."""
        self._loss = math.inf
        self._epoch, self._rate, self._n_trained = 0, math.nan, 0
        self._states: tuple[dict[str, Tensor], dict[str, Tensor]] | None = None
        self._n_epochs: dict[float, int] = {}

    def saw(self, trained: _Trained, epoch: int) -> None:
        """Take note of an epoch."""
        self._n_epochs[trained.rate] = epoch
        self._n_trained = trained.n_trained

    def offer(self, trained: _Trained, epoch: int, value: float) -> None:
        """Keep the weights if their loss is the lowest so far; one that is not finite never is."""
        if value < self._loss:
            self.take(trained, epoch)
            self._loss = value

    def take(self, trained: _Trained, epoch: int) -> None:
        """Keep the weights, if they are numbers."""
        if not any(bool(value.isnan().any()) for value in trained.parameters()):
            self._epoch, self._rate = epoch, trained.rate
            self._states = _state_of(trained.model), _state_of(trained.classifier)

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


def _state_of(module: nn.Module) -> dict[str, Tensor]:
    return {
        name: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, value in module.state_dict().items()
    }


def _tensors(targets: NDArray[Any], weights: NDArray[Any], device: torch.device) -> tuple[Tensor, Tensor]:
    kind = np.int64 if targets.ndim == 1 else weights.dtype
    return torch.from_numpy(targets.astype(kind)).to(device), torch.from_numpy(weights).to(device)
