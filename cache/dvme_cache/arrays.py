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
) -> zarr.Array[Any]:
    """An uncompressed array with a crc32c behind every chunk; embeddings hardly compress."""
    return group.create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=chunks,
        shards=shards,
        compressors=[Crc32cCodec()],
        fill_value=fill_value,
        overwrite=True,
    )


@contextmanager
def reading(array: zarr.Array[Any]) -> Iterator[None]:
    """Turn a failed checksum or a torn file into an error that names the array."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        place = f"{array.store}/{array.path}"
        message = f"{place} is damaged ({error}); extract this backbone again with --replace"
        raise CorruptCacheError(message) from error


def read_array(array: zarr.Array[Any]) -> NDArray[Any]:
    """The whole array, checksums verified.

    Raises:
        CorruptCacheError: if any of its chunks is torn or flipped.
    """
    with reading(array):
        return np.asarray(array[...])


def write_tail(array: zarr.Array[Any], start: int, values: NDArray[Any]) -> None:
    """Grow the array to start + len(values) rows and write the values there."""
    array.resize((start + len(values), *array.shape[1:]))
    array[start:] = values
