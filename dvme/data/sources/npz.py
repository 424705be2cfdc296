"""NumPy archives (.npz), such as those of MedMNIST: `pathmnist.npz/train_images/000123`."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from errno import EIO, ENOENT
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from dvme.data.columns import Columns
from dvme.data.samples import Samples
from dvme.data.sources.arrays.blocks import BLOCKS, new_owner
from dvme.data.sources.arrays.inflating import Inflated, Packed
from dvme.data.sources.arrays.listing import Array, ArrayFile, array_samples
from dvme.data.sources.arrays.medmnist import set_of
from dvme.data.sources.arrays.pictures import are_images, form_of
from dvme.data.sources.arrays.rows import ArrayMembers, BlockRows, Pictures, Rows, StoredRows, pread, rows_at_once
from dvme.errors import DataError
from dvme.text import first_line

NPY = ".npy"
LOCAL_HEADER, NAME_LENGTH = 30, 26
"""Bytes before the name of a member in a zip archive, and where they tell its length, and that of what follows."""
UNREADABLE = (
    OSError, ValueError, SyntaxError, EOFError, TokenError, zipfile.BadZipFile, NotImplementedError, RuntimeError,
    zlib.error,
)  # fmt: skip


@dataclass(frozen=True)
class _Member:
    """An array in the archive."""

    array: Array
    n_header: int
    """Bytes before its values."""
    info: zipfile.ZipInfo


class Npz:
    """`.npz` files."""

    called = "a NumPy archive"
    suffixes = (".npz",)

    def finds(self, place: Path) -> bool:  # noqa: ARG002
        """A folder is none."""
        return False

    def holds_images(self, file: Path) -> bool:
        """Whether an array looks like images; embeddings are kept in such files as well."""
        try:
            return any(are_images(each.array.shape, each.array.dtype) for each in _members(file).values())
        except UNREADABLE:
            return False

    def list(self, place: Path, columns: Columns, *, images_only: bool) -> Samples:
        """The images of all arrays of images.

        Raises:
            DataError: if there are none, or the file cannot be read.
        """
        try:
            members = _members(place)
        except UNREADABLE as error:
            raise DataError(f"{place} cannot be read as .npz: {first_line(error)}; load it again") from error
        arrays = {name: member.array for name, member in members.items()}
        file = ArrayFile(place, arrays, _reader(place), {}, meaning=set_of(place.stem))
        return array_samples(file, columns, images_only=images_only)

    def open(self, container: Path) -> ArrayMembers:
        """Open an archive.

        Raises:
            OSError: if it cannot be read, or is none.
        """
        try:
            members = _members(container)
        except UNREADABLE as error:
            raise OSError(EIO, f"it cannot be read as .npz: {first_line(error)}") from error
        file, owner = os.open(container, os.O_RDONLY), new_owner()

        def find(name: str) -> Pictures:
            if name not in members:
                raise OSError(ENOENT, f"there is no array {name!r} in {container.name}")
            return _pictures(file, owner, name, members[name])

        def close() -> None:
            BLOCKS.drop(owner)
            os.close(file)

        return ArrayMembers(find, close)


SOURCE = Npz()


def _pictures(file: int, owner: int, name: str, member: _Member) -> Pictures:
    """The images of an array.

    Raises:
        OSError: if it holds none, or lies in a way that cannot be read.
    """
    try:
        form = form_of(member.array.shape, member.array.dtype)
    except ValueError as error:
        raise OSError(EIO, f"array {name!r} {error}") from error
    if member.array.flaw:
        raise OSError(EIO, f"array {name!r} {member.array.flaw}")
    start = _start(file, member.info)
    if member.info.compress_type == zipfile.ZIP_STORED:
        rows: Rows = StoredRows(file, start + member.n_header, form.n_bytes)
        return Pictures(form, rows)
    stream = Inflated(Packed(file, start, member.info.compress_size, member.info.file_size, member.info.CRC))

    def load(first: int, last: int) -> memoryview:
        return memoryview(stream.read(member.n_header + first * form.n_bytes, (last - first) * form.n_bytes))

    rows = BlockRows(owner, name, form.n_rows, form.n_bytes, rows_at_once(form.n_bytes), load)
    return Pictures(form, rows)


def _flaw(info: zipfile.ZipInfo, *, is_fortran: bool) -> str:
    """Why the rows of a member cannot be read one by one; "" if they can."""
    if is_fortran:
        return "lies column by column; save it again with numpy.ascontiguousarray"
    if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        return "is compressed in a way that NumPy does not write; save it again"
    return ""


def _start(file: int, info: zipfile.ZipInfo) -> int:
    """Where the bytes of a member begin, behind its name and what else stands before them."""
    lengths = pread(file, 4, info.header_offset + NAME_LENGTH)
    return info.header_offset + LOCAL_HEADER + sum(int.from_bytes(lengths[at : at + 2], "little") for at in (0, 2))


def _members(path: Path) -> dict[str, _Member]:
    """The arrays of an archive, by name; of each the header is read.

    Raises:
        Any of UNREADABLE: if it is none.
    """
    found = {}
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.filename.endswith(NPY):
                with archive.open(info) as member:
                    shape, is_fortran, dtype = _header(member)
                    array = Array(shape, dtype, _flaw(info, is_fortran=is_fortran))
                    found[info.filename.removesuffix(NPY)] = _Member(array, member.tell(), info)
    return found


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether the first axis lies closest, and type of an array, read past its header.

    Source: NEP 1, the format of .npy files.
    """
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read(member)
    return tuple(map(int, shape)), bool(is_fortran), dtype


def _reader(path: Path) -> Callable[[str], NDArray[Any]]:
    def read(name: str) -> NDArray[Any]:
        try:
            with np.load(path, allow_pickle=False) as file:
                return np.asarray(file[name])
        except UNREADABLE as error:
            if "allow_pickle" in str(error):
                reason = "it holds Python objects, which are never unpickled; save it again as an array of numbers"
            else:
                reason = first_line(error)
            raise DataError(f"{path}: array {name!r} cannot be read: {reason}") from error

    return read
