"""Embeddings made elsewhere, in files of arrays: .npz, .npy and HDF5."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dvme.errors import DataError, parameter
from dvme.extras import require
from dvme.files import reading
from dvme.upkeep.formats.bundle import Blocks
from dvme.upkeep.formats.elsewhere import Elsewhere, check_ids, chosen, read_id_table
from dvme.upkeep.formats.npy import SUFFIX, array_blocks, layouts

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

    def __str__(self) -> str:
        return f"{self.shape} {'pickled objects' if self.kind == 'O' else self.dtype}"


def read_arrays(path: Path, *, features: str | None, ids: str | None, table: Path | None) -> Elsewhere:
    """As `read_elsewhere`, of .npz, .npy, .h5 or .hdf5; features are by default the only floats with two axes."""
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
        message = f"{path} holds features and no ids; name a table of the ids, in the same order, with "
        raise DataError(message + parameter("table"))
    texts = [name for name, array in arrays.items() if len(array.shape) == 1 and array.kind in TEXTS]
    fitting = [name for name in texts if arrays[name].shape[0] == n_rows]
    what, option = "arrays of text that fit as ids", parameter("ids") + " or " + parameter("table")
    name = chosen(given, fitting or texts, arrays, source=path, what=what, option=option)
    array = arrays[name]
    if len(array.shape) != 1 or array.kind not in f"{TEXTS}{WHOLE_NUMBERS}O":
        message = f"{name} of {path} is {array}; ids are text of shape (images,); name another array with "
        raise DataError(message + parameter("ids"))
    with reading(path):
        values = (value for block in array.blocks()() for value in block.tolist())
        return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def _npy_arrays(path: Path) -> dict[str, Array]:
    return {
        name: Array(layout.shape, layout.dtype.kind, layout.dtype.name, partial(array_blocks, path, name, layout))
        for name, layout in layouts(path).items()
    }


def _hdf5_arrays(path: Path) -> dict[str, Array]:
    require("h5py")
    import h5py

    from dvme.upkeep.formats.hdf5 import dataset_blocks

    arrays: dict[str, Array] = {}

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset) and item.shape is not None:
            is_text = h5py.check_string_dtype(item.dtype) is not None
            kind, dtype = ("U", "text") if is_text else (item.dtype.kind, item.dtype.name)
            arrays[name] = Array(item.shape, kind, dtype, partial(dataset_blocks, path, name))

    with reading(path), h5py.File(path) as file:
        file.visititems(visit)
    return arrays
