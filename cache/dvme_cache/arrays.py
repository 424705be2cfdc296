"""Zarr arrays as this package uses them: checksummed on every read, errors that name the array."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme_cache.deferred import zarr
from dvme_cache.errors import CorruptCacheError
from dvme_cache.protocol import Files

GONE = "\0gone"
"""The fill value of text that must be there: it is no text, so to read it means that a chunk is gone."""


def create_array(
    group: zarr.Group,
    name: str,
    *,
    shape: tuple[int, ...],
    dtype: Any,
    chunks: tuple[int, ...],
    fill_value: Any,
    is_compressed: bool = True,
) -> zarr.Array[Any]:
    """An array with a crc32c behind every chunk. Embeddings hardly compress; text and unused rows vanish."""
    from zarr.codecs import Crc32cCodec, ZstdCodec

    return group.create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=chunks,
        compressors=[ZstdCodec(level=1), Crc32cCodec()] if is_compressed else [Crc32cCodec()],
        fill_value=fill_value,
        overwrite=True,
        config={"write_empty_chunks": True},
    )


def files_of(group: zarr.Group) -> Files:
    """The files of the cache that a group of this package is of."""
    store: Any = group.store
    files: Files = store.files
    return files


def array_of(group: zarr.Group, name: str) -> zarr.Array[Any]:
    """An array below a group.

    Raises:
        CorruptCacheError: if its metadata is gone.
    """
    try:
        array = group[name]
    except KeyError as error:
        place = f"{group.store}/{group.path}/{name}"
        step = f"copy the cache again, or run dvme cache repair {group.store}"
        raise CorruptCacheError(f"{place} is gone, as after a partial copy; {step}") from error
    assert isinstance(array, zarr.Array)
    return array


@contextmanager
def reading(array: zarr.Array[Any]) -> Iterator[None]:
    """Turn a failed checksum or a torn file into an error that names the array."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        if isinstance(error, CorruptCacheError):
            raise
        raise damaged(array, str(error)) from error


def damaged(array: zarr.Array[Any], what: str) -> CorruptCacheError:
    """The error for an array whose stored bytes cannot be trusted."""
    return CorruptCacheError(f"{array.store}/{array.path} is damaged ({what}); run dvme cache repair {array.store}")


def read_array(array: zarr.Array[Any]) -> NDArray[Any]:
    """The whole array, checksums verified.

    Raises:
        CorruptCacheError: if any of its chunks is torn or flipped.
    """
    with reading(array):
        return np.asarray(array[...])


def read_text(array: zarr.Array[Any], n_rows: int) -> NDArray[Any]:
    """(at most n_rows,) object array of str, of an array whose every chunk must be there.

    Raises:
        CorruptCacheError: if any of its chunks is torn, flipped or gone.
    """
    text = read_array(array)[:n_rows].astype(object)
    if (text == GONE).any():
        raise damaged(array, "a chunk is gone")
    return text


def write_tail(array: zarr.Array[Any], start: int, values: NDArray[Any]) -> None:
    """Grow the array to start + len(values) rows and write the values there.

    Raises:
        CorruptCacheError: if the chunk that is to be continued is torn or flipped.
    """
    array.resize((start + len(values), *array.shape[1:]))
    with reading(array):
        array[start:] = values
