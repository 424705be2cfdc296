"""Arrow files and the folders that `datasets` saves: `train/data-00000-of-00002.arrow/image/000012`."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable
from errno import EIO, ENOENT
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dvme.data.columns import Columns
from dvme.data.encoded import Encoded
from dvme.data.samples import MISSING, Samples
from dvme.data.sources.hub.features import binaries, schema_of
from dvme.data.sources.hub.listing import Shard, table_samples
from dvme.errors import DataError
from dvme.text import first_line

if TYPE_CHECKING:
    import pyarrow as pa

STATE, INFO, SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"
FILE_MAGIC, END = b"ARROW1", b"\xff\xff\xff\xff\x00\x00\x00\x00"
"""With which an Arrow file begins, and a stream ends. Source: the Arrow columnar format, IPC."""


class Arrow:
    """`.arrow` files, and folders of them as `save_to_disk` writes them."""

    called = "a data set of Hugging Face"
    suffixes = (".arrow",)

    def finds(self, place: Path) -> bool:
        """Whether `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote a folder."""
        return (place / SPLITS).is_file() or ((place / STATE).is_file() and (place / INFO).is_file())

    def holds_images(self, file: Path) -> bool:
        """Whether a file has a column of images."""
        try:
            return bool(_shard(file).schema.images())
        except DataError:
            return False

    def list(self, place: Path, columns: Columns, *, images_only: bool) -> Samples:
        """The images of a file, of a folder, or of all splits below it.

        Raises:
            DataError: if a file is missing or damaged, or there are no images.
        """
        if place.is_dir():
            splits = _told(place / SPLITS).get("splits") if (place / SPLITS).is_file() else None
            folders = {MISSING: place} if splits is None else {str(split): place / str(split) for split in splits}
            shards = [_shard(path, split) for split, folder in folders.items() for path in _files(folder)]
        else:
            shards = [_shard(place)]
        return table_samples(place, shards, columns, images_only=images_only)

    def open(self, container: Path) -> ArrowMembers:
        """Open a file; what is read of it is mapped into memory.

        Raises:
            OSError: if it cannot be read, or is none.
        """
        try:
            return ArrowMembers(container)
        except ValueError as error:
            raise OSError(EIO, f"it cannot be read as Arrow: {first_line(error)}") from error


SOURCE = Arrow()


class ArrowMembers:
    """An Arrow file that is open: the member `image/000012` is row 12 of the column `image`."""

    def __init__(self, path: Path) -> None:
        self._table = read_table(path)
        self._columns: dict[str, tuple[list[int], list[pa.Array | None]]] = {}

    def read(self, member: str) -> Encoded:
        """The image of a row; OSError if it is not there."""
        chunk, at = self._place_of(member)
        value = chunk[at].as_buffer() if chunk is not None else None
        if value is None:
            raise OSError(ENOENT, f"{member} has no image inside")
        return Encoded(value.to_pybytes())

    def holds(self, member: str) -> bool:
        """Whether there is such a row, with an image inside."""
        try:
            chunk, at = self._place_of(member)
        except OSError:
            return False
        return chunk is not None and chunk[at].is_valid

    def close(self) -> None:
        """Let go of the file."""
        del self._table
        self._columns.clear()

    def _place_of(self, member: str) -> tuple[pa.Array | None, int]:
        """The piece of a column, and the place in it."""
        name, _, number = member.rpartition("/")
        if name not in self._columns:
            self._columns[name] = self._chunks(name)
        starts, chunks = self._columns[name]
        if not (number.isascii() and number.isdecimal()) or int(number) >= self._table.num_rows:
            raise OSError(ENOENT, f"{name} has no row {number!r}; it has {self._table.num_rows:,}")
        at = bisect_right(starts, int(number)) - 1
        return chunks[at], int(number) - starts[at]

    def _chunks(self, name: str) -> tuple[list[int], list[pa.Array | None]]:
        if not (name in self._table.column_names and schema_of(self._table.schema).is_image(name)):
            raise OSError(ENOENT, f"there is no column {name!r} of images")
        starts, chunks, start = [], [], 0
        for chunk in self._table.column(name).chunks:
            if len(chunk):
                starts.append(start)
                chunks.append(binaries(chunk)[0])
                start += len(chunk)
        return starts, chunks


def read_table(path: Path) -> pa.Table:
    """The table of an Arrow file, mapped into memory.

    Raises:
        OSError, ValueError: if it cannot be read, or ends early.
    """
    import pyarrow as pa

    file = pa.memory_map(str(path))
    if file.size() >= len(FILE_MAGIC) and file.read(len(FILE_MAGIC)) == FILE_MAGIC:
        table = pa.ipc.open_file(file).read_all()
    else:
        file.seek(max(0, file.size() - len(END)))
        if file.read() != END:  # a stream that ends between two batches would be read as a shorter one
            raise ValueError("it ends early")
        file.seek(0)
        table = pa.ipc.open_stream(file).read_all()
    table.validate(full=True)  # an offset that leads out of the file would end this process
    return table


def outside(chunks: Iterable[pa.Array]) -> dict[int, str]:
    """The rows of a column of images whose files are not inside, and their paths; "" where there is none."""
    found: dict[int, str] = {}
    start = 0
    for chunk in chunks:
        inside, paths = binaries(chunk)
        if inside is None or inside.null_count:
            names: list[Any] = [None] * len(chunk) if paths is None else paths.to_pylist()
            is_inside = [False] * len(chunk) if inside is None else inside.is_valid().to_pylist()
            found |= {start + at: names[at] or "" for at, has in enumerate(is_inside) if not has}
        start += len(chunk)
    return found


def _shard(path: Path, split: str = MISSING) -> Shard:
    try:
        table = read_table(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as Arrow: {first_line(error)}; save the data set again") from error

    def without(name: str) -> dict[int, str]:
        return outside(table.column(name).chunks)

    return Shard(path, schema_of(table.schema), table.num_rows, table.column, without, split)


def _files(folder: Path) -> list[Path]:
    """The Arrow files of one split, as its state names them.

    Raises:
        DataError: if one is missing, or only some of the rows count.
    """
    state = _told(folder / STATE)
    if state.get("_indices_files") or state.get("_indices_data_files"):
        raise DataError(
            f"{folder} keeps a selection of rows beside the data; save it again with dataset.flatten_indices()"
            f'.save_to_disk("{folder}-flat")'
        )
    found = [folder / str(each["filename"]) for each in state.get("_data_files", ())]
    missing = [path for path in found if not path.is_file()]
    if missing or not found:
        what = f"{missing[0].name} is not there" if missing else f"{STATE} names no files"
        raise DataError(f"{folder} is not whole: {what}; copy or save the data set again")
    return found


def _told(path: Path) -> dict[str, Any]:
    """What a JSON file of a data set says.

    Raises:
        DataError: if it cannot be read.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it holds no object")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}; copy or save the data set again") from error
    return found
