"""What a step of training costs beside a plain loop of PyTorch on the same images, moved alike."""

from __future__ import annotations

import statistics
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
from dvme.training.epochs import Lesson
from dvme.training.motions import drawn, moved
from dvme.training.pictures import Pictures
from dvme.training.randomness import MOTION, ORDER, generator
from dvme.training.recipe import Recipe
from dvme.training.tuning import tune

N, SQUARE, CROP, ROUNDS = 64, 74, 64, 5
RECIPE = Recipe(learning_rates=(1e-4,), max_epochs=1, warmup_epochs=0.0, batch_norm="updated", sampling="shuffled")


def plain_loop(model: nn.Module, classifier: nn.Module, lesson: Lesson, layout: torch.memory_format) -> None:
    """An epoch, as one would write it."""
    model = deepcopy(model).to(memory_format=layout).train()  # type: ignore[call-overload]
    classifier = deepcopy(classifier).train()
    optimizer = torch.optim.AdamW([*model.parameters(), *classifier.parameters()], lr=1e-4)
    order, motions = epoch_order(lesson.targets, "shuffled", generator(0, ORDER, 1)), generator(0, MOTION, 1)
    for rows in np.array_split(order, N // RECIPE.batch_size):
        squares = torch.from_numpy(lesson.pictures.squares[rows]).permute(0, 3, 1, 2).float()
        images = moved(squares, drawn(len(rows), RECIPE, motions), CROP).contiguous(memory_format=layout)
        value = nn.functional.cross_entropy(classifier(model(images)), torch.from_numpy(lesson.targets[rows]))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()


def seconds(step: Callable[[], object]) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


@pytest.mark.bench
@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0", "vit_tiny_patch16_224"])
def test_tune__throughput_beside_a_plain_loop(name: str) -> None:
    """All of a training of one epoch, the copies of the weights included, on a CPU, in turns."""
    keep_freed_memory()
    size: dict[str, Any] = {"img_size": CROP} if "vit" in name else {}
    model = timm.create_model(name, num_classes=0, **size)
    classifier = nn.Linear(model.num_features, 2)
    classifier.register_buffer("learns", torch.ones(2, dtype=torch.bool))
    rng = np.random.default_rng(0)
    crops, squares = (rng.integers(0, 256, (N, side, side, 3), dtype=np.uint8) for side in (CROP, SQUARE))
    labels, rows = np.arange(N) % 2, np.arange(N)
    lesson = Lesson(Pictures(crops, squares), rows, rows[:0], labels, labels, np.ones(N))
    ways: dict[str, Callable[[], object]] = {
        "dvme": lambda: tune(model, classifier, lesson, RECIPE, 0, lambda *_: None),
        "plain, channels last": lambda: plain_loop(model, classifier, lesson, torch.channels_last),
        "plain": lambda: plain_loop(model, classifier, lesson, torch.contiguous_format),
    }
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(ROUNDS + 1):
        for way, step in ways.items():
            taken[way] += [seconds(step)] if turn else [0.0 * seconds(step)]
    speeds = {way: N / min(each[1:]) for way, each in taken.items()}
    middles = {way: N / statistics.median(each[1:]) for way, each in taken.items()}
    shown = ", ".join(f"{way} {speeds[way]:.1f} (median {middles[way]:.1f})" for way in ways)
    ratio = speeds["dvme"] / max(speeds["plain"], speeds["plain, channels last"])
    print(f"\n{name} at {CROP} px, images a second of the fastest round: {shown}; ratio {ratio:.3f}")
    assert ratio >= 0.95
