"""How a run and its plan begin: what can be refused is refused before any image is opened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dvme.data import Columns, Samples, Task, load_samples
from dvme.extraction.checks import check_listed, order_of
from dvme.extraction.models import Choice, KnownBackbone, recall_backbones
from dvme.extraction.passes import Options
from dvme.places import check_images_and_cache
from dvme.runtime import Runtime

if TYPE_CHECKING:
    from dvme.backbones.loading.model import Backbone


@dataclass(frozen=True)
class Opened:
    """What a run is about."""

    samples: Samples
    task: Task
    models: Sequence[Backbone | KnownBackbone]
    """Loaded, or known from an earlier load."""


def open_run(  # noqa: PLR0913 - the command's options, one to one
    images: str | Path,
    cache: str | Path,
    choice: Choice,
    options: Options,
    runtime: Runtime,
    *,
    columns: Columns | None,
    image_root: str | Path | None,
    skip_missing: bool,
    class_order: Sequence[str] | None,
    announce: Callable[[Task, Samples], None] | None,
) -> Opened:
    """List the images, tell the task and recall the backbones; the arguments are those of `extract`.

    Raises:
        The same as `extract`, for what shows before an image is opened.
    """
    check_images_and_cache(images, cache)
    choice.specs()
    samples = load_samples(images, columns, image_root, skip_missing=skip_missing)
    task = Task.from_labels(samples.labels, order_of(cache, samples, class_order))
    if options.replace:
        check_listed(samples)
    if announce is not None:
        announce(task, samples)
    return Opened(samples, task, recall_backbones(choice, runtime))
