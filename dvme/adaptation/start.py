"""What an adaptation begins with: weights, pixels, a task, and what tells it apart from another one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dvme.adaptation.course import Adaptation, Course, run_course
from dvme.adaptation.images import Images, check_images
from dvme.adaptation.places import undescribable
from dvme.adaptation.restoring import patches_of
from dvme.adaptation.settings import CONTRASTIVE, Settings
from dvme.adaptation.tasks import task_of
from dvme.adaptation.watch import Look, Watch
from dvme.backbones.description.spec import BackboneSpec
from dvme.backbones.loading.model import hash_weights
from dvme.backbones.loading.trainable import Trainable, UntrainableError, check_trainable, trainable
from dvme.backbones.loading.tuned import own_arguments
from dvme.defaults import MAX_PIXELS
from dvme.errors import OptionError, Text, parameter
from dvme.extraction.pictures import read_pictures
from dvme.runtime import Progress, Runtime, keep_freed_memory
from dvme.training.augmentations import AUGMENTATIONS
from dvme.training.checkpoints import Epochs
from dvme.training.memory import measured
from dvme.training.pictures import Pictures
from dvme.training.randomness import generator, own_random_numbers, seed_torch

FIRST_WEIGHTS, WATCHED = 100, 101
"""What random numbers are for, beside those of `training.randomness`."""
DIGEST_BYTES = 8


@dataclass(frozen=True)
class Source:
    """Which weights are adapted."""

    spec: BackboneSpec
    file: Path | None
    """A local checkpoint, if one is given."""
    random_seed: int | None
    """Of random weights of the architecture, in place of these."""


@dataclass(frozen=True)
class Loaded:
    """Weights before any image is read."""

    model: Trainable
    arguments: Mapping[str, Any]
    """Of its architecture, as a TOML describes it."""
    n_left: int
    """Bytes of memory on the CPU that its minibatches leave for pixels."""


@dataclass(frozen=True)
class Begun:
    """An adaptation before its first step; its model changes while it runs."""

    spec: BackboneSpec
    """Of the weights that it begins with."""
    is_random: bool
    """Whether these are random, and only the architecture is the spec's."""
    model: Trainable
    arguments: Mapping[str, Any]
    """Of its architecture."""
    images: Images
    settings: Settings
    augment: str
    asked: Mapping[str, Any]
    """What tells it apart from others, in plain values."""
    adaptation: Adaptation
    watch: Watch

    def run(self, kept: Epochs, tell: Callable[[Look], None], *, force: bool) -> Course:
        """Train to the end; see `run_course`."""
        return run_course(self.adaptation, self.watch, kept, self.asked, tell, force=force)


def begin(
    loaded: Loaded,
    images: Images,
    source: Source,
    settings: Settings,
    augment: str | None,
    folder: Path,
    runtime: Runtime,
    progress: Progress,
) -> Begun:
    """Read pixels, set up the task.

    Pixels that memory does not hold lie in a file without a name in `folder`.

    Raises:
        DataError: as reading images does; or if the images are nothing for the method.
    """
    spec, model = source.spec, loaded.model
    unusable: dict[int, str] = {}
    careful = replace(runtime, max_pixels=runtime.max_pixels or MAX_PIXELS)  # nothing was decoded before
    tell = partial(progress, "read")
    pictures = read_pictures(images.work, spec, careful, tell, loaded.n_left, folder, unusable)
    images = images.without(unusable)
    if unusable:
        check_images(images, settings)
    augment = augment or ("xray" if _are_grey(pictures) else "photo")
    seed, device = settings.seed, model.device
    with own_random_numbers(device):
        seed_torch(generator(seed, FIRST_WEIGHTS, 0), device)
        task = task_of(images, pictures, settings, AUGMENTATIONS[augment], model)
    n_items = len(task.order(np.random.default_rng(0)))
    return Begun(
        spec=spec,
        is_random=source.random_seed is not None,
        model=model,
        arguments=loaded.arguments,
        images=images,
        settings=settings,
        augment=augment,
        asked=_asked(images, model, settings, augment),
        adaptation=Adaptation(model, task, settings, n_items),
        watch=Watch(images, pictures, runtime, generator(seed, WATCHED, 0)),
    )


def load_first(source: Source, settings: Settings, runtime: Runtime, progress: Progress) -> Loaded:
    """The weights that are adapted, before any image is read.

    Raises:
        WeightsError, CheckpointError: as loading a backbone does.
        DataError: if no TOML describes it.
        OptionError: if it cannot be trained, or not by this method, or not in minibatches of this size.
    """
    progress("load", 0, 1)
    device = runtime.torch_device()
    if device == "cpu":
        keep_freed_memory()
    try:
        model = trainable(source.spec, source.file, device=device, random_seed=source.random_seed)
        check_trainable(model)
    except UntrainableError as error:
        raise OptionError(f"{error.reason}; name another backbone") from error
    arguments = own_arguments(model)
    if arguments is None:
        raise undescribable(source.spec, "its architecture is not made with the weights that it has at its input size")
    if settings.method == "gmml":
        patches_of(model)
    taken = _check_room(model, settings, runtime)
    progress("load", 1, 1)
    n_bytes = runtime.memory_budget("cpu")
    return Loaded(model, arguments, n_bytes - taken if torch.device(device).type == "cpu" else n_bytes)


def _check_room(model: Trainable, settings: Settings, runtime: Runtime) -> int:
    """Refuse minibatches that memory does not hold; the bytes that they take.

    Raises:
        OptionError: with the largest one that fits.
    """
    preprocess, n_views = model.spec.preprocess, 2 if settings.method in CONTRASTIVE else 1
    step = measured(model, preprocess.channels, preprocess.crop, preprocess.resize, has_average=False)
    model.eval()
    budget, needed = runtime.memory_budget(runtime.torch_device()), step.bytes_of(n_views * settings.batch_size)
    if needed > budget:
        most = step.most_images(budget) // n_views
        choice = parameter("batch_size", most) if most > 1 else Text("a smaller size or backbone")
        takes = (
            f"{settings.method} takes about {needed:,} bytes with minibatches of {settings.batch_size:,}, and may take "
        )
        raise OptionError(takes + f"{budget:,}; pass " + choice + ", or more as " + parameter("memory"))
    return needed


def _are_grey(pictures: Pictures) -> bool:
    """Whether no pixel of any image has a colour."""
    return all(bool((square == square[..., :1]).all()) for square in pictures.squares)


def _asked(images: Images, model: Trainable, settings: Settings, augment: str) -> dict[str, Any]:
    """All that the result depends on, in words where a difference is to be named."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in (images.contents, images.groups):
        digest.update(np.ascontiguousarray(part).tobytes())
    said = "\n".join(f"{label}\t{part}" for label, part in zip(images.labels, images.parts, strict=True))
    digest.update(said.encode())
    return {
        **settings.plain(),
        "augment": augment,
        "backbone": model.spec.name,
        "first_weights": hash_weights(model.network),
        "set_of_images": f"{len(images):,} images, {digest.hexdigest()}",
        "transductive": images.leak.is_transductive,
        "device": torch.device(model.device).type,
    }
