"""A backbone and its classifier on their way: the steps of an epoch, and the loss of validation after it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme.training.augmentations import AUGMENTATIONS, applied, varied
from dvme.training.averaging import Average
from dvme.training.batches import epoch_order, loss_weights, resolve_sampling
from dvme.training.layers import freeze_all_but_last, groups, set_rates
from dvme.training.losses import loss
from dvme.training.low_rank import add_low_rank, merged_state
from dvme.training.motions import drawn, moved
from dvme.training.norms import begin_training
from dvme.training.pictures import Pictures
from dvme.training.randomness import DROPOUT, MOTION, ORDER, WEIGHTS, generator, seed_torch
from dvme.training.rates import cosine
from dvme.training.recipe import Recipe, count_batches, has_frozen_statistics, is_halved
from dvme.training.schedule import Plateau
from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
else:
    torch = deferred("torch")

MOMENTUM = 0.9
"""Of stochastic gradient descent."""


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

    def has_frozen_statistics(self, recipe: Recipe) -> bool:
        """See the function of this name."""
        return has_frozen_statistics(recipe, len(self.train))

    def minibatch_loss(self, trained: Trained, positions: NDArray[Any], rng: np.random.Generator) -> Tensor:
        """A scalar with a gradient: the loss of training rows, augmented.

        Args:
            trained: what is trained.
            positions: (B,) in `train`.
            rng: of the augmentation.
        """
        rows = self.train[positions]
        images = trained.augmented(self.pictures.square(rows, trained.device), self.pictures.crop, rng)
        logits = trained.logits(images)
        targets, weights = _tensors(self.targets[rows], trained.weights[positions], trained.device)
        return loss(logits, targets, weights, trained.classifier.learns)

    def watched(self, classifier: Any, device: torch.device) -> Watched:
        """What the loss of validation is taken over: the rows that something can be learned about.

        A class that training lacks has a probability of 0, and its rows an infinite loss, whatever the weights are.
        """
        learns = classifier.learns.cpu().numpy()
        truth = self.truth[self.validation]
        is_learned = learns[truth] if truth.ndim == 1 else (learns & ~np.isnan(truth)).any(axis=1)
        rows = self.validation[is_learned]
        return Watched(rows, *_tensors(truth[is_learned], self.weights[rows].astype(np.float64), device))


class Trained:
    """Copies of the modules on their way at one learning rate."""

    def __init__(
        self, model: nn.Module, classifier: nn.Module, lesson: Lesson, recipe: Recipe, seed: int, rate: float
    ) -> None:
        self.lesson, self.recipe, self.seed, self.rate = lesson, recipe, seed, rate
        self.model: nn.Module = deepcopy(model).to(memory_format=torch.channels_last)
        restrict(self.model, recipe, seed)
        self.classifier: Any = deepcopy(classifier)
        self.device = next(self.model.parameters()).device
        n_batches = count_batches(recipe, len(lesson.train))
        self.n_batches, self.n_steps = n_batches, n_batches * recipe.max_epochs
        self.n_warmup = round(recipe.warmup_epochs * n_batches)
        self.is_frozen = lesson.has_frozen_statistics(recipe)
        self.optimizer = _optimizer(groups(self.model, self.classifier, recipe, rate), recipe, self.device)
        self.plateau, self.fallen = Plateau(recipe.plateau_patience), 1.0
        modules = [self.model, self.classifier]
        self.average = Average(modules, recipe.average_epochs * n_batches) if recipe.average_epochs else None
        self.is_halved = is_halved(recipe, self.device.type)
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
            set_rates(self.optimizer, self._factor(number))
            total += self._step(positions, motions)
        return math.isfinite(total.item())

    def state(self) -> dict[str, Any]:
        """All that the next epoch follows from, beside the arguments; tensors as they lie in memory."""
        return {
            "model": self.model.state_dict(),
            "classifier": self.classifier.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state(),
            "plateau": vars(self.plateau),
            "fallen": self.fallen,
            "n_trained": self.n_trained,
        }

    def go_on_from(self, state: Mapping[str, Any]) -> None:
        """Be as the one was whose `state` this is, to the bit."""
        self.model.load_state_dict(state["model"])  # copied into place, so that all lie in memory as they did
        self.classifier.load_state_dict(state["classifier"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.go_on_from(state["average"])
        self.plateau, self.fallen = Plateau(**state["plateau"]), state["fallen"]
        self.n_trained = state["n_trained"]

    def watch(self, value: float) -> None:
        """Take note of the validation loss after an epoch."""
        if self.recipe.schedule == "plateau" and self.plateau.ends_at(value):
            self.fallen *= self.recipe.plateau_factor

    def model_state(self) -> dict[str, Tensor]:
        """Of the backbone, by the names that it has without what was added to be trained."""
        return merged_state(self.model) if self.recipe.lora_rank else self.model.state_dict()

    def parameters(self) -> Iterator[Tensor]:
        """Of both modules."""
        return chain(self.model.parameters(), self.classifier.parameters())

    def averaged(self) -> AbstractContextManager[None]:
        """A context in which the modules are what counts: their average, if there is one."""
        return nullcontext() if self.average is None else self.average.swapped()

    def logits(self, images: Tensor) -> Tensor:
        """What the modules say of (B, C, H, W) float32 images of 0 to 255 in a step, in the precision of the recipe."""
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.is_halved):
            features = self.model(images)
        found: Tensor = self.classifier(features.float())
        return found

    def augmented(self, squares: Tensor, crop: int, rng: np.random.Generator) -> Tensor:
        """What the recipe shows of (B, C, S, S) squares."""
        name, n = self.recipe.augment, len(squares)
        if name == "light":
            return moved(squares, drawn(n, self.recipe, rng), crop)
        return applied(squares, varied(n, AUGMENTATIONS[name], rng), crop)

    def _factor(self, step: int) -> float:
        """What rates are multiplied with at a step."""
        if self.recipe.schedule == "epoch-cosine" and step >= self.n_warmup:
            return cosine(step // self.n_batches, self.recipe.max_epochs, 0)
        if self.recipe.schedule == "cosine" or step < self.n_warmup:
            return cosine(step, self.n_steps, self.n_warmup)
        return self.fallen

    def _step(self, positions: NDArray[Any], rng: np.random.Generator) -> Tensor:
        value = self.lesson.minibatch_loss(self, positions, rng)
        self.optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        if not self.n_trained:
            self.n_trained = sum(each.numel() for each in self.parameters() if each.grad is not None)
        self.optimizer.step()
        if self.average is not None:
            self.average.update()
        return value.detach()


def restrict(model: nn.Module, recipe: Recipe, seed: int) -> None:
    """Let only those weights ask for gradients that are to be trained; with low ranks, add them.

    Raises:
        OptionError: if the model lacks what is to be trained.
    """
    freeze_all_but_last(model, recipe.layers)
    if recipe.lora_rank:
        add_low_rank(model, recipe.lora_rank, generator(seed, WEIGHTS, 0))


@dataclass(frozen=True)
class Watched:
    """What the loss of validation is taken over."""

    rows: NDArray[Any]
    targets: Tensor
    weights: Tensor

    @property
    def has_rows(self) -> bool:
        """Whether anything is watched."""
        return len(self.rows) > 0

    def loss(self, trained: Trained) -> float:
        """The mean log loss by weight, in float64."""
        trained.model.eval()
        trained.classifier.eval()
        size, found = trained.recipe.batch_size, []
        with torch.no_grad():
            for start in range(0, len(self.rows), size):
                images = trained.lesson.pictures.plain(self.rows[start : start + size], trained.device)
                found.append(trained.classifier(trained.model(images)))
            return loss(torch.cat(found).double(), self.targets, self.weights, trained.classifier.learns).item()


def _optimizer(parameters: list[dict[str, Any]], recipe: Recipe, device: torch.device) -> torch.optim.Optimizer:
    # Fused: one pass over each parameter, which must lie in memory as its gradient does; autograd sees to it.
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(parameters, momentum=MOMENTUM)
    kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, fused=device.type in {"cpu", "cuda"})


def _tensors(targets: NDArray[Any], weights: NDArray[Any], device: torch.device) -> tuple[Tensor, Tensor]:
    kind = np.int64 if targets.ndim == 1 else weights.dtype
    return torch.from_numpy(targets.astype(kind)).to(device), torch.from_numpy(weights).to(device)
