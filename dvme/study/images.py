"""The images and backbones of a study, for methods that train on them, and what is checked of both beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dvme.backbones.loading.kept import TOLERANCES, kept_spec, relative_differences
from dvme.backbones.own.writing import can_be_written
from dvme.errors import DataError, parameter
from dvme.extraction.decoding import Work
from dvme.extraction.pictures import check_unchanged, read_pictures
from dvme.heads.tuned.on_images import OnImages, Seen, embedded
from dvme.runtime import Progress, Runtime
from dvme.study.design.snapshot import Snapshot
from dvme.training.pictures import Pictures

if TYPE_CHECKING:
    from dvme.backbones.loading.trainable import Trainable

READ = "read images"
"""The stage of its name."""
COMPARED = 32
"""Images whose cached embedding is compared with what the loaded backbone gives."""


def check_images(snapshot: Snapshot, runtime: Runtime) -> None:
    """Refuse images that are gone or changed.

    Raises:
        DataError: naming the first, and how many there are.
    """
    check_unchanged(_work(snapshot), runtime, lambda *_: None)


def check_backbone(name: str, heads: Mapping[OnImages, int], snapshot: Snapshot, runtime: Runtime, budget: int) -> int:
    """Refuse a backbone that is another than the cached one, cannot be trained, or not in the memory there is.

    Args:
        name: the backbone.
        heads: that train it, each with the images that it trains on at most.
        snapshot: of the images, of which some are read.
        runtime: the device.
        budget: bytes on the CPU.

    Returns:
        Bytes of those that are left for the pixels of all images.

    Raises:
        DataError, OptionError: naming the backbone and the next step.
    """
    from dvme.backbones.loading.trainable import check_trainable, trainable
    from dvme.backbones.loading.tuned import tuned_spec

    spec = kept_spec(snapshot.backbones[name])
    device = runtime.torch_device()
    model = trainable(spec, device=device)
    check_trainable(model)
    if can_be_written(spec):
        tuned_spec(model)  # what could not be kept is refused before it is trained
    some = _work(snapshot)[:COMPARED]
    pictures = read_pictures(some, spec, runtime, lambda *_: None, budget)
    _check_same(name, model, pictures, snapshot.backbones[name].read(snapshot.rows[: len(some)]))
    left = max(0, budget - snapshot.size_of(name))
    is_cpu = device.partition(":")[0] == "cpu"
    room = left if is_cpu else runtime.memory_budget(device)
    taken = 0
    for head, n_images in heads.items():
        own = deepcopy(model)
        head.check_model(own)
        taken = max(taken, head.check_room(own, n_images, room))
    return left - taken if is_cpu else left


def seen_by(
    name: str, snapshot: Snapshot, runtime: Runtime, n_bytes: int, folder: Path | None, progress: Progress
) -> Seen:
    """What methods on one backbone look at.

    Args:
        name: the backbone, which `check_backbone` has passed.
        snapshot: of the images, which are read.
        runtime: workers and the device.
        n_bytes: that the pixels may take of memory.
        folder: for a file of those that take more; None: they are refused.
        progress: told of READ.

    Raises:
        DataError: if images are gone or changed, or memory and disk do not hold them.
    """
    from dvme.backbones.loading.trainable import trainable

    spec = kept_spec(snapshot.backbones[name])
    pictures = read_pictures(_work(snapshot), spec, runtime, partial(progress, READ), n_bytes, folder)
    device = runtime.torch_device()
    published = trainable(spec, device=device)

    def load(seed: int | None) -> Trainable:
        return deepcopy(published) if seed is None else trainable(spec, device=device, random_seed=seed)

    return Seen(pictures, load)


def _work(snapshot: Snapshot) -> list[Work]:
    return [
        Work(position, Path(path), content_id.tobytes())
        for position, (path, content_id) in enumerate(zip(snapshot.paths, snapshot.ids, strict=True))
    ]


def _check_same(name: str, model: Trainable, pictures: Pictures, cached: NDArray[np.floating]) -> None:
    """Refuse a backbone that gives other embeddings than the cached ones.

    Raises:
        DataError: with the difference.
    """
    own = embedded(model, pictures, np.arange(len(cached)))
    differs = float(relative_differences(cached.astype(np.float64), own).max())
    if not differs <= TOLERANCES["float32"]:
        raise DataError(
            f"{name} gives other embeddings here than the cached ones (they differ by {differs:.2g} of the largest "
            "element); dvme cache verify --images says more, or leave it out of " + parameter("heads")
        )
