"""`dvme extract`: images into a cache, each embedding computed once."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme.backbones.environment import installed
from dvme.backbones.registry import get_spec
from dvme.data import Columns, Task, load_samples
from dvme.errors import OptionError
from dvme.extraction.decoding import Batch, Work, decoded_batches
from dvme.extraction.indexing import Index, index_samples
from dvme.runtime import Progress, Runtime, keep_freed_memory, silent
from dvme_cache import EmbeddingCache, Embeddings, RowState, count_states

if TYPE_CHECKING:
    from dvme.backbones.model import Backbone

DTYPES = ("float32", "float16")


@dataclass(frozen=True)
class BackboneOutcome:
    """What a run did for one backbone."""

    backbone: str
    dim: int
    reused: int
    """Rows of this run's images that were in the cache already."""
    computed: int
    """Rows extracted now."""
    failed: int
    """Rows of this run's images without an embedding, now or from an earlier run."""
    seconds: float
    """Wall time of the extraction."""
    reasons: dict[str, str]
    """Image id to the reason why it failed."""


@dataclass(frozen=True)
class ExtractReport:
    """What a run found and did."""

    cache: str
    task: Task
    n_files: int
    n_rows: int
    """Distinct images among the files."""
    n_new: int
    """Rows the cache did not have before."""
    contradictory: list[str]
    """Duplicate images that disagree on label, split or group, and so take part in nothing."""
    outcomes: list[BackboneOutcome] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return asdict(self) | {"task": asdict(self.task) | {"kind": self.task.kind}}


def extract(  # noqa: PLR0913 - the command's options, one to one
    images: str | Path,
    cache: str | Path,
    *,
    backbones: Sequence[str],
    columns: Columns | None = None,
    image_root: str | Path | None = None,
    weights: Mapping[str, str | Path] | None = None,
    dtype: str = "float32",
    runtime: Runtime | None = None,
    replace: bool = False,
    retry_failed: bool = False,
    progress: Progress = silent,
    announce: Callable[[Task, int], None] | None = None,
) -> ExtractReport:
    """Run frozen backbones over images and keep their embeddings; what the cache has is not computed again.

    Everything that can be refused is refused before the cache is touched.

    Args:
        images: a folder or a manifest.
        cache: the cache's path, by custom `NAME.zarr`; created if it is not there.
        backbones: names, in the order in which they are extracted.
        columns: a manifest's columns.
        image_root: where a manifest's relative paths start.
        weights: local checkpoints by backbone name.
        dtype: stored type, `float32` or `float16`.
        runtime: device, batch size, workers.
        replace: delete embeddings of these backbones and extract them anew.
        retry_failed: try images again that could not be decoded in an earlier run.
        progress: told (stage, done, total); the stages are `hash` and the backbones' names.
        announce: told the task and the number of files before any image is opened.

    Raises:
        DataError, UnknownNameError, WeightsError, CheckpointError, OptionError, FingerprintMismatchError,
        CacheLockedError: each says in one line what is wrong and what to do.
    """
    runtime = runtime or Runtime()
    if dtype not in DTYPES:
        raise OptionError(f"dtype {dtype!r} is not known; choose one of {', '.join(DTYPES)}")
    samples = load_samples(images, columns, image_root)
    task = Task.from_labels(samples.labels)
    if announce is not None:
        announce(task, len(samples))
    models = _load_all(backbones, weights or {}, runtime)
    if Path(cache).exists() and not replace:
        _check_fingerprints(EmbeddingCache.open(cache), models, dtype)
    with EmbeddingCache.writing(cache) as store:
        index = index_samples(store, samples, runtime.n_workers, lambda done, total: progress("hash", done, total))
        outcomes = []
        for model in models:
            if replace:
                store.remove_embeddings(model.spec.name)
            outcomes.append(_extract_one(store, model, index, dtype, runtime, retry_failed, progress))
    return ExtractReport(
        os.fspath(cache), task, len(samples), len(index.rows), index.n_new, index.contradictory, outcomes
    )


def _load_all(names: Sequence[str], weights: Mapping[str, str | Path], runtime: Runtime) -> list[Backbone]:
    from dvme.backbones.model import load_backbone

    if not names:
        raise OptionError("no backbone is named; pass --backbones, such as --backbones supervised,dino")
    if len(set(names)) != len(names):
        raise OptionError(f"a backbone is named twice in {','.join(names)}; name each once")
    stray = sorted(set(weights) - set(names))
    if stray:
        raise OptionError(f"--weights names {', '.join(stray)}, which --backbones does not")
    specs = [get_spec(name) for name in names]
    device = runtime.torch_device()
    if device == "cpu":
        keep_freed_memory()
    return [
        load_backbone(spec, weights=Path(weights[spec.name]) if spec.name in weights else None, device=device)
        for spec in specs
    ]


def _check_fingerprints(cache: EmbeddingCache, models: Sequence[Backbone], dtype: str) -> None:
    for model in models:
        cache.check_fingerprint(model.spec.name, model.fingerprint(dtype))


def _extract_one(
    cache: EmbeddingCache,
    model: Backbone,
    index: Index,
    dtype: str,
    runtime: Runtime,
    retry_failed: bool,
    tell: Progress,
) -> BackboneOutcome:
    """Extract what one backbone lacks, a shard at a time."""
    name = model.spec.name
    embeddings = cache.ensure_embeddings(
        name, model.fingerprint(dtype), dim=model.dim, dtype=dtype, provenance=_provenance(model)
    )
    shards = [
        wanted
        for rows in embeddings.pending_shards(retry_failed=retry_failed)
        if len(wanted := rows[np.isin(rows, index.rows)])
    ]
    total = sum(len(rows) for rows in shards)
    started = time.perf_counter()
    if total:
        tell(name, 0, total)
        batches = decoded_batches(
            _work(cache, shards),
            model.spec.preprocess,
            batch_size=runtime.images_per_batch(model.device.type),
            workers=runtime.n_workers,
            is_decoding_ahead=model.device.type != "cpu",
        )
        with closing(batches):
            _commit_shards(embeddings, shards, _embedded(model, batches, dtype), lambda done: tell(name, done, total))
    seconds = time.perf_counter() - started
    states = embeddings.states()[index.rows]
    failed = index.rows[states == RowState.FAILED]
    ids, reasons = cache.samples.paths, embeddings.reasons()
    n_done = count_states(states)["done"]
    computed = sum(int((embeddings.states()[rows] == RowState.DONE).sum()) for rows in shards)
    return BackboneOutcome(
        backbone=name,
        dim=model.dim,
        reused=n_done - computed,
        computed=computed,
        failed=len(failed),
        seconds=seconds,
        reasons={ids[row]: reasons[row] for row in failed},
    )


def _work(cache: EmbeddingCache, shards: Sequence[NDArray[Any]]) -> Iterator[Work]:
    paths, digests = cache.column("path"), cache.samples.content_ids
    for rows in shards:
        for row in rows.tolist():
            yield Work(row, Path(paths[row]), digests[row])


def _embedded(model: Backbone, batches: Iterator[Batch], dtype: str) -> Iterator[tuple[int, NDArray[Any] | str]]:
    """(row, embedding or reason) in row order."""
    import torch

    for batch in batches:
        good = [row for row in batch.rows if row not in batch.reasons]
        features: dict[int, NDArray[Any]] = {}
        if good:
            embedded = model.embed(torch.from_numpy(batch.pixels)).cpu().numpy()
            with np.errstate(over="ignore"):
                features = dict(zip(good, embedded.astype(dtype), strict=True))
        for row in batch.rows:
            if row in batch.reasons:
                yield row, batch.reasons[row]
            elif np.isfinite(features[row]).all():
                yield row, features[row]
            else:
                yield row, f"its {model.spec.name} embedding is not finite in {dtype}"


def _commit_shards(
    embeddings: Embeddings,
    shards: Sequence[NDArray[Any]],
    results: Iterator[tuple[int, NDArray[Any] | str]],
    tell: Callable[[int], None],
) -> None:
    """Write each shard as soon as its last row is there; results come in the shards' order."""
    waiting = deque(shards)
    features = np.full((len(waiting[0]), embeddings.dim), np.nan, dtype=embeddings.dtype)
    reasons: dict[int, str] = {}
    position = 0
    for done, (row, result) in enumerate(results, start=1):
        if isinstance(result, str):
            reasons[row] = result
        else:
            features[position] = result
        position += 1
        if position == len(waiting[0]):
            embeddings.commit(waiting.popleft(), features, reasons)
            if waiting:
                features = np.full((len(waiting[0]), embeddings.dim), np.nan, dtype=embeddings.dtype)
                reasons, position = {}, 0
        tell(done)


def _provenance(model: Backbone) -> dict[str, Any]:
    versions = {name: installed(name) for name in ("dvme", "torch", "torchvision", "timm", "pillow")}
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": str(model.device),
        "licence": model.spec.licence,
        "paper": model.spec.paper,
        "versions": versions,
    }
