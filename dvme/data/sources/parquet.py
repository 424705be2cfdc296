"""Parquet files with images inside, as hubs offer them: `data/train-00000-of-00002.parquet/image/000012`."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from errno import EIO, ENOENT
from itertools import accumulate, islice
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from dvme.data.columns import Columns
from dvme.data.encoded import Encoded
from dvme.data.samples import SPLIT_NAMES, Samples
from dvme.data.sources.arrays.blocks import BLOCKS, new_owner
from dvme.data.sources.arrow import outside
from dvme.data.sources.hub.features import binaries, schema_of
from dvme.data.sources.hub.listing import Shard, table_samples
from dvme.errors import DataError
from dvme.text import first_line, some_of

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

SHARD = re.compile(r"(?P<split>.+?)-(?P<at>\d+)-of-(?P<of>\d+)(-[0-9a-f]+)?", re.IGNORECASE)
"""The name of a file of many, without its suffix."""
FOLDERS = ("data", *SPLIT_NAMES)
"""Where hubs put the files of a data set."""
ENTRIES_LOOKED_AT = 1000


class Parquet:
    """`.parquet` files with a column of images, and folders of them; other ones are tables that name images."""

    called = "a data set of Parquet files"
    suffixes = (".parquet",)

    def finds(self, place: Path) -> bool:
        """Whether a folder has such files, itself or in one of FOLDERS."""
        return place.is_dir() and any(self.holds_images(path) for path in _files(place, ENTRIES_LOOKED_AT))

    def holds_images(self, file: Path) -> bool:
        """Whether a file has a column of images."""
        import pyarrow.parquet as pq

        try:
            return bool(schema_of(pq.read_schema(file)).images())
        except (OSError, ValueError):
            return False

    def list(self, place: Path, columns: Columns, *, images_only: bool) -> Samples:
        """The images of a file or a folder.

        Raises:
            DataError: if a file is missing or damaged, or there are no images.
        """
        if not place.is_dir():
            return table_samples(place, [_shard(place, place)], columns, images_only=images_only)
        shards = [_shard(path, place) for path in sorted(_files(place))]
        found = [shard for shard in shards if shard.schema.images()]
        others = [shard.path.name for shard in shards if not shard.schema.images()]
        _check_whole(place, [shard.path for shard in found])
        samples = table_samples(place, found, columns, images_only=images_only)
        line = f"Parquet files without a column of images passed over: {some_of(others)}"
        return replace(samples, remarks=(*samples.remarks, line)) if others else samples

    def open(self, container: Path) -> ParquetMembers:
        """Open a file.

        Raises:
            OSError: if it cannot be read, or is none.
        """
        try:
            return ParquetMembers(container)
        except ValueError as error:
            raise OSError(EIO, f"it cannot be read as Parquet: {first_line(error)}") from error


SOURCE = Parquet()


class ParquetMembers:
    """A Parquet file that is open: the member `image/000012` is row 12 of the column `image`."""

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self._file = pq.ParquetFile(path)
        self._schema, self._owner, self._lock = schema_of(self._file.schema_arrow), new_owner(), Lock()
        counts = [self._file.metadata.row_group(group).num_rows for group in range(self._file.num_row_groups)]
        self._starts = [0, *accumulate(counts)]

    def read(self, member: str) -> Encoded:
        """The image of a row; OSError if it is not there."""
        value = self._value(member).as_buffer()
        if value is None:
            raise OSError(ENOENT, f"{member} has no image inside")
        return Encoded(value.to_pybytes())

    def holds(self, member: str) -> bool:
        """Whether there is such a row."""
        try:
            self._place_of(member)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Let go of the file."""
        BLOCKS.drop(self._owner)
        self._file.close()

    def _place_of(self, member: str) -> tuple[str, int]:
        name, _, number = member.rpartition("/")
        if name not in self._schema.columns or not self._schema.is_image(name):
            raise OSError(ENOENT, f"there is no column {name!r} of images")
        n_rows = self._starts[-1]
        if not (number.isascii() and number.isdecimal()) or int(number) >= n_rows:
            raise OSError(ENOENT, f"{name} has no row {number!r}; it has {n_rows:,}")
        return name, int(number)

    def _value(self, member: str) -> Any:
        name, row = self._place_of(member)
        group = bisect_right(self._starts, row) - 1
        column = BLOCKS.take(self._owner, (name, group), lambda: self._group(name, group))
        return column[row - self._starts[group]]

    def _group(self, name: str, group: int) -> pa.ChunkedArray:
        """The files of a group of rows, of which one is read at a time."""
        import pyarrow as pa

        try:
            with self._lock:
                column = self._file.read_row_group(group, columns=[name]).column(name)
        except (OSError, ValueError) as error:
            raise OSError(EIO, first_line(error)) from error
        return pa.chunked_array([binaries(chunk)[0] for chunk in column.chunks])


def _files(place: Path, at_most: int | None = None) -> Iterator[Path]:
    """The Parquet files of a folder, and of those of its folders that hubs use, each time looking at some entries."""
    for folder in (place, *(place / name for name in FOLDERS)):
        if folder.is_dir():
            yield from (path for path in islice(folder.iterdir(), at_most) if path.suffix.lower() == ".parquet")


def _shard(path: Path, place: Path) -> Shard:
    import pyarrow.parquet as pq

    def column(name: str) -> pa.ChunkedArray:
        with _explained(path), pq.ParquetFile(path) as file:
            return file.read(columns=[name]).column(name)

    def without(name: str) -> dict[int, str]:
        with _explained(path), pq.ParquetFile(path) as file:
            if _has_all(file, name):
                return {}
            batches = file.iter_batches(batch_size=64, columns=[name])
            return outside(batch.column(0) for batch in batches)

    with _explained(path), pq.ParquetFile(path) as file:
        schema, n_rows = schema_of(file.schema_arrow), file.metadata.num_rows
    return Shard(path, schema, n_rows, column, without, _split(path, place))


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what pyarrow raises on damaged files into one line."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {first_line(error)}; load it again") from error


def _has_all(file: pq.ParquetFile, name: str) -> bool:
    """Whether the statistics of a file say that no image is missing inside."""
    meta = file.metadata
    wanted = [at for at in range(meta.num_columns) if meta.schema.column(at).path in {name, f"{name}.bytes"}]
    found = [meta.row_group(group).column(at).statistics for group in range(meta.num_row_groups) for at in wanted]
    return bool(wanted) and all(each is not None and each.has_null_count and not each.null_count for each in found)


def _split(path: Path, place: Path) -> str:
    """What the name of a file, or of its folder, says of its split."""
    match = SHARD.fullmatch(path.stem)
    if match:
        return match["split"]
    return path.parent.name if path.parent != place and path.parent.name in SPLIT_NAMES else path.stem


def _check_whole(place: Path, paths: list[Path]) -> None:
    """Refuse a folder that lacks some of the files that the others tell of.

    Raises:
        DataError: naming the first.
    """
    there: dict[tuple[Path, str, str], set[int]] = {}
    for path in paths:
        match = SHARD.fullmatch(path.stem)
        if match:
            there.setdefault((path.parent, match["split"], match["of"]), set()).add(int(match["at"]))
    for (folder, split, of), found in there.items():
        missing = sorted(set(range(int(of))) - found)
        if missing:
            name = folder / f"{split}-{missing[0]:0{len(of)}d}-of-{of}.parquet"
            raise DataError(f"{place} is not whole: {name.name} is not there; load the data set again")
