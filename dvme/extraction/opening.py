"""How a run and its plan begin: what is asked, and the refusal, before any image is opened, of what cannot be done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dvme.data import Columns, Samples, Task
from dvme.data.tables import is_table_name
from dvme.extraction.checks import check_listed, order_of
from dvme.extraction.models import Choice, KnownBackbone, NewBackbone, check_dtype, find_backbones
from dvme.extraction.passes import Options
from dvme.places import check_images_and_cache
from dvme.runtime import Progress, Runtime
from dvme.sets.direct import listed_samples
from dvme_cache import EmbeddingCache


@dataclass(frozen=True, kw_only=True)
class ExtractRequest:
    """What `extract` and `plan_extraction` are asked, which says what each field is."""

    images: str | Path
    cache: str | Path
    choice: Choice
    columns: Columns | None
    image_root: str | Path | None
    skip_missing: bool
    class_order: Sequence[str] | None
    options: Options
    runtime: Runtime
    announce: Callable[[Task, Samples], None] | None
    trust_mtime: bool = False
    tell: Callable[[str], None] | None = None


@dataclass(frozen=True)
class Opened:
    """What a run is about."""

    samples: Samples
    task: Task
    class_order: Sequence[str] | None
    """For the cache to keep, as asked; None: it keeps its own, and findings that the source asks about besides."""
    models: Sequence[KnownBackbone | NewBackbone]
    """Known from an earlier load, or not; none is loaded yet."""


def open_run(request: ExtractRequest, progress: Progress) -> Opened:
    """List the images, tell the task and find the backbones; progress is told of masks, which are looked at.

    Raises:
        The same as `extract`, for what shows before an image is opened.
    """
    check_images_and_cache(request.images, request.cache)
    check_dtype(request.options.dtype, request.choice.specs())
    columns = (request.columns or Columns()).with_classes(_classes(request))
    asked = request.images, columns, request.image_root
    samples = listed_samples(*asked, skip_missing=request.skip_missing, progress=progress)
    class_order = request.class_order if request.class_order is not None else samples.class_order or None
    task = Task.from_labels(samples.labels, order_of(request.cache, samples, class_order))
    if request.options.replace:
        check_listed(samples)
    if request.announce is not None:
        request.announce(task, samples)
    return Opened(samples, task, class_order, find_backbones(request.choice, request.runtime))


def _classes(request: ExtractRequest) -> Sequence[str]:
    """The order of classes that is asked for, else the cache's: what it names is a class of a table, even NA."""
    if request.class_order is not None or not is_table_name(Path(request.images)):
        return request.class_order or ()
    return EmbeddingCache.open(request.cache).class_order if EmbeddingCache.exists(request.cache) else ()
