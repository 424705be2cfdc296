"""Arrays in NumPy's format, streamed from a file or from a member of an .npz; pickles are never loaded."""

from __future__ import annotations

import math
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError
from dvme.files import reading
from dvme.upkeep.formats.bundle import Blocks, row_slices

Opener = Callable[[], AbstractContextManager[IO[bytes]]]
SUFFIX = ".npy"
IS_ENCRYPTED = 0x1
COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class Layout:
    """What the header of an .npy says."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_fortran: bool
    """Whether columns lie together, not rows."""

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.dtype.itemsize * math.prod(self.shape[1:])


def read_header(file: IO[bytes]) -> Layout:
    """Read up to the first element.

    Raises:
        ValueError: if this is no .npy.
    """
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read(file)
    return Layout(shape, dtype, is_fortran and len(shape) > 1)


def layouts(path: Path) -> dict[str, Layout]:
    """The arrays of an .npz by name, or the array of an .npy by the name "".

    Raises:
        DataError: if the file is torn or encrypted.
    """
    found = {}
    with reading(path):
        for name, size in _member_sizes(path).items():
            with _opener(path, name)() as file:
                layout = read_header(file)
                expected = file.tell() + layout.row_bytes * (layout.shape[0] if layout.shape else 1)
            if size != expected and not layout.dtype.hasobject:
                raise EOFError(f"{name or 'the array'} has {size:,} bytes, its header says {expected:,}")
            found[name] = layout
    return found


def array_blocks(path: Path, name: str, layout: Layout) -> Blocks:
    """The rows of an array that `layouts` names, a block at a time, each checked to be whole.

    Raises:
        DataError: if it holds Python objects; while reading, if it is torn.
    """
    if layout.dtype.hasobject:
        message = (
            f"{name or 'the array'} of {path} holds pickled Python objects, which could run code, so they are never"
        )
        raise DataError(f"{message} loaded; save it plain, such as np.array(ids, dtype=str)")
    opener = _opener(path, name)
    stream = _column_major_blocks if layout.is_fortran else _row_major_blocks

    def blocks() -> Iterator[NDArray[Any]]:
        with reading(path):
            yield from stream(opener, layout)

    return blocks


def read_whole(path: Path, name: str, layout: Layout) -> NDArray[Any]:
    """A whole array that fits in memory."""
    parts = list(array_blocks(path, name, layout)())
    return np.concatenate(parts) if parts else np.empty(layout.shape, dtype=layout.dtype)


def _member_sizes(path: Path) -> dict[str, int]:
    """Bytes of every .npy, with its header."""
    if path.suffix.lower() == SUFFIX:
        return {"": path.stat().st_size}
    with zipfile.ZipFile(path) as archive:
        entries = [entry for entry in archive.infolist() if entry.filename.endswith(SUFFIX)]
    if any(entry.flag_bits & IS_ENCRYPTED for entry in entries):
        raise DataError(f"{path} is encrypted; decrypt it first")
    return {entry.filename.removesuffix(SUFFIX): entry.file_size for entry in entries}


def _opener(path: Path, name: str) -> Opener:
    if not name:
        return lambda: path.open("rb")

    @contextmanager
    def open_member() -> Iterator[IO[bytes]]:
        with zipfile.ZipFile(path) as archive, archive.open(name + SUFFIX) as member:
            yield member

    return open_member


def _row_major_blocks(opener: Opener, layout: Layout) -> Iterator[NDArray[Any]]:
    with opener() as file:
        read_header(file)
        for window in row_slices(layout.shape[0], layout.row_bytes):
            n_rows = window.stop - window.start
            data = file.read(layout.row_bytes * n_rows)
            if len(data) < layout.row_bytes * n_rows:
                raise EOFError(f"it ends before row {window.stop:,} of {layout.shape[0]:,}")
            yield np.frombuffer(data, dtype=layout.dtype).reshape(n_rows, *layout.shape[1:])
        file.read(1)  # at the end of a member its checksum is verified


def _column_major_blocks(opener: Opener, layout: Layout) -> Iterator[NDArray[Any]]:
    """Through a scratch file: rows can only be gathered where every column can be reached."""
    with opener() as file, tempfile.TemporaryFile() as scratch:
        read_header(file)
        shutil.copyfileobj(file, scratch, COPY_BYTES)
        scratch.flush()
        columns = np.memmap(scratch, dtype=layout.dtype, mode="r", shape=layout.shape, order="F")
        for window in row_slices(layout.shape[0], layout.row_bytes):
            yield np.array(columns[window])
