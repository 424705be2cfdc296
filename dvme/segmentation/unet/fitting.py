"""U-Nets fitted one after the other, on images that are read once; what a kill leaves is gone on from."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme.backbones.description.spec import BackboneSpec
from dvme.errors import DataError, OptionError, parameter
from dvme.runtime import Progress, Runtime, silent
from dvme.segmentation.scene import SegmentJob
from dvme.segmentation.unet.fitted import FittedUnet
from dvme.segmentation.unet.head import RANDOM, Unet
from dvme.segmentation.unet.images import Images, pixels_of, squashed
from dvme.segmentation.unet.losses import n_outputs
from dvme.segmentation.unet.targets import n_bytes_of, share_planes, with_something_known
from dvme.training.checkpoints import Epochs
from dvme.training.pictures import Pictures
from dvme.training.randomness import CLASSIFIER, generator
from dvme.training.recipe import is_halved

if TYPE_CHECKING:
    from dvme.data.masks import Masks
    from dvme.segmentation.unet.network import UNet

MASKS, TRAIN, FIT = "read masks", "train", "fit"
"""Stages, beside that of the images; their steps are masks, epochs and jobs."""


@dataclass(frozen=True)
class UnetJob(SegmentJob):
    """One U-Net to fit; the seed is that of the decoder's first weights, of the order of images and of their moves."""

    head: Unet


def fit_unets(
    jobs: Sequence[UnetJob],
    images: Images,
    masks: Masks,
    *,
    runtime: Runtime | None = None,
    progress: Progress = silent,
    room: int | None = None,
) -> Iterator[tuple[int, FittedUnet, float]]:
    """Fit every job by itself: its result follows from its arguments, to the bit on as many threads of a CPU.

    Args:
        jobs: what to fit.
        images: N images and the backbones.
        masks: of the same images; those of test images are not read.
        runtime: the device.
        progress: told (stage, done, total).
        room: bytes that are left for pixels, from `check_unets` of the same jobs; None: they are checked here.

    Yields:
        (position, fitted, seconds of the training) of each job once; jobs that see images alike follow each other.

    Raises:
        DataError: if a job has no mask to learn from, chooses on images that it trains on, or images or masks are gone.
        OptionError: if a backbone cannot be an encoder, or the memory does not hold a training; before any is begun.
        EnvironmentMismatchError: if smp is not installed.
    """
    if not jobs:
        return
    runtime = runtime or Runtime()
    room = check_unets(jobs, images, masks, runtime) if room is None else room
    rows, side, n_epochs = _rows(jobs), 0, 0
    targets = np.zeros((0, 0, 0, 0), dtype=np.uint8)
    for n_done, position in enumerate(_in_order(jobs, images)):
        job, spec = jobs[position], _input(jobs[position], images)
        pictures = images.pictures(spec, progress, room)
        if spec.preprocess.crop != side:
            side, targets = spec.preprocess.crop, np.zeros((0, 0, 0, 0), dtype=np.uint8)  # the others go first
            tell_masks = partial(progress, MASKS)
            targets = share_planes(masks, rows, side, n_workers=runtime.n_workers, tell=tell_masks)
        longest = 0

        def tell(done: int, of: int, before: int = n_epochs, left: int = len(jobs) - n_done) -> None:
            nonlocal longest
            longest = of
            progress(TRAIN, before + done, before + of * left)

        yield position, *_fit(job, images, masks, _Shown(pictures, targets), runtime, tell)
        n_epochs += longest
        progress(FIT, n_done + 1, len(jobs))


def _in_order(jobs: Sequence[UnetJob], images: Images) -> list[int]:
    """Positions of the jobs, those that see the same pixels one after the other."""
    ways = [pixels_of(_input(job, images)) for job in jobs]
    return sorted(range(len(jobs)), key=lambda position: (ways[position].preprocess.crop, repr(ways[position])))


def _rows(jobs: Sequence[UnetJob]) -> NDArray[Any]:
    """All that are trained or chosen on."""
    return np.unique(np.concatenate([rows for job in jobs for rows in (job.train, job.validation)]))


@dataclass(frozen=True)
class _Shown:
    """What a job looks at."""

    pictures: Pictures
    targets: NDArray[np.uint8]
    """`share_planes` of the same images."""


def check_unets(jobs: Sequence[UnetJob], images: Images, masks: Masks, runtime: Runtime) -> int:
    """Refuse what cannot be fitted, before anything is.

    Returns:
        Bytes of memory that are left for the pixels of all images.

    Raises:
        DataError, OptionError, EnvironmentMismatchError: as `fit_unets`.
    """
    from dvme.segmentation.unet.network import check_output
    from dvme.training.memory import check_room, measured

    for job in jobs:
        _check(job, images, masks)
    device = runtime.torch_device()
    is_cpu = device.partition(":")[0] == "cpu"
    n_read = len(_rows(jobs))
    largest: dict[tuple[Unet, str], UnetJob] = {}
    for job in jobs:
        key = job.head, job.backbones[0]
        if key not in largest or len(job.train) > len(largest[key].train):
            largest[key] = job
    taken = planes = 0
    for (head, name), job in largest.items():
        network = _untrained(job, images, masks, device)
        check_output(network)
        preprocess, recipe = network.spec.preprocess, head.recipe
        planes = max(planes, n_bytes_of(n_read, len(masks.names), preprocess.crop))
        left = max(0, images.n_bytes - planes)
        halved = is_halved(recipe, network.device.type)
        step = measured(
            network, preprocess.channels, preprocess.crop, preprocess.crop, has_average=False, is_halved=halved
        )
        batch = min(recipe.batch_size, len(job.train))
        check_room(step, batch, left if is_cpu else runtime.memory_budget(device), head.name, name)
        taken = max(taken, step.bytes_of(batch) if is_cpu else 0)
    if planes > images.n_bytes:
        message = f"the masks of {n_read:,} images take {planes:,} bytes, and may take {images.n_bytes:,}; "
        raise OptionError(message + "choose a smaller size, or pass more as " + parameter("memory"))
    return max(0, images.n_bytes - planes - taken)


def _fit(
    job: UnetJob,
    images: Images,
    masks: Masks,
    shown: _Shown,
    runtime: Runtime,
    tell: Callable[[int, int], None],
) -> tuple[FittedUnet, float]:
    """The network of a job, and the seconds that its training took."""
    from dvme.segmentation.unet.lesson import MaskLesson, Whole
    from dvme.training.tuning import tune

    targets = shown.targets
    train, validation = (with_something_known(targets, rows) for rows in (job.train, job.validation))
    if not len(train):
        raise DataError(
            f"{job.title}: all pixels of its {len(job.train)} training masks are void; mark classes in some"
        )
    started, kept = time.perf_counter(), Epochs(job.workplace)
    network = _untrained(job, images, masks, runtime.torch_device())
    lesson = MaskLesson(shown.pictures, train, validation, targets, targets, np.ones(len(targets)), job.head.loss)
    recipe = job.head.recipe
    recipe = replace(recipe, stop_patience=recipe.stop_patience or recipe.max_epochs)
    course = tune(network, Whole(len(masks.names), network.device), lesson, recipe, job.seed, tell, kept)
    network.load_state_dict(course.model_state)
    chosen = {
        "epoch": course.epoch,
        "n_epochs": course.n_epochs,
        "validation_loss": course.validation_loss,
        "learning_rate": course.learning_rate,
        "n_trained": course.n_trained,
    }
    seconds = course.seconds_before + time.perf_counter() - started - kept.seconds
    return FittedUnet(job.head, network.eval(), masks.names, masks.is_exclusive, chosen), seconds


def _untrained(job: UnetJob, images: Images, masks: Masks, device: str) -> UNet:
    """The network that a training begins with."""
    from dvme.backbones.loading.trainable import trainable
    from dvme.segmentation.unet.network import with_encoder

    spec = _input(job, images)
    backbone = trainable(spec, device=device, random_seed=job.seed if job.head.name == RANDOM else None)
    seed = int(generator(job.seed, CLASSIFIER, 0).integers(1 << 63))
    return with_encoder(backbone, n_outputs(len(masks.names), is_exclusive=masks.is_exclusive), seed=seed)


def _input(job: UnetJob, images: Images) -> BackboneSpec:
    return squashed(images.specs[job.backbones[0]], job.head.size)


def _check(job: UnetJob, images: Images, masks: Masks) -> None:
    if len(images) != len(masks):
        raise DataError(f"there are {len(images)} images and {len(masks)} masks; give one mask for each image")
    if not masks.names:
        raise DataError(f"{job.title} learns from masks, and none of the {len(masks)} images has one")
    if len(job.backbones) != 1:
        raise OptionError(f"{job.title} takes one backbone as its encoder, not {len(job.backbones)}")
    if not len(job.train):
        raise DataError(f"{job.title} has no training images")
    if np.intersect1d(job.train, job.validation).size:
        raise DataError(f"{job.title} chooses on images that it trains on")
