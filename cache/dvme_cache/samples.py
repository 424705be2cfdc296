"""The samples of a cache: one append-only row per distinct image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from dvme_cache.arrays import create_array, read_array, write_tail
from dvme_cache.errors import CorruptCacheError
from dvme_cache.identity import CONTENT_ID_BYTES
from dvme_cache.layout import ROWS_PER_SAMPLE_CHUNK


class SampleTable:
    """Content ids and first-seen paths, in row order. Rows are added, never moved or removed."""

    def __init__(self, group: zarr.Group) -> None:
        self._group = group
        self._ids: list[bytes] | None = None
        self._rows: dict[bytes, int] = {}

    @staticmethod
    def create(root: zarr.Group) -> None:
        """Lay out an empty table below the cache's root group."""
        group = root.create_group("samples", attributes={"n_rows": 0})
        rows = ROWS_PER_SAMPLE_CHUNK
        create_array(
            group,
            "content_id",
            shape=(0, CONTENT_ID_BYTES),
            dtype="uint8",
            chunks=(rows, CONTENT_ID_BYTES),
            fill_value=0,
        )
        create_array(group, "path", shape=(0,), dtype=str, chunks=(rows,), fill_value="")

    def __len__(self) -> int:
        n_rows = self._group.attrs["n_rows"]
        assert isinstance(n_rows, int)
        return n_rows

    @property
    def content_ids(self) -> list[bytes]:
        """N digests of 16 bytes."""
        if self._ids is None:
            table = read_array(self._array("content_id"))[: len(self)]
            if len(table) < len(self) or (len(table) and not table.any(axis=1).all()):
                raise CorruptCacheError(f"{self._group.store}/samples/content_id lost committed rows")
            self._ids = [row.tobytes() for row in table]
            self._rows = {digest: row for row, digest in enumerate(self._ids)}
        return self._ids

    @property
    def paths(self) -> list[str]:
        """N relative paths under which the contents were first seen."""
        return [str(path) for path in read_array(self._array("path"))[: len(self)]]

    def add(self, content_ids: Sequence[bytes], paths: Sequence[str]) -> NDArray[Any]:
        """Find or append a row for every image.

        The new rows count once the attribute `n_rows` is written, after their columns: a crash in
        between leaves rows that no reader sees and that the next append overwrites.

        Returns:
            (len(content_ids),) row indices; equal contents get equal rows.
        """
        known = list(self.content_ids)
        rows = np.empty(len(content_ids), dtype=np.int64)
        new_paths: list[str] = []
        for index, (digest, path) in enumerate(zip(content_ids, paths, strict=True)):
            row = self._rows.get(digest)
            if row is None:
                row = self._rows[digest] = len(known)
                known.append(digest)
                new_paths.append(path)
            rows[index] = row
        start = len(self)
        if new_paths:
            table = np.frombuffer(b"".join(known[start:]), dtype=np.uint8).reshape(-1, CONTENT_ID_BYTES)
            write_tail(self._array("content_id"), start, table)
            write_tail(self._array("path"), start, np.array(new_paths, dtype=object))
            self._group.attrs["n_rows"] = len(known)
        self._ids = known
        return rows

    def _array(self, name: str) -> zarr.Array[Any]:
        array = self._group[name]
        assert isinstance(array, zarr.Array)
        return array
