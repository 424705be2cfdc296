"""Caches as files of other tools: HDF5, npz, Parquet, CSV. Written whole or not at all, read back exactly."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from dvme.errors import DataError, parameter
from dvme.extras import require
from dvme.files import reading, written_aside
from dvme.upkeep.formats.bundle import Bundle
from dvme.upkeep.formats.checks import check_rows, check_texts
from dvme.upkeep.formats.elsewhere import Elsewhere

SUFFIXES = {".h5": "hdf5", ".hdf5": "hdf5", ".npz": "npz", ".parquet": "parquet", ".csv": "csv"}
ARRAY_SUFFIXES, TABLE_SUFFIXES = (".h5", ".hdf5", ".npz", ".npy"), (".parquet", ".csv", ".tsv")
_MODULES = {"hdf5": "hdf5", "npz": "npz", "parquet": "parquet", "csv": "csv_"}
"""Imported when a file of theirs is read or written: pyarrow and h5py take their time, and h5py may be missing."""


def format_of(path: Path) -> str:
    """`hdf5`, `npz`, `parquet` or `csv`, by the file's suffix.

    Raises:
        DataError: for any other suffix.
        MissingPackageError: for HDF5 without h5py.
    """
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        message = f"{path} has no suffix of an exchange format; use .h5 (HDF5), .npz, .parquet or .csv"
        raise DataError(message)
    if kind == "hdf5":
        require("h5py")
    return kind


def files_of(path: Path) -> list[Path]:
    """The files that an export of this name consists of."""
    return [path, _module("csv").sidecar(path)] if format_of(path) == "csv" else [path]


def write_bundle(path: Path, bundle: Bundle) -> None:
    """Write a file that exists whole or not at all; an old one of this name is replaced.

    A CSV is two files. Its header is renamed into place first and carries the digest of the CSV it belongs to, so
    that a crash between the two is found when the pair is read.

    Raises:
        DataError: if the bundle cannot be kept in this format.
    """
    check_texts(bundle)
    kind = format_of(path)
    with written_aside(path) as aside:
        _module(kind).write(aside, bundle)
        if kind == "csv":
            _module(kind).write_sidecar(path, bundle.header, aside)


def is_bundle(path: Path) -> bool:
    """Whether a file was exported by dvme, rather than made elsewhere.

    Raises:
        DataError: if it cannot be read.
    """
    kind = SUFFIXES.get(path.suffix.lower())
    return kind is not None and bool(_module(kind).is_bundle(path))


def read_bundle(path: Path) -> Bundle:
    """Read the rows of an export and check that they are complete; features are read when they are asked for.

    Raises:
        DataError: if the file is damaged or of a newer version.
    """
    bundle: Bundle = _module(format_of(path)).read(path)
    with reading(path):
        check_rows(bundle)
    return bundle


def read_elsewhere(path: Path, *, features: str | None, ids: str | None, table: Path | None) -> Elsewhere:
    """Find features and ids in a file that another tool made.

    Args:
        path: .npz, .npy, .h5, .hdf5, .parquet, .csv or .tsv.
        features: array or column of features; by default the only one that fits.
        ids: array or column of ids; by default the only one that fits.
        table: a table of the ids, for a file of arrays.

    Raises:
        DataError: if the file cannot be read, or its parts are not clear or do not fit together.
    """
    suffix = path.suffix.lower()
    if suffix in ARRAY_SUFFIXES:
        from dvme.upkeep.formats.elsewhere_arrays import read_arrays

        return read_arrays(path, features=features, ids=ids, table=table)
    if suffix not in TABLE_SUFFIXES:
        known = ", ".join((*ARRAY_SUFFIXES, *TABLE_SUFFIXES))
        raise DataError(f"{path} has no suffix of a format that can be imported; use one of {known}")
    if table is not None:
        step = " is for files of arrays; leave it out, name columns with "
        raise DataError(f"{path} is a table itself, " + parameter("table") + step + parameter("ids"))
    from dvme.upkeep.formats.elsewhere_tables import read_tables

    return read_tables(path, features=features, ids=ids)


def _module(kind: str) -> Any:
    return import_module(f"dvme.upkeep.formats.{_MODULES[kind]}")
