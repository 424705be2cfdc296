"""The samples of a cache: one append-only row per distinct image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme_cache.arrays import GONE, array_of, create_array, damaged, read_array, read_text, write_tail
from dvme_cache.deferred import zarr
from dvme_cache.identity import CONTENT_ID_BYTES
from dvme_cache.layout import ROWS_PER_SAMPLE_CHUNK

if TYPE_CHECKING:
    from dvme_cache.store import CacheStore

PRUNED_PATH = "(pruned)"


class SampleTable:
    """Content ids and first-seen paths, in row order. Rows are added; a pruned one keeps its place, empty."""

    def __init__(self, group: zarr.Group) -> None:
        self._group = group
        self._ids: NDArray[np.uint8] | None = None

    @staticmethod
    def create(store: CacheStore) -> None:
        """Lay out an empty table in a new cache."""
        group = zarr.create_group(store, path="samples", attributes={"n_rows": 0}, overwrite=True)
        rows = ROWS_PER_SAMPLE_CHUNK
        shape, chunks = (0, CONTENT_ID_BYTES), (rows, CONTENT_ID_BYTES)
        create_array(group, "content_id", shape=shape, dtype="uint8", chunks=chunks, fill_value=0)
        create_array(group, "path", shape=(0,), dtype=str, chunks=(rows,), fill_value=GONE)

    def __len__(self) -> int:
        n_rows = self._group.attrs["n_rows"]
        assert isinstance(n_rows, int)
        return n_rows

    @property
    def ids(self) -> NDArray[np.uint8]:
        """(N, 16) content ids."""
        if self._ids is None:
            array = self._array("content_id")
            table = read_array(array)[: len(self)]
            if len(table) < len(self) or not table.any(axis=1).all():
                raise damaged(array, "committed rows are gone")
            self._ids = table
        return self._ids

    @property
    def content_ids(self) -> list[bytes]:
        """N digests of 16 bytes."""
        return [row.tobytes() for row in self.ids]

    @property
    def is_pruned(self) -> NDArray[np.bool_]:
        """(N,) whether a row's image was taken out of the cache."""
        pruned: NDArray[np.bool_] = (self.ids == 0xFF).all(axis=1)
        return pruned

    @property
    def paths(self) -> list[str]:
        """N relative paths under which the contents were first seen."""
        array = self._array("path")
        paths: list[str] = read_text(array, len(self)).tolist()
        if len(paths) < len(self) or not all(paths):
            raise damaged(array, "committed rows are gone")
        return paths

    def add(self, content_ids: Sequence[bytes], paths: Sequence[str]) -> NDArray[Any]:
        """Find or append a row for every image.

        The new rows count once the attribute `n_rows` is written, after their columns: a crash in
        between leaves rows that no reader sees and that the next append overwrites.

        Returns:
            (len(content_ids),) row indices; equal contents get equal rows.
        """
        row_of = {digest: row for row, digest in enumerate(self.content_ids)}
        start, new = len(self), dict[bytes, str]()
        for digest, path in zip(content_ids, paths, strict=True):
            if digest not in row_of:
                row_of[digest] = start + len(new)
                new[digest] = path
        if new:
            table = np.frombuffer(b"".join(new), dtype=np.uint8).reshape(-1, CONTENT_ID_BYTES)
            write_tail(self._array("content_id"), start, table)
            write_tail(self._array("path"), start, np.array(list(new.values()), dtype=object))
            ids = np.concatenate([self.ids, table])
            self._commit(start + len(new))
            self._ids = ids
        return np.array([row_of[digest] for digest in content_ids], dtype=np.int64)

    def prune(self, rows: NDArray[Any]) -> None:
        """Forget which images these rows were. The ids go last: until then a repeated call finds the same rows."""
        paths, ids = self._array("path"), self._array("content_id")
        everything = np.array(self.paths, dtype=object)
        everything[rows] = PRUNED_PATH
        table = self.ids.copy()
        table[rows] = 0xFF
        paths[: len(everything)] = everything
        ids[: len(table)] = table
        self._ids = table

    def _commit(self, n_rows: int) -> None:
        """Write the attribute that makes rows count; on failure this object still says what is on disk."""
        before = len(self)
        try:
            self._group.attrs.put({"n_rows": n_rows})
        except BaseException:
            self._group.metadata.attributes["n_rows"] = before
            raise

    def _array(self, name: str) -> zarr.Array[Any]:
        return array_of(self._group, name)
