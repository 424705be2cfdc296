"""A bundle as .npz: numpy.load reads every member; features are stored, text is deflated."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.files import reading
from dvme.upkeep.formats.bundle import Bundle, EmbeddedRows, Header, file_name, row_slices, text_array
from dvme.upkeep.formats.npy import SUFFIX, Layout, array_blocks, layouts, read_whole

HEADER = "meta.json"
TEXT_LEVEL = 1
"""Fixed-width text is mostly zeros; the fastest deflation is enough."""


def write(path: Path, bundle: Bundle) -> None:
    """Write the bundle to a new file."""
    n_rows = bundle.header.n_rows
    with zipfile.ZipFile(path, "w", compresslevel=TEXT_LEVEL) as archive:
        archive.writestr(zipfile.ZipInfo(HEADER), bundle.header.to_json())
        _write_array(archive, "content_id", bundle.content_ids.shape, bundle.content_ids.dtype, [bundle.content_ids])
        _write_text(archive, "first_seen", bundle.paths)
        for name, values in bundle.columns.items():
            _write_text(archive, f"columns/{file_name(name)}", values)
        for backbone in bundle.header.backbones:
            place, rows = f"embeddings/{file_name(backbone.name)}", bundle.embeddings[backbone.name]
            _write_array(archive, f"{place}/state", rows.states.shape, rows.states.dtype, [rows.states])
            _write_text(archive, f"{place}/reason", rows.reasons)
            shape, dtype = (n_rows, backbone.dim), np.dtype(backbone.dtype)
            _write_array(archive, f"{place}/features", shape, dtype, rows.blocks())


def is_bundle(path: Path) -> bool:
    """Whether an .npz was exported by dvme."""
    with reading(path), zipfile.ZipFile(path) as archive:
        return HEADER in archive.namelist()


def read(path: Path) -> Bundle:
    """Read the rows of a bundle; its features are read when they are asked for.

    Raises:
        DataError: if the file is damaged or of a newer version.
    """
    with reading(path), zipfile.ZipFile(path) as archive:
        header = Header.from_json(archive.read(HEADER), str(path))
    found = layouts(path)
    with reading(path):
        return Bundle(
            header=header,
            content_ids=read_whole(path, "content_id", found["content_id"]),
            paths=_text(path, "first_seen", found),
            columns={name: _text(path, f"columns/{file_name(name)}", found) for name in header.columns},
            embeddings={backbone.name: _embedded(path, backbone.name, found) for backbone in header.backbones},
        )


def _embedded(path: Path, backbone: str, found: dict[str, Layout]) -> EmbeddedRows:
    place = f"embeddings/{file_name(backbone)}"
    return EmbeddedRows(
        states=read_whole(path, f"{place}/state", found[f"{place}/state"]),
        reasons=_text(path, f"{place}/reason", found),
        blocks=array_blocks(path, f"{place}/features", found[f"{place}/features"]),
    )


def _text(path: Path, name: str, found: dict[str, Layout]) -> NDArray[Any]:
    values: list[str] = []
    for block in array_blocks(path, name, found[name])():
        values += block.tolist()
        "".join(values[-len(block) :]).encode()  # refuses what is no text in any encoding
    return text_array(values)


def _write_text(archive: zipfile.ZipFile, name: str, values: NDArray[Any]) -> None:
    """(N,) str as an array of fixed width, a block at a time."""
    longest = max(map(len, values))
    dtype = np.dtype(f"<U{max(1, longest)}")
    blocks = (np.array(values[window].tolist(), dtype=dtype) for window in row_slices(len(values)))
    _write_array(archive, name, values.shape, dtype, blocks, is_text=True)


def _write_array(
    archive: zipfile.ZipFile,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    blocks: Iterable[NDArray[Any]],
    *,
    is_text: bool = False,
) -> None:
    """One member, whose rows come in blocks, as they lie in memory."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    archive.compression = zipfile.ZIP_DEFLATED if is_text else zipfile.ZIP_STORED
    with archive.open(name + SUFFIX, "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, header)
        for block in blocks:
            member.write(np.ascontiguousarray(block).view(np.uint8).data)
