"""What a step of training costs beside a plain loop of PyTorch on the same images, moved alike."""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import nn

from dvme.runtime import keep_freed_memory
from dvme.training.batches import epoch_order
from dvme.training.epochs import Lesson, Trained
from dvme.training.motions import drawn, moved
from dvme.training.pictures import Pictures
from dvme.training.randomness import MOTION, ORDER, generator
from dvme.training.recipe import Recipe

N, SQUARE, CROP, PAIRS = 32, 74, 64, 25
RECIPE = Recipe(
    learning_rates=(1e-4,), max_epochs=PAIRS + 1, warmup_epochs=0.0, batch_norm="updated", sampling="shuffled"
)
"""As many images as a minibatch: an epoch is a step."""


class Plain:
    """Steps, as one would write them."""

    def __init__(self, model: nn.Module, classifier: nn.Module, lesson: Lesson, layout: torch.memory_format) -> None:
        self.model = deepcopy(model).to(memory_format=layout).train()  # type: ignore[call-overload]
        self.classifier, self.lesson, self.layout = deepcopy(classifier).train(), lesson, layout
        self.optimizer = torch.optim.AdamW([*self.model.parameters(), *self.classifier.parameters()], lr=1e-4)

    def step(self, epoch: int) -> None:
        """Take one."""
        rows = epoch_order(self.lesson.targets, "shuffled", generator(0, ORDER, epoch))
        squares = torch.from_numpy(self.lesson.pictures.squares[rows]).permute(0, 3, 1, 2).float()
        motions = drawn(len(rows), RECIPE, generator(0, MOTION, epoch))
        images = moved(squares, motions, CROP).contiguous(memory_format=self.layout)
        logits = self.classifier(self.model(images))
        value = nn.functional.cross_entropy(logits, torch.from_numpy(self.lesson.targets[rows]))
        self.optimizer.zero_grad()
        value.backward()
        self.optimizer.step()


def seconds(step: Callable[[int], object], epoch: int) -> float:
    started = time.perf_counter()
    step(epoch)
    return time.perf_counter() - started


@pytest.mark.bench
@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0", "vit_tiny_patch16_224"])
def test_train_epoch__a_step_beside_a_plain_loop(name: str) -> None:
    """One step of each way in turn on a CPU, the median of the ratios: what else runs slows both alike."""
    keep_freed_memory()
    size: dict[str, Any] = {"img_size": CROP} if "vit" in name else {}
    model = timm.create_model(name, num_classes=0, **size)
    classifier = nn.Linear(model.num_features, 2)
    classifier.register_buffer("learns", torch.ones(2, dtype=torch.bool))
    rng = np.random.default_rng(0)
    crops, squares = (rng.integers(0, 256, (N, side, side, 3), dtype=np.uint8) for side in (CROP, SQUARE))
    labels, rows = np.arange(N) % 2, np.arange(N)
    lesson = Lesson(Pictures(crops, squares), rows, rows[:0], labels, labels, np.ones(N))
    ways: dict[str, Callable[[int], object]] = {
        "dvme": Trained(model, classifier, lesson, RECIPE, 0, 1e-4).train_epoch,
        "plain, channels last": Plain(model, classifier, lesson, torch.channels_last).step,
        "plain": Plain(model, classifier, lesson, torch.contiguous_format).step,
    }
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for epoch in range(1, PAIRS + 2):
        for way, step in ways.items():
            taken[way].append(seconds(step, epoch))
    own, *others = (np.array(each[1:]) for each in taken.values())  # the first of each is warming up
    ratios = {way: float(np.median(each / own)) for way, each in zip(list(ways)[1:], others, strict=True)}
    speed, shown = N / float(np.median(own)), ", ".join(f"{ratio:.3f} of {way}" for way, ratio in ratios.items())
    print(f"\n{name} at {CROP} px, {speed:.0f} images/s: {shown} (medians of {PAIRS} pairs of steps)")
    assert min(ratios.values()) >= 0.95
