"""TensorFlow V2 checkpoints (tensor bundles), read without TensorFlow: an index and its data shards.

Source: TensorFlow, core/protobuf/tensor_bundle.proto and core/util/tensor_bundle.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dvme.backbones.conversion.sstable import masked_crc32c, read_table, read_varint
from dvme.errors import CheckpointError

DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8", 19: "<f2"}
"""Numbers of tensorflow.DataType that can be read."""
NAMES = {7: "string", 8: "complex64", 10: "bool", 14: "bfloat16", 20: "resource", 21: "variant"}
HEADER_KEY = b""
SLICE_MARK = b"\0"  # how the keys of slices begin, which are encoded to be sorted
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
WIDTHS = {FIXED64: 8, FIXED32: 4}
LITTLE = 0


@dataclass(frozen=True)
class Entry:
    """Where one tensor lies."""

    dtype: int
    """A number of tensorflow.DataType."""
    shape: tuple[int, ...]
    shard: int
    offset: int
    """In bytes, in the shard."""
    size: int
    """In bytes."""
    crc32c: int
    """Masked, as stored."""


@dataclass(frozen=True)
class Bundle:
    """An opened checkpoint; tensors are read one by one."""

    prefix: Path
    """What the index and the shards have in common, `model.ckpt-225206`."""
    n_shards: int
    entries: dict[str, Entry]
    """By the name of the variable, sorted."""

    def read(self, name: str) -> NDArray[np.generic]:
        """One tensor, its checksum verified.

        Raises:
            CheckpointError: if its kind of number is not supported, its shard is missing or it is damaged.
        """
        entry = self.entries[name]
        if entry.dtype not in DTYPES:
            kind = NAMES.get(entry.dtype, f"type {entry.dtype}")
            raise CheckpointError(f"{name} in {self.prefix} holds {kind}, which cannot be converted; only numbers can")
        dtype = np.dtype(DTYPES[entry.dtype])
        if prod(entry.shape) * dtype.itemsize != entry.size:
            raise CheckpointError(f"{name} in {self.prefix} has {entry.size} bytes for {entry.shape}; fetch it again")
        data = self._bytes(name, entry)
        return np.frombuffer(data, dtype).reshape(entry.shape).copy()

    def _bytes(self, name: str, entry: Entry) -> bytes:
        shard = self.prefix.with_name(f"{self.prefix.name}.data-{entry.shard:05d}-of-{self.n_shards:05d}")
        if not shard.is_file():
            raise CheckpointError(f"{shard} is missing; it belongs beside {self.prefix.name}.index, fetch it too")
        try:
            # A size is only believed once the file is known to have it: a seek past the end is no error.
            if entry.offset + entry.size > shard.stat().st_size:
                raise CheckpointError(f"{shard} ends before {name}; it is truncated, fetch it again")
            with shard.open("rb") as file:
                file.seek(entry.offset)
                data = file.read(entry.size)
        except OSError as error:
            raise CheckpointError(f"{shard} cannot be read: {error.strerror}; fetch it again") from error
        if masked_crc32c(data) != entry.crc32c:
            raise CheckpointError(f"{name} in {shard} is damaged: its checksum does not fit; fetch it again")
        return data


def open_bundle(prefix: Path) -> Bundle:
    """The index of a checkpoint.

    Raises:
        CheckpointError: if it is torn, or of a kind that is not supported.
    """
    index = prefix.with_name(f"{prefix.name}.index")
    table = read_table(index)
    try:
        n_shards = _n_shards(table.pop(HEADER_KEY, None))
        entries = {_name(key): _entry(key, value) for key, value in table.items()}
        for name, entry in entries.items():
            if not 0 <= entry.shard < n_shards:
                raise ValueError(f"{name} lies in shard {entry.shard} of {n_shards}")
    except ValueError as error:
        raise CheckpointError(f"{index} cannot be converted: {error}; fetch it again, or save it anew") from error
    return Bundle(prefix, n_shards, entries)


def _n_shards(header: bytes | None) -> int:
    if header is None:
        raise ValueError("it has no header")
    fields = dict(_fields(header))
    if fields.get(2, LITTLE) != LITTLE:
        raise ValueError("it was written on a big-endian machine")
    return _number(fields.get(1, 0), "the number of shards")


def _name(key: bytes) -> str:
    if key.startswith(SLICE_MARK):
        raise ValueError("it holds variables that are partitioned into slices")
    return key.decode("utf-8")


def _entry(key: bytes, message: bytes) -> Entry:
    """Source: message BundleEntryProto."""
    named = {1: "dtype", 3: "shard", 4: "offset", 5: "size", 6: "crc32c"}
    found = dict.fromkeys(named.values(), 0)
    shape: tuple[int, ...] = ()
    for number, value in _fields(message):
        if number == 2:
            shape = _shape(value)
        elif number == 7:
            raise ValueError(f"{_name(key)} is partitioned into slices")
        elif number in named:
            found[named[number]] = _number(value, named[number])
    return Entry(shape=shape, **found)


def _shape(message: int | bytes) -> tuple[int, ...]:
    """Source: message TensorShapeProto."""
    sizes = []
    for number, dimension in _fields(message):
        if number == 3 and dimension:
            raise ValueError("a shape has an unknown rank")
        if number == 2:
            sizes.append(_number(dict(_fields(dimension)).get(1, 0), "a dimension"))
    if any(size >= 1 << 63 for size in sizes):
        raise ValueError("a dimension is negative")
    return tuple(sizes)


def _number(value: int | bytes, what: str) -> int:
    if not isinstance(value, int):
        raise ValueError(f"{what} is not a number")
    return value


def _fields(message: int | bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) of a protocol buffer, in its order; of the four wire types in use."""
    if isinstance(message, int):
        raise ValueError("a message is a number")
    position = 0
    while position < len(message):
        tag, position = read_varint(message, position)
        number, wire = tag >> 3, tag & 7
        if wire == VARINT:
            value, position = read_varint(message, position)
            yield number, value
            continue
        if wire == BYTES:
            width, position = read_varint(message, position)
        elif wire in WIDTHS:
            width = WIDTHS[wire]
        else:
            raise ValueError(f"wire type {wire} is not known")
        if position + width > len(message):
            raise ValueError("a message ends too early")
        data = message[position : position + width]
        position += width
        yield number, data if wire == BYTES else int.from_bytes(data, "little")
