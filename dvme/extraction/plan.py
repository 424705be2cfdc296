"""`dvme extract --plan`: what a run would reuse and compute, why, and what it would take. Nothing is written."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme.arguments import public
from dvme.backbones.model.quantised import row_bytes
from dvme.data import Columns, Samples, Task
from dvme.defaults import VIEWS
from dvme.extraction.beginning import Begun, begin_run
from dvme.extraction.beside import donors_of, rows_done
from dvme.extraction.checks import Held, check_names, check_order
from dvme.extraction.indexing import is_below, unknown_places
from dvme.extraction.models import Choice, KnownBackbone, densely, seen_in_views
from dvme.extraction.opening import ExtractRequest, Opened, open_run
from dvme.extraction.passes import Options
from dvme.extraction.room import CACHE_BYTES_PER_ROW
from dvme.extraction.trial import Trial
from dvme.parts import parse_part
from dvme.progress import duration
from dvme.runtime import Progress, Runtime, automatic
from dvme.shown.result import Shown, some_lines
from dvme.shown.table import record_of
from dvme.text import counted
from dvme_cache import EmbeddingCache, RowState, check_shard, remains_of
from dvme_cache.layout import shard_rows

if TYPE_CHECKING:
    from dvme.backbones.loading.model import Backbone


@dataclass(frozen=True)
class BackbonePlan:
    """What a run would do for one backbone."""

    backbone: str
    dim: int
    reused: int
    """Images whose embedding is in the cache and proven."""
    computed: dict[str, int]
    """Images to extract, by the reason why."""
    failed: int
    """Images that could not be decoded in an earlier run and would be left alone."""
    n_bytes: int
    """Growth of the cache, before checksums of the file system."""
    images_per_second: float
    """Measured on this machine with some of the images; nan where there is nothing to compute."""
    seconds: float
    """Estimated time of a pass for this backbone alone."""

    @property
    def n_computed(self) -> int:
        """Images to extract."""
        return sum(self.computed.values())


@dataclass(frozen=True, repr=False)
class ExtractPlan(Shown):
    """What a run would find and do; `to_frame()` has a row for each backbone, see `BackbonePlan`."""

    cache: str
    exists: bool
    """Whether the cache is there already."""
    task: Task
    n_files: int
    n_rows: int
    """Distinct images among the files."""
    n_new: int
    """Images that the cache does not have."""
    n_unlisted: int
    """Images of the cache that are not among the files, nor in a place that could not be listed or read."""
    backbones: list[BackbonePlan]
    seconds: float
    """Estimated time of the one pass for all backbones, which share the decoding, once they are loaded."""
    remarks: list[str] = field(default_factory=list)
    """What was passed over, which columns would be used, what is odd about names, a line each."""
    unlisted: dict[str, str] = field(default_factory=dict)
    """Folders, archives, and links to nowhere, that could not be listed, and why."""
    missing: list[str] = field(default_factory=list)
    """Images of the manifest that would be left out, for their files are not there."""
    unread: dict[str, str] = field(default_factory=dict)
    """Files that could not be read, and why."""
    part: str | None = None
    """Which part of the extraction it would be, such as `3/16`; what is said of backbones is of its shards."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return asdict(self) | {"task": self.task.to_json()}

    def _lines(self) -> list[str]:
        files, images = counted(self.n_files, "file"), counted(self.n_rows, "distinct image")
        about = f"about {duration(self.seconds)}" if self.seconds else "nothing to compute"
        first = f"{files}, {images}, {self.n_new:,} new to {self.cache}; {about}"
        plans = [f"{each.backbone}: {each.n_computed:,} to compute, {each.reused:,} reused" for each in self.backbones]
        return [first, *some_lines(plans)]

    def _records(self) -> list[dict[str, Any]]:
        return [record_of(each) | {"computed": each.n_computed} for each in self.backbones]


@public
def plan_extraction(  # noqa: PLR0913 - the command's options, one to one
    images: str | Path,
    cache: str | Path,
    *,
    backbones: Sequence[str],
    views: int | str = VIEWS,
    dense: bool = False,
    layers: str | None = None,
    columns: Columns | None = None,
    image_root: str | Path | None = None,
    skip_missing: bool = False,
    class_order: Sequence[str] | None = None,
    weights: Mapping[str, str | Path] | None = None,
    architectures: Mapping[str, str] | None = None,
    precision: str | None = None,
    dtype: str | None = None,
    runtime: Runtime | None = None,
    replace: bool = False,
    retry_failed: bool = False,
    rows_per_shard: int | None = None,
    part: str | None = None,
    trust_mtime: bool = False,
    progress: Progress = automatic,
    announce: Callable[[Task, Samples], None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> ExtractPlan:
    """Say what `extract` with the same arguments would do. Files are hashed, some are embedded, none is written.

    Raises:
        The same as `extract`, where the run would be refused.

    Example:
        >>> plan = dvme.plan_extraction("images", "my.zarr", backbones=["efficientnet-lite0"])
        >>> plan.n_rows, plan.n_new
        (40, 0)
    """
    runtime = runtime or Runtime()
    request = ExtractRequest(
        images=images,
        cache=cache,
        choice=Choice(
            names=seen_in_views(densely(backbones, layers, is_dense=dense), views),
            weights=weights or {},
            architectures=architectures or {},
            precision=precision,
        ),
        columns=columns,
        image_root=image_root,
        skip_missing=skip_missing,
        class_order=class_order,
        options=Options(
            dtype=dtype,
            replace=replace,
            retry_failed=retry_failed or runtime.max_pixels is not None,
            rows_per_shard=rows_per_shard,
            part=parse_part(part),
        ),
        runtime=runtime,
        announce=announce,
        trust_mtime=trust_mtime,
        tell=tell,
    )
    opened = open_run(request, progress)
    begun = begin_run(request, opened, progress, is_planned=True)
    store = EmbeddingCache.open(cache) if EmbeddingCache.exists(cache) else None
    return _planned(request, opened, store, begun)


def _planned(request: ExtractRequest, opened: Opened, store: EmbeddingCache | None, begun: Begun) -> ExtractPlan:
    found = begun.found
    samples, digests, remarks = found.samples, found.digests, list(opened.samples.remarks)
    if store is not None:
        held = Held.by(store)
        check_order(held, found, opened.class_order)
        remarks += check_names(held, found)
    known = {} if store is None else {digest: row for row, digest in enumerate(held.contents)}
    first_file = {digest: index for index, digest in reversed(list(enumerate(digests)))}
    rows = np.array(sorted(known[digest] for digest in first_file if digest in known), dtype=np.int64)
    n_others = 0 if store is None else _count_others(store, held, rows, unknown_places(found))
    new, donors = [digest for digest in dict.fromkeys(digests) if digest not in known], donors_of(request.cache)
    trial = Trial(samples, first_file, request.runtime)
    plans = [_plan_one(store, model, rows, new, request.options, trial, donors) for model in begun.models]
    return ExtractPlan(
        cache=os.fspath(request.cache),
        exists=store is not None,
        task=opened.task,
        n_files=len(opened.samples),
        n_rows=len(first_file),
        n_new=len(first_file) - len(rows),
        n_unlisted=n_others,
        backbones=plans,
        seconds=trial.seconds([(plan.n_computed, plan.images_per_second) for plan in plans if plan.n_computed]),
        remarks=remarks,
        unlisted=dict(samples.unlisted),
        missing=list(samples.missing),
        unread=found.unread,
        part=None if request.options.part is None else str(request.options.part),
    )


def _count_others(store: EmbeddingCache, held: Held, rows: NDArray[Any], unknown: Sequence[Path]) -> int:
    """Images of the cache that are not among some rows, but for those of which nobody knows whether they are there."""
    is_other = ~store.samples.is_pruned & ~is_below(held.columns["path"].tolist(), unknown)
    is_other[rows] = False
    return int(is_other.sum())


def _plan_one(
    store: EmbeddingCache | None,
    model: Backbone | KnownBackbone,
    rows: NDArray[Any],
    added: Sequence[bytes],
    options: Options,
    trial: Trial,
    donors: Sequence[EmbeddingCache],
) -> BackbonePlan:
    """What one backbone lacks: of this run's images that the cache has, in `rows`, and of those to be added, by id."""
    name = model.spec.name
    rows, new = _own(store, model, rows, added, options)
    made = model.fingerprint(options.dtype_of(model))
    taken = set() if options.replace else {content for donor in donors for content in rows_done(donor, made)}
    is_taken = np.array([store is not None and store.samples.ids[row].tobytes() in taken for row in rows], dtype=bool)
    computed = {"new to the cache": len(new - taken)}
    reused, failed = len(new & taken), 0
    if store is None or name not in store.backbones:
        reused += int(is_taken.sum())
        computed["not extracted yet"] = int((~is_taken).sum())
    elif options.replace:
        computed["replaced"] = len(rows)
    else:
        every_state, is_lost = _states(store, name, options)
        states = every_state[rows]
        is_pending, failed = states == RowState.PENDING, int((states == RowState.FAILED).sum())
        reused += int((states == RowState.DONE).sum()) + int((is_pending & is_taken).sum())
        computed["damaged on disk"] = int((is_lost[rows] & ~is_taken).sum())
        computed["not extracted yet"] = int((is_pending & ~is_taken).sum()) - computed["damaged on disk"]
        if options.retry_failed:
            computed["failed before"], failed = failed, 0
    computed = {why: count for why, count in computed.items() if count}
    total = sum(computed.values())
    speed = trial.images_per_second(model) if total else float("nan")
    return BackbonePlan(
        backbone=name,
        dim=model.dim,
        reused=reused,
        computed=computed,
        failed=failed,
        n_bytes=total * (row_bytes(model.grids, model.dim, options.dtype_of(model)) + CACHE_BYTES_PER_ROW),
        images_per_second=speed,
        seconds=total / speed if total else 0.0,
    )


def _own(
    store: EmbeddingCache | None,
    model: Backbone | KnownBackbone,
    rows: NDArray[Any],
    added: Sequence[bytes],
    options: Options,
) -> tuple[NDArray[Any], set[bytes]]:
    """Of a backbone's rows, and of the content ids that a run would add, in their order, those in the run's shards."""
    n_rows = 0 if store is None else store.n_rows
    if store is not None and model.spec.name in store.backbones:
        size = store.embeddings(model.spec.name).shard_rows
    else:
        n_bytes = row_bytes(model.grids, model.dim, options.dtype_of(model))
        size = shard_rows(n_rows + len(added), n_bytes, asked=options.rows_per_shard)
    own = options.own(np.arange(n_rows, n_rows + len(added)), size)
    return options.own(rows, size), {added[row - n_rows] for row in own.tolist()}


def _states(store: EmbeddingCache, name: str, options: Options) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """(N,) row states as the run would find them after salvaging damaged shards, and (N,) which rows are lost.

    Of shards that are not the run's, nothing is looked at.
    """
    embeddings = store.embeddings(name)
    states = np.zeros(embeddings.n_shards * embeddings.shard_rows, dtype=np.uint8)
    is_lost = np.zeros(len(states), dtype=bool)
    own = options.shards_of(embeddings)
    for shard in range(embeddings.n_shards) if own is None else own:
        rows = slice(shard * embeddings.shard_rows, (shard + 1) * embeddings.shard_rows)
        if check_shard(embeddings, shard):
            remains = remains_of(embeddings, shard)
            states[rows], is_lost[rows] = remains.states, remains.is_lost
        else:
            states[rows] = embeddings.states_of(shard)
    return states[: store.n_rows], is_lost[: store.n_rows]
