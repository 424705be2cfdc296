"""The unit of work of every head: a list of jobs, fitted together."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError
from dvme.heads.fitting.cells import check_cells, check_weights
from dvme.heads.fitting.counting import JobCount
from dvme.heads.fitting.row_blocks import RowArray, Rows, n_not_finite, selected
from dvme.runtime import Progress, Runtime, silent


@dataclass(frozen=True)
class Job:
    """One head to fit: on these rows of these backbones' embeddings, chosen on those."""

    head: Head
    """What to fit, with its hyper-parameters."""
    backbones: tuple[str, ...]
    """Whose embeddings; several only for a head that fuses."""
    train: NDArray[Any]
    """(n,) row indices to learn from."""
    validation: NDArray[Any]
    """(v,) row indices to choose hyper-parameters on; disjoint from `train` and from every test row.

    Empty: nothing is chosen, and a head takes the middle of its path or the last of its epochs."""
    seed: int = 0
    """Seed of whatever the head draws at random."""


@dataclass(frozen=True)
class Embedded:
    """What jobs share: the embeddings of every backbone, row by row, and the labels."""

    embeddings: Mapping[str, RowArray]
    """(N, D_m) by backbone. `linear` takes them from a file, or read when asked; other heads all into memory."""
    labels: NDArray[Any]
    """(N,) class indices; only rows named in a job are looked at. Where an image may have several labels, (N, L)
    float32: 1 has it, 0 has it not, values between teach a part, nan is not known and takes no part in that label."""
    n_classes: int
    """C, or L."""
    weights: NDArray[Any] | None = None
    """(N,) how often each row counts, in learning and in choosing: 2 as if it were there twice, 0 as if it were not.
    None: once."""
    cell_weights: NDArray[Any] | None = None
    """(N, L) of several labels: how often each cell counts beside its row, for `linear` and what is made of it."""
    truth: NDArray[Any] | None = None
    """(N, L) of several labels, what heads are chosen on: 1, 0, nan. None: `labels`, where a part is not known."""
    n_views: int = 1
    """K: N / K images, then their second view, and so on. Jobs name first views, choose on these, learn from all."""

    @property
    def is_multilabel(self) -> bool:
        """Whether an image may have several labels, or none."""
        return self.labels.ndim == 2

    def truth_of(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        """(n, L) of some rows: 1, 0, nan."""
        cells = (self.labels if self.truth is None else self.truth)[rows].astype(np.float64)
        return np.where((cells == 0.0) | (cells == 1.0), cells, np.nan)

    def dims(self, backbones: Sequence[str]) -> tuple[int, ...]:
        """D_m of each backbone."""
        return tuple(self.embeddings[name].shape[1] for name in backbones)

    def blocks(self, backbones: Sequence[str], rows: NDArray[Any] | slice) -> list[NDArray[Any]]:
        """(B, D_m) embeddings of each backbone at some rows, as `FittedHead.predict_proba` takes them."""
        return [selected(self.embeddings[name], rows) for name in backbones]

    def every_view(self, images: NDArray[Any]) -> NDArray[Any]:
        """(K n,) rows of all views of (n,) images, view by view, given those of the first."""
        step = len(self.labels) // self.n_views
        return np.concatenate([images + view * step for view in range(self.n_views)])

    def weights_of(self, rows: NDArray[Any]) -> NDArray[np.float64] | None:
        """(n,) of some rows; None where every row counts once."""
        return None if self.weights is None else self.weights[rows].astype(np.float64)


class FittedHead(Protocol):
    """A head that has learned. Of images with several labels C is L, and probabilities are independent."""

    @property
    def chosen(self) -> Mapping[str, Any]:
        """What validation chose, and how the fit went."""

    def predict_proba(self, blocks: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Class probabilities.

        Args:
            blocks: (B, D_m) embeddings, one array for each backbone of the job, in its order.

        Returns:
            (B, C) float64, rows sum to 1; those of several labels do not.
        """

    def log_proba(self, blocks: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """(B, C) float64 logarithms of the same, of which large ones are told apart as well; -inf for 0."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything learned, by name; with `settings`, enough to build the head again."""

    def settings(self) -> dict[str, Any]:
        """JSON values that `restored` needs beside the arrays."""

    @classmethod
    def restored(cls, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> FittedHead:
        """The head whose `settings` and `arrays` these are."""


class Head(Protocol):
    """A kind of classifier over cached embeddings, with its hyper-parameters.

    It is fitted together with others of its kind (Together), or is made of other heads (Ensemble).
    """

    @property
    def name(self) -> str:
        """The name on the command line."""

    @property
    def is_fusion(self) -> bool:
        """Whether it takes several backbones at once."""

    @property
    def revision(self) -> int:
        """Of its results: raised when a change of the code changes them, so that older ones are not taken for its own.

        tests/dvme/heads/test_revisions.py says when.
        """


@runtime_checkable
class Together(Protocol):
    """A head that is fitted by its kind, many jobs at once."""

    @staticmethod
    def fit_together(
        jobs: Sequence[Job], data: Embedded, runtime: Runtime, progress: Progress
    ) -> Iterator[tuple[int, FittedHead]]:
        """Fit jobs whose heads are all of this class.

        The result of a job does not depend on the others, up to rounding. `progress` is told (stage, jobs done, all).

        Yields:
            (position, fitted head) of every job, as soon as it is there.
        """


@runtime_checkable
class Ensemble(Protocol):
    """A head made of others, which are fitted as jobs of their own, once for whoever else wants them too."""

    def members(self, job: Job) -> list[Job]:
        """The jobs that a job of this head comes down to."""

    def joined(self, members: Sequence[FittedHead]) -> FittedHead:
        """The head that the fitted members make, in their order."""


@runtime_checkable
class Bounded(Protocol):
    """A head whose fit needs a memory of its own; others make do with what there is."""

    def least_bytes(self, n_rows: int, dims: Sequence[int], n_classes: int, *, is_multilabel: bool = False) -> int:
        """Bytes that a job of so many training rows, on backbones of these dimensions, holds at least."""


@dataclass(frozen=True)
class Fitted:
    """One job, done."""

    position: int
    """In the list of jobs."""
    head: FittedHead
    seconds: float
    """What fitting took; of jobs that are fitted together, the first one there has the time of all."""


def fit_jobs(
    jobs: Sequence[Job], data: Embedded, *, runtime: Runtime | None = None, progress: Progress = silent
) -> list[FittedHead]:
    """Fit every job, those of one kind of head together.

    Args:
        jobs: what to fit.
        data: embeddings and labels of all rows that the jobs name.
        runtime: device and memory budget.
        progress: told ("fit", jobs done, all jobs); jobs of different heads and sizes take different times.

    Returns:
        One fitted head per job, in order.

    Raises:
        DataError: if a job has no training rows, chooses on rows that it trains on, features are not
            finite in float32, weights are not numbers of 0 or more, or cells of several labels not from 0 to 1.
    """
    heads = {one.position: one.head for one in fit_each(jobs, data, runtime=runtime, progress=progress)}
    return [heads[position] for position in range(len(jobs))]


def fit_each(
    jobs: Sequence[Job], data: Embedded, *, runtime: Runtime | None = None, progress: Progress = silent
) -> Iterator[Fitted]:
    """As `fit_jobs`, but every head is given as soon as it is fitted, and need not be kept: for long lists.

    Yields:
        Each job once, in the order in which they are done.

    Raises:
        DataError: as `fit_jobs`.
    """
    jobs = [counted(job, data) for job in jobs]
    check(jobs, data)
    flat: list[Job] = []
    place: dict[tuple[Any, ...], int] = {}

    def placed(job: Job) -> int:
        key = (job.head, job.backbones, job.train.tobytes(), job.validation.tobytes(), job.seed)
        if key not in place:
            place[key] = len(flat)
            flat.append(job)
        return place[key]

    parts = [
        [placed(part) for part in job.head.members(job)] if isinstance(job.head, Ensemble) else [placed(job)]
        for job in jobs
    ]
    wanted_by: dict[int, set[int]] = {}
    for position, own in enumerate(parts):
        for part in own:
            wanted_by.setdefault(part, set()).add(position)
    members = {n for job, own in zip(jobs, parts, strict=True) if isinstance(job.head, Ensemble) for n in own}
    count = JobCount(progress, len(jobs), members)
    there: dict[int, Fitted] = {}
    for one in _fit_by_kind(flat, data, runtime or Runtime(), count):
        there[one.position] = one
        for position in sorted(wanted_by[one.position]):
            if all(part in there for part in parts[position]):
                done = [there[part] for part in parts[position]]
                yield Fitted(position, _joined(jobs[position], done), sum(member.seconds for member in done))
                count.give()
                for part in set(parts[position]):
                    wanted_by[part].discard(position)
                    if not wanted_by[part]:
                        del there[part]


def _joined(job: Job, members: Sequence[Fitted]) -> FittedHead:
    heads = [member.head for member in members]
    return job.head.joined(heads) if isinstance(job.head, Ensemble) else heads[0]


def _fit_by_kind(jobs: Sequence[Job], data: Embedded, runtime: Runtime, count: JobCount) -> Iterator[Fitted]:
    kinds: dict[type, list[int]] = {}
    for index, job in enumerate(jobs):
        kinds.setdefault(type(job.head), []).append(index)
    for members in kinds.values():
        head = jobs[members[0]].head
        assert isinstance(head, Together)
        count.begin_kind(members)
        start = time.perf_counter()
        for position, fitted in head.fit_together([jobs[index] for index in members], data, runtime, count.ended):
            yield Fitted(members[position], fitted, time.perf_counter() - start)
            start = time.perf_counter()


def by_backbones(jobs: Sequence[Job]) -> dict[tuple[tuple[str, ...], Head], list[int]]:
    """Positions of the jobs that share backbones and hyper-parameters."""
    groups: dict[tuple[tuple[str, ...], Head], list[int]] = {}
    for index, job in enumerate(jobs):
        groups.setdefault((job.backbones, job.head), []).append(index)
    return groups


def only_block(blocks: Sequence[Rows]) -> Rows:
    """The embeddings of a head that takes one backbone."""
    if len(blocks) != 1:
        raise ValueError(f"this head takes the embeddings of one backbone, not of {len(blocks)}")
    return blocks[0]


def counted(job: Job, data: Embedded) -> Job:
    """The job without rows that tell nothing: of weight 0, or of several labels without a cell that is known."""
    train, validation = job.train, job.validation
    if data.weights is not None:
        train, validation = (rows[data.weights[rows] != 0] for rows in (train, validation))
    if data.is_multilabel:
        train = train[~np.isnan(data.labels[train]).all(axis=1)]
        validation = validation[~np.isnan(data.truth_of(validation)).all(axis=1)]
    return replace(job, train=train, validation=validation)


def check(jobs: Sequence[Job], data: Embedded) -> None:
    """Refuse what no head can learn from."""
    for job in jobs:
        check_weights(data.weights_of(np.concatenate([job.train, job.validation])))
    if data.is_multilabel and jobs:
        check_cells(data.labels[np.unique(np.concatenate([job.train for job in jobs]))], data.n_classes)
    rows_of: dict[str, list[NDArray[Any]]] = {}
    for job in jobs:
        if not len(job.train):
            raise DataError(f"a job of {job.head.name} on {'+'.join(job.backbones)} has no training rows")
        if np.intersect1d(job.train, job.validation).size:
            raise DataError(f"a job of {job.head.name} on {'+'.join(job.backbones)} chooses on rows that it trains on")
        for name in job.backbones:
            rows_of.setdefault(name, []).extend((data.every_view(job.train), job.validation))
    for name, parts in rows_of.items():
        rows = np.unique(np.concatenate(parts))
        n_bad = n_not_finite(data.embeddings[name], rows)
        if n_bad:
            step = "dvme cache verify says which, then extract them or leave them out"
            raise DataError(f"{n_bad} of {len(rows)} rows of {name} are not finite in float32; {step}")
