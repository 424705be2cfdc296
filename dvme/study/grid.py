"""The jobs of a study: methods, sizes and draws, each with its key; fitted, or read back."""

from __future__ import annotations

import itertools
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.defaults import ENGINE
from dvme.heads.fitting.counting import STREAM
from dvme.heads.saved_head import SavedHead, subset_hash
from dvme.runtime import Progress, Runtime
from dvme.study.design.manifest import SubsetManifest
from dvme.study.design.snapshot import Snapshot
from dvme.study.design.splits import groups_to_resample
from dvme.study.design.views import identity_of
from dvme.study.division import of_part
from dvme.study.fit_notices import fit_notices
from dvme.study.fitting import Assignment, Predicted
from dvme.study.kept_heads import KeptHeads, mark
from dvme.study.ledger import FinishedJob, Ledger, job_key
from dvme.study.methods import Method
from dvme.study.pictures import PictureStore
from dvme.study.roles import ONE_BY_ONE
from dvme.study.saved import bytes_notice, kept_notices, saved_head, why_not_kept
from dvme.study.scoring import judged_labels
from dvme.study.segmenting import OWN_STAGES as SEGMENT_STAGES
from dvme.study.segmenting import fit_segmentations
from dvme.study.tuning import OWN_STAGES, fit_all
from dvme_cache.parts import Part

KEPT_EVERY = 30.0
"""Seconds after which heads go to disk one by one, where the other draws of their methods are not fitted yet."""


@dataclass(frozen=True)
class Place:
    """Where in the table a job stands: indices of the method, the size and the draw."""

    method: int
    size: int
    draw: int


class Grid:
    """All jobs of one study, and what has become of them."""

    def __init__(
        self,
        snapshot: Snapshot,
        manifest: SubsetManifest,
        methods: Sequence[Method],
        ledger: Ledger,
        heads: KeptHeads | None,
        pictures: PictureStore | None = None,
        boundary: float | None = None,
    ) -> None:
        """The snapshot is of the manifest's images, in its order; without `heads` no head is kept, nor pictures."""
        self.pictures, self.boundary = pictures or PictureStore(None), boundary
        self.snapshot, self.manifest, self.methods, self.ledger, self.heads = (
            *(snapshot, manifest, methods, ledger, heads),
        )
        counts = (range(n) for n in (len(methods), len(manifest.sizes), len(manifest.draws)))
        self.places = [Place(*place) for place in itertools.product(*counts)]
        groups = groups_to_resample(snapshot.groups[manifest.test])
        self.labels = judged_labels(manifest.targets.scored, manifest.test, groups)
        self.test_hash = subset_hash(manifest.images[manifest.test])
        self.seeds = [self._seed(draw.repeat, draw.fold) for draw in manifest.draws]
        digests = {name: table.fingerprint.digest for name, table in snapshot.backbones.items()}
        asked = {} if boundary is None else {"boundary": boundary}
        described = [method.identity(digests) | self._views_of(method) | asked for method in methods]
        self.keys = {place: self._key(place, described[place.method]) for place in self.places}
        self.kept = self._kept()
        self.gathered: set[int] = set()  # methods whose heads lie together
        found = {place: ledger.read(key) for place, key in self.keys.items()}
        self.finished = {place: self._scored(place, job) for place, job in found.items() if job is not None}
        for place in [*self._without_head(), *self._without_pictures()]:
            self.finished.pop(place, None)
        self.n_reused = len(self.finished)
        self.is_part, self.n_fitted = False, 0
        self.waiting: dict[int, dict[Place, SavedHead]] = {}  # by method: heads that are not on disk yet
        self.kept_at = time.monotonic()

    def fit(self, runtime: Runtime, budget: int, progress: Progress, stage: str, part: Part | None = None) -> None:
        """Fit what is not finished. A kill costs at most the fits of the last half minute.

        Args:
            runtime: device and memory, and on what it is done.
            budget: bytes of embeddings and heads on the CPU.
            progress: told (stage, jobs done, all of them).
            stage: what it is called.
            part: fit its jobs only; heads then stay by themselves, for others may be fitting those beside them.
        """
        own = self.places if part is None else self.places_of(part)
        todo = [place for place in own if place not in self.finished]
        self.n_fitted = len(todo)
        before, self.is_part = len(own) - len(todo), part is not None
        progress(stage, before, len(own))

        def tell(what: str, done: int, of: int) -> None:
            is_own = what in OWN_STAGES | SEGMENT_STAGES or what.startswith(STREAM)
            progress(*((what, done, of) if is_own else (stage, before + done, len(own))))

        with closing(self._predicted(todo, runtime, budget, tell)) as predicted:
            try:
                for one in predicted:
                    self._keep(todo[one.position], one)
            except BaseException:  # Ctrl-C, or a fit that is refused: what is done stays done
                self._keep_waiting()
                raise
        if self.is_part:
            self._keep_waiting()
            self.ledger.tidy({self.keys[place] for place in own})
            return
        self.ledger.tidy()
        for index in self.kept:
            if index not in self.gathered:
                self._gather(index)
        if self.heads is not None:
            self.heads.tidy({self.keys[place] for places in self.kept.values() for place in places})

    def places_of(self, part: Part) -> list[Place]:
        """Those that are a part's. Jobs of one key, as of equal embeddings under two names, are of one part."""
        first = {self.keys[place]: place for place in reversed(self.places)}
        once = list(dict.fromkeys(first[self.keys[place]] for place in self.places))
        dims = {name: table.dim for name, table in self.snapshot.backbones.items()}
        own = of_part([self._assignment(place) for place in once], dims, len(self.manifest.classes), part)
        keys = {self.keys[once[position]] for position in own}
        return [place for place in self.places if self.keys[place] in keys]

    def n_left(self) -> int:
        """Jobs of the whole study that nobody has finished yet."""
        return sum(place not in self.finished and not self.ledger.has(key) for place, key in self.keys.items())

    @property
    def kept_folders(self) -> list[Path]:
        """Of the heads, a folder for each method."""
        if self.heads is None:
            return []
        kept = [self.methods[index] for index in self.kept]
        return [self.heads.folder(method.name, method.backbones) for method in kept]

    def by_cell(self) -> dict[tuple[int, int], list[FinishedJob]]:
        """The finished jobs by (method, size), in the order of the draws."""
        cells: dict[tuple[int, int], list[FinishedJob]] = {}
        for place in self.places:
            cells.setdefault((place.method, place.size), []).append(self.finished[place])
        return cells

    def notices(self, command: str) -> list[str]:
        """Lines on the finished fits, and on the heads that are kept of them."""
        lines = fit_notices([(self.methods[place.method].name, job) for place, job in self.finished.items()], command)
        if self.heads is None:
            return lines
        jobs = [(self.methods[index], [self.finished[each] for each in own]) for index, own in self.kept.items()]
        return [*lines, *kept_notices(self.methods, self.snapshot), *bytes_notice(jobs)]

    def _predicted(
        self, todo: Sequence[Place], runtime: Runtime, budget: int, tell: Progress
    ) -> Generator[Predicted, None, None]:
        """What comes of the jobs, from this process or a cluster."""
        manifest = self.manifest
        given = self.snapshot, manifest.targets, manifest.test
        assignments = [self._assignment(place) for place in todo]
        if manifest.targets.is_segmentation:
            of = assignments, self.snapshot, manifest.test
            yield from fit_segmentations(*of, runtime=runtime, budget=budget, progress=tell)
            return
        if runtime.engine == ENGINE:
            yield from fit_all(assignments, *given, runtime=runtime, budget=budget, progress=tell)
            return
        from dvme.study.spread_out import fit_on_cluster

        is_kept = [place in self.kept.get(place.method, ()) for place in todo]
        yield from fit_on_cluster(assignments, is_kept, *given, runtime=runtime, progress=tell)

    def _keep(self, place: Place, one: Predicted) -> None:
        done = FinishedJob(
            log_test=one.log_test,
            log_validation=one.log_validation,
            chosen=one.chosen,
            seconds=one.seconds,
            n_parameters=one.n_parameters,
            versions=one.versions,
            outlines=one.outlines,
        )
        done = self._scored(place, done)
        self.finished[place] = done
        if one.pictures is not None:
            self.pictures.write(self.keys[place], one.pictures)  # first, as heads: the ledger is never looked at again
        if place not in self.kept.get(place.method, ()):
            self.ledger.write(self.keys[place], done)
            return
        self.waiting.setdefault(place.method, {})[place] = self._saved(place, one, done)
        if not self.is_part and all(each in self.finished for each in self.kept[place.method]):
            self._gather(place.method)
        elif self.methods[place.method].head.name in ONE_BY_ONE or time.monotonic() - self.kept_at >= KEPT_EVERY:
            self._keep_waiting()

    def _keep_waiting(self) -> None:
        """Keep the heads of methods of which draws are still to be fitted, and then their jobs."""
        for heads in self.waiting.values():
            for place, saved in heads.items():
                assert self.heads is not None
                self.heads.save(self.keys[place], saved)  # first: what is in the ledger is never looked at again
                self.ledger.write(self.keys[place], self.finished[place])
        self.waiting, self.kept_at = {}, time.monotonic()

    def _gather(self, index: int) -> None:
        """Put the heads of a method together, all of whose draws are finished."""
        method, places, fresh = self.methods[index], self.kept[index], self.waiting.get(index, {})
        assert self.heads is not None
        jobs = [(self.keys[place], self.finished[place]) for place in places]
        self.heads.gather(method.name, method.backbones, jobs, list(fresh.values()))
        for place in fresh:
            self.ledger.write(self.keys[place], self.finished[place])
        self.waiting.pop(index, None)
        self.gathered.add(index)

    def _scored(self, place: Place, job: FinishedJob) -> FinishedJob:
        """With its scores."""
        validation = self._parts(place)[1]
        return job.scored_by(self.labels[self.manifest.test], self.labels[validation])

    def _kept(self) -> dict[int, list[Place]]:
        """Jobs whose heads are kept, by method: all draws of the largest size; of another's head none."""
        kept: dict[int, list[Place]] = {}
        can_be = [not why_not_kept(method, self.snapshot) for method in self.methods]
        for place in self.places if self.heads is not None else ():
            if place.size == self.manifest.largest and can_be[place.method]:
                kept.setdefault(place.method, []).append(place)
        return kept

    def _without_head(self) -> list[Place]:
        """Jobs in the ledger whose head is to be kept and is not there, as in runs of a dvme that kept fewer."""
        lacking = []
        for index, places in self.kept.items():
            assert self.heads is not None
            together = self.heads.marks(self.methods[index].name, self.methods[index].backbones)
            marks = {place: mark(self.keys[place], self.finished[place]) for place in places if place in self.finished}
            if tuple(marks.get(place) for place in places) == together:
                self.gathered.add(index)
                continue
            there = {*together, *self.heads.marks_alone([self.keys[place] for place in places])}
            lacking += [place for place, own in marks.items() if own not in there]
        return lacking

    def _is_pictured(self, place: Place) -> bool:
        """Whether pictures are kept of a job: of each segmentation's at the largest size, of the first draw."""
        is_kept = self.manifest.targets.is_segmentation and self.pictures.folder is not None
        return is_kept and place.size == self.manifest.largest and place.draw == 0

    def _without_pictures(self) -> list[Place]:
        """Jobs in the ledger whose pictures are to be kept and are not there."""
        own = [place for place in self.finished if self._is_pictured(place)]
        return [place for place in own if not self.pictures.has(self.keys[place])]

    def _saved(self, place: Place, one: Predicted, done: FinishedJob) -> SavedHead:
        """One job's head with all that predicting and explaining need to know."""
        train, validation, _ = self._parts(place)
        ids = [self.manifest.images[rows] for rows in (train, validation)]
        of_fold = {"seed": self.seeds[place.draw], "job": mark(self.keys[place], done)}
        about = of_fold | {"classes": self.manifest.classes, "test_hash": self.test_hash}
        return saved_head(self.methods[place.method], self.snapshot, ids, one, done, about)

    def _parts(self, place: Place) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Positions that train, that are chosen on, and that are tested."""
        draw = self.manifest.draws[place.draw]
        return self.manifest.train(draw, place.size), self.manifest.validation(draw, place.size), self.manifest.test

    def _assignment(self, place: Place) -> Assignment:
        train, validation, _ = self._parts(place)
        method = self.methods[place.method]
        workplace = self.ledger.workplace(self.keys[place]) if method.head.name in ONE_BY_ONE else None
        is_pictured = self._is_pictured(place)
        return Assignment(method, train, validation, self.seeds[place.draw], workplace, is_pictured, self.boundary)

    def _seed(self, repeat: int, fold: int) -> int:
        """Another one for every draw, so that draws of one training set differ at least in what is random."""
        words = [int(self.manifest.policy.get("seed", 0)), repeat, fold]
        return int(np.random.SeedSequence(words).generate_state(1)[0])

    def _views_of(self, method: Method) -> dict[str, Any]:
        """What of views determines a method's results; nothing of a study of plain images."""
        snapshot = self.snapshot
        if not snapshot.views:
            return {}
        own = [identity_of(snapshot.views[name], is_averaged=snapshot.averages_views) for name in method.backbones]
        return {"views": own}

    def _key(self, place: Place, described: dict[str, Any]) -> str:
        manifest = self.manifest
        return job_key(described, manifest.images, manifest.targets, self._parts(place), self.seeds[place.draw])
