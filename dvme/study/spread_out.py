"""The fits of a study on the workers of a cluster: bundles of jobs go out, predictions and kept heads come back."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from dvme.cluster import cluster
from dvme.data.targets import Targets
from dvme.errors import DataError
from dvme.runtime import Progress, Runtime, silent
from dvme.study.design.snapshot import Snapshot
from dvme.study.division import bundles
from dvme.study.fitting import EMBEDDINGS_SHARE, Assignment, Predicted, fit_assignments
from dvme.text import counted
from dvme_cache import CacheError, EmbeddingCache
from dvme_cache.files import is_url


@dataclass(frozen=True)
class Study:
    """What all workers are told."""

    cache: str
    """A URL, or an absolute path."""
    digests: Mapping[str, str]
    """Of the fingerprints, by name of the embeddings; views are embeddings of their own."""
    views: Mapping[str, tuple[str, ...]]
    """Names of the further views of each backbone, in their order; the keys are the backbones."""
    averages_views: bool
    rows: NDArray[np.int64]
    """(N,) of the cache."""
    targets: Targets
    """Of the N images, those of test images hidden."""
    test: NDArray[np.int64]
    """Positions of the test images."""
    runtime: Runtime


@dataclass(frozen=True)
class Bundle:
    """Assignments that are fitted together."""

    positions: list[int]
    """Among all assignments."""
    assignments: list[Assignment]
    is_kept: list[bool]
    """Whether the head comes back beside its predictions."""


def fit_on_cluster(
    assignments: Sequence[Assignment],
    is_kept: Sequence[bool],
    snapshot: Snapshot,
    targets: Targets,
    test: NDArray[np.int64],
    *,
    runtime: Runtime,
    progress: Progress,
) -> Iterator[Predicted]:
    """As `fit_assignments`, on a Ray cluster.

    Args:
        assignments: J, what to fit.
        is_kept: J, whose heads are wanted.
        snapshot: N images.
        targets: theirs; of a test image nobody is told.
        test: positions of the test images.
        runtime: the device, and the cluster.
        progress: told (stage, assignments done, all of them).

    Yields:
        Each assignment once, as soon as its bundle is done.

    Raises:
        DataError: if a head gives no probabilities, or a worker cannot find the cache.
        ClusterError: if the cluster cannot be used, or a bundle takes down several workers.
    """
    if not assignments:
        return
    tables, n_done = snapshot.backbones, 0
    dims = {name: table.dim for name, table in tables.items()}
    found = [
        Bundle(own, [assignments[position] for position in own], [is_kept[position] for position in own])
        for own in bundles(assignments, dims, len(targets.classes))
    ]
    place = snapshot.location if is_url(snapshot.location) else os.path.abspath(snapshot.location)  # noqa: PTH100
    digests = {
        table.name: table.fingerprint.digest
        for name in tables
        for table in (tables[name], *snapshot.views.get(name, ()))
    }
    views = {name: tuple(view.name for view in snapshot.views.get(name, ())) for name in tables}
    with cluster(runtime.ray_address) as there:
        share, alone = there.share_of(runtime)
        seen = digests, views, snapshot.averages_views
        study = Study(place, *seen, snapshot.rows, targets.hidden(test), test, alone)
        named = partial(_named, others=len(found))
        progress("fit", 0, len(assignments))
        for index, predicted in there.work_off(found, partial(make_fit, study, share.cpus), share=share, named=named):
            n_done += len(predicted)
            progress("fit", n_done, len(assignments))
            yield from (replace(one, position=found[index].positions[one.position]) for one in predicted)


def make_fit(study: Study, n_cpus: int) -> Callable[[Bundle], list[Predicted]]:
    """What fits a bundle, in a worker.

    Raises:
        DataError: if there is no such cache on the worker's machine.
    """
    n_beside = max(1, (os.cpu_count() or 1) // n_cpus)
    budget = study.runtime.memory or study.runtime.memory_budget("cpu") // n_beside
    runtime = replace(
        study.runtime, memory=study.runtime.memory or (None if "cuda" in study.runtime.device else budget)
    )
    snapshot = _snapshot(study).holding(budget // EMBEDDINGS_SHARE)

    def fit(bundle: Bundle) -> list[Predicted]:
        given = bundle.assignments, snapshot, study.targets, study.test
        predicted = fit_assignments(*given, runtime=runtime, budget=budget, progress=silent)
        return [one if bundle.is_kept[one.position] else replace(one, head=None) for one in predicted]

    return fit


def _snapshot(study: Study) -> Snapshot:
    """The images of the study as far as fits need them: their rows and embeddings."""
    try:
        store = EmbeddingCache.open(study.cache)
        found = {name: store.embeddings(name) for name in study.digests}
    except CacheError as error:
        raise DataError(
            f"{socket.gethostname()} cannot read {study.cache} ({error}); a cluster needs the cache on storage that "
            "all of its machines share, at the same path, or in an object store"
        ) from error
    for name, table in found.items():
        if table.fingerprint.digest != study.digests[name]:
            raise DataError(
                f"{socket.gethostname()} has other embeddings of {name} at {study.cache}; a cluster needs one cache, "
                "on storage that all of its machines share"
            )
    ids, nobody = np.zeros((len(study.rows), 0), dtype=np.uint8), np.full(len(study.rows), "", dtype=object)
    texts = nobody, nobody, nobody, nobody, nobody
    backbones = {name: found[name] for name in study.views}
    views = {name: tuple(found[view] for view in own) for name, own in study.views.items() if own}
    return Snapshot(study.cache, study.rows, ids, *texts, (), backbones, {}, views, study.averages_views)


def _named(bundle: Bundle, others: int) -> str:
    first, n_jobs = bundle.assignments[0], counted(len(bundle.assignments), "job")
    return f"{first.method.title} on {len(first.train):,} images ({n_jobs}, one bundle of {others:,})"
