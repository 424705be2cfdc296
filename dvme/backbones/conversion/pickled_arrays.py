"""Arrays of numpy and jax rebuilt from what their pickles record, and the classes that dill invents.

numpy's own rebuilders are not called either: a file could have them read memory as objects.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from math import prod
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from dvme.backbones.conversion.inert import Inert, Known, NeedsCodeError, TornError, record_class

NUMBER = re.compile(r"[|<>=]?(b1|[iu][1248]|f[248])")
HALF_OF_JAX = "bfloat16"
LATIN1 = {"latin1", "latin-1"}


class PickledDtype:
    """numpy.dtype(code, align, copy), and the state that tells its byte order."""

    __slots__ = ("_code", "_order")

    def __init__(self, code: Any, *_: Any) -> None:
        self._code = code.origin.rpartition(".")[2] if isinstance(code, type) and issubclass(code, Inert) else code
        self._order: Literal["<", ">", "|", "="] = "="

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|", "="):
            self._order = state[1]

    def to_numpy(self) -> np.dtype[Any] | None:
        """None for what is not a plain number; jax's bfloat16 is the 16 bits that it is."""
        code = "u2" if self.is_bfloat16() else self._code
        if not isinstance(code, str) or not NUMBER.fullmatch(code):
            return None
        return np.dtype(code) if code[0] in "<>" else np.dtype(code.lstrip("|=")).newbyteorder(self._order)

    def is_bfloat16(self) -> bool:
        """Whether jax's 16-bit kind of float is meant."""
        return isinstance(self._code, str) and self._code == HALF_OF_JAX


class PickledArray:
    """A numpy array; `tensor` is None as long as it is not known, and for what is not numbers."""

    __slots__ = ("tensor",)

    def __init__(self) -> None:
        self.tensor: Tensor | None = None

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise NeedsCodeError("it holds an array of an unknown layout")
        shape, dtype, is_fortran, data = state[-4:]  # the fifth, in front, is a version
        self.tensor = _tensor(data, dtype, shape, "F" if is_fortran else "C")


def _tensor(data: Any, dtype: Any, shape: Any, order: Any) -> Tensor | None:
    kind = dtype.to_numpy() if isinstance(dtype, PickledDtype) else None
    if isinstance(data, str):
        data = data.encode("latin1")
    if kind is None or not isinstance(data, bytes | bytearray):
        return None
    if not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape) or order not in ("C", "F"):
        raise TornError("it holds an array without a shape")
    if len(data) != prod(shape) * kind.itemsize:
        raise TornError(f"it holds an array of {len(data)} bytes for the shape {shape}")
    values = np.frombuffer(data, kind).reshape(shape, order=order).astype(kind.newbyteorder("="), order="C")
    tensor = torch.from_numpy(values)
    return tensor.view(torch.bfloat16) if dtype.is_bfloat16() else tensor


def _empty(*_: Any) -> PickledArray:
    """numpy.core.multiarray._reconstruct(class, shape, code); the state follows."""
    return PickledArray()


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any = "C", *_: Any) -> PickledArray:
    """numpy.core.numeric._frombuffer; of protocol 5."""
    array = PickledArray()
    array.tensor = _tensor(data, dtype, shape, order)
    return array


def _array_with_state(rebuild: Any, args: Any, state: Any = None, *_: Any) -> PickledArray:
    """jax._src.array._reconstruct_array and dill._dill._create_array: numpy's parts, and what is no value."""
    array = rebuild(*args) if isinstance(rebuild, Known) and isinstance(args, tuple) else None
    if not isinstance(array, PickledArray):
        raise NeedsCodeError("it rebuilds an array in an unknown way")
    if state is not None:
        array.__setstate__(state)
    return array


def _encoded(text: Any, encoding: Any = "utf-8", *_: Any) -> bytes:
    """_codecs.encode, by which protocol 2 writes bytes."""
    if not isinstance(text, str) or encoding not in LATIN1:
        raise NeedsCodeError(f"it encodes text as {encoding!r}")
    return text.encode("latin1")


def _bytes(*args: Any) -> bytes | Inert:
    """builtins.bytes(), by which the protocols up to 2 write no bytes at all."""
    return record_class("builtins.bytes")(*args) if args else b""


def _namedtuple(name: Any, fields: Any, module: Any = "", *_: Any) -> type[Inert]:
    """dill._dill._create_namedtuple: the one kind of class whose fields the file tells."""
    if not isinstance(fields, tuple | list) or not all(isinstance(field, str) for field in fields):
        raise NeedsCodeError("it creates a named tuple without names")
    return record_class(f"{module}.{name}", tuple(fields))


def _created_class(*args: Any) -> type[Inert]:
    """dill._dill._create_type(metaclass, name, bases, namespace) and _load_type(name)."""
    return record_class(next((str(arg) for arg in args if isinstance(arg, str)), "a class"))


REBUILDERS: dict[str, Callable[..., Any]] = {
    "numpy.core.multiarray._reconstruct": _empty,
    "numpy.core.numeric._frombuffer": _from_buffer,
    "numpy.dtype": PickledDtype,
    "jax._src.array._reconstruct_array": _array_with_state,
    "jax._src.device_array.reconstruct_device_array": _array_with_state,
    "jax.interpreters.xla.reconstruct_device_array": _array_with_state,
    "dill._dill._create_array": _array_with_state,
    "dill._dill._create_namedtuple": _namedtuple,
    "dill._dill._create_type": _created_class,
    "dill._dill._load_type": _created_class,
    "_codecs.encode": _encoded,
    "builtins.bytes": _bytes,
}
ARRAY_REBUILDERS = {name: Known(name, rebuild) for name, rebuild in REBUILDERS.items()}
"""By the name in a pickle, for `load_inert`."""
