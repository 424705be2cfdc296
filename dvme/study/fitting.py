"""Methods on draws: embeddings are read once where memory allows, and heads are fitted together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data.targets import Targets
from dvme.errors import DataError
from dvme.heads import Embedded, FittedHead, Job
from dvme.heads.fitting.counting import STREAM
from dvme.heads.fitting.jobs import Bounded, fit_each
from dvme.heads.fitting.row_blocks import ReadsBlocks
from dvme.heads.tuned.on_images import FittedTuned
from dvme.runtime import Progress, Runtime
from dvme.segmentation.segmenter import OnGrid
from dvme.study.design.snapshot import Snapshot
from dvme.study.ledger import versions
from dvme.study.methods import Method
from dvme.study.pictures import Pictures

EMBEDDINGS_SHARE = 3
"""Embeddings that are read at once take at most one part in so many of the memory."""
COPIES: Mapping[str, int] = {"float16": 3, "float32": 2}
"""Of the embeddings while heads are fitted, themselves included, in units of their bytes: one in float32."""


@dataclass(frozen=True)
class Assignment:
    """One method on one draw."""

    method: Method
    train: NDArray[np.int64]
    """Positions of the images to learn from, in their order."""
    validation: NDArray[np.int64]
    """Positions of those to choose on."""
    seed: int
    workplace: Path | None = None
    """A folder for what a kill is to leave of it; None: nothing is left."""
    is_pictured: bool = False
    """Whether pictures are kept of what it makes of some test images; of a segmentation."""
    boundary: float | None = None
    """Pixels within which outlines meet in the scores of the test images'; None: they are not scored."""


@dataclass(frozen=True)
class Predicted:
    """What came of an assignment."""

    position: int
    """Of the assignment."""
    head: FittedHead | FittedTuned | OnGrid | None
    """None where nobody keeps it."""
    log_test: NDArray[Any]
    """(N test, C) log probabilities; of a segmentation (N test, L, 3) counts of pixels."""
    log_validation: NDArray[Any]
    """The same of the validation images, in the order of the assignment."""
    seconds: float
    """Of the fit; of heads fitted together, the first one there has the time of all."""
    chosen: Mapping[str, Any]
    """What validation chose."""
    n_parameters: int
    """Numbers that the head holds."""
    versions: Mapping[str, str] = field(default_factory=lambda: dict(versions()))
    """Of the packages, where it was fitted."""
    pictures: Pictures | None = None
    """Where the assignment asks for them."""
    outlines: NDArray[np.float64] | None = None
    """(N test, L, 2), see `outline_scores`; where the assignment asks for them."""


def fit_assignments(
    assignments: Sequence[Assignment],
    snapshot: Snapshot,
    targets: Targets,
    test: NDArray[np.int64],
    *,
    runtime: Runtime,
    budget: int,
    progress: Progress,
) -> Iterator[Predicted]:
    """Fit every method on its draw, and ask it about the images that it chose on and about the test images.

    Args:
        assignments: what to fit.
        snapshot: N images.
        targets: theirs; of a test image nobody is told.
        test: positions of the test images.
        runtime: the device.
        budget: bytes of embeddings and heads on the CPU.
        progress: told (stage, assignments done, all of them).

    Yields:
        Each assignment once, as soon as it is done.

    Raises:
        DataError: if a head gives no probabilities.
        OptionError: if the memory does not hold an assignment.
    """
    if not assignments:  # torch is not asked for its devices
        return
    hidden, n_done, n_classes = targets.hidden(test), 0, len(targets.classes)
    is_cpu = runtime.torch_device().partition(":")[0] == "cpu"
    for names, positions in portions(assignments, snapshot, targets, budget):
        snapshot.forget(names)
        is_beyond = _is_beyond([assignments[position] for position in positions], snapshot, targets, names, budget)
        embeddings = {name: (snapshot.unread if is_beyond else snapshot.read_views)(name) for name in names}
        n_views = snapshot.n_views
        truth = np.concatenate([hidden.values] * n_views) if targets.is_multilabel else None
        labels = np.concatenate([hidden.learned] * n_views)
        data = Embedded(embeddings, labels, n_classes, truth=truth, n_views=n_views)
        some = [assignments[position] for position in positions]
        jobs = [Job(each.method.head, each.method.backbones, each.train, each.validation, each.seed) for each in some]
        left = budget if is_beyond else max(1, budget - _held(snapshot, names))
        own = replace(runtime, memory=left) if is_cpu else runtime  # a GPU has memory of its own

        def tell(stage: str, done: int, n_jobs: int, before: int = n_done) -> None:
            is_of_jobs = not stage.startswith(STREAM)
            progress(stage, *((before + done, len(assignments)) if is_of_jobs else (done, n_jobs)))

        for one in fit_each(jobs, data, runtime=own, progress=tell):
            job = jobs[one.position]
            title, asked = some[one.position].method.title, n_views if snapshot.averages_views else 1
            log_test, log_validation = (
                sound_mean_log_proba(
                    one.head,
                    [data.blocks(job.backbones, rows + view * len(snapshot)) for view in range(asked)],
                    title,
                    targets,
                )
                for rows in (test, job.validation)
            )
            n_parameters = sum(array.size for array in one.head.arrays().values())
            about = one.seconds, dict(one.head.chosen), n_parameters
            yield Predicted(positions[one.position], one.head, log_test, log_validation, *about)
        n_done += len(jobs)


def portions(
    assignments: Sequence[Assignment], snapshot: Snapshot, targets: Targets, budget: int
) -> list[tuple[tuple[str, ...], list[int]]]:
    """Which assignments are fitted on embeddings that are held together: all, or those of the same backbones.

    More memory never makes a fit impossible: all are held together only where what is left holds the largest fit.

    Args:
        assignments: J.
        snapshot: of the images.
        targets: of its images.
        budget: bytes of embeddings and heads.

    Returns:
        (backbones, positions) of each portion, without those that have nothing to do.
    """
    every = tuple(dict.fromkeys(name for each in assignments for name in each.method.backbones))
    needed = max((_least(each, snapshot, targets) for each in assignments), default=0)
    at_once = sum(map(snapshot.size_of, every)) * snapshot.n_views * EMBEDDINGS_SHARE <= budget
    at_once = at_once and _held(snapshot, every) + needed <= budget
    found: dict[tuple[str, ...], list[int]] = {}
    for position, each in enumerate(assignments):
        found.setdefault(every if at_once else each.method.backbones, []).append(position)
    return list(found.items())


def _is_beyond(
    assignments: Sequence[Assignment], snapshot: Snapshot, targets: Targets, names: Sequence[str], budget: int
) -> bool:
    """Whether embeddings stay where they are, for memory does not hold them beside a fit, and all heads read blocks."""
    if snapshot.n_views > 1 or snapshot.is_segmentation:
        return False
    heads = [each.method.head for each in assignments]
    if not all(isinstance(head, ReadsBlocks) and head.reads_blocks for head in heads):
        return False
    return _held(snapshot, names) + max(_least(each, snapshot, targets) for each in assignments) > budget


def _held(snapshot: Snapshot, names: Sequence[str]) -> int:
    """Bytes of embeddings in all views, with their copies."""
    return snapshot.n_views * sum(snapshot.size_of(name) * COPIES[snapshot.backbones[name].dtype] for name in names)


def _least(assignment: Assignment, snapshot: Snapshot, targets: Targets) -> int:
    """Bytes that a fit holds at least, beside the embeddings; 0 of a head that fits itself to what there is."""
    head = assignment.method.head
    if not isinstance(head, Bounded):
        return 0
    dims = [snapshot.backbones[name].dim for name in assignment.method.backbones]
    n_rows, n_classes = len(assignment.train) * snapshot.n_views, len(targets.classes)
    return head.least_bytes(n_rows, dims, n_classes, is_multilabel=targets.is_multilabel)


def sound_log_proba(
    head: FittedHead, blocks: Sequence[NDArray[Any]], method: str, targets: Targets
) -> NDArray[np.float32]:
    """(B, C) log probabilities as a study keeps and scores them.

    Args:
        head: a fitted one.
        blocks: (B, D_m) embeddings, as its `predict_proba` takes them.
        method: what the head is called in a message.
        targets: of one class each the probabilities sum to 1; of several findings each is one.

    Raises:
        DataError: if they are not those of probabilities: an AUC of nan is 0.5 without a word.
    """
    logs = head.log_proba(blocks)
    with np.errstate(invalid="ignore", over="ignore"):
        if targets.is_multilabel:
            is_sound = (logs <= 0.0).all(axis=1)  # nan is not
        else:
            is_sound = np.abs(np.exp(logs).sum(axis=1) - 1.0) < 1e-6
    if not is_sound.all():
        n_bad = int((~is_sound).sum())
        raise DataError(
            f"{method} gives no probabilities for {n_bad} of {len(logs)} images; rescale its embeddings, or leave it "
            "out"
        )
    return logs.astype(np.float32)


def sound_mean_log_proba(
    head: FittedHead, views: Sequence[Sequence[NDArray[Any]]], method: str, targets: Targets
) -> NDArray[np.float32]:
    """(B, C) log of the mean over K views of the probabilities.

    Their arithmetic mean, as of the heads of several folds, and as the code of Taher et al. 2021 averages over ten
    crops: a view in which `knn` finds no vote for a class, or a head is far too sure, is one voice of K and no veto,
    which it would be in a geometric mean.

    Args:
        head: a fitted one.
        views: for each, (B, D_m) embeddings of every backbone.
        method: see `sound_log_proba`.
        targets: see there.

    Raises:
        DataError: see there.
    """
    logs = [sound_log_proba(head, blocks, method, targets) for blocks in views]
    if len(logs) == 1:
        return logs[0]
    sums = np.logaddexp.reduce([each.astype(np.float64) for each in logs], axis=0)
    mean: NDArray[np.float32] = np.minimum(sums - np.log(len(logs)), 0.0).astype(np.float32)
    return mean
