"""Images that arrive in any order, gathered into the batches and shards of one backbone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme.backbones.model.quantised import INT8, quantised, row_bytes, row_form
from dvme.extraction.decoding import Content, Unread
from dvme_cache.shards import blank

if TYPE_CHECKING:
    from dvme.backbones.loading.model import Backbone

Keep = Callable[[NDArray[Any], NDArray[Any], Mapping[int, str]], None]
"""Takes rows (B,) of one shard, their features (B, D) and row to reason, of those that have none."""


@dataclass(frozen=True)
class Target:
    """A backbone, the images that it lacks, and where their embeddings go."""

    model: Backbone
    """On its device."""
    shards: Sequence[NDArray[Any]]
    """Rows, ascending, an array for each shard."""
    dtype: str
    """Of what is kept; `int8` of dense features is kept as bytes."""
    keep: Keep
    """Called once for a shard, or for what is there of it when the run ends early."""


@dataclass(frozen=True)
class Batch:
    """Images that a backbone embeds together."""

    number: int
    """Of all batches of the backbone."""
    rows: NDArray[Any]
    """(B,) ascending, all of one shard."""
    contents: list[Content]
    """B pixels, or why there are none."""

    @property
    def pixels(self) -> NDArray[np.uint8] | None:
        """(P, H, W, C) of the rows that have pixels, in their order; None where no row has any."""
        images = [content for content in self.contents if isinstance(content, np.ndarray)]
        return np.stack(images) if images else None

    @property
    def has_pixels(self) -> NDArray[np.bool_]:
        """(B,) which those are."""
        return np.array([isinstance(content, np.ndarray) for content in self.contents], dtype=bool)


@dataclass
class _Arriving:
    """A batch of which some images are still to come."""

    contents: list[Content | None]
    n_missing: int


@dataclass
class _Growing:
    """A shard of which some batches are still to come."""

    features: NDArray[Any]
    is_there: NDArray[np.bool_]
    """(rows of the shard,) whether the batch of a row has been embedded."""
    failed: dict[int, str] = field(default_factory=dict)
    unread: dict[int, str] = field(default_factory=dict)


class Gathering:
    """The batches of one backbone. A batch never spans two shards, and has the same images whoever computes it.

    So which images are computed together, on which the last bits of an embedding depend, is the same after an
    interruption as without one. Safe to be used by several threads.
    """

    def __init__(self, target: Target, batch_size: int) -> None:
        self.target, self.batch_size = target, batch_size
        sizes = [len(rows) for rows in target.shards]
        self._rows = np.concatenate(target.shards) if sizes else np.empty(0, dtype=np.int64)
        self._shard_starts = np.cumsum([0, *sizes])
        bounds = zip(self._shard_starts[:-1], self._shard_starts[1:], strict=True)
        parts = [np.arange(start, end, batch_size) for start, end in bounds]
        self._starts = np.concatenate([*parts, [len(self._rows)]]).astype(np.int64)
        self._arriving: dict[int, _Arriving] = {}
        self._growing: dict[int, _Growing] = {}
        self._complete: dict[int, _Growing] = {}
        self._lock = threading.Lock()
        self.unread: dict[int, str] = {}
        """Row to reason, of the files that could not be read just now."""

    @property
    def n_rows(self) -> int:
        """Images in all."""
        return len(self._rows)

    def batches(self) -> Iterator[NDArray[Any]]:
        """The rows of each batch."""
        for start, end in zip(self._starts[:-1].tolist(), self._starts[1:].tolist(), strict=True):
            yield self._rows[start:end]

    def arrived(self, rows: NDArray[Any], contents: Sequence[Content]) -> list[Batch]:
        """Take images in; the batches that are complete by them.

        Args:
            rows: (B,) ascending; those that the backbone does not lack are passed over.
            contents: what there is of each.
        """
        places = np.searchsorted(self._rows, rows)
        is_own = places < len(self._rows)
        is_own[is_own] = self._rows[places[is_own]] == rows[is_own]
        numbers = np.searchsorted(self._starts, places, side="right") - 1
        complete = []
        with self._lock:
            for position in np.flatnonzero(is_own).tolist():
                number = int(numbers[position])
                start, end = int(self._starts[number]), int(self._starts[number + 1])
                batch = self._arriving.get(number)
                if batch is None:
                    batch = self._arriving[number] = _Arriving([None] * (end - start), end - start)
                batch.contents[int(places[position]) - start] = contents[position]
                batch.n_missing -= 1
                if not batch.n_missing:
                    whole = self._arriving.pop(number).contents
                    complete.append(Batch(number, self._rows[start:end], [each for each in whole if each is not None]))
        return complete

    def embedded(self, batch: Batch, features: NDArray[Any] | None) -> Callable[[], None] | None:
        """Take embeddings in; what commits the shard, if it is complete by them and nobody else has committed it since.

        Args:
            batch: as `arrived` gave it.
            features: (P, D) of the rows that have pixels; None where none has.
        """
        start = int(self._starts[batch.number])
        shard = int(np.searchsorted(self._shard_starts, start, side="right")) - 1
        with self._lock:
            growing = self._growing.get(shard)
            if growing is None:
                n_rows = len(self.target.shards[shard])
                model = self.target.model
                n_elements, stored = row_form(model.grids, model.dim, self.target.dtype)
                empty = np.full((n_rows, n_elements), blank(stored), dtype=stored)
                growing = self._growing[shard] = _Growing(empty, np.zeros(n_rows, dtype=bool))
        at = slice(start - int(self._shard_starts[shard]), start - int(self._shard_starts[shard]) + len(batch.rows))
        failed = {} if features is None else self._keep(growing.features[at], batch, features)
        with self._lock:
            growing.failed |= failed
            for row, content in zip(batch.rows.tolist(), batch.contents, strict=True):
                if isinstance(content, str):
                    growing.failed[row] = content
                elif isinstance(content, Unread):
                    growing.unread[row] = content.reason
                    self.unread[row] = content.reason
            growing.is_there[at] = True
            if not growing.is_there.all() or self._growing.get(shard) is not growing:  # or taken by `rest`
                return None
            self._complete[shard] = self._growing.pop(shard)
        return lambda: self._commit(shard)

    def _keep(self, kept: NDArray[Any], batch: Batch, features: NDArray[Any]) -> dict[int, str]:
        """Put features (P, D) of the rows with pixels into `kept` (B, ...) as they are stored; row to why it cannot."""
        if self.target.dtype != INT8:
            with np.errstate(over="ignore"):
                kept[batch.has_pixels] = features
            return {}
        kept[batch.has_pixels], is_finite = quantised(features, self.target.model.grids)
        name = self.target.model.spec.name
        return dict.fromkeys(batch.rows[batch.has_pixels][~is_finite].tolist(), not_finite(name, INT8))

    def rest(self) -> list[Callable[[], None]]:
        """What commits the shards of which some batches are there, when no more are to come, and those not committed.

        Whole batches are missing, so that the next run has the same ones.
        """
        with self._lock:
            self._complete |= self._growing
            self._growing = {}
            return [partial(self._commit, shard) for shard in self._complete]

    def _commit(self, shard: int) -> None:
        """Keep what is there of a shard, once, whoever asks for it first."""
        rows = self.target.shards[shard]
        with self._lock:  # a lane may still be at a shard of a run that ended early
            growing = self._complete.pop(shard, None)
            if growing is None:
                return
            is_known = growing.is_there & ~np.isin(rows, list(growing.unread))
            failed = dict(growing.failed)
        if is_known.any():
            self.target.keep(rows[is_known], growing.features[is_known], failed)


def shard_bytes(target: Target) -> int:
    """Of the features of a backbone's largest shard."""
    longest = max(map(len, target.shards), default=0)
    return longest * row_bytes(target.model.grids, target.model.dim, target.dtype)


def not_finite(backbone: str, dtype: str) -> str:
    """Why an image has no embedding that could be stored."""
    return f"its {backbone} embedding is not finite in {dtype}"


def portions_of(gatherings: Sequence[Gathering]) -> Iterator[NDArray[Any]]:
    """Rows to decode together, so that every image is decoded once: the batches of who lacks most, then what is left.

    Where all lack the same images in the same shards, a portion is a batch of each of them.
    """
    widest = max(gatherings, key=lambda each: each.n_rows)
    others = [each for each in gatherings if each is not widest]
    own = np.concatenate([*widest.target.shards, np.empty(0, dtype=np.int64)])
    extra = [np.setdiff1d(np.concatenate(each.target.shards), own) for each in others if each.n_rows]
    left = np.unique(np.concatenate(extra)) if extra else own[:0]
    taken = 0
    for batch in widest.batches():
        before = int(np.searchsorted(left, batch[0]))
        while taken < before:
            end = min(before, taken + len(batch))
            yield left[taken:end]
            taken = end
        yield batch
    size = max((len(batch) for batch in widest.batches()), default=1)
    for start in range(taken, len(left), size):
        yield left[start : start + size]
