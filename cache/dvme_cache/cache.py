"""The embedding cache: samples, tables and embeddings below one Zarr group."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from dvme_cache.deferred import zarr
from dvme_cache.embeddings import Embeddings
from dvme_cache.errors import CorruptCacheError, FingerprintMismatchError, MissingEmbeddingsError
from dvme_cache.files import open_files
from dvme_cache.fingerprint import Fingerprint
from dvme_cache.integrity import erase_rows
from dvme_cache.layout import RowState, encoded
from dvme_cache.opened import OpenedEmbeddings
from dvme_cache.parallel import each
from dvme_cache.parts import LetGo, Part, one_part, one_writer
from dvme_cache.protocol import Files
from dvme_cache.reading import read_ahead, read_rows, read_states
from dvme_cache.recognition import check_is_cache, is_anything_there
from dvme_cache.samples import SampleTable
from dvme_cache.tables import MISSING, ColumnTables

if TYPE_CHECKING:
    from dvme_cache.store import CacheStore

SCAN_BYTES = 64 << 20
REGISTERING = threading.Lock()


class EmbeddingCache:
    """One data set's embeddings. Open with `open`, change only inside `writing`."""

    def __init__(self, store: CacheStore, root: zarr.Group) -> None:
        self.location = str(store.files)
        """The path or URL."""
        self.store = store
        self._root = root
        samples, tables = each(self._group, ("samples", "tables"), store.files.n_readers)
        self.samples, self.tables = SampleTable(samples), ColumnTables(tables)
        self._opened = OpenedEmbeddings(store.files)

    @classmethod
    def open(cls, location: str | Path) -> Self:
        """Open an existing cache for reading, by path or URL.

        Raises:
            CacheNotFoundError: nothing is there.
            NotACacheError: something else is there, or another format version.
            CacheAccessError: the URL cannot be reached.
        """
        return cls._open(open_files(location), read_only=True)

    @staticmethod
    def exists(location: str | Path) -> bool:
        """Whether there is anything at a path or URL, a cache or not."""
        return is_anything_there(open_files(location))

    @classmethod
    @contextmanager
    def writing(cls, location: str | Path, *, wait: bool = False) -> Iterator[Self]:
        """Open a cache for writing, creating an empty one if nothing is there. One writer at a time.

        Args:
            location: path or URL.
            wait: whether to wait while another process writes.

        Raises:
            CacheLockedError: another process writes to this cache.
            NotACacheError: the place holds something else.
            CacheAccessError: the URL cannot be reached.
        """
        with one_writer(location, wait=wait) as files:
            yield cls._open(files, read_only=False)

    @classmethod
    @contextmanager
    def writing_part(cls, location: str | Path, part: Part, *, wait: bool = False) -> Iterator[tuple[Self, LetGo]]:
        """As `writing`, beside other parts of an extraction.

        Yields:
            The cache, and what lets other parts begin. After that only shards that the part owns may be written.
        """
        with one_part(location, part, wait=wait) as (files, let_others_begin):
            yield cls._open(files, read_only=False), let_others_begin

    @property
    def name(self) -> str:
        """The last part of the location, without its suffix."""
        return Path(self.location).stem

    @property
    def n_rows(self) -> int:
        """N, the number of rows: one per distinct image ever added, pruned ones included."""
        return len(self.samples)

    @property
    def backbones(self) -> list[str]:
        """Names of the backbones that have embeddings, sorted."""
        attributes: Mapping[str, Any] = self._group("embeddings").attrs.asdict()
        return sorted(attributes["backbones"])

    def embeddings(self, backbone: str) -> Embeddings:
        """The embeddings of one backbone; opened once, and again after any process added or removed a backbone.

        Raises:
            MissingEmbeddingsError: if it was never extracted into this cache.
        """
        return self._opened.get(backbone, self.n_rows, self._open_embeddings)

    def all_embeddings(self, backbones: Sequence[str]) -> list[Embeddings]:
        """The embeddings of several backbones; in an object store they are opened together. Raises as `embeddings`."""
        return self._opened.get_all(backbones, self.n_rows, self._open_embeddings)

    def ensure_embeddings(
        self,
        backbone: str,
        fingerprint: Fingerprint,
        *,
        dim: int,
        dtype: str,
        provenance: Mapping[str, Any],
        rows_per_shard: int | None = None,
    ) -> Embeddings:
        """The backbone's embeddings, laid out empty if there are none, grown to a row per sample.

        Threads may ask for several backbones at a time.

        Raises:
            FingerprintMismatchError: if the cache holds embeddings of another fingerprint.
        """
        if backbone not in self.backbones:
            self.store.delete_tree(_folder(backbone))  # what a removal that was killed left behind
            Embeddings.create(
                self.store,
                _folder(backbone),
                fingerprint=fingerprint,
                provenance=provenance,
                dim=dim,
                dtype=dtype,
                n_rows=self.n_rows,
                rows_per_shard=rows_per_shard,
            )
            self._register(backbone, is_there=True)
        self.check_fingerprint(backbone, fingerprint)
        self._add_kinds(backbone, fingerprint)
        embeddings = self.embeddings(backbone)
        embeddings.grow()
        return embeddings

    def check_fingerprint(self, backbone: str, fingerprint: Fingerprint) -> None:
        """Refuse to mix embeddings that were made differently. Passes where there are none yet.

        Raises:
            FingerprintMismatchError: naming every field that differs, with both values.
        """
        if backbone not in self.backbones:
            return
        differences = self.embeddings(backbone).fingerprint.differences(fingerprint)
        if differences:
            fields = "; ".join(f"{name}: cached {old!r}, asked {new!r}" for name, old, new in differences)
            message = (
                f"{self.location} holds {backbone} embeddings made differently ({fields}); "
                "extract into another cache, or delete these and start over"
            )
            raise FingerprintMismatchError(message)

    def remove_embeddings(self, backbone: str) -> None:
        """Delete a backbone's embeddings, if there are any."""
        if backbone in self.backbones:
            self._register(backbone, is_there=False)  # from here on no reader sees it
            self.store.delete_tree(_folder(backbone))

    def n_bytes(self, backbone: str) -> int:
        """Stored size of a backbone's embeddings."""
        return sum(self.store.files.sizes(_folder(backbone)).values())

    def column(self, name: str) -> NDArray[Any]:
        """(N,) object array of str from the tables; "" where a value is missing."""
        return self.columns([name])[name]

    def columns(self, names: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
        """Columns as they were at one moment, whatever a writer does meanwhile; all of them by default.

        Returns:
            Name to (N,) object array of str; "" where a value is missing or the column is unknown.
        """
        return self.tables.read_all(self.n_rows, names)

    def columns_and_order(self, names: Sequence[str]) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
        """Columns as `columns` has them, and the `class_order` of the same moment."""
        return self.tables.read_with_order(self.n_rows, names)

    @property
    def class_order(self) -> tuple[str, ...]:
        """Labels from the lowest to the highest, as the user gave them; () where no order is given."""
        return self.tables.class_order

    def update_columns(
        self,
        rows: NDArray[Any],
        columns: Mapping[str, Sequence[str] | NDArray[Any]],
        *,
        class_order: Sequence[str] | None = None,
    ) -> None:
        """Set the columns of some rows and keep everything else, in one atomic replacement; none if nothing changes.

        Args:
            rows: (B,) distinct row indices.
            columns: name to B values; "" is missing.
            class_order: of the labels; () takes it away, None keeps what is there.
        """
        self.tables.update(self.n_rows, rows, columns, class_order)

    def prune(self, rows: NDArray[Any]) -> None:
        """Take images out: their columns, embeddings, reasons, paths and ids are overwritten. Rows keep their numbers.

        The ids go last, so that after a kill the same call finds the same rows and finishes.

        Args:
            rows: (B,) distinct row indices, ascending.
        """
        columns = self.columns()
        for values in columns.values():
            values[rows] = MISSING
        self.tables.replace(columns, is_previous_kept=False)
        for name in self.backbones:
            table = self.embeddings(name)
            table.grow()
            erase_rows(table, rows)
        self.samples.prune(rows)

    def complete_rows(self, backbones: Sequence[str]) -> NDArray[Any]:
        """(R,) rows that have an embedding of every one of these backbones, ascending."""
        is_done = np.ones(self.n_rows, dtype=bool)
        for states in read_states([table.stored for table in self.all_embeddings(backbones)]):
            is_done &= states == RowState.DONE
        return np.flatnonzero(is_done)

    def read_aligned(self, backbones: Sequence[str], rows: NDArray[Any]) -> list[NDArray[Any]]:
        """The same rows of several backbones.

        Args:
            backbones: M names.
            rows: (B,) row indices in any order, committed for every backbone.

        Returns:
            M arrays (B, D_m): entry b of each belongs to the image of rows[b].

        Raises:
            MissingEmbeddingsError, CorruptCacheError: as `Embeddings.read`.
        """
        return read_rows([table.stored for table in self.all_embeddings(backbones)], rows)

    def scan(self, backbones: Sequence[str]) -> Iterator[tuple[NDArray[Any], list[NDArray[Any]]]]:
        """Every row that all of these backbones have, in order and in bounded memory.

        Yields:
            (rows (B,), M arrays (B, D_m)), about 64 MiB at a time.
        """
        tables = [table.stored for table in self.all_embeddings(backbones)]
        rows = self.complete_rows(backbones)
        size = max(1, SCAN_BYTES // max(1, sum(table.features.row_bytes for table in tables)))
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        yield from zip(parts, read_ahead(tables, parts), strict=True)

    @classmethod
    def _open(cls, files: Files, *, read_only: bool) -> Self:
        check_is_cache(files)
        from dvme_cache.store import CacheStore

        store = CacheStore(files, read_only=read_only)
        return cls(store, zarr.open_group(store, mode="r" if read_only else "r+", zarr_format=3))

    def _open_embeddings(self, backbone: str) -> Embeddings:
        if backbone not in self.backbones:
            held = ", ".join(f'"{name}"' if "," in name else name for name in self.backbones) or "none"
            message = f"{self.location} has no {backbone} embeddings (it has: {held}); run dvme extract first"
            raise MissingEmbeddingsError(message)
        try:
            return Embeddings(self._group(_folder(backbone)), self.samples, backbone)
        except KeyError as error:
            raise self._gone(f"{_folder(backbone)}/{error.args[0]}") from error

    def _add_kinds(self, backbone: str, fingerprint: Fingerprint) -> None:
        """Keep how files of further kinds are read; the digest, and so the checksums, stay as they are."""
        stored = self.embeddings(backbone).fingerprint
        if fingerprint.fields.keys() - stored.fields.keys():
            fields = dict(stored.with_fields(fingerprint.fields).fields)
            self._group(_folder(backbone)).attrs.update({"fingerprint": fields})
            self._opened.forget()

    def _register(self, backbone: str, *, is_there: bool) -> None:
        """Say which backbones there are: the commit of adding or removing one."""
        with REGISTERING:
            others = [name for name in self.backbones if name != backbone]
            self._group("embeddings").attrs.put({"backbones": [*others, backbone] if is_there else others})
            self._opened.forget()

    def _group(self, name: str) -> zarr.Group:
        try:
            group = self._root[name]
        except (KeyError, ValueError, TypeError) as error:
            raise self._gone(name) from error
        assert isinstance(group, zarr.Group)
        return group

    def _gone(self, key: str) -> CorruptCacheError:
        message = f"{self.location}/{key} is gone or damaged, as after a partial copy; copy the cache again, or extract"
        return CorruptCacheError(f"{message} into a new one")


def _folder(backbone: str) -> str:
    return f"embeddings/{encoded(backbone)}"
