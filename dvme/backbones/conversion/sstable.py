"""LevelDB-style sorted tables, read strictly: the `.index` file of a TensorFlow checkpoint is one.

Source: LevelDB, doc/table_format.md; TensorFlow, core/lib/io/table (the same format).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import google_crc32c

from dvme.errors import CheckpointError

MAGIC = 0xDB4775248B80FB57
FOOTER_BYTES = 48
TRAILER_BYTES = 5  # compression type, masked checksum
UNCOMPRESSED, SNAPPY = 0, 1
MASK_DELTA = 0xA282EAD8
VARINT_BITS = 64


def read_table(path: Path) -> dict[bytes, bytes]:
    """All keys and values of a table, in the table's order.

    Raises:
        CheckpointError: if the file is no table, is torn, is compressed, or a checksum does not fit.
    """
    try:
        content = path.read_bytes()
        return _entries(content)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}; fetch it again") from error
    except ValueError as error:
        message = f"{path} is not the index of a TensorFlow V2 checkpoint: {error}; fetch it again, or save it anew"
        raise CheckpointError(message) from error


def masked_crc32c(data: bytes) -> int:
    """The checksum as tables and bundles store it, so that checksums of checksums stay useful."""
    crc = int(google_crc32c.value(data))
    return (((crc >> 15) | (crc << 17)) + MASK_DELTA) & 0xFFFFFFFF


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """(value, position behind it).

    Raises:
        ValueError: if the number does not end, or has more than 64 bits.
    """
    value = shift = 0
    while True:
        if position >= len(data) or shift >= VARINT_BITS:
            raise ValueError("a number does not end")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    if value >> VARINT_BITS:
        raise ValueError("a number has more than 64 bits")
    return value, position


def _entries(content: bytes) -> dict[bytes, bytes]:
    if len(content) < FOOTER_BYTES or int.from_bytes(content[-8:], "little") != MAGIC:
        raise ValueError("its last bytes are not a table's")
    footer = content[-FOOTER_BYTES:]
    _, position = _handle(footer, 0)  # of the meta index, which TensorFlow leaves empty
    index, _ = _handle(footer, position)
    entries: dict[bytes, bytes] = {}
    last = None
    for separator, value in _block(content, index):
        handle, end = _handle(value, 0)
        if end != len(value):
            raise ValueError("a block's address has bytes left over")
        for key, entry in _block(content, handle):
            if (last is not None and key <= last) or key > separator:
                raise ValueError("its keys are not sorted")
            last = key
            entries[key] = entry
    return entries


def _handle(data: bytes, position: int) -> tuple[tuple[int, int], int]:
    """((offset, size) of a block, position behind it)."""
    offset, position = read_varint(data, position)
    size, position = read_varint(data, position)
    return (offset, size), position


def _block(content: bytes, handle: tuple[int, int]) -> Iterator[tuple[bytes, bytes]]:
    offset, size = handle
    if offset + size + TRAILER_BYTES > len(content) - FOOTER_BYTES:
        raise ValueError("a block lies outside the file")
    data, kind = content[offset : offset + size], content[offset + size]
    stored = int.from_bytes(content[offset + size + 1 : offset + size + TRAILER_BYTES], "little")
    if masked_crc32c(content[offset : offset + size + 1]) != stored:
        raise ValueError(f"the checksum of the block at byte {offset} does not fit")
    if kind != UNCOMPRESSED:
        name = "snappy" if kind == SNAPPY else f"method {kind}"
        raise ValueError(f"it is compressed ({name}), which TensorFlow never does")
    return _pairs(data)


def _pairs(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys share a prefix with their predecessor; the restart points at the end only serve a search."""
    n_restarts = int.from_bytes(data[-4:], "little")
    end = len(data) - 4 * (n_restarts + 1)
    if len(data) < 4 or end < 0:
        raise ValueError("a block is too short")
    position, key = 0, b""
    while position < end:
        n_shared, position = read_varint(data, position)
        n_own, position = read_varint(data, position)
        n_value, position = read_varint(data, position)
        if n_shared > len(key) or position + n_own + n_value > end:
            raise ValueError("an entry lies outside its block")
        key = key[:n_shared] + data[position : position + n_own]
        position += n_own
        yield key, data[position : position + n_value]
        position += n_value
