"""PyTorch checkpoints read without running anything in them: the zip format, and the one before it.

Source: PyTorch, torch/serialization.py and torch/_utils.py.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from dvme.backbones.conversion.inert import Known, NeedsCodeError, TornError, load_inert
from dvme.backbones.conversion.pickled_arrays import ARRAY_REBUILDERS
from dvme.errors import CheckpointError

ZIP_MAGIC = b"PK\x03\x04"
LEGACY_MAGIC, LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
LEGACY_START = b"\x8a\x0a" + LEGACY_MAGIC.to_bytes(10, "little")
"""The magic number as every pickle protocol since 2 writes it, behind the protocol's own two bytes."""
LENGTH_BYTES = 8
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, ValueError, LookupError)
"""What zipfile raises on damaged archives; UnicodeDecodeError and NotImplementedError are among them."""
DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
}
PLAIN_DTYPES = set(DTYPES.values())


class PickledTensor:
    """A tensor of a file; a class of ours, as a file may call methods of what it has built."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def __setstate__(self, state: Any) -> None:
        """Attributes of a parameter are no values."""


class PickledStorage:
    """The numbers that tensors are views of, in one dimension."""

    __slots__ = ("values",)

    def __init__(self, values: Tensor) -> None:
        self.values = values

    def __setstate__(self, state: Any) -> None:
        raise NeedsCodeError("it changes a storage")


def read_zip(path: Path) -> Any:
    """The content of a file of `torch.save` since 1.6.

    Raises:
        TornError: if the file is incomplete or damaged.
        NeedsCodeError: if its tensors cannot be rebuilt without its code.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [name for name in archive.namelist() if name.endswith("/data.pkl") and name.count("/") == 1]
            if len(pickles) != 1:
                raise TornError("it is a zip file without a checkpoint")
            root = pickles[0].removesuffix("data.pkl")
            if f"{root}constants.pkl" in archive.namelist():
                raise NeedsCodeError("it is a TorchScript program")
            order = f"{root}byteorder"
            if order in archive.namelist() and archive.read(order).strip() != b"little":
                raise NeedsCodeError("it was written on a big-endian machine")
            if archive.getinfo(pickles[0]).compress_type != zipfile.ZIP_STORED:
                raise NeedsCodeError("it is compressed, as torch.save never does")
            with archive.open(pickles[0]) as file:
                return load_inert(file, TORCH_REBUILDERS, _zip_storages(archive, f"{root}data/"))
    except CheckpointError:
        raise
    except ZIP_ERRORS as error:
        raise TornError(f"it is damaged ({error})") from error


def read_legacy(path: Path) -> Any:
    """The content of a file of `torch.save` before 1.6, or of `_use_new_zipfile_serialization=False`.

    Raises:
        TornError: if the file is incomplete.
        NeedsCodeError: if its tensors cannot be rebuilt without its code.
    """
    storages: dict[str, Tensor] = {}
    with path.open("rb") as file:
        magic, protocol, system = (load_inert(file, {}) for _ in range(3))
        if magic != LEGACY_MAGIC or protocol != LEGACY_PROTOCOL or not isinstance(system, dict):
            raise TornError("its first lines are not a checkpoint's")
        if system.get("little_endian") is not True:
            raise NeedsCodeError("it was written on a big-endian machine")
        content = load_inert(file, TORCH_REBUILDERS, _legacy_storages(storages, path.stat().st_size))
        keys = load_inert(file, {})
        if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(storages):
            raise TornError("its list of storages does not fit")
        for key in keys:
            _fill(storages[str(key)], file)
    return content


def _zip_storages(archive: zipfile.ZipFile, folder: str) -> Callable[[Any], Any]:
    """What the pickle's references mean; every storage is read once."""
    read: dict[tuple[str, torch.dtype], PickledStorage] = {}

    def persistent(pid: Any) -> Any:
        dtype, key, n_values = _reference(pid)
        if (key, dtype) not in read:
            try:
                record = archive.getinfo(f"{folder}{key}")
            except KeyError as error:
                raise TornError(f"its storage {key} is missing") from error
            if record.compress_type != zipfile.ZIP_STORED or record.file_size != n_values * dtype.itemsize:
                raise TornError(f"its storage {key} has the wrong size")
            try:
                data = bytearray(archive.read(record))
            except ZIP_ERRORS as error:
                raise TornError(f"its storage {key} is damaged") from error
            # frombuffer takes no empty buffer.
            values = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
            read[key, dtype] = PickledStorage(values)
        return read[key, dtype]

    return persistent


def _legacy_storages(storages: dict[str, Tensor], file_size: int) -> Callable[[Any], Any]:
    """The same, for values that follow the pickle: they are zeros until `_fill`."""

    def persistent(pid: Any) -> Any:
        if isinstance(pid, tuple) and len(pid) == 4 and pid[0] == "module":
            return pid[1]  # the source text of a class, saved for the reader's comfort
        dtype, key, n_values = _reference(pid)
        if n_values * dtype.itemsize > file_size:
            raise TornError(f"its storage {key} is larger than the file")
        values = storages.setdefault(key, torch.zeros(n_values, dtype=dtype))
        if values.dtype != dtype or len(values) != n_values:
            raise TornError(f"its storage {key} has two sizes")
        if len(pid) > 5 and pid[5] is not None:
            _, offset, n_viewed = pid[5]
            if not 0 <= offset <= offset + n_viewed <= n_values:
                raise TornError(f"a part of its storage {key} lies outside of it")
            values = values[offset : offset + n_viewed]
        return PickledStorage(values)

    return persistent


def _reference(pid: Any) -> tuple[torch.dtype, str, int]:
    """(dtype, key, number of values) of ("storage", class, key, location, number of values, ...)."""
    if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or not isinstance(pid[1], Known):
        raise NeedsCodeError("it refers to something that is no storage of numbers")
    _, kind, key, _, n_values = pid[:5]
    if kind.name.rpartition(".")[2] not in DTYPES:
        raise NeedsCodeError(f"it refers to {kind.name} as a storage")
    if not isinstance(n_values, int) or n_values < 0:
        raise TornError(f"its storage {key} has no size")
    return kind.value, str(key), n_values


def _fill(values: Tensor, file: IO[bytes]) -> None:
    length = int.from_bytes(file.read(LENGTH_BYTES), "little")
    n_bytes = values.numel() * values.dtype.itemsize
    data = bytearray(file.read(n_bytes))
    if length != values.numel() or len(data) != n_bytes:
        raise TornError("it ends before its last storage")
    if data:
        values.copy_(torch.frombuffer(data, dtype=values.dtype))


def _rebuilt(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> PickledTensor:
    """torch._utils._rebuild_tensor and _rebuild_tensor_v2."""
    if not isinstance(storage, PickledStorage):
        raise NeedsCodeError("it rebuilds a tensor without a storage")
    numbers = (offset, *size, *stride)
    if len(size) != len(stride) or not all(isinstance(number, int) and number >= 0 for number in numbers):
        raise TornError("it holds a tensor without a shape")
    values = storage.values
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    # More values than are stored would be one value over and over, and any amount of memory when saved.
    if prod(size) and (last >= len(values) or prod(size) > len(values)):
        raise TornError("it holds a tensor that is larger than what is stored")
    if not prod(size):
        return PickledTensor(values.new_empty(size))
    return PickledTensor(values.as_strided(size, stride, values.storage_offset() + offset))


def _rebuilt_untyped(storage: Any, offset: Any, size: Any, stride: Any, _: Any, __: Any, dtype: Any, *___: Any) -> Any:
    """torch._utils._rebuild_tensor_v3, whose storage is bytes."""
    if not isinstance(storage, PickledStorage) or not isinstance(dtype, Known) or dtype.value not in PLAIN_DTYPES:
        raise NeedsCodeError("it holds numbers of a kind that is not known here")
    return _rebuilt(PickledStorage(storage.values.view(dtype.value)), offset, size, stride)


def _same(tensor: Any, *_: Any) -> Any:
    """torch._utils._rebuild_parameter and _rebuild_parameter_with_state: a tensor that was trained."""
    return tensor


def _of_subclass(rebuild: Any, _: Any, args: Any, *__: Any) -> Any:
    """torch._tensor._rebuild_from_type_v2(rebuild, class, args, state)."""
    if not isinstance(rebuild, Known):
        raise NeedsCodeError("it rebuilds a tensor in an unknown way")
    return rebuild(*args)


REBUILDERS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _rebuilt,
    "torch._utils._rebuild_tensor_v2": _rebuilt,
    "torch._utils._rebuild_tensor_v3": _rebuilt_untyped,
    "torch._utils._rebuild_parameter": _same,
    "torch._utils._rebuild_parameter_with_state": _same,
    "torch._tensor._rebuild_from_type_v2": _of_subclass,
    "torch.Size": tuple,
}
STORAGES = {
    f"{module}.{name}": dtype for module in ("torch", "torch.cuda", "torch.storage") for name, dtype in DTYPES.items()
}
CONSTANTS = STORAGES | {str(dtype): dtype for dtype in PLAIN_DTYPES}
TORCH_REBUILDERS = (
    ARRAY_REBUILDERS
    | {name: Known(name, rebuild) for name, rebuild in REBUILDERS.items()}
    | {name: Known(name, value=dtype) for name, dtype in CONSTANTS.items()}
)
"""By the name in a pickle, for `load_inert`."""
