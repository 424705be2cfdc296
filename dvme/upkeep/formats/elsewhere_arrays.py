"""Embeddings made elsewhere, in files of arrays: .npz, .npy and HDF5."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError, parameter
from dvme.files import reading
from dvme.upkeep.formats.bundle import Blocks
from dvme.upkeep.formats.elsewhere import Elsewhere, check_ids, chosen, read_id_table
from dvme.upkeep.formats.hdf5 import dataset_blocks
from dvme.upkeep.formats.npy import SUFFIX, Layout, array_blocks, layouts, read_whole

NUMBERS, WHOLE_NUMBERS, TEXTS = "fiu", "iu", "US"
"""numpy's letters of the dtypes that features, numbered ids and ids may have."""


@dataclass(frozen=True)
class Array:
    """One array of a file."""

    shape: tuple[int, ...]
    kind: str
    """numpy's letter for its dtype; U for every text."""
    dtype: str
    blocks: Callable[[], Blocks]
    whole: Callable[[], NDArray[Any]]

    def __str__(self) -> str:
        return f"{self.shape} {'pickled objects' if self.kind == 'O' else self.dtype}"


def read_arrays(path: Path, *, features: str | None, ids: str | None, table: Path | None) -> Elsewhere:
    """Choose the features and the ids of a file of arrays.

    Args:
        path: .npz, .npy, .h5 or .hdf5.
        features: name of the array of features; by default the only one of floats with two axes.
        ids: name of the array of ids, or of the table's column; by default the only one that fits.
        table: a table that holds the ids.

    Raises:
        DataError: if the file cannot be read, or its parts are not clear or do not fit together.
    """
    arrays = _hdf5_arrays(path) if path.suffix.lower() in {".h5", ".hdf5"} else _npy_arrays(path)
    tables = [name for name, array in arrays.items() if len(array.shape) == 2 and array.kind == "f"]
    what = "arrays of floats with two axes"
    name = chosen(features, tables, arrays, source=path, what=what, option=parameter("features"))
    array = arrays[name]
    if len(array.shape) != 2 or 0 in array.shape or array.kind not in f"{NUMBERS}O":
        message = f"{name or 'the array'} of {path} is {array}; features are numbers of shape (images, dims), not empty"
        raise DataError(f"{message}; name another array with " + parameter("features"))
    blocks = array.blocks()
    if table is not None:
        names, columns, *remarks = read_id_table(table, ids)
    else:
        names, columns, remarks = _read_ids(path, arrays, array.shape[0], ids), {}, []
    check_ids(names, array.shape[0], path if table is None else table)
    return Elsewhere(names, array.shape[1], array.dtype, blocks, columns, tuple(remarks))


def _read_ids(path: Path, arrays: dict[str, Array], n_rows: int, given: str | None) -> list[str]:
    if path.suffix.lower() == SUFFIX:
        raise DataError(
            f"{path} holds features and no ids; name a table of the ids, in the same order, with " + parameter("table")
        )
    texts = [name for name, array in arrays.items() if len(array.shape) == 1 and array.kind in TEXTS]
    fitting = [name for name in texts if arrays[name].shape[0] == n_rows]
    what = "arrays of text that fit as ids"
    name = chosen(
        given, fitting or texts, arrays, source=path, what=what, option=parameter("ids") + " or " + parameter("table")
    )
    array = arrays[name]
    if len(array.shape) != 1 or array.kind not in f"{TEXTS}{WHOLE_NUMBERS}O":
        message = f"{name} of {path} is {array}; ids are text of shape (images,); name another array with "
        raise DataError(message + parameter("ids"))
    with reading(path):
        values = array.whole().tolist()
        return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def _npy_arrays(path: Path) -> dict[str, Array]:
    return {name: _npy_array(path, name, layout) for name, layout in layouts(path).items()}


def _npy_array(path: Path, name: str, layout: Layout) -> Array:
    return Array(
        shape=layout.shape,
        kind=layout.dtype.kind,
        dtype=layout.dtype.name,
        blocks=lambda: array_blocks(path, name, layout),
        whole=lambda: read_whole(path, name, layout),
    )


def _hdf5_arrays(path: Path) -> dict[str, Array]:
    arrays: dict[str, Array] = {}

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset) and item.shape is not None:
            arrays[name] = _hdf5_array(path, name, item)

    with reading(path), h5py.File(path) as file:
        file.visititems(visit)
    return arrays


def _hdf5_array(path: Path, name: str, dataset: h5py.Dataset) -> Array:
    is_text = h5py.check_string_dtype(dataset.dtype) is not None

    def whole() -> NDArray[Any]:
        with reading(path), h5py.File(path) as file:
            return np.asarray(file[name].asstr()[...] if is_text else file[name][...])

    return Array(
        shape=dataset.shape,
        kind="U" if is_text else dataset.dtype.kind,
        dtype="text" if is_text else dataset.dtype.name,
        blocks=lambda: dataset_blocks(path, name),
        whole=whole,
    )
