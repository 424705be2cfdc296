"""Training of `segment-conv`: epoch by epoch, each kept, so that a kill costs one at most."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme.backbones.description.dense import Grid
from dvme.data.masks.cell import what_is_shown
from dvme.errors import DataError, OptionError, parameter
from dvme.runtime import Runtime, keep_freed_memory
from dvme.segmentation.conv import COUNTERS, ConvHead, ConvSegmenter, blocks_of_maps
from dvme.segmentation.scene import Scene, SegmentJob
from dvme.segmentation.shares import shares, with_background
from dvme.training.checkpoints import Epochs
from dvme.training.memory import COPIES, OF_TRAINED, TRIED, Step, check_room, kept_bytes
from dvme.training.randomness import ORDER, WEIGHTS, generator, own_random_numbers, seed_torch
from dvme.training.rates import cosine
from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dvme.segmentation.decoder import Decoder
else:
    torch = deferred("torch")

TARGET = np.dtype(np.float16)
"""Of shares that are learned."""


def fit_conv(
    job: SegmentJob, scene: Scene, runtime: Runtime, tell: Callable[[int, int], None]
) -> tuple[ConvSegmenter, float]:
    """Train one decoder, and keep the weights of the lowest validation loss; without validation the last ones.

    The result follows from the job, the images and their masks, on as many threads; torch's own random numbers are left
    as they were. What the job's workplace has of a training of the same is gone on with, from its last whole epoch.

    Args:
        job: with a ConvHead, on one backbone.
        scene: the images.
        runtime: the device.
        tell: called after every epoch with how many are through, of how many at most.

    Returns:
        The segmenter, and the seconds that training took, those of calls that were cut short included.

    Raises:
        DataError: if masks of training images are all void, or no epoch had a finite loss.
    """
    from dvme.float32 import full_float32

    device = torch.device(runtime.torch_device())
    if device.type == "cpu":
        keep_freed_memory()
    with full_float32(device), own_random_numbers(device), torch.enable_grad():
        training = _Training(job, scene, device)
        while not training.is_over:
            training.train_epoch()
            tell(training.head.max_epochs if training.is_over else training.epoch, training.head.max_epochs)
    return training.segmenter(runtime.torch_device()), training.seconds


def check_conv(jobs: Sequence[SegmentJob], scene: Scene, runtime: Runtime, budget: int) -> None:
    """Refuse trainings that memory does not hold, before any is begun.

    Args:
        jobs: with a ConvHead each.
        scene: the images.
        runtime: the device.
        budget: bytes on the CPU, of targets and, where it trains, of steps.

    Raises:
        OptionError: with the largest minibatch that fits.
    """
    for job in jobs:
        assert isinstance(job.head, ConvHead)
        (backbone,), n_outputs = job.backbones, len(scene.masks.names) + scene.masks.is_exclusive
        step, n_cells = _step(scene.maps[backbone].grids, n_outputs)
        targets = TARGET.itemsize * len(job.images) * n_outputs * n_cells
        if targets > budget:
            takes = f"{job.title}: the shares of classes of {len(job.images):,} images take {targets:,} bytes"
            message = f"{takes}, and may take {budget:,}; take deeper layers alone, or pass more as "
            raise OptionError(message + parameter("memory"))
        device = runtime.torch_device()
        left = budget - targets if device.partition(":")[0] == "cpu" else runtime.memory_budget(device)
        check_room(step, min(job.head.batch_size, len(job.train)), left, job.head.name, backbone)


@cache
def _step(grids: tuple[Grid, ...], n_outputs: int) -> tuple[Step, int]:
    """What the training of a decoder takes, tried on maps of zeros; and how many cells it tells classes of."""
    from dvme.segmentation.decoder import Decoder

    with torch.random.fork_rng(devices=[]):
        decoder = Decoder(grids, n_outputs)
    maps = [torch.zeros(TRIED, grid.n_tokens, grid.channels) for grid in grids]
    each = (kept_bytes(decoder, lambda: decoder(maps)) + 2 * sum(own.nbytes for own in maps)) // TRIED
    weights = sum(value.nbytes for value in decoder.parameters())
    return Step((COPIES + OF_TRAINED) * weights, each), decoder.shape[0] * decoder.shape[1]


class _Training:
    """One decoder on its way."""

    def __init__(self, job: SegmentJob, scene: Scene, device: torch.device) -> None:
        from dvme.segmentation.decoder import Decoder

        assert isinstance(job.head, ConvHead)
        (self.backbone,) = job.backbones
        self.job, self.head, self.scene, self.device = job, job.head, scene, device
        self.grids, masks = scene.maps[self.backbone].grids, scene.masks
        seed_torch(generator(job.seed, WEIGHTS, 0), device)
        self.decoder: Decoder = Decoder(self.grids, len(masks.names) + masks.is_exclusive)
        self.targets = {image: self._target(image) for image in job.images.tolist()}
        knows = {image: bool(target.isfinite().any()) for image, target in self.targets.items()}
        self.is_watched = any(knows[image] for image in job.validation.tolist())
        if not any(knows[image] for image in job.train.tolist()):
            raise DataError(
                f"{job.title} has nothing to learn from: all pixels of its {len(job.train):,} masks are void"
            )
        self.decoder.to(device)
        self.optimizer = torch.optim.AdamW(
            self.decoder.parameters(), self.head.learning_rate, weight_decay=self.head.weight_decay
        )
        self.n_batches = -(-len(job.train) // self.head.batch_size)
        self.epoch, self.best_epoch, self.best_loss = 0, 0, math.inf
        self.best: dict[str, Tensor] = {}
        self.is_over = False
        self._before, self._since = 0.0, time.perf_counter()
        self._kept, self._of = Epochs(job.workplace), _digest(job, scene)
        self._take_up(self._kept.read())

    @property
    def seconds(self) -> float:
        """That training took so far, without those of writing."""
        return self._before + time.perf_counter() - self._since - self._kept.seconds

    def train_epoch(self) -> None:
        """Take the steps of one epoch, look at validation, and keep where training is."""
        self.decoder.train()
        order = generator(self.job.seed, ORDER, self.epoch).permutation(self.job.train)
        n_steps, is_finite = self.head.max_epochs * self.n_batches, True
        for number, images in enumerate(np.array_split(order, self.n_batches)):
            step = self.epoch * self.n_batches + number
            for group in self.optimizer.param_groups:
                group["lr"] = self.head.learning_rate * cosine(step, n_steps, 0)
            ((_, maps),) = blocks_of_maps(self.scene, self.backbone, images, at_once=len(images))
            total, n_known = self._loss(maps, images)
            self.optimizer.zero_grad()
            torch.autograd.backward(total / max(n_known, 1))
            self.optimizer.step()
            is_finite = is_finite and bool(total.isfinite())
        self.epoch += 1
        loss = self._validation_loss()
        if is_finite and (not self.is_watched or loss < self.best_loss):
            self.best_epoch, self.best_loss = self.epoch, loss
            self.best = {
                name: value.detach().to("cpu", copy=True)
                for name, value in self.decoder.state_dict().items()
                if not name.endswith(COUNTERS)
            }
        is_stalled = self.epoch - self.best_epoch >= self.head.stop_patience and self.epoch >= self.head.min_epochs
        self.is_over = not is_finite or is_stalled or self.epoch >= self.head.max_epochs
        self._keep()

    def segmenter(self, device: str) -> ConvSegmenter:
        """The best so far."""
        if not self.best:
            raise DataError(f"{self.job.title} diverged: no epoch had a finite loss; choose a lower learning-rate")
        masks = self.scene.masks
        chosen = {"epoch": self.best_epoch, "n_epochs": self.epoch, "validation_loss": self.best_loss}
        return ConvSegmenter(self.best, self.grids, self.job.backbones, masks.names, masks.is_exclusive, chosen, device)

    def _target(self, image: int) -> Tensor:
        """(outputs, 2 r, 2 c) float16 shares; nan where nothing is known."""
        found = shares(self.scene.masks.read(image), self.decoder.shape)
        found = with_background(found) if self.scene.masks.is_exclusive else found
        return torch.from_numpy(np.ascontiguousarray(found.T, dtype=TARGET)).view(-1, *self.decoder.shape)

    def _loss(self, maps: list[Tensor], images: NDArray[Any]) -> tuple[Tensor, int]:
        """Summed over the cells that are known, and their number."""
        targets = torch.stack([self.targets[image] for image in images.tolist()]).to(self.device).float()
        logits = self.decoder([each.to(self.device) for each in maps])
        is_known = ~targets.isnan()
        targets = targets.nan_to_num()
        if self.scene.masks.is_exclusive:
            is_known = is_known.all(dim=1)
            losses = -(torch.log_softmax(logits, dim=1) * targets).sum(dim=1)
        else:
            losses = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return (losses * is_known).sum(), int(is_known.sum())

    def _validation_loss(self) -> float:
        """Mean over the known cells of all validation images; nan without any, which leaves the last epoch the best."""
        self.decoder.eval()
        total, n_known = 0.0, 0
        for at, maps in blocks_of_maps(self.scene, self.backbone, self.job.validation):
            with torch.no_grad():
                own, n_own = self._loss(maps, self.job.validation[at])
            total, n_known = total + float(own), n_known + n_own
        return total / n_known if n_known else math.nan

    def _keep(self) -> None:
        self._kept.write(
            {
                "of": self._of,
                "seconds": self.seconds,
                "epoch": self.epoch,
                "is_over": self.is_over,
                "best": (self.best_epoch, self.best_loss, self.best),
                "decoder": self.decoder.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            }
        )

    def _take_up(self, state: dict[str, Any] | None) -> None:
        if state is None or state.get("of") != self._of:
            return
        self._before, self.epoch, self.is_over = state["seconds"], state["epoch"], state["is_over"]
        self.best_epoch, self.best_loss, self.best = state["best"]
        self.decoder.load_state_dict(state["decoder"])
        self.optimizer.load_state_dict(state["optimizer"])


def _digest(job: SegmentJob, scene: Scene) -> str:
    """32 hexadecimal digits of what a training follows from."""
    about = {
        "head": asdict(job.head),  # type: ignore[call-overload]
        "seed": job.seed,
        "maps": scene.maps[job.backbones[0]].embeddings.fingerprint.digest,
        "images": [scene.ids[rows].tobytes().hex() for rows in (job.train, job.validation)],
        "masks": [what_is_shown(str(scene.masks.cells[image])) for image in job.images.tolist()],
    }
    return hashlib.blake2b(json.dumps(about).encode(), digest_size=16).hexdigest()
