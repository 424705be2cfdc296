"""Images through backbones, a shard of the cache at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme.data import Outliers
from dvme.extraction.decoding import Batch, Unread, Work, decoded_batches
from dvme.runtime import Runtime
from dvme_cache import Embeddings

if TYPE_CHECKING:
    from dvme.backbones.loading.model import Backbone

Result = NDArray[Any] | str | Unread
"""An embedding (D,), a reason that will hold, or one of the moment."""


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
    work_of: Callable[[int], Work],
    runtime: Runtime,
    tell: Callable[[int], None],
) -> tuple[dict[int, str], dict[int, Outliers]]:
    """Embed the images of each shard by every backbone, and commit them; each image is decoded once.

    A batch never spans two shards: which images are computed together, on which the last bits of an
    embedding depend, is the same after an interruption as without one.

    Args:
        targets: the backbones, all of which lack these rows.
        shards: the rows to embed of each shard, ascending.
        work_of: where a row's image lies.
        runtime: batch size and workers.
        tell: called with the number of images done.

    Returns:
        Row to reason, of the files that could not be read just now; their rows stay pending.
        Row to the handful of pixels that sets the range of its image, where one does.
    """
    device = targets[0].model.device.type
    size = runtime.images_per_batch(device)
    batches = decoded_batches(
        ([work_of(row) for row in rows] for rows in batches_of(shards, size)),
        [target.model.spec.preprocess for target in targets],
        workers=runtime.n_workers,
        is_decoding_ahead=device != "cpu",
        max_pixels=runtime.max_pixels,
    )
    outliers: dict[int, Outliers] = {}
    unread: dict[int, str] = {}
    done = 0
    with closing(batches):
        for rows in shards:
            growing = [_GrowingShard(target.embeddings, rows) for target in targets]
            for until in _ends(len(rows), size):
                batch = next(batches)
                for target, shard in zip(targets, growing, strict=True):
                    own = batch[target.model.spec.preprocess]
                    shard.append(embed_batch(target.model, own, target.embeddings.dtype))
                outliers |= batch[targets[0].model.spec.preprocess].outliers
                tell(done + until)
            for shard in growing:
                unread |= shard.commit()
            done += len(rows)
    return unread, outliers


def batches_of(shards: Iterable[NDArray[Any]], batch_size: int) -> Iterator[list[int]]:
    """The rows of every batch; none of them spans two shards."""
    for rows in shards:
        for start in range(0, len(rows), batch_size):
            yield rows[start : start + batch_size].tolist()


def _ends(n_rows: int, size: int) -> Iterator[int]:
    """How many of a shard's rows are done after each of its batches."""
    for start in range(0, n_rows, size):
        yield min(start + size, n_rows)


def embed_batch(model: Backbone, batch: Batch, dtype: str) -> Iterator[tuple[int, Result]]:
    """(row, result) of every image, in the order of the batch."""
    import torch

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


def embed_images(
    model: Backbone, batches: Iterable[Sequence[Work]], dtype: str, runtime: Runtime, *, is_decoding_ahead: bool
) -> Iterator[tuple[int, Result]]:
    """(row, result) of every image, by one backbone; nothing is stored."""
    preprocess = model.spec.preprocess
    decoded = decoded_batches(
        batches,
        [preprocess],
        workers=runtime.n_workers,
        is_decoding_ahead=is_decoding_ahead,
        max_pixels=runtime.max_pixels,
    )
    with closing(decoded):
        for batch in decoded:
            yield from embed_batch(model, batch[preprocess], dtype)


class _GrowingShard:
    """The results of one shard's rows, until all of them are there."""

    def __init__(self, embeddings: Embeddings, rows: NDArray[Any]) -> None:
        self._embeddings = embeddings
        self._rows = rows
        self._features = np.full((len(rows), embeddings.dim), np.nan, dtype=embeddings.dtype)
        self._n_filled = 0
        self._reasons: dict[int, str] = {}
        self._unread: dict[int, str] = {}

    def append(self, results: Iterable[tuple[int, Result]]) -> None:
        """Take the results of the next rows."""
        for row, result in results:
            assert row == self._rows[self._n_filled]
            if isinstance(result, Unread):
                self._unread[row] = result.reason
            elif isinstance(result, str):
                self._reasons[row] = result
            else:
                self._features[self._n_filled] = result
            self._n_filled += 1

    def commit(self) -> Mapping[int, str]:
        """Store the results; the rows that could not be read just now, by reason."""
        is_known = ~np.isin(self._rows, list(self._unread))
        if is_known.any():
            self._embeddings.commit(self._rows[is_known], self._features[is_known], self._reasons)
        return self._unread
