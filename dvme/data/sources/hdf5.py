"""HDF5 files (.h5), such as those of PatchCamelyon: `camelyonpatch_level_2_split_train_x.h5/x/000123`."""

from __future__ import annotations

import os
from collections.abc import Callable
from errno import EIO, ENOENT
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme.data.columns import Columns
from dvme.data.samples import Samples
from dvme.data.sources.arrays.blocks import BLOCKS, new_owner
from dvme.data.sources.arrays.listing import Array, ArrayFile, array_samples
from dvme.data.sources.arrays.patchcam import is_patchcam, patchcam_samples
from dvme.data.sources.arrays.pictures import Form, are_images, form_of
from dvme.data.sources.arrays.rows import ArrayMembers, BlockRows, Pictures, Rows, StoredRows, rows_at_once
from dvme.errors import DataError
from dvme.extras import require
from dvme.text import first_line

if TYPE_CHECKING:
    import h5py

UNREADABLE = (OSError, ValueError, RuntimeError, KeyError)
"""What h5py raises on damaged files."""


class Hdf5:
    """`.h5` and `.hdf5` files, and the folder that has those of PatchCamelyon."""

    called = "an HDF5 file"
    suffixes = (".h5", ".hdf5")

    def finds(self, place: Path) -> bool:
        """Whether a folder has PatchCamelyon's files."""
        return is_patchcam(place)

    def holds_images(self, file: Path) -> bool:
        """Whether an array is of images; embeddings are kept in such files as well."""
        try:
            return any(are_images(each.shape, each.dtype) for each in array_file(file).arrays.values())
        except DataError:
            return False

    def list(self, place: Path, columns: Columns, *, images_only: bool) -> Samples:
        """The images of a file, or of PatchCamelyon's.

        Raises:
            DataError: if there are none, or a file cannot be read.
        """
        if is_patchcam(place):
            return patchcam_samples(place, columns, array_file, images_only=images_only)
        return array_samples(array_file(place), columns, images_only=images_only)

    def open(self, container: Path) -> ArrayMembers:
        """Open a file.

        Raises:
            OSError: if it cannot be read, or is none.
            MissingPackageError: if h5py is not installed.
        """
        require("h5py")
        import h5py

        file, owner = h5py.File(container, "r"), new_owner()
        descriptor = os.open(container, os.O_RDONLY)

        def find(name: str) -> Pictures:
            try:
                dataset = file[name]
                if not isinstance(dataset, h5py.Dataset):
                    raise KeyError(name)
                form = form_of(dataset.shape, dataset.dtype)
            except KeyError as error:
                raise OSError(ENOENT, f"there is no array {name!r} in {container.name}") from error
            except ValueError as error:
                raise OSError(EIO, f"array {name!r} {error}") from error
            return Pictures(form, _rows(dataset, form, descriptor, owner))

        def close() -> None:
            BLOCKS.drop(owner)
            os.close(descriptor)
            file.close()

        return ArrayMembers(find, close)


SOURCE = Hdf5()


def array_file(path: Path) -> ArrayFile:
    """What a file holds.

    Raises:
        DataError: if it cannot be read.
        MissingPackageError: if h5py is not installed.
    """
    require("h5py")
    import h5py

    found: dict[str, Array] = {}

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset) and item.shape is not None:
            is_text = h5py.check_string_dtype(item.dtype) is not None
            found[name] = Array(item.shape, np.dtype(str) if is_text else item.dtype)

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
    except UNREADABLE as error:
        raise DataError(f"{path} cannot be read as HDF5: {first_line(error)}; load it again") from error
    return ArrayFile(path, found, _reader(path), {})


def _rows(dataset: h5py.Dataset, form: Form, descriptor: int, owner: int) -> Rows:
    """Where the rows are: in the file as they are in memory, or else in blocks, of which h5py reads one at a time."""
    start = dataset.id.get_offset()
    if start is not None and not dataset.external and not dataset.file.userblock_size:
        return StoredRows(descriptor, start, form.n_bytes)
    per_chunk = dataset.chunks[0] if dataset.chunks else 1

    def load(first: int, last: int) -> memoryview:
        try:
            values = np.ascontiguousarray(dataset[first:last])
        except UNREADABLE as error:
            raise OSError(EIO, first_line(error)) from error
        return values.reshape(-1).view(np.uint8).data

    per_block = rows_at_once(form.n_bytes, per_chunk)
    return BlockRows(owner, str(dataset.name), form.n_rows, form.n_bytes, per_block, load)


def _reader(path: Path) -> Callable[[str], NDArray[Any]]:
    def read(name: str) -> NDArray[Any]:
        import h5py

        try:
            with h5py.File(path, "r") as file:
                dataset = file[name]
                is_text = h5py.check_string_dtype(dataset.dtype) is not None
                return np.asarray(dataset.asstr()[()] if is_text else dataset[()])
        except UNREADABLE as error:
            raise DataError(f"{path}: array {name!r} cannot be read: {first_line(error)}") from error

    return read
