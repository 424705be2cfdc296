"""Rows of embeddings on their way from the disk: only those that count, each proven, several shards at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme_cache.arrays import array_of, damaged, files_of
from dvme_cache.deferred import zarr
from dvme_cache.errors import CorruptCacheError, MissingEmbeddingsError
from dvme_cache.layout import RowState
from dvme_cache.parallel import each, helping_threads
from dvme_cache.samples import SampleTable
from dvme_cache.sealing import row_checksums
from dvme_cache.shards import ShardFiles, TornShardError

Shards = Sequence[int] | None
"""Some of a backbone's, ascending, or all."""
NReaders = Callable[[int, int], int]
"""How many parts to read at a time, of so many with so many bytes in all."""


class ProvenRows:
    """Rows of one backbone: their states, and features that are proven by their checksums.

    States and checksums that were read are remembered. Before a row is said to be missing or damaged they are read
    anew: what is remembered may be older than what another process committed.
    """

    def __init__(self, group: zarr.Group, samples: SampleTable, name: str, *, digest: str, n_readers: NReaders) -> None:
        array = array_of(group, "features")
        dim, self.shard_rows = int(array.shape[1]), int(array.chunks[0])
        self.name, self.n_rows = name, len(samples)
        self.files, self.n_readers = files_of(group), n_readers
        shards = partial(ShardFiles, self.files, n_rows=self.shard_rows)
        self.features = shards(path=f"{group.path}/features", dtype=str(array.dtype), row_shape=(dim,))
        self.checksum = shards(path=f"{group.path}/checksum", dtype="uint32")
        self.state = shards(path=f"{group.path}/state", dtype="uint8")
        self._group, self._samples, self._digest = group, samples, digest
        self._states: dict[int, NDArray[Any]] = {}
        self._checksums: dict[int, NDArray[Any]] = {}

    @property
    def n_shards(self) -> int:
        """How many shards the rows fill, the last one perhaps in part."""
        return -(-self.n_rows // self.shard_rows)

    def states(self, shard: int, *, is_fresh: bool = False) -> NDArray[Any]:
        """(shard rows,) uint8 of RowState, remembered unless asked for anew."""
        known = self._states.get(shard)
        if known is not None and not is_fresh:
            return known
        stored = self._read_whole(self.state, shard)
        states = np.zeros(self.shard_rows, dtype=np.uint8) if stored is None else stored
        if known is None or (known != states).any():
            self._checksums.pop(shard, None)
        self._states[shard] = states
        return states

    def checksums(self, shard: int, *, is_fresh: bool = False) -> NDArray[Any]:
        """(shard rows,) uint32, remembered unless asked for anew; 0 where no row counts."""
        known = self._checksums.get(shard)
        if known is not None and not is_fresh:
            return known
        stored = self._read_whole(self.checksum, shard) if self.states(shard).any() else None
        checksums = np.zeros(self.shard_rows, dtype=np.uint32) if stored is None else stored
        self._checksums[shard] = checksums
        return checksums

    def remember(self, shard: int, states: NDArray[Any], checksums: NDArray[Any]) -> None:
        """What was just committed."""
        self._states[shard], self._checksums[shard] = states, checksums

    def forget(self, shard: int) -> None:
        """Look a shard's states and checksums up anew when they are next needed."""
        self._states.pop(shard, None)
        self._checksums.pop(shard, None)

    def load_ids(self) -> None:
        """Read the images' ids once, before several threads ask for them."""
        self._samples.ids  # noqa: B018 - kept by the samples

    def proofs(self, features: NDArray[Any], rows: NDArray[Any] | slice) -> NDArray[np.uint32]:
        """(B,) what must be stored beside these features (B, D) of these rows."""
        return row_checksums(features, self._samples.ids[rows], self._digest)

    def parts(self, rows: NDArray[Any]) -> list[tuple[int, slice]]:
        """(shard, where in `rows`) of ascending rows."""
        shards = rows // self.shard_rows
        bounds = [*np.flatnonzero(np.diff(shards, prepend=-1)).tolist(), len(rows)]
        return [(int(shards[start]), slice(start, stop)) for start, stop in pairwise(bounds)]

    def n_absent(self, shard: int, rows: NDArray[Any]) -> int:
        """How many of some rows of one shard have no embedding."""
        places = rows - shard * self.shard_rows
        if (self.states(shard)[places] == RowState.DONE).all():
            return 0
        return int((self.states(shard, is_fresh=True)[places] != RowState.DONE).sum())

    def read_part(self, shard: int, rows: NDArray[Any], out: NDArray[Any]) -> None:
        """Read and prove rows of one shard; a shard that a writer replaced meanwhile is read again."""
        places = rows - shard * self.shard_rows
        for is_fresh in (False, True):
            absent = int((self.states(shard, is_fresh=is_fresh)[places] != RowState.DONE).sum())
            if absent:
                raise MissingEmbeddingsError(f"{absent} rows of {self.name} were removed while they were read")
            both: list[Callable[[], Any]] = [
                partial(self.checksums, shard, is_fresh=is_fresh),
                partial(self.features.read_rows, shard, places, out),
            ]
            try:
                checksums, _ = each(_call, both, self.files.n_readers)
            except TornShardError as error:
                if is_fresh:
                    raise self.damaged(str(error)) from error
                continue
            is_bad = self.proofs(out, rows) != checksums[places]
            if not is_bad.any():
                return
        what = f"{int(is_bad.sum())} rows of shard {shard} are not what was committed, the first is {rows[is_bad][0]}"
        raise self.damaged(what)

    def damaged(self, what: str) -> CorruptCacheError:
        """The error for features that cannot be trusted."""
        return damaged(array_of(self._group, "features"), what)

    def _read_whole(self, array: ShardFiles, shard: int) -> NDArray[Any] | None:
        try:
            return array.read(shard)
        except TornShardError as error:
            raise damaged(array_of(self._group, array.name), str(error)) from error


def read_states(tables: Sequence[ProvenRows], shards: Shards = None) -> list[NDArray[Any]]:
    """(N,) uint8 of RowState of each backbone; pending where none was committed until now, and outside of `shards`."""
    found = [np.zeros((table.n_shards, table.shard_rows), dtype=np.uint8) for table in tables]

    def read(at: tuple[int, int]) -> None:
        table, shard = at
        found[table][shard] = tables[table].states(shard, is_fresh=True)

    asked = [(range(table.n_shards) if shards is None else shards) for table in tables]
    places = [(at, shard) for at, some in enumerate(asked) for shard in some]
    if places:
        each(read, places, tables[0].n_readers(len(places), sum(states.nbytes for states in found)))
    return [states.reshape(-1)[: table.n_rows] for states, table in zip(found, tables, strict=True)]


def read_rows(tables: Sequence[ProvenRows], rows: NDArray[Any]) -> list[NDArray[Any]]:
    """The same rows of several backbones of one cache; see `Embeddings.read`. Rows that are missing are said first."""
    rows = np.asarray(rows)
    if len(rows) and not np.issubdtype(rows.dtype, np.integer):
        raise TypeError(f"rows are {rows.dtype}, not row numbers; np.flatnonzero(mask) gives those of a mask")
    rows = rows.astype(np.int64, copy=False)
    for table in tables:
        if len(rows) and not 0 <= rows.min() <= rows.max() < table.n_rows:
            raise IndexError(
                f"rows {rows.min()} to {rows.max()} are asked for, and the cache has rows 0 to {table.n_rows - 1}"
            )
    is_ascending = bool((np.diff(rows) > 0).all())
    wanted, inverse = (rows, None) if is_ascending else np.unique(rows, return_inverse=True)
    parts = [(table, part) for table in tables for part in table.parts(wanted)]
    if not parts:
        return [np.empty((0, *table.features.row_shape), dtype=table.features.dtype) for table in tables]
    n_bytes = sum(len(wanted) * table.features.row_bytes for table in tables)
    at_once = tables[0].n_readers(len(parts), n_bytes)
    looks: list[Callable[[], Any]] = [partial(table.n_absent, shard, wanted[at]) for table, (shard, at) in parts]
    absent = each(_call, [*looks, tables[0].load_ids], at_once)
    for table in tables:
        n = sum(count for count, (owner, _) in zip(absent, parts, strict=False) if owner is table)
        if n:
            message = f"{n} of {len(rows)} rows have no {table.name} embedding; run dvme extract first"
            raise MissingEmbeddingsError(message)
    features = {table: np.empty((len(wanted), *table.features.row_shape), table.features.dtype) for table in tables}

    def read(part: tuple[ProvenRows, tuple[int, slice]]) -> None:
        table, (shard, at) = part
        table.read_part(shard, wanted[at], features[table][at])

    each(read, parts, at_once)
    return [features[table] if inverse is None else features[table][inverse] for table in tables]


def read_ahead(tables: Sequence[ProvenRows], parts: Sequence[NDArray[Any]]) -> Iterator[list[NDArray[Any]]]:
    """`read_rows` of each part, in order; where reading is waiting, the next one is read while one is worked on."""
    if not tables or tables[0].files.n_readers == 1:
        yield from (read_rows(tables, part) for part in parts)
        return
    ahead = [helping_threads().submit(read_rows, tables, part) for part in parts[:1]]
    for at, part in enumerate(parts):
        coming = ahead.pop()
        found = read_rows(tables, part) if coming.cancel() else coming.result()
        ahead = [helping_threads().submit(read_rows, tables, part) for part in parts[at + 1 : at + 2]]
        yield found


def _call(do: Callable[[], Any]) -> Any:
    return do()
