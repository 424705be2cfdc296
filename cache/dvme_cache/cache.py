"""The embedding cache: samples, tables and embeddings below one Zarr group."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import zarr
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from dvme_cache.embeddings import Embeddings
from dvme_cache.errors import (
    CacheLockedError,
    CacheNotFoundError,
    CorruptCacheError,
    FingerprintMismatchError,
    MissingEmbeddingsError,
    NotACacheError,
)
from dvme_cache.fingerprint import Fingerprint
from dvme_cache.layout import FORMAT, FORMAT_VERSION, LOCK_SUFFIX, RowState
from dvme_cache.samples import SampleTable
from dvme_cache.store import PARTIAL_SUFFIX, DurableStore, make_folders, remove_partial_files, sync_folder
from dvme_cache.tables import ColumnTables


class EmbeddingCache:
    """One data set's embeddings on disk. Open with `open`, change only inside `writing`."""

    def __init__(self, path: Path, root: zarr.Group) -> None:
        self.path = path
        self._root = root
        self.samples = SampleTable(self._group("samples"))
        self.tables = ColumnTables(self._group("tables"))

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open an existing cache for reading.

        Raises:
            CacheNotFoundError: nothing is there.
            NotACacheError: something else is there, or a newer format version.
        """
        return cls._open(Path(path), read_only=True)

    @classmethod
    @contextmanager
    def writing(cls, path: str | Path) -> Iterator[Self]:
        """Open a cache for writing, creating an empty one if nothing is there. One writer at a time.

        Raises:
            CacheLockedError: another process writes to this cache.
            NotACacheError: the path holds something else.
        """
        path = Path(path)
        if path.exists():
            check_is_cache(path)
        make_folders(path.absolute().parent)
        lock = FileLock(path.with_name(f".{path.name}{LOCK_SUFFIX}"), timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            message = f"{path} is being written by another process; wait for it, or stop it, then run again"
            raise CacheLockedError(message) from error
        try:
            if not path.exists():
                _create(path)
            remove_partial_files(path)
            yield cls._open(path, read_only=False)
        finally:
            lock.release()

    @property
    def n_rows(self) -> int:
        """N, the number of distinct images."""
        return len(self.samples)

    @property
    def backbones(self) -> list[str]:
        """Names of the backbones that have embeddings, sorted."""
        folder = self.path / "embeddings"
        names = sorted(entry.name for entry in folder.iterdir() if (entry / "zarr.json").is_file())
        return [_decoded(name) for name in names if "fingerprint" in self._group(f"embeddings/{name}").attrs]

    def embeddings(self, backbone: str) -> Embeddings:
        """The embeddings of one backbone.

        Raises:
            MissingEmbeddingsError: if it was never extracted into this cache.
        """
        if backbone not in self.backbones:
            held = ", ".join(self.backbones) or "none"
            message = f"{self.path} has no {backbone} embeddings (it has: {held}); run dvme extract first"
            raise MissingEmbeddingsError(message)
        return Embeddings(self._group(f"embeddings/{_encoded(backbone)}"), self.n_rows, backbone)

    def ensure_embeddings(
        self, backbone: str, fingerprint: Fingerprint, *, dim: int, dtype: str, provenance: Mapping[str, Any]
    ) -> Embeddings:
        """The backbone's embeddings, laid out empty if there are none, grown to a row per sample.

        Raises:
            FingerprintMismatchError: if the cache holds embeddings of another fingerprint.
        """
        if backbone not in self.backbones:
            Embeddings.create(
                self._group("embeddings"),
                _encoded(backbone),
                fingerprint=fingerprint,
                provenance=provenance,
                dim=dim,
                dtype=dtype,
                n_rows=self.n_rows,
            )
        self.check_fingerprint(backbone, fingerprint)
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
                f"{self.path} holds {backbone} embeddings made differently ({fields}); "
                "extract into another cache, or pass --replace to delete these and start over"
            )
            raise FingerprintMismatchError(message)

    def remove_embeddings(self, backbone: str) -> None:
        """Delete a backbone's embeddings, if there are any."""
        if backbone in self.backbones:
            folder = self.path / "embeddings" / _encoded(backbone)
            (folder / "zarr.json").unlink()  # from here on no reader sees it
            sync_folder(folder)
            shutil.rmtree(folder)

    def n_bytes(self, backbone: str) -> int:
        """Size on disk of a backbone's embeddings."""
        folder = self.path / "embeddings" / _encoded(backbone)
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

    def column(self, name: str) -> NDArray[Any]:
        """(N,) object array of str from the tables; "" where a value is missing."""
        return self.tables.read(name, self.n_rows)

    def update_columns(self, rows: NDArray[Any], columns: Mapping[str, Sequence[str]]) -> None:
        """Set the columns of some rows and keep everything else, in one atomic replacement.

        Args:
            rows: (B,) distinct row indices.
            columns: name to B values; "" is missing.
        """
        names = [*self.tables.columns, *(name for name in columns if name not in self.tables.columns)]
        merged = {name: self.column(name) for name in names}
        for name, values in columns.items():
            merged[name][rows] = np.asarray(values, dtype=object)
        self.tables.replace(merged)

    @classmethod
    def _open(cls, path: Path, *, read_only: bool) -> Self:
        check_is_cache(path)
        store = DurableStore(path, read_only=read_only)
        return cls(path, zarr.open_group(store, mode="r" if read_only else "r+"))

    def _group(self, name: str) -> zarr.Group:
        try:
            group = self._root[name]
        except (KeyError, ValueError, TypeError) as error:
            message = f"{self.path}/{name} is gone or damaged; restore it from a copy, or extract into a new cache"
            raise CorruptCacheError(message) from error
        assert isinstance(group, zarr.Group)
        return group


def check_is_cache(path: Path) -> None:
    """Refuse a path that does not hold a cache of this format.

    Raises:
        CacheNotFoundError: nothing is there.
        NotACacheError: something else is there, or a newer format version.
    """
    if not path.exists():
        raise CacheNotFoundError(f"there is no cache at {path}; run dvme extract IMAGES {path} first")
    if not (path / "zarr.json").is_file():
        raise NotACacheError(f"{path} is not a dvme cache (it has no zarr.json); name another path")
    try:
        attributes = zarr.open_group(DurableStore(path, read_only=True), mode="r").attrs
    except (ValueError, TypeError, KeyError) as error:
        message = f"{path} is not a dvme cache, or its zarr.json is damaged ({error}); name another path"
        raise NotACacheError(message) from error
    if attributes.get("format") != FORMAT:
        raise NotACacheError(f"{path} is a Zarr group but not a dvme cache; name another path")
    version = attributes.get("format_version")
    if version != FORMAT_VERSION:
        message = f"{path} has cache format {version}, this dvme reads format {FORMAT_VERSION}; update dvme"
        raise NotACacheError(message)


def count_states(states: NDArray[Any]) -> dict[str, int]:
    """How many rows are done, failed and pending."""
    return {state.name.lower(): int((states == state).sum()) for state in RowState}


def _create(path: Path) -> None:
    """Lay out an empty cache aside and rename it into place: it exists whole, or not at all.

    Only for the holder of the lock: what a killed process left aside is removed first.
    """
    aside = path.with_name(f".{path.name}{PARTIAL_SUFFIX}")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        attributes = {"format": FORMAT, "format_version": FORMAT_VERSION}
        root = zarr.create_group(DurableStore(aside), attributes=attributes)
        SampleTable.create(root)
        ColumnTables.create(root)
        root.create_group("embeddings")
        aside.rename(path)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    sync_folder(path.absolute().parent)


def _encoded(backbone: str) -> str:
    """A backbone's name as one folder name: `timm:resnet50` and `hf-hub:a/b` keep their identity."""
    return backbone.replace("%", "%25").replace("/", "%2F").replace(":", "%3A")


def _decoded(folder: str) -> str:
    return folder.replace("%3A", ":").replace("%2F", "/").replace("%25", "%")
