"""Zarr arrays as this package uses them: checksummed on every read, errors that name the array."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec

from dvme_cache.errors import CorruptCacheError


def create_array(
    group: zarr.Group,
    name: str,
    *,
    shape: tuple[int, ...],
    dtype: Any,
    chunks: tuple[int, ...],
    shards: tuple[int, ...] | None = None,
    fill_value: Any,
    is_sparse: bool = True,
) -> zarr.Array[Any]:
    """An uncompressed array with a crc32c behind every chunk; embeddings hardly compress.

    A sparse array does not store chunks that hold nothing but the fill value.
    """
    return group.create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=chunks,
        shards=shards,
        compressors=[Crc32cCodec()],
        fill_value=fill_value,
        overwrite=True,
        config={"write_empty_chunks": not is_sparse},
    )


@contextmanager
def reading(array: zarr.Array[Any]) -> Iterator[None]:
    """Turn a failed checksum or a torn file into an error that names the array."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        raise damaged(array, str(error)) from error


def damaged(array: zarr.Array[Any], what: str) -> CorruptCacheError:
    """The error for an array whose stored bytes cannot be trusted."""
    is_embedding = array.path.startswith("embeddings/")
    step = "extract this backbone again with --replace" if is_embedding else "restore it from a copy, or extract anew"
    return CorruptCacheError(f"{array.store}/{array.path} is damaged ({what}); {step}")


def read_array(array: zarr.Array[Any], *, is_complete: bool = False) -> NDArray[Any]:
    """The whole array, checksums verified.

    Args:
        array: what to read.
        is_complete: whether every chunk must be there, as in arrays that are not sparse.

    Raises:
        CorruptCacheError: if any of its chunks is torn, flipped or gone.
    """
    if is_complete and array.nchunks_initialized < array.nchunks:
        raise damaged(array, "chunks are gone")
    with reading(array):
        return np.asarray(array[...])


def write_tail(array: zarr.Array[Any], start: int, values: NDArray[Any]) -> None:
    """Grow the array to start + len(values) rows and write the values there."""
    array.resize((start + len(values), *array.shape[1:]))
    array[start:] = values
