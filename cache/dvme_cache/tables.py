"""Labels, splits, groups and further columns of text, keyed by row and replaced as a whole."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme_cache.arrays import GONE, array_of, create_array, files_of, read_text
from dvme_cache.deferred import zarr
from dvme_cache.errors import CorruptCacheError
from dvme_cache.layout import ROWS_PER_SAMPLE_CHUNK, copy_of, encoded
from dvme_cache.parallel import each

if TYPE_CHECKING:
    from dvme_cache.store import CacheStore

MISSING = ""
GENERATION = re.compile(r"\d{8}")


class ColumnTables:
    """Named columns over the samples. A replacement is one generation, switched by one attribute."""

    def __init__(self, group: zarr.Group) -> None:
        self._group = group

    @staticmethod
    def create(store: CacheStore) -> None:
        """Lay out an empty table in a new cache."""
        zarr.create_group(store, path="tables", attributes={"current": "", "columns": []}, overwrite=True)

    @property
    def columns(self) -> list[str]:
        """Names, in the order in which they were given."""
        return self.current()[1]

    @property
    def class_order(self) -> tuple[str, ...]:
        """Labels from the lowest to the highest, as the user gave them; () where no order is given."""
        return _order(self._attributes())

    def read_all(self, n_rows: int, columns: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
        """As `EmbeddingCache.columns`; if a writer replaces the generation while it is read, those of the next.

        Raises:
            CorruptCacheError: if a chunk is torn, flipped or gone, and so is its copy.
        """
        return self.read_with_order(n_rows, columns)[0]

    def read_with_order(
        self, n_rows: int, columns: Sequence[str] | None = None
    ) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
        """As `read_all`, with the order of the labels in the same generation."""
        while True:
            attributes = self._attributes()
            generation, known = _current(attributes)
            wanted = known if columns is None else columns
            try:
                found = each(
                    lambda name: self._read(generation, name, name in known, n_rows),  # noqa: B023 - done by then
                    wanted,
                    files_of(self._group).n_readers,
                )
                return dict(zip(wanted, found, strict=True)), _order(attributes)
            except CorruptCacheError:
                if self.current()[0] == generation:
                    raise

    def _read(self, generation: str, column: str, is_known: bool, n_rows: int) -> NDArray[Any]:
        values = np.full(n_rows, MISSING, dtype=object)
        if is_known:
            stored = read_text(array_of(self._group, f"{generation}/{encoded(column)}"), n_rows)
            values[: len(stored)] = stored
        return values

    def update(
        self,
        n_rows: int,
        rows: NDArray[Any],
        columns: Mapping[str, Sequence[str] | NDArray[Any]],
        class_order: Sequence[str] | None,
    ) -> None:
        """As `EmbeddingCache.update_columns`, of N rows in all."""
        merged = self.read_all(n_rows)
        is_changed = class_order is not None and tuple(class_order) != self.class_order
        is_changed |= not set(columns) <= set(merged)
        merged |= {name: np.full(n_rows, MISSING, dtype=object) for name in columns if name not in merged}
        for name, values in columns.items():
            new = np.asarray(values, dtype=object)
            is_changed |= bool((merged[name][rows] != new).any())
            merged[name][rows] = new
        if is_changed:
            self.replace(merged, class_order=class_order)

    def replace(
        self,
        columns: Mapping[str, Sequence[str] | NDArray[Any]],
        *,
        class_order: Sequence[str] | None = None,
        is_previous_kept: bool = True,
    ) -> None:
        """Make these the columns. Readers see the old ones until the last write, then all of the new.

        The generation before stays on disk for readers that are in the middle of it, unless it must go.

        Args:
            columns: name to (N,) values; "" is missing.
            class_order: of the labels, in the same write; () takes it away, None keeps what is there.
            is_previous_kept: whether the generation before stays.
        """
        order = list(self.class_order if class_order is None else class_order)
        previous, _ = self.current()
        generation = f"{int(previous or 0) + 1:08d}"
        group = self._group.create_group(generation, overwrite=True)

        def write(column: tuple[str, Sequence[str] | NDArray[Any]]) -> None:
            name, values = column
            chunks = (min(ROWS_PER_SAMPLE_CHUNK, max(1, len(values))),)
            array = create_array(group, encoded(name), shape=(len(values),), dtype=str, chunks=chunks, fill_value=GONE)
            if len(values):
                array[:] = np.asarray(values, dtype=object)

        each(write, columns.items(), files_of(group).n_readers)
        kept = {"class_order": order} if order else {}
        self._group.attrs.put({"current": generation, "columns": list(columns), **kept})  # one write: the commit
        self._remove_generations({generation, previous} if is_previous_kept else {generation})

    def _remove_generations(self, kept: set[str]) -> None:
        """Remove the other generations and their copies, those of removals that were killed included."""
        files, path = files_of(self._group), self._group.path
        for folder in (path, copy_of(path)):
            for name in files.names(folder):
                if GENERATION.fullmatch(name) and name not in kept:
                    files.delete_tree(f"{folder}/{name}")

    def current(self) -> tuple[str, list[str]]:
        """(generation, columns) as they are on disk now, which another process may have replaced."""
        return _current(self._attributes())

    def _attributes(self) -> Mapping[str, Any]:
        """As they are on disk now."""
        group = zarr.open_group(self._group.store, path=self._group.path, mode="r", zarr_format=3)
        return group.attrs.asdict()


def _current(attributes: Mapping[str, Any]) -> tuple[str, list[str]]:
    """(generation, columns) of these attributes."""
    return str(attributes["current"]), [str(name) for name in attributes["columns"]]


def _order(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """Of the labels."""
    return tuple(str(name) for name in attributes.get("class_order", []))
