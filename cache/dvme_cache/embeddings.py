"""The embeddings of one backbone: written a whole shard at a time, and proven row by row when read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme_cache.arrays import array_of, create_array, damaged, files_of, reading
from dvme_cache.deferred import zarr
from dvme_cache.errors import CorruptCacheError
from dvme_cache.fingerprint import Fingerprint
from dvme_cache.layout import RowState, shard_rows
from dvme_cache.parallel import each
from dvme_cache.protocol import Files
from dvme_cache.reading import ProvenRows, Shards, read_rows, read_states
from dvme_cache.samples import SampleTable
from dvme_cache.shards import blank, finite_rows

if TYPE_CHECKING:
    from dvme_cache.store import CacheStore

ARRAYS = ("features", "checksum", "reason", "state")
LOCAL_READERS, PARALLEL_FROM_BYTES = 2, 1 << 25
BYTES_ON_THEIR_WAY, FEWEST_READERS = 1 << 28, 4
"""From an object store: of parts so large that few of them are more, so many are read at a time."""
WRITERS = 8


class Embeddings:
    """Features (N, D) of one backbone, of which only committed rows can be read."""

    def __init__(self, group: zarr.Group, samples: SampleTable, name: str) -> None:
        self._group = group
        self._samples = samples
        self.name = name
        self.n_rows = len(samples)
        attributes: Mapping[str, Any] = group.attrs.asdict()
        self.fingerprint = Fingerprint(attributes["fingerprint"])
        self.provenance = dict(attributes["provenance"])
        """Versions and dates: informative, never compared."""
        self._files = files_of(group)
        self.stored = ProvenRows(
            group, samples, name, digest=self.fingerprint.digest, n_readers=partial(n_readers, self._files)
        )
        """The same, for reading several backbones together (reading.py)."""
        self.features, self.checksum, self.state = self.stored.features, self.stored.checksum, self.stored.state
        (self.dim,), self.dtype = self.features.row_shape, str(self.features.dtype)
        self.shard_rows, self.path = self.stored.shard_rows, group.path

    @staticmethod
    def create(
        store: CacheStore,
        path: str,
        *,
        fingerprint: Fingerprint,
        provenance: Mapping[str, Any],
        dim: int,
        dtype: str,
        n_rows: int,
        rows_per_shard: int | None = None,
    ) -> None:
        """Lay out empty arrays for n_rows. The cache does not know of them before it has registered them."""
        rows = shard_rows(n_rows, dim * np.dtype(dtype).itemsize, asked=rows_per_shard)
        attributes = {"fingerprint": dict(fingerprint.fields), "provenance": dict(provenance)}
        group = zarr.create_group(store, path=path, attributes=attributes)
        create = partial(create_array, group, is_compressed=False)
        column = partial(create, shape=(n_rows,), chunks=(rows,))
        arrays = (
            partial(create, "features", shape=(n_rows, dim), dtype=dtype, chunks=(rows, dim), fill_value=blank(dtype)),
            partial(column, "checksum", dtype="uint32", fill_value=0),
            partial(column, "reason", dtype=str, fill_value="", is_compressed=True),
            partial(column, "state", dtype="uint8", fill_value=int(RowState.PENDING)),
        )
        each(lambda create: create(), arrays, store.files.n_readers)

    @property
    def n_shards(self) -> int:
        """How many shards the rows fill, the last one perhaps in part."""
        return self.stored.n_shards

    @property
    def n_writers(self) -> int:
        """How many shards to commit at a time, of all backbones together: `commit` may be called by several threads."""
        return self._files.n_writers

    @property
    def n_checkers(self) -> int:
        """How many whole shards to look at a time."""
        return self.stored.n_readers(1, self.features.file_bytes) if self._files.n_readers > 1 else 1

    def window(self, shard: int) -> slice:
        """The rows of a shard."""
        return slice(shard * self.shard_rows, min((shard + 1) * self.shard_rows, self.n_rows))

    def states(self, shards: Shards = None) -> NDArray[Any]:
        """(N,) uint8 of RowState, as committed now; pending where none was committed, and outside of `shards`."""
        (states,) = read_states([self.stored], shards)
        return states

    def states_of(self, shard: int) -> NDArray[Any]:
        """(shard rows,) uint8 of RowState, as committed now."""
        return self.stored.states(shard, is_fresh=True)

    def reasons(self, shards: Shards = None) -> NDArray[Any]:
        """(N,) object array of str: why a row failed, "" elsewhere, and outside of `shards`.

        Raises:
            CorruptCacheError: if the reason of a failed row is torn, flipped or gone.
        """
        while True:
            is_failed, reasons = self.states(shards) == RowState.FAILED, np.full(self.n_rows, "", dtype=object)
            failing = np.unique(np.flatnonzero(is_failed) // self.shard_rows).tolist()
            for shard, stored in zip(failing, each(self._reasons_of, failing, self._files.n_readers), strict=True):
                reasons[shard * self.shard_rows :][: len(stored)] = stored
            if (reasons[is_failed] != "").all():
                return np.where(is_failed, reasons, "")
            if ((self.states(shards) == RowState.FAILED) == is_failed).all():  # nobody committed between the reads
                raise damaged(self._array("reason"), "a chunk is gone")

    def read(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Features of the given rows, in their order, each proven by its checksum.

        Args:
            rows: (B,) row indices, each of them committed; they may repeat.

        Returns:
            (B, D) in the stored dtype, finite.

        Raises:
            MissingEmbeddingsError: if a row was never extracted, or failed.
            CorruptCacheError: if stored bytes are not what was committed for this image.
            IndexError: if there is no such row.
            TypeError: for anything but integers, such as a mask.
        """
        (features,) = read_rows([self.stored], rows)
        return features

    def forget(self, shard: int) -> None:
        """Look a shard's record up anew when it is next needed."""
        self.stored.forget(shard)

    def checksums_of(self, features: NDArray[Any], rows: NDArray[Any] | slice) -> NDArray[np.uint32]:
        """(B,) what must be stored beside these features (B, D) of these rows."""
        return self.stored.proofs(features, rows)

    def has_reasons(self, shard: int) -> NDArray[np.bool_]:
        """(shard rows,) whether a reason can be read; nowhere if the chunk is damaged."""
        has = np.zeros(self.shard_rows, dtype=bool)
        with suppress(CorruptCacheError):
            stored = self._reasons_of(shard)
            has[: len(stored)] = stored != ""  # shorter until the next extraction, where images were added since
        return has

    def clear_reasons(self, shard: int, places: NDArray[np.bool_]) -> None:
        """Forget why rows of a shard failed; a chunk that cannot be read is forgotten whole."""
        if self.has_reasons(shard).any():
            rows = np.flatnonzero(places[: self.window(shard).stop - self.window(shard).start])
            self._write_reasons(rows + shard * self.shard_rows, {})
        else:
            files_of(self._group).delete(f"{self.path}/reason/c/{shard}")

    def pending_shards(self, shards: Shards = None, *, retry_failed: bool = False) -> Iterator[NDArray[Any]]:
        """Row indices still to extract, one array per shard, in row order."""
        states = self.states(shards)
        wanted = states != RowState.DONE if retry_failed else states == RowState.PENDING
        for shard in range(self.n_shards) if shards is None else shards:
            rows = np.flatnonzero(wanted[self.window(shard)]) + shard * self.shard_rows
            if len(rows):
                yield rows

    def grow(self) -> None:
        """Give every array a row per sample, for readers that know only Zarr. New rows read as pending and NaN."""

        def grow_array(name: str) -> None:
            array = self._array(name)
            if array.shape[0] < self.n_rows:
                array.resize((self.n_rows, *array.shape[1:]))

        each(grow_array, ARRAYS, self._files.n_readers)

    def commit(
        self, rows: NDArray[Any], features: NDArray[Any], reasons: Mapping[int, str], *, not_finite: str | None = None
    ) -> None:
        """Write the rows of one shard, whole and once; the states go last and are the commit.

        Several threads may commit at a time, each another shard.

        Args:
            rows: (B,) ascending indices within one shard.
            features: (B, D); rows named in `reasons` are ignored and stay blank: NaN, or 0 of bytes.
            reasons: row index to one line that says why it failed.
            not_finite: why any other row fails whose features, in the stored dtype, are not all finite.

        Raises:
            ValueError: if the rows span two shards; without `not_finite`, if a row that did not fail is not finite.
        """
        size = self.shard_rows
        shard = int(rows[0]) // size
        if int(rows[-1]) // size != shard:
            raise ValueError(f"rows {rows[0]} to {rows[-1]} span more than one shard of {size} rows")
        if features.shape != (len(rows), self.dim):
            raise ValueError(f"features have shape {features.shape}, not {(len(rows), self.dim)}")
        is_failed = np.array([int(row) in reasons for row in rows]) if reasons else np.zeros(len(rows), dtype=bool)
        with np.errstate(over="ignore"):
            features = features.astype(self.features.dtype, copy=False)
        is_bad = ~finite_rows(features) & ~is_failed
        if is_bad.any():
            if not_finite is None:
                raise ValueError(f"embeddings that are not finite in {self.dtype} cannot be committed")
            reasons = {**reasons, **dict.fromkeys(rows[is_bad].tolist(), not_finite)}
            is_failed |= is_bad
        places = rows - shard * size
        states = self.stored.states(shard, is_fresh=True).copy()
        checksums = self.stored.checksums(shard, is_fresh=True).copy()
        block = self._block(shard, states, places, features, is_failed)
        had_failed = rows[(states[places] == RowState.FAILED) & ~is_failed]
        checksums[places] = np.where(is_failed, 0, self.checksums_of(features, rows))
        states[places] = np.where(is_failed, RowState.FAILED, RowState.DONE)
        before_the_states: tuple[Callable[[], None], ...] = (
            lambda: self.features.write(shard, block),
            lambda: self.checksum.write(shard, checksums),
            lambda: self._write_reasons(rows[is_failed], reasons),
        )
        each(lambda write: write(), before_the_states, self._files.n_readers)
        self.state.write(shard, states)
        self._write_reasons(had_failed, {})
        self.stored.remember(shard, states, checksums)

    def write(self, rows: NDArray[Any], features: NDArray[Any]) -> None:
        """Commit rows (B,), ascending, with finite features (B, D): several shards at a time. Raises as `commit`."""
        parts = self.stored.parts(np.asarray(rows, dtype=np.int64))
        self.stored.load_ids()
        each(lambda part: self.commit(rows[part[1]], features[part[1]], {}), parts, max(WRITERS, self.n_writers))

    def _block(
        self, shard: int, states: NDArray[Any], places: NDArray[Any], features: NDArray[Any], is_failed: NDArray[Any]
    ) -> NDArray[Any]:
        """(shard rows, D) to write: the new rows, the committed ones bit by bit, blank elsewhere."""
        if len(places) == self.shard_rows and not is_failed.any():
            return features
        block = np.full((self.shard_rows, self.dim), self.features.blank, dtype=self.features.dtype)
        kept = np.setdiff1d(np.flatnonzero(states == RowState.DONE), places)
        if len(kept):
            block[kept] = self.read(kept + shard * self.shard_rows)
        block[places[~is_failed]] = features[~is_failed]
        return block

    def _reasons_of(self, shard: int) -> NDArray[Any]:
        """(at most shard rows,) object array of str, what is stored, whatever the states say."""
        array = self._array("reason")
        with reading(array):
            return np.array(array[self.window(shard)], dtype=object)

    def _write_reasons(self, rows: NDArray[Any], reasons: Mapping[int, str]) -> None:
        if not len(rows):
            return
        shard = int(rows[0]) // self.shard_rows
        array, window, stored = self._array("reason"), self.window(shard), self._reasons_of(shard)
        stored[rows - window.start] = [reasons.get(int(row), "") for row in rows]
        array[window] = stored

    def _array(self, name: str) -> zarr.Array[Any]:
        return array_of(self._group, name)


def n_readers(files: Files, n_parts: int, n_bytes: int) -> int:
    """How many parts to read at a time, of so many with so many bytes in all."""
    if files.n_readers > 1:
        return min(files.n_readers, max(FEWEST_READERS, BYTES_ON_THEIR_WAY * n_parts // max(1, n_bytes)))
    return LOCAL_READERS if n_bytes > PARALLEL_FROM_BYTES else 1


def count_states(states: NDArray[Any]) -> dict[str, int]:
    """How many rows are done, failed and pending."""
    return {state.name.lower(): int((states == state).sum()) for state in RowState}
