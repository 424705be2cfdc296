"""`dvme extract`: images into a cache, each embedding computed once."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme.backbones.environment import installed
from dvme.backbones.registry import get_spec
from dvme.data import Columns, Task, load_samples
from dvme.errors import OptionError
from dvme.extraction.decoding import Batch, Unread, Work, decoded_batches
from dvme.extraction.indexing import Index, index_samples
from dvme.runtime import Progress, Runtime, keep_freed_memory, silent
from dvme_cache import EmbeddingCache, Embeddings, RowState, count_states

if TYPE_CHECKING:
    from dvme.backbones.model import Backbone

DTYPES = ("float32", "float16")

Result = NDArray[Any] | str | Unread
"""An embedding (D,), a reason that will hold, or one of the moment."""


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
    damaged_shards: list[int]
    """Shards whose stored bytes were torn, flipped or gone; their rows were extracted anew."""


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
    n_changed: int
    """Rows whose label, split or group is another than before."""
    n_unlisted: int
    """Labelled rows of the cache that are not among the images of this run, and still take part."""
    outcomes: list[BackboneOutcome] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return asdict(self) | {"task": self.task.to_json()}


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
    # Pillow's warnings come from decoding threads, which cannot filter them on their own.
    with warnings.catch_warnings(action="ignore", category=UserWarning), EmbeddingCache.writing(cache) as store:
        index = index_samples(store, samples, runtime.n_workers, lambda done, total: progress("hash", done, total))
        outcomes = []
        for model in models:
            if replace:
                store.remove_embeddings(model.spec.name)
            outcomes.append(_extract_one(store, model, index, dtype, runtime, retry_failed, progress))
    return ExtractReport(
        cache=os.fspath(cache),
        task=task,
        n_files=len(samples),
        n_rows=len(index.rows),
        n_new=index.n_new,
        contradictory=index.contradictory,
        n_changed=index.n_changed,
        n_unlisted=index.n_unlisted,
        outcomes=outcomes,
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
    damaged = embeddings.discard_damaged_shards()
    shards = [
        wanted
        for rows in embeddings.pending_shards(retry_failed=retry_failed)
        if len(wanted := rows[np.isin(rows, index.rows)])
    ]
    total = sum(len(rows) for rows in shards)
    started = time.perf_counter()
    unread: dict[int, str] = {}
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
            results = _counted(_embedded(model, batches, dtype), lambda done: tell(name, done, total))
            for rows in shards:
                unread |= _commit_shard(embeddings, rows, results)
    return _outcome(cache, embeddings, index, shards, unread, damaged, time.perf_counter() - started)


def _outcome(
    cache: EmbeddingCache,
    embeddings: Embeddings,
    index: Index,
    shards: Sequence[NDArray[Any]],
    unread: Mapping[int, str],
    damaged: list[int],
    seconds: float,
) -> BackboneOutcome:
    states = embeddings.states()
    failed = index.rows[states[index.rows] == RowState.FAILED]
    ids, reasons = cache.samples.paths, embeddings.reasons()
    computed = sum(int((states[rows] == RowState.DONE).sum()) for rows in shards)
    return BackboneOutcome(
        backbone=embeddings.name,
        dim=embeddings.dim,
        reused=count_states(states[index.rows])["done"] - computed,
        computed=computed,
        failed=len(failed) + len(unread),
        seconds=seconds,
        reasons={ids[row]: reasons[row] for row in failed} | {ids[row]: why for row, why in unread.items()},
        damaged_shards=damaged,
    )


def _work(cache: EmbeddingCache, shards: Sequence[NDArray[Any]]) -> Iterator[Work]:
    paths, digests = cache.column("path"), cache.samples.content_ids
    for rows in shards:
        for row in rows.tolist():
            yield Work(row, Path(paths[row]), digests[row])


def _embedded(model: Backbone, batches: Iterator[Batch], dtype: str) -> Iterator[tuple[int, Result]]:
    """(row, result) in row order."""
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


def _counted(results: Iterator[tuple[int, Result]], tell: Callable[[int], None]) -> Iterator[tuple[int, Result]]:
    for done, result in enumerate(results, start=1):
        yield result
        tell(done)


def _commit_shard(embeddings: Embeddings, rows: NDArray[Any], results: Iterator[tuple[int, Result]]) -> dict[int, str]:
    """Take the results of one shard's rows, commit them, and return the rows that could not be read just now."""
    features = np.full((len(rows), embeddings.dim), np.nan, dtype=embeddings.dtype)
    reasons: dict[int, str] = {}
    unread: dict[int, str] = {}
    for position, (row, result) in enumerate(islice(results, len(rows))):
        if isinstance(result, Unread):
            unread[row] = result.reason
        elif isinstance(result, str):
            reasons[row] = result
        else:
            features[position] = result
    is_known = ~np.isin(rows, list(unread))
    if is_known.any():
        embeddings.commit(rows[is_known], features[is_known], reasons)
    return unread


def _provenance(model: Backbone) -> dict[str, Any]:
    versions = {name: installed(name) for name in ("dvme", "torch", "torchvision", "timm", "pillow")}
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": str(model.device),
        "licence": model.spec.licence,
        "paper": model.spec.paper,
        "versions": versions,
    }
