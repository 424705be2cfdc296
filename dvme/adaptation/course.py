"""The epochs of an adaptation: steps, a look, and a checkpoint from which the same call goes on to the bit."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from dvme.adaptation.settings import Settings
from dvme.adaptation.tasks import Contrast, Task
from dvme.adaptation.watch import Look, Watch, check_healthy
from dvme.backbones.loading.trainable import Trainable
from dvme.errors import OptionError, Text, parameter
from dvme.float32 import full_float32
from dvme.training.checkpoints import Epochs
from dvme.training.lars import Lars
from dvme.training.layers import groups, set_rates
from dvme.training.norms import begin_training
from dvme.training.randomness import DROPOUT, MOTION, ORDER, generator, own_random_numbers, seed_torch
from dvme.training.rates import cosine
from dvme.training.recipe import Recipe


@dataclass(frozen=True)
class Course:
    """What became of it."""

    looks: Sequence[Look]
    """Of epochs 0, 1, 2 and so on."""
    n_steps: int
    """Of all epochs."""
    n_resumed: int
    """Epochs that an earlier call had ended."""
    guessing: float
    """The contrastive loss of projections that are all alike, as those of a collapsed head; nan of other methods."""
    seconds: float
    """In steps and looks, those before an interruption included."""

    @property
    def doubt(self) -> Text:
        """A line where the loss says that nothing was learned; "" else."""
        if not self.looks[-1].loss >= self.guessing:
            return Text("")
        line = (
            f"the loss of the last epoch is no lower than that of guessing ({self.guessing:.3f}): nothing was learned; "
        )
        return line + parameter("epochs") + " and " + parameter("learning_rate") + " may be too few or too high"


class Adaptation:
    """A backbone and the head of its task on their way."""

    def __init__(self, model: Trainable, task: Task, settings: Settings, n_items: int) -> None:
        self.model, self.task, self.settings = model, task, settings
        self.n_batches = -(-n_items // settings.batch_size)
        self.n_steps = self.n_batches * settings.epochs
        self.n_warmup = min(round(settings.warmup_epochs * self.n_batches), self.n_steps - 1)
        self.optimizer = _optimizer(model, task.head, settings)

    def train_epoch(self, epoch: int) -> float:
        """Take the steps of an epoch, numbered from 1; their mean loss."""
        seed, device = self.settings.seed, self.model.device
        rng = generator(seed, MOTION, epoch)
        seed_torch(generator(seed, DROPOUT, epoch), device)
        begin_training(self.model, is_frozen=False)
        begin_training(self.task.head, is_frozen=False)
        total = torch.zeros((), device=device)
        for number, items in enumerate(self._batches(epoch), (epoch - 1) * self.n_batches):
            set_rates(self.optimizer, cosine(number, self.n_steps, self.n_warmup))
            total += self._step(items, rng)
        return total.item() / self.n_batches

    def guessing(self) -> float:
        """The mean loss of the last epoch's minibatches by projections that are all alike; nan of other methods."""
        if not isinstance(self.task, Contrast):
            return math.nan
        return float(np.mean([self.task.guessing(items) for items in self._batches(self.settings.epochs)]))

    def state(self) -> dict[str, Any]:
        """All that the next epoch depends on, beside the arguments."""
        modules = {"model": self.model.state_dict(), "head": self.task.head.state_dict()}
        return modules | {"optimizer": self.optimizer.state_dict()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Be as a state was."""
        self.model.load_state_dict(state["model"])
        self.task.head.load_state_dict(state["head"])
        self.optimizer.load_state_dict(state["optimizer"])

    def _batches(self, epoch: int) -> list[NDArray[np.int64]]:
        """Of even sizes, so that none is of a few images only."""
        order = self.task.order(generator(self.settings.seed, ORDER, epoch))
        return np.array_split(order, self.n_batches)

    def _step(self, items: NDArray[np.int64], rng: np.random.Generator) -> Tensor:
        value = self.task.loss(self.model, items, rng)
        self.optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return value.detach()


def run_course(
    adaptation: Adaptation,
    watch: Watch,
    kept: Epochs,
    asked: Mapping[str, Any],
    tell: Callable[[Look], None],
    *,
    force: bool = False,
) -> Course:
    """Train to the last epoch, from where `kept` ends if it has begun.

    Bits follow from the arguments alone, on as many threads as it was begun with; torch's own random numbers are left
    as they were.

    Args:
        adaptation: as it is before the first step.
        watch: what is looked at.
        kept: the states of this very course.
        asked: what tells courses apart, in plain values; another one's states are refused.
        tell: called with the look at the start, if there is nothing to go on from, and after every epoch.
        force: begin anew where what is kept is of another course.

    Raises:
        OptionError: if it is and may not go, or embeddings collapse; what is kept is then of the epoch
            before.
    """
    device = adaptation.model.device
    state = kept.read()
    if state is not None and state.get("asked") != asked:
        if not force:
            raise OptionError(_difference(state.get("asked") or {}, asked))
        kept.clear()
        state = None
    n_threads = torch.get_num_threads() if state is None else int(state["n_threads"])
    with _threads(n_threads), full_float32(device), own_random_numbers(device), torch.enable_grad():
        looks, seconds = [], 0.0
        if state is None:
            looks.append(watch.look(adaptation.model, 0, math.nan))
            tell(looks[0])
        else:
            adaptation.restore(state)
            looks, seconds = [Look(**each) for each in state["looks"]], float(state["seconds"])
        n_resumed = len(looks) - 1
        for epoch in range(len(looks), adaptation.settings.epochs + 1):
            begun = time.perf_counter()
            looks.append(watch.look(adaptation.model, epoch, adaptation.train_epoch(epoch)))
            check_healthy(looks[-1], looks[0], kept.folder)
            seconds += time.perf_counter() - begun
            kept.write(
                adaptation.state()
                | {"asked": dict(asked), "n_threads": n_threads, "seconds": seconds}
                | {"looks": [look.plain() for look in looks]}
            )
            tell(looks[-1])
    return Course(looks, adaptation.n_steps, n_resumed, adaptation.guessing(), seconds)


def _difference(before: Mapping[str, Any], asked: Mapping[str, Any]) -> Text:
    """How an adaptation that was begun differs from the one that is asked for."""
    name = next(name for name in (*asked, *before) if before.get(name) != asked.get(name))
    begun = (
        f"an adaptation of another {name.replace('_', ' ')} was begun here ({before.get(name)}, now {asked.get(name)})"
    )
    return begun + "; pass the same to go on with it, or " + parameter("force", True) + " to begin anew"


def _optimizer(model: nn.Module, head: nn.Module, settings: Settings) -> Optimizer:
    """LARS or AdamW, all weights at one rate; neither decays vectors and scalars."""
    recipe = Recipe(layer_decay=1.0, weight_decay=settings.weight_decay)
    parameters = groups(model, head, recipe, settings.learning_rate)
    if settings.is_lars:
        return Lars(parameters, lr=settings.learning_rate)
    device = next(model.parameters()).device.type
    return torch.optim.AdamW(parameters, lr=settings.learning_rate, fused=device in {"cpu", "cuda"})


@contextmanager
def _threads(wanted: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)
