"""Segmentation as classification of tokens: jobs on images become jobs on rows of tokens, and are fitted together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError, OptionError, parameter
from dvme.heads import Embedded, Job
from dvme.heads.fitting.jobs import Bounded, fit_each
from dvme.runtime import Progress, Runtime
from dvme.segmentation.conv import ConvHead, ConvSegmenter
from dvme.segmentation.conv_training import check_conv, fit_conv
from dvme.segmentation.heads import TokenHead
from dvme.segmentation.scene import BLOCK_BYTES, Scene, SegmentJob
from dvme.segmentation.segmenter import COPIES, Segmenter
from dvme.segmentation.standard import Moments, Standard
from dvme.segmentation.tokens import TokenRows, token_rows, uniform_tokens

__all__ = ["ConvSegmenter", "Scene", "SegmentJob", "Segmenter", "fit_segmenters", "fitted_class"]

REFERENCE_TOKENS = 64
"""Of each image, that tokens are standardised by."""
HELD = 2
"""Copies of the tokens' values while heads are fitted, themselves included."""
GIB = 1 << 30
READ, FIT, TRAIN = "read", "fit", "train"
"""Stages, beside MASKS."""


def fit_segmenters(
    jobs: Sequence[SegmentJob],
    scene: Scene,
    *,
    runtime: Runtime,
    budget: int,
    progress: Progress,
    reference: NDArray[Any] | None = None,
) -> Iterator[tuple[int, Segmenter | ConvSegmenter, float]]:
    """Fit every job, those of one kind of head together.

    Tokens are standardised channel by channel, by the mean and the standard deviation of tokens of `reference`, drawn
    without a look at masks. What is the same for all jobs lets them share tokens; where a study says which images, a
    job's result does not depend on which others are fitted in the same call.

    Args:
        jobs: what to fit.
        scene: the images.
        runtime: the device.
        budget: bytes of tokens and heads on the CPU.
        progress: told (stage, done, total): `masks` and `read` count images, `fit` jobs, `train` epochs of one job.
        reference: positions of the images that tokens are standardised by, test images never among them; None: all that
            any of the jobs trains or chooses on.

    Yields:
        (position, segmenter, seconds of the fit) of each job once, as soon as it is done; of heads that are fitted
        together the first one has the time of all.

    Raises:
        DataError: if the training images of a job know nothing, or a job chooses on images that it trains on.
        OptionError: if the budget does not hold a job's tokens and its fit, with what would fit.
    """
    if not jobs:  # torch is not asked for its devices
        return
    for job in jobs:
        if np.intersect1d(job.train, job.validation).size:
            raise DataError(f"{job.title} chooses on images that it trains on")
    given = np.concatenate([job.images for job in jobs]) if reference is None else np.asarray(reference, dtype=np.int64)
    by = np.unique(given)
    check_conv([job for job in jobs if isinstance(job.head, ConvHead)], scene, runtime, budget)
    on_tokens = [position for position, job in enumerate(jobs) if isinstance(job.head, TokenHead)]
    some = [jobs[position] for position in on_tokens]
    for place, segmenter, seconds in _fit_on_tokens(some, scene, by, runtime, budget, progress, len(jobs)):
        yield on_tokens[place], segmenter, seconds
    n_done = len(on_tokens)
    for position, job in enumerate(jobs):
        if isinstance(job.head, ConvHead):
            trained, seconds = fit_conv(job, scene, runtime, partial(progress, TRAIN))
            n_done += 1
            progress(FIT, n_done, len(jobs))
            yield position, trained, seconds


def fitted_class(name: str) -> type[Segmenter] | type[ConvSegmenter]:
    """What a head of this name becomes once it is fitted; its `restored` builds a kept one again."""
    return ConvSegmenter if name == ConvHead.name else Segmenter


def _fit_on_tokens(
    jobs: Sequence[SegmentJob],
    scene: Scene,
    reference: NDArray[np.int64],
    runtime: Runtime,
    budget: int,
    progress: Progress,
    n_jobs: int,
) -> Iterator[tuple[int, Segmenter, float]]:
    """Those that classify tokens; of `n_jobs` in all."""
    groups: dict[tuple[int, bool, tuple[int, int]], list[int]] = {}
    for position, job in enumerate(jobs):
        assert isinstance(job.head, TokenHead)
        key = job.head.tokens, job.head.takes_shares, scene.finest(job.backbones)
        groups.setdefault(key, []).append(position)
    n_done = 0
    for (n_tokens, takes_shares, shape), members in groups.items():
        images = np.unique(np.concatenate([jobs[position].images for position in members]))
        rows = token_rows(images, scene.masks, scene.ids, shape, n_tokens, progress, is_split=not takes_shares)
        if takes_shares:  # neighbours are counted in drawn tokens, whatever part of all they are
            rows = replace(rows, weights=rows.weights * min(1.0, n_tokens / (shape[0] * shape[1])))
        group = _Group(scene, shape, rows, reference, budget)
        for names, positions in group.portions([(position, jobs[position]) for position in members]):

            def tell(stage: str, done: int, total: int, before: int = n_done) -> None:
                del stage, total
                progress(FIT, before + done, n_jobs)

            some = [jobs[position] for position in positions]
            for place, segmenter, seconds in group.fit(some, names, runtime, progress, tell):
                yield positions[place], segmenter, seconds
            n_done += len(some)


@dataclass(frozen=True)
class _Group:
    """Jobs that draw as many tokens of each image on the same grid, and so share them."""

    scene: Scene
    shape: tuple[int, int]
    rows: TokenRows
    reference: NDArray[np.int64]
    budget: int

    def portions(self, members: Sequence[tuple[int, SegmentJob]]) -> list[tuple[tuple[str, ...], list[int]]]:
        """Which jobs are fitted on tokens that are held together: all, or those of the same backbones.

        Raises:
            OptionError: if a job does not fit the budget by itself.
        """
        for _, job in members:
            self._check(job)
        together = tuple(dict.fromkeys(name for _, job in members for name in job.backbones))
        is_room = self._held(together) + max(self._least(job) for _, job in members) <= self.budget
        found: dict[tuple[str, ...], list[int]] = {}
        for position, job in members:
            found.setdefault(together if is_room else job.backbones, []).append(position)
        return list(found.items())

    def fit(
        self,
        jobs: Sequence[SegmentJob],
        names: tuple[str, ...],
        runtime: Runtime,
        progress: Progress,
        tell: Progress,
    ) -> Iterator[tuple[int, Segmenter, float]]:
        """Read the tokens of some backbones, and fit jobs on them."""
        masks = self.scene.masks
        on_tokens = [self._on_tokens(job) for job in jobs]
        read = {name: self._read(name, progress) for name in names}
        labels = self.rows.labels
        data = Embedded(
            {name: tokens for name, (tokens, _) in read.items()},
            labels,
            len(masks.names) + masks.is_exclusive,
            weights=self.rows.weights,
            truth=_decided(labels) if labels.ndim == 2 else None,
        )
        if runtime.torch_device().partition(":")[0] == "cpu":  # a GPU has memory of its own
            runtime = replace(runtime, memory=max(1, self.budget - self._held(names)))
        for one in fit_each(on_tokens, data, runtime=runtime, progress=tell):
            job = jobs[one.position]
            assert isinstance(job.head, TokenHead)
            standards = tuple(read[name][1] for name in job.backbones)
            about = job.head.of.name, job.backbones, self.shape, masks.names, masks.is_exclusive, standards
            yield one.position, Segmenter(one.head, *about), one.seconds

    def _on_tokens(self, job: SegmentJob) -> Job:
        assert isinstance(job.head, TokenHead)
        train, validation = self.rows.rows_of(job.train), self.rows.rows_of(job.validation)
        if not len(train):
            raise DataError(
                f"{job.title} has nothing to learn from: all pixels of its {len(job.train):,} masks are void"
            )
        return Job(job.head.of, job.backbones, train, validation, job.seed)

    def _read(self, name: str, progress: Progress) -> tuple[NDArray[np.float32], Standard]:
        """(R, C) standardised tokens of one backbone, and what standardised them."""
        images, maps = np.union1d(self.rows.images, self.reference), self.scene.maps[name]
        found, moments = np.empty((len(self.rows.tokens), maps.n_channels), dtype=np.float32), Moments(maps.n_channels)
        is_drawn, is_reference = np.isin(images, self.rows.images), np.isin(images, self.reference)
        most = int(np.diff(self.rows.starts).max(initial=0)) + REFERENCE_TOKENS
        size = max(1, BLOCK_BYTES // COPIES // maps.row_bytes(most))
        for start in range(0, len(images), size):
            ones = [slice(place, place + 1) for place in range(start, min(start + size, len(images)))]
            drawn = [self.rows.rows_of(images[one][is_drawn[one]]) for one in ones]
            wanted = [
                np.concatenate([self.rows.tokens[own], *map(self._uniform, images[one][is_reference[one]])])
                for one, own in zip(ones, drawn, strict=True)
            ]
            rows = self.scene.rows[images[start : start + size]]
            for own, tokens in zip(drawn, maps.tokens(rows, self.shape, wanted), strict=True):
                found[own] = tokens[: len(own)]
                moments.add(tokens[len(own) :])
            progress(READ, start + len(ones), len(images))
        standard = moments.standard()
        standard.apply(found)
        return found, standard

    def _uniform(self, image: np.int64) -> NDArray[np.int64]:
        """Places of the tokens of an image that all are standardised by."""
        return uniform_tokens(self.shape[0] * self.shape[1], REFERENCE_TOKENS, self.scene.ids[image])

    def _held(self, names: Sequence[str]) -> int:
        """Bytes of the tokens of some backbones, with their copies."""
        return 4 * HELD * len(self.rows.tokens) * sum(map(self.scene.n_channels, names)) + BLOCK_BYTES

    def _least(self, job: SegmentJob, part: float = 1.0) -> int:
        """Bytes that the fit of a job on a part of its tokens holds at least, beside them."""
        assert isinstance(job.head, TokenHead)
        if not isinstance(job.head.of, Bounded):
            return 0
        masks = self.scene.masks
        n_rows = max(1, round(part * len(self.rows.rows_of(job.train))))
        dims = [self.scene.n_channels(name) for name in job.backbones]
        n_classes = len(masks.names) + masks.is_exclusive
        return job.head.of.least_bytes(n_rows, dims, n_classes, is_multilabel=not masks.is_exclusive)

    def _check(self, job: SegmentJob) -> None:
        """Refuse a job that the budget does not hold, with how many tokens it does."""

        def needed(part: float) -> int:
            return int(part * (self._held(job.backbones) - BLOCK_BYTES)) + BLOCK_BYTES + self._least(job, part)

        if needed(1.0) <= self.budget:
            return
        assert isinstance(job.head, TokenHead)
        most = min(job.head.tokens, self.shape[0] * self.shape[1])
        fitting = next((k for k in _fewer(most) if needed(k / most) <= self.budget), 0)
        fewer = f"{job.head.name}@tokens={fitting}, " if fitting else ""
        n_rows, dim = len(self.rows.tokens), sum(map(self.scene.n_channels, job.backbones))
        more = max(0.01, np.ceil(100 * (needed(1.0) - self.budget) / GIB) / 100)
        raise OptionError(
            f"{job.title}: {n_rows:,} tokens of {dim:,} values and the fit on them need {needed(1.0):,} bytes and may "
            f"hold {self.budget:,}; take {fewer}fewer layers, or pass " + parameter("memory") + f", {more:g} GiB more"
        )


def _fewer(most: int) -> Iterator[int]:
    """Round numbers of tokens below so many, the largest first."""
    return (k for k in (1024, 768, 512, 384, 256, 192, 128, 96, 64, 48, 32, 24, 16, 8, 4, 2, 1) if k < most)


def _decided(cells: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shares as 1 and 0, where they are known: what heads that learn from shares are chosen on."""
    return np.where(np.isnan(cells), np.nan, cells > 0.5).astype(np.float32)
