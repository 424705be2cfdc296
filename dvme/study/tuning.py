"""Methods that train a backbone on the images of a study, beside those that learn from its embeddings."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dvme.backbones.loading.kept import TOLERANCES, kept_spec, relative_differences
from dvme.data.targets import Targets
from dvme.defaults import ENGINE
from dvme.errors import DataError, DvmeError, OptionError, parameter
from dvme.extraction.decoding import Work
from dvme.extraction.pictures import read_pictures
from dvme.heads import TUNED, Embedded, Job
from dvme.heads.fitting.jobs import check, counted
from dvme.heads.tuned.on_images import OnImages, Seen, embedded
from dvme.runtime import Progress, Runtime
from dvme.study.design.snapshot import Snapshot
from dvme.study.fitting import Assignment, Predicted, fit_assignments, sound_mean_log_proba
from dvme.study.methods import Method
from dvme.training.pictures import Pictures
from dvme_cache import Embeddings

if TYPE_CHECKING:
    from dvme.backbones.loading.trainable import Trainable

COMPARED = 32
"""Images whose cached embedding is compared with what the loaded backbone gives."""
LEAVE_OUT = "or leave it out of "


def fit_all(
    assignments: Sequence[Assignment],
    snapshot: Snapshot,
    targets: Targets,
    test: NDArray[np.int64],
    *,
    runtime: Runtime,
    budget: int,
    progress: Progress,
) -> Iterator[Predicted]:
    """As `fit_assignments`, of methods that learn from embeddings, which go first, and of those that train a backbone.

    Raises:
        DataError: also if images are gone or changed, or the backbone is another than the cached one.
        OptionError: also if the memory does not hold the images.
    """
    tuned = [position for position, each in enumerate(assignments) if isinstance(each.method.head, OnImages)]
    frozen = [position for position in range(len(assignments)) if position not in set(tuned)]

    def tell(stage: str, done: int, total: int, before: int = 0) -> None:
        del total
        progress(stage, before + done, len(assignments))

    given = snapshot, targets, test
    some = [assignments[position] for position in frozen]
    for one in fit_assignments(some, *given, runtime=runtime, budget=budget, progress=tell):
        yield replace(one, position=frozen[one.position])
    by_backbone: dict[str, list[int]] = {}
    for position in tuned:
        by_backbone.setdefault(assignments[position].method.backbones[0], []).append(position)
    n_done = len(frozen)
    for name, positions in by_backbone.items():
        own = [assignments[position] for position in positions]
        for one in _fit_on(name, own, *given, runtime, budget, partial(tell, before=n_done)):
            yield replace(one, position=positions[one.position])
        n_done += len(own)


def check_tuned(
    methods: list[Method], snapshot: Snapshot, *, sites: Collection[str], engine: str, save: str | Path | None
) -> None:
    """Refuse methods that train a backbone where the study cannot have them, before anything is fitted.

    Args:
        methods: all of the study.
        snapshot: its images.
        sites: further caches that are tested on.
        engine: as `Runtime.engine`.
        save: where heads are to be kept as well.

    Raises:
        OptionError, DataError: naming the method and the next step.
    """
    tuned = [method for method in methods if method.head.name in TUNED]
    if not tuned:
        return
    out = "; " + LEAVE_OUT + parameter("heads")
    for is_wrong, what in (
        (bool(snapshot.views), "augments images itself; leave out " + parameter("views")),
        (bool(sites), "is not tested on other sites yet; leave out " + parameter("test")),
        (engine != ENGINE, "runs in this process; leave out " + parameter("engine")),
        (save is not None and tuned == methods, "keeps nothing that could be saved; leave out " + parameter("save")),
    ):
        if is_wrong:
            raise OptionError(f"{tuned[0].title} " + what + out)
    for method in tuned:
        _check_backbone(method, snapshot.backbones[method.backbones[0]])
    relative = [str(path) for path in snapshot.paths if not Path(path).is_absolute()]
    if relative:
        raise DataError(
            f"{snapshot.location} does not know where {len(relative):,} of {len(snapshot):,} images lie, such as "
            f"{relative[0]}, and {tuned[0].head.name} trains on images; run dvme extract on them, "
            + LEAVE_OUT
            + parameter("heads")
        )


def _check_backbone(method: Method, embeddings: Embeddings) -> None:
    try:
        spec = kept_spec(embeddings)
    except DvmeError as error:
        raise DataError(
            f"{method.title} cannot train what made these embeddings ({error}); " + LEAVE_OUT + parameter("heads")
        ) from error
    if spec.precision != "float32":
        step = f"extract {spec.name.partition('@')[0]} in float32, " + LEAVE_OUT
        raise OptionError(f"{method.title} trains in float32, and {spec.name} is not; " + step + parameter("backbones"))


def _fit_on(
    name: str,
    assignments: Sequence[Assignment],
    snapshot: Snapshot,
    targets: Targets,
    test: NDArray[np.int64],
    runtime: Runtime,
    budget: int,
    progress: Callable[[str, int, int], None],
) -> Iterator[Predicted]:
    """Fit what is asked on one backbone, whose images are read once."""
    hidden = targets.hidden(test)
    data = Embedded(
        {name: snapshot.read(name)},
        hidden.learned,
        len(targets.classes),
        truth=hidden.values if targets.is_multilabel else None,
    )
    seen = _seen(name, snapshot, data, runtime, budget)
    for head in dict.fromkeys(each.method.head for each in assignments):
        assert isinstance(head, OnImages)
        head.check_model(seen.load(None))
    for position, each in enumerate(assignments):
        head = each.method.head
        assert isinstance(head, OnImages)
        job = counted(Job(head, each.method.backbones, each.train, each.validation, each.seed), data)
        check([job], data)
        started = time.perf_counter()
        fitted = head.fit_on_images(job, data, seen, runtime, lambda *_: None)
        seconds = time.perf_counter() - started
        log_test, log_validation = (
            sound_mean_log_proba(
                fitted.classifier,
                [[view] for view in fitted.embed(seen.pictures, rows)],
                each.method.title,
                targets,
            )
            for rows in (test, each.validation)
        )
        progress("fit", position + 1, len(assignments))
        yield Predicted(position, None, log_test, log_validation, seconds, dict(fitted.chosen), fitted.n_parameters)


def _seen(name: str, snapshot: Snapshot, data: Embedded, runtime: Runtime, budget: int) -> Seen:
    """The images of a study, and a backbone that is the cached one and can be trained."""
    from dvme.backbones.loading.trainable import check_trainable, trainable

    spec = kept_spec(snapshot.backbones[name])
    work = [
        Work(position, Path(path), content_id.tobytes())
        for position, (path, content_id) in enumerate(zip(snapshot.paths, snapshot.ids, strict=True))
    ]
    pictures = read_pictures(work, spec, runtime, lambda *_: None, budget)
    device = runtime.torch_device()
    published = trainable(spec, device=device)
    check_trainable(published)
    _check_same(name, published, pictures, data)

    def load(seed: int | None) -> Trainable:
        return deepcopy(published) if seed is None else trainable(spec, device=device, random_seed=seed)

    return Seen(pictures, load)


def _check_same(name: str, model: Trainable, pictures: Pictures, data: Embedded) -> None:
    """Refuse a backbone that gives other embeddings than the cached ones.

    Raises:
        DataError: with the difference.
    """
    rows = np.arange(min(COMPARED, len(data.labels)))
    cached = data.embeddings[name][rows].astype(np.float64)
    differs = float(relative_differences(cached, embedded(model, pictures, rows)).max())
    if not differs <= TOLERANCES["float32"]:
        raise DataError(
            f"{name} gives other embeddings here than the cached ones (they differ by {differs:.2g} of the largest "
            "element); dvme cache verify --images says more, " + LEAVE_OUT + parameter("heads")
        )
