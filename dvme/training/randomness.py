"""Random numbers of a training: those of an epoch follow from the seed, what they are for and the epoch.

So there is no state to keep, and every learning rate sees the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    import torch
else:
    torch = deferred("torch")

ORDER, MOTION, DROPOUT, WEIGHTS, CLASSIFIER = range(5)
"""What they are for."""


def generator(seed: int, purpose: int, epoch: int) -> np.random.Generator:
    """The numbers of one purpose in one epoch."""
    return np.random.default_rng(np.random.SeedSequence([seed, purpose, epoch]))


@contextmanager
def own_random_numbers(device: torch.device) -> Iterator[None]:
    """Leave the generators of torch as they were, at the end."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def seed_torch(rng: np.random.Generator, device: torch.device) -> None:
    """Seed the generators of the CPU and of the device: dropout has no other way in."""
    seed = int(rng.integers(1 << 63))
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
