"""Images through backbones, a shard of the cache at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme.data.decoded import Told
from dvme.extraction.decoding import Batch, Way, Work, decoded_batches
from dvme.runtime import Runtime
from dvme_cache import Embeddings

if TYPE_CHECKING:
    from dvme.backbones.loading.model import Backbone


@dataclass(frozen=True)
class Target:
    """A backbone, and where its embeddings go."""

    model: Backbone
    """On its device."""
    embeddings: Embeddings
    """Of this model, open for writing."""


def extract_shards(
    targets: Sequence[Target],
    shards: Sequence[NDArray[Any]],
    work_of: Callable[[Sequence[int]], Sequence[Work]],
    runtime: Runtime,
    tell: Callable[[int], None],
) -> tuple[dict[int, str], dict[int, tuple[Told, ...]]]:
    """Embed the images of each shard by every backbone, and commit them; each image is decoded once.

    A batch never spans two shards: which images are computed together, on which the last bits of an
    embedding depend, is the same after an interruption as without one.

    Args:
        targets: the backbones, all of which lack these rows.
        shards: the rows to embed of each shard, ascending.
        work_of: where the images of some rows lie.
        runtime: batch size, workers and the largest image.
        tell: called with the number of images done.

    Returns:
        Row to reason, of the files that could not be read just now; their rows stay pending.
        Row to what there is to say about its range of grey, where there is something.
    """
    device = targets[0].model.device.type
    size = runtime.images_per_batch(device)
    batches = decoded_batches(
        (work_of(rows) for rows in batches_of(shards, size)),
        [Way.of(target.model.spec) for target in targets],
        runtime,
        is_decoding_ahead=device != "cpu",
    )
    told: dict[int, tuple[Told, ...]] = {}
    unread: dict[int, str] = {}
    done = 0
    with closing(batches):
        for rows in shards:
            growing = [_GrowingShard(target, rows) for target in targets]
            for start in range(0, len(rows), size):
                batch = next(batches)
                for target, shard in zip(targets, growing, strict=True):
                    shard.embed(batch[Way.of(target.model.spec)])
                told |= batch[Way.of(targets[0].model.spec)].told
                tell(done + min(start + size, len(rows)))
            for shard in growing:
                unread |= shard.commit()
            done += len(rows)
    return unread, told


def batches_of(shards: Iterable[NDArray[Any]], batch_size: int) -> Iterator[list[int]]:
    """The rows of every batch; none of them spans two shards."""
    for rows in shards:
        for start in range(0, len(rows), batch_size):
            yield rows[start : start + batch_size].tolist()


def embed_batch(model: Backbone, batch: Batch, out: NDArray[Any]) -> None:
    """Write a batch's embeddings into `out` (B, D), in its dtype; rows without pixels keep what is there."""
    import torch

    if len(batch.pixels):
        embedded = model.embed(torch.from_numpy(batch.pixels)).cpu().numpy()
        with np.errstate(over="ignore"):
            out[batch.has_pixels] = embedded


def embed_images(
    model: Backbone, batches: Iterable[Sequence[Work]], dtype: str, runtime: Runtime, *, is_decoding_ahead: bool
) -> Iterator[tuple[Batch, NDArray[Any]]]:
    """Each batch and its embeddings (B, D) by one backbone, NaN for rows without pixels; nothing is stored."""
    way = Way.of(model.spec)
    with closing(decoded_batches(batches, [way], runtime, is_decoding_ahead=is_decoding_ahead)) as decoded:
        for each in decoded:
            batch = each[way]
            features = np.full((len(batch.rows), model.dim), np.nan, dtype=dtype)
            embed_batch(model, batch, features)
            yield batch, features


class _GrowingShard:
    """The embeddings of one shard's rows, until all of them are there."""

    def __init__(self, target: Target, rows: NDArray[Any]) -> None:
        self._target = target
        self._rows = rows
        self._features = np.full((len(rows), target.embeddings.dim), np.nan, dtype=target.embeddings.dtype)
        self._n_filled = 0
        self._failed: dict[int, str] = {}
        self._unread: dict[int, str] = {}

    def embed(self, batch: Batch) -> None:
        """Embed the images of the next rows."""
        end = self._n_filled + len(batch.rows)
        embed_batch(self._target.model, batch, self._features[self._n_filled : end])
        self._n_filled = end
        self._failed |= batch.failed
        self._unread |= batch.unread

    def commit(self) -> Mapping[int, str]:
        """Store the embeddings; the rows that could not be read just now, by reason."""
        rows, features, embeddings = self._rows, self._features, self._target.embeddings
        if self._unread:
            is_known = ~np.isin(rows, list(self._unread))
            rows, features = rows[is_known], features[is_known]
        if len(rows):
            overflow = f"its {self._target.model.spec.name} embedding is not finite in {embeddings.dtype}"
            embeddings.commit(rows, features, self._failed, not_finite=overflow)
        return self._unread
