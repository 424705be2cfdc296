"""How many images go through a backbone at once: as asked, or on a GPU as many as still make it faster."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dvme.extraction.staging import Stage
from dvme.runtime import Runtime

if TYPE_CHECKING:
    from dvme.backbones.loading.model import Backbone

WITH_TRIAL = frozenset({"cuda"})
"""Kinds of devices. Apple's and Intel's GPUs slow down or fail for good, where others say that memory is short."""
SMALLEST, LARGEST = 32, 512
GAIN = 1.05
"""Twice the batch is taken if it is faster by this factor at least."""
BATCHES_TIMED = 3
WORTH_A_TRIAL = 4096
"""Images; a trial embeds up to as many, which takes a second or a few."""


def batch_size_for(
    models: Sequence[Backbone],
    runtime: Runtime,
    n_images: int,
    measure: Callable[[Backbone, int], float] | None = None,
) -> int:
    """Images per batch of a pass over n_images that all of these models share.

    By trial it may differ from run to run, and with it the last bits of embeddings; a size that is asked for does not.

    Args:
        models: on one device.
        runtime: has the size that is asked for, if any.
        n_images: to embed.
        measure: images per second of a model at a size, 0 where that does not fit; None: measured here.
    """
    device = models[0].device.type
    if runtime.batch_size is not None or device not in WITH_TRIAL or n_images < WORTH_A_TRIAL:
        return runtime.images_per_batch(device)
    return max(best_size(model, measure or images_per_second) for model in models)


def best_size(model: Backbone, measure: Callable[[Backbone, int], float]) -> int:
    """The largest of doubling sizes that fits and is faster than the one before by `GAIN`."""
    best, fastest = SMALLEST, 0.0
    size = SMALLEST
    while size <= LARGEST:
        speed = measure(model, size)
        if speed <= fastest * GAIN:
            break
        best, fastest = size, speed
        size *= 2
    return best


def images_per_second(model: Backbone, size: int) -> float:
    """Of batches of noise, copies to the device and back included; 0 where a batch has to be parted to fit."""
    preprocess = model.spec.preprocess
    shape = (size, preprocess.crop, preprocess.crop, preprocess.channels)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    stage = Stage(model)
    stage.put(pixels).result()
    started = time.perf_counter()
    last = stage.put(pixels)
    for _ in range(BATCHES_TIMED - 1):
        following = stage.put(pixels)
        last.result()
        last = following
    last.result()
    seconds = time.perf_counter() - started
    return BATCHES_TIMED * size / seconds if len(model.room.parts(size)) == 1 else 0.0
