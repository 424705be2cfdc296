"""Labels, splits, groups and further columns of text, keyed by row and replaced as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from dvme_cache.arrays import create_array, read_array
from dvme_cache.layout import ROWS_PER_SAMPLE_CHUNK

MISSING = ""


class ColumnTables:
    """Named columns over the samples. A replacement is one generation, switched by one attribute."""

    def __init__(self, group: zarr.Group) -> None:
        self._group = group

    @staticmethod
    def create(root: zarr.Group) -> None:
        """Lay out an empty table below the cache's root group."""
        root.create_group("tables", attributes={"current": "", "columns": []})

    @property
    def columns(self) -> list[str]:
        """Names, in the order in which they were given."""
        return self._current()[1]

    def read(self, column: str, n_rows: int) -> NDArray[Any]:
        """(n_rows,) object array of str; "" where a value is missing or the column is unknown."""
        values = np.full(n_rows, MISSING, dtype=object)
        generation, columns = self._current()
        if column in columns:
            array = self._group[f"{generation}/{column}"]
            assert isinstance(array, zarr.Array)
            stored = read_array(array, is_complete=True)[:n_rows]
            values[: len(stored)] = [str(value) for value in stored]
        return values

    def replace(self, columns: Mapping[str, Sequence[str] | NDArray[Any]]) -> None:
        """Make these the columns. Readers see the old ones until the last write, then all of the new.

        The generation before stays on disk for readers that are in the middle of it; older ones go.
        """
        previous, _ = self._current()
        generation = f"{int(previous or 0) + 1:08d}"
        group = self._group.create_group(generation, overwrite=True)
        for name, values in columns.items():
            array = create_array(
                group,
                name,
                shape=(len(values),),
                dtype=str,
                chunks=(ROWS_PER_SAMPLE_CHUNK,),
                fill_value=MISSING,
                is_sparse=False,
            )
            if len(values):
                array[:] = np.asarray(values, dtype=object)
        self._group.attrs.put({"current": generation, "columns": list(columns)})  # one write: the commit
        for name in [name for name in self._group.group_keys() if name not in {generation, previous}]:
            del self._group[name]

    def _current(self) -> tuple[str, list[str]]:
        """(generation, columns) as they are on disk now, which another process may have replaced."""
        attributes = zarr.open_group(self._group.store, path=self._group.path, mode="r").attrs
        columns = attributes["columns"]
        assert isinstance(columns, list)
        return str(attributes["current"]), [str(name) for name in columns]
