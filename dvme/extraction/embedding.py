"""Images through one backbone, a shard of the cache at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme.extraction.decoding import Batch, Unread, Work, decoded_batches
from dvme.runtime import Runtime
from dvme_cache import Embeddings

if TYPE_CHECKING:
    from dvme.backbones.model import Backbone

Result = NDArray[Any] | str | Unread
"""An embedding (D,), a reason that will hold, or one of the moment."""


def extract_shards(
    model: Backbone,
    embeddings: Embeddings,
    shards: Sequence[NDArray[Any]],
    work_of: Callable[[int], Work],
    runtime: Runtime,
    tell: Callable[[int], None],
) -> dict[int, str]:
    """Embed and commit the images of each shard.

    A batch never spans two shards: which images are computed together, on which the last bits of an
    embedding depend, is the same after an interruption as without one.

    Args:
        model: on its device.
        embeddings: of this model, open for writing.
        shards: the rows to embed of each shard, ascending.
        work_of: where a row's image lies.
        runtime: batch size and workers.
        tell: called with the number of images done.

    Returns:
        Row to reason, of the files that could not be read just now; their rows stay pending.
    """
    unread: dict[int, str] = {}
    done = 0
    batches = decoded_batches(
        ([work_of(row) for row in rows] for rows in batches_of(shards, runtime.images_per_batch(model.device.type))),
        model.spec.preprocess,
        workers=runtime.n_workers,
        is_decoding_ahead=model.device.type != "cpu",
    )
    with closing(batches):
        results = embed_batches(model, batches, embeddings.dtype)
        for rows in shards:
            unread |= _commit_shard(embeddings, rows, _counted(islice(results, len(rows)), done, tell))
            done += len(rows)
    return unread


def batches_of(shards: Iterable[NDArray[Any]], batch_size: int) -> Iterator[list[int]]:
    """The rows of every batch; none of them spans two shards."""
    for rows in shards:
        for start in range(0, len(rows), batch_size):
            yield rows[start : start + batch_size].tolist()


def embed_batches(model: Backbone, batches: Iterable[Batch], dtype: str) -> Iterator[tuple[int, Result]]:
    """(row, result) of every image, in the order of the batches."""
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


def _counted(
    results: Iterable[tuple[int, Result]], before: int, tell: Callable[[int], None]
) -> Iterator[tuple[int, Result]]:
    for done, result in enumerate(results, start=before + 1):
        yield result
        tell(done)


def _commit_shard(
    embeddings: Embeddings, rows: NDArray[Any], results: Iterable[tuple[int, Result]]
) -> Mapping[int, str]:
    """Take the results of one shard's rows, commit them, and return the rows that could not be read just now."""
    features = np.full((len(rows), embeddings.dim), np.nan, dtype=embeddings.dtype)
    reasons: dict[int, str] = {}
    unread: dict[int, str] = {}
    for position, (row, result) in enumerate(results):
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
