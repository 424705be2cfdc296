"""The embeddings of one backbone: written a whole shard at a time, and proven row by row when read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme_cache.arrays import array_of, create_array, damaged, files_of, read_array, reading
from dvme_cache.deferred import zarr
from dvme_cache.errors import CorruptCacheError, MissingEmbeddingsError
from dvme_cache.files import LocalFiles
from dvme_cache.fingerprint import Fingerprint
from dvme_cache.layout import RowState, shard_rows
from dvme_cache.parallel import each
from dvme_cache.samples import SampleTable
from dvme_cache.sealing import row_checksums
from dvme_cache.shards import ShardFiles, TornShardError, finite_rows

if TYPE_CHECKING:
    from dvme_cache.store import CacheStore

ARRAYS = ("features", "checksum", "reason", "state")
LOCAL_READERS, REMOTE_READERS, WRITERS, PARALLEL_FROM_BYTES = 2, 16, 8, 1 << 25


class Embeddings:
    """Features (N, D) of one backbone, of which only committed rows can be read."""

    def __init__(self, group: zarr.Group, samples: SampleTable, name: str) -> None:
        self._group = group
        self._samples = samples
        self.name = name
        self.n_rows = len(samples)
        array = self._array("features")
        self.dim, self.dtype, self.shard_rows = int(array.shape[1]), str(array.dtype), int(array.chunks[0])
        path = self.path = group.path
        files, size = files_of(group), self.shard_rows
        self.features = ShardFiles(files, f"{path}/features", n_rows=size, dtype=self.dtype, row_shape=(self.dim,))
        self.checksum = ShardFiles(files, f"{path}/checksum", n_rows=size, dtype="uint32")
        self.state = ShardFiles(files, f"{path}/state", n_rows=size, dtype="uint8")
        attributes: Mapping[str, Any] = group.attrs.asdict()
        self.fingerprint = Fingerprint(attributes["fingerprint"])
        self.provenance = dict(attributes["provenance"])
        """Versions and dates: informative, never compared."""
        self._digest = self.fingerprint.digest
        self._records: dict[int, tuple[NDArray[Any], NDArray[Any]]] = {}

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
        rows = rows_per_shard or shard_rows(n_rows)
        attributes = {"fingerprint": dict(fingerprint.fields), "provenance": dict(provenance)}
        group = zarr.create_group(store, path=path, attributes=attributes)
        create = partial(create_array, group, is_compressed=False)
        create("features", shape=(n_rows, dim), dtype=dtype, chunks=(rows, dim), fill_value=np.nan)
        create("checksum", shape=(n_rows,), dtype="uint32", chunks=(rows,), fill_value=0)
        create("reason", shape=(n_rows,), dtype=str, chunks=(rows,), fill_value="", is_compressed=True)
        create("state", shape=(n_rows,), dtype="uint8", chunks=(rows,), fill_value=int(RowState.PENDING))

    @property
    def n_shards(self) -> int:
        """How many shards the rows fill, the last one perhaps in part."""
        return -(-self.n_rows // self.shard_rows)

    def window(self, shard: int) -> slice:
        """The rows of a shard."""
        return slice(shard * self.shard_rows, min((shard + 1) * self.shard_rows, self.n_rows))

    def states(self) -> NDArray[Any]:
        """(N,) uint8 of RowState, as committed now; rows added after the last extraction are pending."""
        states = np.empty((self.n_shards, self.shard_rows), dtype=np.uint8)

        def read_shard(shard: int) -> None:
            states[shard] = self.states_of(shard)

        each(read_shard, range(self.n_shards), self._n_readers(self.n_shards, states.nbytes))
        return states.reshape(-1)[: self.n_rows]

    def states_of(self, shard: int) -> NDArray[Any]:
        """(shard rows,) uint8 of RowState, as committed now."""
        states = self._read_whole(self.state, shard)
        return np.zeros(self.shard_rows, dtype=np.uint8) if states is None else states

    def reasons(self) -> NDArray[Any]:
        """(N,) object array of str: why a row failed, "" elsewhere.

        Raises:
            CorruptCacheError: if the reason of a failed row is torn, flipped or gone.
        """
        for _ in range(2):  # a writer may commit between the two reads: look twice before saying that one is gone
            array, is_failed = self._array("reason"), self.states() == RowState.FAILED
            stored = read_array(array)[: self.n_rows].astype(object)
            reasons = np.full(self.n_rows, "", dtype=object)
            reasons[: len(stored)] = stored
            if (reasons[is_failed] != "").all():
                return np.where(is_failed, reasons, "")
        raise damaged(array, "a chunk is gone")

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
        rows = np.asarray(rows)
        if len(rows) and not np.issubdtype(rows.dtype, np.integer):
            raise TypeError(f"rows are {rows.dtype}, not row numbers; np.flatnonzero(mask) gives those of a mask")
        rows = rows.astype(np.int64, copy=False)
        if len(rows) and not 0 <= rows.min() <= rows.max() < self.n_rows:
            raise IndexError(f"rows {rows.min()} to {rows.max()} are asked for, there are 0 to {self.n_rows - 1}")
        is_ascending = bool((np.diff(rows) > 0).all())
        wanted, inverse = (rows, None) if is_ascending else np.unique(rows, return_inverse=True)
        parts = self._parts(wanted)
        self._check_done(wanted, parts, n_asked=len(rows))
        features = np.empty((len(wanted), self.dim), dtype=self.features.dtype)
        ids = self._samples.ids  # loaded once, before the threads ask for it

        def read_part(part: tuple[int, slice]) -> None:
            shard, at = part
            self._read_shard(shard, wanted[at], ids[wanted[at]], features[at])

        each(read_part, parts, self._n_readers(len(parts), features.nbytes))
        return features if inverse is None else features[inverse]

    def _parts(self, rows: NDArray[Any]) -> list[tuple[int, slice]]:
        """(shard, where in `rows`) of ascending rows."""
        shards = rows // self.shard_rows
        bounds = [*np.flatnonzero(np.diff(shards, prepend=-1)).tolist(), len(rows)]
        return [(int(shards[start]), slice(start, stop)) for start, stop in pairwise(bounds)]

    def _n_readers(self, n_parts: int, n_bytes: int) -> int:
        if not isinstance(files_of(self._group), LocalFiles):
            return max(1, min(REMOTE_READERS, n_parts))
        return min(LOCAL_READERS, n_parts) if n_bytes > PARALLEL_FROM_BYTES else 1

    def _check_done(self, rows: NDArray[Any], parts: list[tuple[int, slice]], *, n_asked: int) -> None:
        """Refuse rows without an embedding; what this object remembers is looked up anew before it says no."""
        absent = 0
        for shard, at in parts:
            places = rows[at] - shard * self.shard_rows
            if (self._record(shard)[0][places] != RowState.DONE).any():
                absent += int((self._record(shard, is_fresh=True)[0][places] != RowState.DONE).sum())
        if absent:
            message = f"{absent} of {n_asked} rows have no {self.name} embedding; run dvme extract first"
            raise MissingEmbeddingsError(message)

    def _read_shard(self, shard: int, rows: NDArray[Any], ids: NDArray[Any], out: NDArray[Any]) -> None:
        """Read and prove rows of one shard; a shard that a writer replaced meanwhile is read again."""
        places = rows - shard * self.shard_rows
        for is_fresh in (False, True):
            states, checksums = self._record(shard, is_fresh=is_fresh)
            absent = int((states[places] != RowState.DONE).sum())
            if absent:
                raise MissingEmbeddingsError(f"{absent} rows of {self.name} were removed while they were read")
            try:
                self.features.read_rows(shard, places, out)
            except TornShardError as error:
                if is_fresh:
                    raise damaged(self._array("features"), str(error)) from error
                continue
            is_bad = row_checksums(out, ids, self._digest) != checksums[places]
            if not is_bad.any():
                return
        what = f"{int(is_bad.sum())} rows of shard {shard} are not what was committed, the first is {rows[is_bad][0]}"
        raise damaged(self._array("features"), what)

    def _record(self, shard: int, *, is_fresh: bool = False) -> tuple[NDArray[Any], NDArray[Any]]:
        """States (rows,) and checksums (rows,) of a shard, remembered unless asked for anew."""
        if is_fresh or shard not in self._records:
            states = self.states_of(shard)
            checksums = self._read_whole(self.checksum, shard) if states.any() else None
            empty = np.zeros(self.shard_rows, dtype=np.uint32)
            self._records[shard] = (states, empty if checksums is None else checksums)
        return self._records[shard]

    def _read_whole(self, array: ShardFiles, shard: int) -> NDArray[Any] | None:
        try:
            return array.read(shard)
        except TornShardError as error:
            raise damaged(self._array(array.name), str(error)) from error

    def forget(self, shard: int) -> None:
        """Look a shard's record up anew when it is next needed."""
        self._records.pop(shard, None)

    def checksums_of(self, features: NDArray[Any], rows: NDArray[Any] | slice) -> NDArray[np.uint32]:
        """(B,) what must be stored beside these features (B, D) of these rows."""
        return row_checksums(features, self._samples.ids[rows], self._digest)

    def has_reasons(self, shard: int) -> NDArray[np.bool_]:
        """(shard rows,) whether a reason can be read; nowhere if the chunk is damaged."""
        has = np.zeros(self.shard_rows, dtype=bool)
        with suppress(CorruptCacheError):
            array = self._array("reason")
            with reading(array):
                stored = np.asarray(array[self.window(shard)])
            has[: len(stored)] = stored != ""  # shorter until the next extraction, where images were added since
        return has

    def clear_reasons(self, shard: int, places: NDArray[np.bool_]) -> None:
        """Forget why rows of a shard failed; a chunk that cannot be read is forgotten whole."""
        if self.has_reasons(shard).any():
            rows = np.flatnonzero(places[: self.window(shard).stop - self.window(shard).start])
            self._write_reasons(rows + shard * self.shard_rows, {})
        else:
            files_of(self._group).delete(f"{self.path}/reason/c/{shard}")

    def pending_shards(self, *, retry_failed: bool = False) -> Iterator[NDArray[Any]]:
        """Row indices still to extract, one array per shard, in row order."""
        states = self.states()
        wanted = states != RowState.DONE if retry_failed else states == RowState.PENDING
        for shard in range(self.n_shards):
            rows = np.flatnonzero(wanted[self.window(shard)]) + shard * self.shard_rows
            if len(rows):
                yield rows

    def grow(self) -> None:
        """Give every array a row per sample, for readers that know only Zarr. New rows read as pending and NaN."""
        for name in ARRAYS:
            array = self._array(name)
            if array.shape[0] < self.n_rows:
                array.resize((self.n_rows, *array.shape[1:]))

    def commit(
        self, rows: NDArray[Any], features: NDArray[Any], reasons: Mapping[int, str], *, not_finite: str | None = None
    ) -> None:
        """Write the rows of one shard, whole and once; the states go last and are the commit.

        Args:
            rows: (B,) ascending indices within one shard.
            features: (B, D); rows named in `reasons` are ignored and stay NaN.
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
        states, checksums = (column.copy() for column in self._record(shard, is_fresh=True))
        block = self._block(shard, states, places, features, is_failed)
        had_failed = rows[(states[places] == RowState.FAILED) & ~is_failed]
        checksums[places] = np.where(is_failed, 0, row_checksums(features, self._samples.ids[rows], self._digest))
        states[places] = np.where(is_failed, RowState.FAILED, RowState.DONE)
        self.features.write(shard, block)
        self.checksum.write(shard, checksums)
        self._write_reasons(rows[is_failed], reasons)
        self.state.write(shard, states)
        self._write_reasons(had_failed, {})
        self._records[shard] = (states, checksums)

    def write(self, rows: NDArray[Any], features: NDArray[Any]) -> None:
        """Commit rows (B,), ascending, with finite features (B, D): several shards at a time. Raises as `commit`."""
        parts = self._parts(np.asarray(rows, dtype=np.int64))
        self._samples.ids  # noqa: B018 - loaded once, before the threads ask for it
        each(lambda part: self.commit(rows[part[1]], features[part[1]], {}), parts, WRITERS)

    def _block(
        self, shard: int, states: NDArray[Any], places: NDArray[Any], features: NDArray[Any], is_failed: NDArray[Any]
    ) -> NDArray[Any]:
        """(shard rows, D) to write: the new rows, the committed ones bit by bit, NaN elsewhere."""
        if len(places) == self.shard_rows and not is_failed.any():
            return features
        block = np.full((self.shard_rows, self.dim), np.nan, dtype=self.features.dtype)
        kept = np.setdiff1d(np.flatnonzero(states == RowState.DONE), places)
        if len(kept):
            block[kept] = self.read(kept + shard * self.shard_rows)
        block[places[~is_failed]] = features[~is_failed]
        return block

    def _write_reasons(self, rows: NDArray[Any], reasons: Mapping[int, str]) -> None:
        if not len(rows):
            return
        array, window = self._array("reason"), self.window(int(rows[0]) // self.shard_rows)
        with reading(array):
            stored = np.array(array[window], dtype=object)
        stored[rows - window.start] = [reasons.get(int(row), "") for row in rows]
        array[window] = stored

    def _array(self, name: str) -> zarr.Array[Any]:
        return array_of(self._group, name)
