"""The embeddings of one backbone: features, row states and reasons, written a whole shard at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from dvme_cache.arrays import create_array, damaged, read_array, reading
from dvme_cache.errors import CorruptCacheError, MissingEmbeddingsError
from dvme_cache.fingerprint import Fingerprint
from dvme_cache.layout import RowState, chunk_rows, shard_rows
from dvme_cache.store import DurableStore, sync_folder


class Embeddings:
    """Features (N, D) of one backbone, of which only committed rows can be read."""

    def __init__(self, group: zarr.Group, n_rows: int, name: str) -> None:
        self._group = group
        self.n_rows = n_rows
        self.name = name

    @staticmethod
    def create(
        parent: zarr.Group,
        name: str,
        *,
        fingerprint: Fingerprint,
        provenance: Mapping[str, Any],
        dim: int,
        dtype: str,
        n_rows: int,
    ) -> None:
        """Lay out empty arrays. The attributes are written last: a group without them does not exist."""
        rows = shard_rows(n_rows)
        chunk = chunk_rows(rows, dim * np.dtype(dtype).itemsize)
        group = parent.create_group(name, overwrite=True)
        create_array(
            group,
            "features",
            shape=(n_rows, dim),
            dtype=dtype,
            chunks=(chunk, dim),
            shards=(rows, dim),
            fill_value=np.nan,
        )
        create_array(group, "reason", shape=(n_rows,), dtype=str, chunks=(rows,), fill_value="")
        create_array(group, "state", shape=(n_rows,), dtype="uint8", chunks=(rows,), fill_value=RowState.PENDING)
        group.attrs.put({"fingerprint": dict(fingerprint.fields), "provenance": dict(provenance)})

    @property
    def fingerprint(self) -> Fingerprint:
        """What made these embeddings."""
        fields = self._group.attrs["fingerprint"]
        assert isinstance(fields, Mapping)
        return Fingerprint(fields)

    @property
    def provenance(self) -> dict[str, Any]:
        """Versions and dates: informative, never compared."""
        provenance = self._group.attrs["provenance"]
        assert isinstance(provenance, Mapping)
        return dict(provenance)

    @property
    def dim(self) -> int:
        """D, the feature dimension."""
        return int(self._array("features").shape[1])

    @property
    def dtype(self) -> str:
        """Stored floating-point type."""
        return str(self._array("features").dtype)

    @property
    def shard_rows(self) -> int:
        """Rows per shard, the unit of writing."""
        return int(self._array("state").chunks[0])

    def states(self) -> NDArray[Any]:
        """(N,) uint8 of RowState; rows added after the last extraction are pending."""
        states = np.zeros(self.n_rows, dtype=np.uint8)
        stored = read_array(self._array("state"))[: self.n_rows]
        states[: len(stored)] = stored
        return states

    def reasons(self) -> NDArray[Any]:
        """(N,) object array of str: why a row failed, "" elsewhere."""
        reasons = np.full(self.n_rows, "", dtype=object)
        stored = read_array(self._array("reason"))[: self.n_rows]
        reasons[: len(stored)] = [str(reason) for reason in stored]
        return reasons

    def read(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Features of the given rows, in their order.

        Args:
            rows: (B,) row indices, each of them committed.

        Returns:
            (B, D) in the stored dtype, finite.

        Raises:
            MissingEmbeddingsError: if a row was never extracted, or failed.
            CorruptCacheError: if stored bytes fail their checksum or a committed shard is gone.
        """
        rows = np.asarray(rows, dtype=np.int64)
        absent = int((self.states()[rows] != RowState.DONE).sum())
        if absent:
            message = f"{absent} of {len(rows)} rows have no {self.name} embedding; run dvme extract first"
            raise MissingEmbeddingsError(message)
        array = self._array("features")
        with reading(array):
            features = np.asarray(array.oindex[rows, slice(None)])
        if np.isnan(features[:, 0]).any():
            lost = sorted({int(row) // self.shard_rows for row in rows[np.isnan(features[:, 0])]})
            raise damaged(array, f"shards {lost} are gone though committed")
        return features

    def discard_damaged_shards(self) -> list[int]:
        """Check every committed shard; drop the files of bad ones and make their rows pending again.

        In this order: a kill in between leaves a shard that is committed but gone, which the next check
        finds, and never a damaged file under rows that are to be written.

        Returns:
            Numbers of the shards whose features were torn, flipped or gone.
        """
        states = self.states()
        features, state = self._array("features"), self._array("state")
        bad = []
        for start in range(0, len(states), self.shard_rows):
            window = slice(start, min(start + self.shard_rows, len(states)))
            is_done = states[window] == RowState.DONE
            if is_done.any() and not self._is_sound(features, window, is_done):
                shard = start // self.shard_rows
                self._delete_chunk(features, f"{shard}/0")
                state[window] = np.zeros(window.stop - window.start, dtype=np.uint8)
                bad.append(shard)
        return bad

    def _is_sound(self, features: zarr.Array[Any], window: slice, is_done: NDArray[Any]) -> bool:
        try:
            with reading(features):
                return not np.isnan(np.asarray(features[window])[is_done, 0]).any()
        except CorruptCacheError:
            return False

    def _delete_chunk(self, array: zarr.Array[Any], place: str) -> None:
        store = array.store
        assert isinstance(store, DurableStore)
        file = store.root / array.path / "c" / place
        if file.exists():
            file.unlink()
            sync_folder(file.parent)

    def pending_shards(self, *, retry_failed: bool = False) -> Iterator[NDArray[Any]]:
        """Row indices still to extract, one array per shard, in row order."""
        states = self.states()
        wanted = states != RowState.DONE if retry_failed else states == RowState.PENDING
        for start in range(0, self.n_rows, self.shard_rows):
            rows = np.flatnonzero(wanted[start : start + self.shard_rows]) + start
            if len(rows):
                yield rows

    def grow(self) -> None:
        """Give every array a row per sample. New rows read as pending and NaN."""
        for name in ("features", "reason", "state"):
            array = self._array(name)
            if array.shape[0] < self.n_rows:
                array.resize((self.n_rows, *array.shape[1:]))

    def commit(self, rows: NDArray[Any], features: NDArray[Any], reasons: Mapping[int, str]) -> None:
        """Write the rows of one shard, whole and once; the states go last and are the commit.

        Args:
            rows: (B,) ascending indices within one shard.
            features: (B, D); rows named in `reasons` are ignored and stay NaN.
            reasons: row index to one line that says why it failed.

        Raises:
            ValueError: if the rows span two shards, or a row that did not fail is not finite.
        """
        size = self.shard_rows
        shard = int(rows[0]) // size
        if int(rows[-1]) // size != shard:
            raise ValueError(f"rows {rows[0]} to {rows[-1]} span more than one shard of {size} rows")
        if features.shape != (len(rows), self.dim):
            raise ValueError(f"features have shape {features.shape}, not {(len(rows), self.dim)}")
        failed = np.array([int(row) in reasons for row in rows])
        with np.errstate(over="ignore"):
            features = features.astype(self.dtype)
        if not np.isfinite(features[~failed]).all():
            raise ValueError(f"embeddings that are not finite in {self.dtype} cannot be committed")
        window = slice(shard * size, min((shard + 1) * size, self.n_rows))
        local = rows - window.start
        arrays = {name: self._array(name) for name in ("features", "reason", "state")}
        block = {}
        for name, array in arrays.items():
            with reading(array):
                block[name] = np.array(array[window])
        is_reason_new = failed | (block["reason"][local] != "")
        block["features"][local] = np.where(failed[:, None], np.nan, features)
        block["reason"][local] = [reasons.get(int(row), "") for row in rows]
        block["state"][local] = np.where(failed, RowState.FAILED, RowState.DONE)
        arrays["features"][window] = block["features"]
        if is_reason_new.any():
            arrays["reason"][window] = block["reason"]
        arrays["state"][window] = block["state"]

    def _array(self, name: str) -> zarr.Array[Any]:
        array = self._group[name]
        assert isinstance(array, zarr.Array)
        return array
