"""A bundle as HDF5: a group a backbone, features chunked by rows, and a digest of the file in its user block."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError
from dvme.extras import needed
from dvme.files import reading, rest_digest
from dvme.upkeep.formats.bundle import (
    BLOCK_ROWS,
    FORMAT,
    FORMAT_VERSION,
    Blocks,
    Bundle,
    EmbeddedRows,
    Header,
    file_name,
    row_slices,
    text_array,
)

if TYPE_CHECKING:
    import h5py
else:
    h5py = needed("h5py")

USER_BLOCK = 512
"""Bytes before the HDF5 in the file, which HDF5 leaves to its users: here lies the digest of all that follows."""
MAGIC = b"dvme-export blake2b-128 "
CHUNK_BYTES = 1 << 20
TEXT = h5py.string_dtype("utf-8")


def write(path: Path, bundle: Bundle) -> None:
    """Write the bundle to a new file."""
    with h5py.File(path, "w", userblock_size=USER_BLOCK) as file:
        file.attrs["format"], file.attrs["format_version"] = FORMAT, FORMAT_VERSION
        file.attrs["header"] = bundle.header.to_json()
        file.create_dataset("content_id", data=bundle.content_ids)
        file.create_dataset("first_seen", data=bundle.paths, dtype=TEXT)
        for name, values in bundle.columns.items():
            file.create_dataset(f"columns/{file_name(name)}", data=values, dtype=TEXT)
        for backbone in bundle.header.backbones:
            group, rows = file.create_group(f"embeddings/{file_name(backbone.name)}"), bundle.embeddings[backbone.name]
            group.create_dataset("state", data=rows.states)
            group.create_dataset("reason", data=rows.reasons, dtype=TEXT)
            shape = (bundle.header.n_rows, backbone.dim)
            chunks = (min(shape[0], _chunk_rows(backbone.dim, backbone.dtype)), backbone.dim)
            features = group.create_dataset("features", shape, backbone.dtype, chunks=chunks, fletcher32=True)
            windows = row_slices(shape[0], bundle.header.longest_row)
            for window, block in zip(windows, rows.blocks(), strict=True):
                features[window] = block
    with path.open("r+b") as raw:
        raw.seek(USER_BLOCK)
        digest = rest_digest(raw)
        raw.seek(0)
        raw.write(MAGIC + digest.encode())


def is_bundle(path: Path) -> bool:
    """Whether an HDF5 file was exported by dvme."""
    with reading(path):
        with path.open("rb") as raw:
            if raw.read(len(MAGIC)) == MAGIC:
                return True
        with h5py.File(path) as file:
            return bool(file.attrs.get("format", "") == FORMAT)


def read(path: Path) -> Bundle:
    """Read the rows of a bundle; its features are read when they are asked for.

    Raises:
        DataError: if the file is not what was written, or of a newer version.
    """
    _check_digest(path)
    with reading(path), h5py.File(path) as file:
        header = Header.from_json(file.attrs["header"], str(path))
        places = {backbone.name: f"embeddings/{file_name(backbone.name)}" for backbone in header.backbones}
        return Bundle(
            header=header,
            content_ids=file["content_id"][...],
            paths=_text(file["first_seen"]),
            columns={name: _text(file[f"columns/{file_name(name)}"]) for name in header.columns},
            embeddings={
                name: EmbeddedRows(
                    states=file[f"{place}/state"][...],
                    reasons=_text(file[f"{place}/reason"]),
                    blocks=dataset_blocks(path, f"{place}/features"),
                )
                for name, place in places.items()
            },
        )


def dataset_blocks(path: Path, name: str) -> Blocks:
    """The rows of a dataset, a block at a time; texts as str."""

    def blocks() -> Iterator[NDArray[Any]]:
        with reading(path), h5py.File(path) as file:
            dataset = file[name]
            n_rows = len(dataset)
            if h5py.check_string_dtype(dataset.dtype) is not None:
                dataset = dataset.asstr()
            row_bytes = dataset.dtype.itemsize * int(np.prod(dataset.shape[1:]))
            for window in row_slices(n_rows, row_bytes):
                yield np.asarray(dataset[window])

    return blocks


def _check_digest(path: Path) -> None:
    """Refuse a file of which a bit has changed. HDF5's own checksums miss text, and a torn heap can hang its library.

    Raises:
        DataError: if so.
    """
    with reading(path), path.open("rb") as raw:
        block = raw.read(USER_BLOCK)
        digest = rest_digest(raw)
    if block.rstrip(b"\0") != MAGIC + digest.encode():
        raise DataError(f"{path} is not what dvme exported: it is truncated, damaged or was changed; export it again")


def _chunk_rows(dim: int, dtype: str) -> int:
    """Rows of about 1 MiB: a power of two, so that a block is whole chunks."""
    fitting = max(1, CHUNK_BYTES // (dim * np.dtype(dtype).itemsize))
    return min(BLOCK_ROWS, 1 << (fitting.bit_length() - 1))


def _text(dataset: h5py.Dataset) -> NDArray[Any]:
    return text_array(dataset.asstr()[...])
