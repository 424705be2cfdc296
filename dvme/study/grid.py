"""The jobs of a sweep: methods, sizes and draws, each with its key; fitted, or read back."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.heads import Embedded, FittedHead, Job
from dvme.heads.fitting.jobs import fit_each, kept_log_proba
from dvme.heads.fusion.network_head import NetworkHead
from dvme.heads.saving import SavedFold, SavedHead, subset_hash
from dvme.metrics.classification import log_odds, score
from dvme.notices import Aside
from dvme.runtime import Progress, Runtime
from dvme.study.design.manifest import SubsetManifest
from dvme.study.kept_heads import KeptHeads, is_kept, largest_size, mark
from dvme.study.ledger import FinishedJob, JobIdentity, Ledger, versions
from dvme.study.methods import EMBEDDINGS_SHARE, HIDDEN, Method, convergence_notice, loaded, method_name
from dvme.text import counted
from dvme_cache import EmbeddingCache

COPIES = 3
"""Of the embeddings, at most: themselves, and twice as many bytes in float32 if they are float16."""


@dataclass(frozen=True)
class Place:
    """Where in the table a job stands: indices of the method, the size and the draw."""

    method: int
    size: int
    draw: int


class Grid:
    """All jobs of one sweep, and what has become of them."""

    def __init__(
        self,
        store: EmbeddingCache,
        rows: NDArray[Any],
        manifest: SubsetManifest,
        methods: Sequence[Method],
        ledger: Ledger,
        heads: KeptHeads,
    ) -> None:
        """`rows` are the cache's rows of the manifest's images, in its order."""
        self.store, self.rows, self.manifest, self.ledger, self.heads = store, rows, manifest, ledger, heads
        self.methods = [_sampled(method, manifest.policy.get("oversample")) for method in methods]
        counts = (range(n) for n in (len(self.methods), len(manifest.sizes), len(manifest.draws)))
        self.places = [Place(*place) for place in itertools.product(*counts)]
        self.labels = manifest.class_indices()
        self.keys = {place: self._identity(place).key for place in self.places}
        self.kept = self._kept()
        found = {place: ledger.read(key) for place, key in self.keys.items()}
        self.finished: dict[Place, FinishedJob] = {place: job for place, job in found.items() if job is not None}
        for place in self._without_head():
            del self.finished[place]
        self.n_reused = len(self.finished)

    def fit(self, runtime: Runtime, progress: Progress) -> None:
        """Fit what is not finished; every job is kept as soon as it is done, and heads are gathered in the end."""
        budget = runtime.memory_budget("cpu")
        progress("sweep", len(self.finished), len(self.places))
        hidden = self.labels.copy()
        hidden[self.manifest.test] = HIDDEN
        for embeddings, methods in self._loaded(budget):
            data = Embedded(embeddings, hidden, len(self.manifest.classes))
            places = [place for place in self.places if place.method in methods and place not in self.finished]
            held = sum(values.nbytes for values in embeddings.values())
            is_cpu = runtime.torch_device() == "cpu"  # a GPU has memory of its own
            own = replace(runtime, memory=max(1, budget - COPIES * held)) if is_cpu else runtime
            tell = partial(_tell, progress, len(self.finished), len(self.places))
            for one in fit_each([self._job(place) for place in places], data, runtime=own, progress=tell):
                place = places[one.position]
                self._keep(place, data, one.head, one.seconds)
        for index, kept in self.kept.items():
            method = self.methods[index]
            self.heads.gather(method.head.name, method.backbones, [(self.keys[p], self.finished[p]) for p in kept])

    def notices(self) -> list[str]:
        """Lines on fits that stopped early, and on jobs that other versions of the packages fitted before."""
        lines = convergence_notice(
            (self.methods[place.method].head.name, job.chosen) for place, job in self.finished.items()
        )
        here = versions()
        differing: Counter[str] = Counter()
        for job in self.finished.values():
            names = [name for name, number in job.versions.items() if here.get(name) != number]
            others = ", ".join(f"{name} {job.versions[name]} (now {here.get(name, 'absent')})" for name in names)
            differing.update([others] if others else [])
        return lines + [
            Aside(
                f"{counted(n, 'job')} of {len(self.finished):,} {'was' if n == 1 else 'were'} fitted before by "
                f"{others}; sweep into another --out to fit all anew"
            )
            for others, n in differing.items()
        ]

    def _loaded(self, budget: int) -> Iterator[tuple[dict[str, NDArray[Any]], set[int]]]:
        """Embeddings and the methods that are fitted on them, where any job of theirs is left to do."""
        unfinished = {place.method for place in self.places if place not in self.finished}
        todo = [self.methods[index] for index in sorted(unfinished)]
        for embeddings, some in loaded(self.store, self.rows, todo, budget // EMBEDDINGS_SHARE):
            yield embeddings, {index for index in unfinished if self.methods[index] in some}

    def _keep(self, place: Place, data: Embedded, head: FittedHead, seconds: float) -> None:
        manifest, method = self.manifest, self.methods[place.method]
        validation = manifest.validation(manifest.draws[place.draw], place.size)
        name = method_name(method.head.name, method.backbones)
        log_test, log_validation = (
            kept_log_proba(head, data.blocks(method.backbones, rows), name) for rows in (manifest.test, validation)
        )
        done = FinishedJob(
            log_test=log_test,
            log_validation=log_validation,
            chosen=dict(head.chosen),
            seconds=seconds,
            n_parameters=sum(array.size for array in head.arrays().values()),
            versions=versions(),
        )
        if place in self.kept.get(place.method, ()):  # first: what is in the ledger is never looked at again
            self.heads.save(self.keys[place], self._saved(place, head, done))
        self.ledger.write(self.keys[place], done)
        self.finished[place] = done

    def _kept(self) -> dict[int, list[Place]]:
        """Jobs whose heads are kept, by method: all draws of the largest size."""
        size, kept = largest_size(self.manifest), dict[int, list[Place]]()
        for place in self.places:
            method = self.methods[place.method]
            if place.size == size and is_kept(method.head.name, method.backbones):
                kept.setdefault(place.method, []).append(place)
        return kept

    def _without_head(self) -> list[Place]:
        """Jobs in the ledger whose head is to be kept and is not there, as in runs of a dvme that kept none."""
        lacking = []
        for index, places in self.kept.items():
            method, keys = self.methods[index], [self.keys[place] for place in places]
            there = self.heads.marks(method.head.name, method.backbones, keys)
            done = [place for place in places if place in self.finished]
            lacking += [place for place in done if mark(self.keys[place], self.finished[place]) not in there]
        return lacking

    def _saved(self, place: Place, head: FittedHead, done: FinishedJob) -> SavedHead:
        """One job's head with all that predicting and explaining need to know."""
        method, job, images = self.methods[place.method], self._job(place), self.manifest.images
        fold = SavedFold(
            head=head,
            train_ids=images[job.train],
            validation_ids=images[job.validation],
            seed=job.seed,
            metrics=score(self.labels[self.manifest.test], log_odds(done.log_test)),
            job=mark(self.keys[place], done),
        )
        tables = [self.store.embeddings(name) for name in method.backbones]
        return SavedHead(
            head=method.head,
            backbones=method.backbones,
            dims=tuple(table.dim for table in tables),
            fingerprints=tuple(table.fingerprint for table in tables),
            classes=self.manifest.classes,
            test_hash=subset_hash(images[self.manifest.test]),
            folds=[fold],
        )

    def _job(self, place: Place) -> Job:
        method, draw = self.methods[place.method], self.manifest.draws[place.draw]
        train, validation = self.manifest.train(draw, place.size), self.manifest.validation(draw, place.size)
        return Job(method.head, method.backbones, train, validation, self._seed(place))

    def _seed(self, place: Place) -> int:
        """Another one for every draw, so that draws of one training set differ at least in what is random."""
        draw = self.manifest.draws[place.draw]
        words = [int(self.manifest.policy.get("seed", 0)), draw.repeat, draw.fold]
        return int(np.random.SeedSequence(words).generate_state(1)[0])

    def _identity(self, place: Place) -> JobIdentity:
        job = self._job(place)
        return JobIdentity(
            head=job.head,
            fingerprints=tuple(self.store.embeddings(name).fingerprint for name in job.backbones),
            ids=self.manifest.images,
            labels=self.labels,
            n_classes=len(self.manifest.classes),
            train=job.train,
            validation=job.validation,
            test=self.manifest.test,
            seed=job.seed,
        )


def _tell(progress: Progress, before: int, total: int, stage: str, done: int, n_jobs: int) -> None:
    """Of the jobs that are fitted now, as some of all."""
    del stage, n_jobs
    progress("sweep", before + done, total)


def _sampled(method: Method, oversample: bool | None) -> Method:
    """The method as the manifest's flag wants it; only heads trained by minibatches can oversample."""
    if oversample is None or not isinstance(method.head, NetworkHead):
        return method
    protocol = replace(method.head.protocol, sampling="oversampled" if oversample else "shuffled")
    return Method(replace(method.head, protocol=protocol), method.backbones)
