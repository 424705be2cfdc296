"""Methods that train a backbone on the images of a study, beside those that learn from its embeddings."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dvme.backbones.loading.kept import kept_spec
from dvme.backbones.weights.finding import availability
from dvme.data.targets import Targets
from dvme.defaults import ENGINE
from dvme.errors import DataError, DvmeError, OptionError, message_of, parameter
from dvme.heads import TUNED, Embedded, Job
from dvme.heads.fitting.counting import STREAM
from dvme.heads.fitting.jobs import check, counted
from dvme.heads.tuned.on_images import OnImages
from dvme.runtime import Progress, Runtime
from dvme.study.design.snapshot import Snapshot
from dvme.study.fitting import Assignment, Predicted, fit_assignments, sound_mean_log_proba
from dvme.study.images import READ, check_backbone, check_images, seen_by
from dvme.study.methods import Method
from dvme.study.saved import why_not_kept
from dvme.training.checkpoints import Epochs
from dvme_cache import Embeddings

TRAIN = "train"
"""The stage whose steps are epochs."""
OWN_STAGES = {READ, TRAIN}
"""Those that count something else than jobs."""
LEAVE_OUT, HEADS = "or leave it out of ", parameter("heads")


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
        is_own = stage in OWN_STAGES or stage.startswith(STREAM)
        progress(*((stage, done, total) if is_own else (stage, before + done, len(assignments))))

    by_backbone: dict[str, list[int]] = {}
    for position in tuned:
        by_backbone.setdefault(assignments[position].method.backbones[0], []).append(position)
    if tuned:
        check_images(snapshot, runtime)  # before anything is fitted, which may take long
    room = {
        name: check_backbone(name, _most(assignments[position] for position in own), snapshot, runtime, budget)
        for name, own in by_backbone.items()
    }
    given = snapshot, targets, test
    some = [assignments[position] for position in frozen]
    for one in fit_assignments(some, *given, runtime=runtime, budget=budget, progress=tell):
        yield replace(one, position=frozen[one.position])
    n_done = len(frozen)
    for name, positions in by_backbone.items():
        own = [assignments[position] for position in positions]
        for one in _fit_on(name, own, *given, runtime, room[name], partial(tell, before=n_done)):
            yield replace(one, position=positions[one.position])
        n_done += len(own)


def _most(assignments: Iterable[Assignment]) -> dict[OnImages, int]:
    """The heads of some assignments, each with the images that it trains on at most."""
    found: dict[OnImages, int] = {}
    for each in assignments:
        head = each.method.head
        assert isinstance(head, OnImages)
        found[head] = max(len(each.train), found.get(head, 0))
    return found


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
    ):
        if is_wrong:
            raise OptionError(f"{tuned[0].title} " + what + out)
    for method in tuned:
        _check_backbone(method, snapshot.backbones[method.backbones[0]])
    if save is not None and all(reasons := [why_not_kept(method, snapshot) for method in methods]):
        step = parameter("save") + out
        raise OptionError(f"{tuned[0].title} keeps nothing that could be saved ({reasons[0]}); leave out " + step)
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
            f"{method.title} cannot train what made these embeddings ("
            + message_of(error)
            + "); leave it out of "
            + HEADS
        ) from error
    if availability(spec) == "by hand" and spec.checkpoint is not None and not spec.checkpoint.page:
        message = (
            f"{method.title} trains the weights of {spec.name}, and the cache does not know where they lie; extract "
        )
        step = "by a TOML file beside them, which says it (examples/own_backbone.toml), " + LEAVE_OUT
        raise DataError(message + step + parameter("heads"))
    if not spec.view.is_plain:
        step = "; name the backbone without a view in " + parameter("backbones") + ", "
        raise OptionError(f"{method.title} moves images itself, and {spec.name} is a view" + step + LEAVE_OUT + HEADS)
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
    room: int,
    progress: Callable[[str, int, int], None],
) -> Iterator[Predicted]:
    """Fit what is asked on one backbone, whose images are read once; their pixels may take `room` bytes of memory."""
    hidden = targets.hidden(test)
    data = Embedded(
        {name: snapshot.read(name)},
        hidden.learned,
        len(targets.classes),
        truth=hidden.values if targets.is_multilabel else None,
    )
    workplace, n_epochs = assignments[0].workplace, 0
    seen = seen_by(name, snapshot, runtime, room, None if workplace is None else workplace.parent, progress)
    for position, each in enumerate(assignments):
        head, longest = each.method.head, 0
        assert isinstance(head, OnImages)

        def tell(done: int, of: int, before: int = n_epochs, left: int = len(assignments) - position) -> None:
            nonlocal longest
            longest = of
            progress(TRAIN, before + done, before + of * left)

        job = counted(Job(head, each.method.backbones, each.train, each.validation, each.seed), data)
        check([job], data)
        started = time.perf_counter()
        kept = Epochs(each.workplace)
        fitted = head.fit_on_images(job, data, replace(seen, kept=kept), runtime, tell)
        seconds = fitted.seconds_before + time.perf_counter() - started - kept.seconds
        n_epochs += longest
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
        yield Predicted(position, fitted, log_test, log_validation, seconds, dict(fitted.chosen), fitted.n_parameters)
