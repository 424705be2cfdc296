"""Nested content under flat names: `state_dict.layer1.weight`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dvme.backbones.conversion.inert import Inert, NeedsCodeError
from dvme.backbones.conversion.pickled_arrays import PickledArray
from dvme.backbones.conversion.torch_files import PickledTensor
from dvme.errors import CheckpointError

MAX_VALUES = 1_000_000
"""A file of lists of lists can name far more values than it holds."""
NUMBERS = "biuf"
WIDEST = 8
"""Bytes of the widest number that a tensor holds; numpy's long double has more."""
UNKNOWN_TENSOR = re.compile(r"torch\.(_utils|_tensor)\._rebuild_.*|torch\.(\w+\.)?\w*Tensor")
"""What makes tensors that are neither dense nor plain numbers, and tensors of the first releases."""
RESERVED = "__metadata__"


def flatten(content: Any, source: str) -> tuple[dict[str, Tensor], list[str]]:
    """(tensors under their path, paths of all that is none); a branch without tensors is one path.

    Raises:
        NeedsCodeError: if a tensor was not rebuilt, or objects are all there is.
        CheckpointError: if two tensors would have one name, or there are none, or too many values.
    """
    walk = _Walk(source)
    try:
        walk.visit(content, "")
    except RecursionError as error:
        raise CheckpointError(f"{source} is nested too deeply to be a checkpoint; fetch it again") from error
    if not walk.tensors and walk.has_records:
        raise NeedsCodeError("what it holds are objects, and none shows a tensor")
    if not walk.tensors:
        raise CheckpointError(f"{source} holds no tensors; is it a checkpoint?")
    return walk.tensors, walk.dropped


class _Walk:
    """What was found on the way, and where the way leads at present."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.tensors: dict[str, Tensor] = {}
        self.dropped: list[str] = []
        self.has_records = False
        self._open: set[int] = set()
        self._n_values = 0

    def visit(self, value: Any, path: str) -> None:
        self._n_values += 1
        if self._n_values > MAX_VALUES:
            raise CheckpointError(f"{self.source} holds more than {MAX_VALUES} values, which no checkpoint does")
        self.has_records |= isinstance(value, Inert)
        tensor = _tensor(value)
        if tensor is not None:
            self._add(path, tensor)
            return
        children = _children(value)
        if id(value) in self._open or not children:
            self.dropped.append(path or type(value).__name__)
            return
        n_tensors, n_dropped = len(self.tensors), len(self.dropped)
        self._open.add(id(value))
        for key, child in children:
            self.visit(child, f"{path}.{key}" if path else str(key))
        self._open.remove(id(value))
        if len(self.tensors) == n_tensors and path:
            self.dropped[n_dropped:] = [path]

    def _add(self, path: str, tensor: Tensor) -> None:
        if path in self.tensors:
            message = f"{self.source} has two tensors for the flat name {path}; rename one and save it again"
            raise CheckpointError(message)
        if not path or path == RESERVED:
            raise CheckpointError(f"{self.source} holds a tensor named {path!r}; give it another name, in a dict")
        self.tensors[path] = tensor


def _tensor(value: Any) -> Tensor | None:
    if isinstance(value, PickledArray | PickledTensor):
        return value.tensor
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, np.ndarray) and value.dtype.kind in NUMBERS and value.dtype.itemsize <= WIDEST:
        return torch.from_numpy(np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("=")).copy())
    return None


def _children(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, Inert):
        if UNKNOWN_TENSOR.fullmatch(value.origin):
            raise NeedsCodeError(f"it holds a tensor made by {value.origin}")
        return value.children()
    if isinstance(value, nn.Module):
        return list(value.state_dict().items())
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return list(zip(value._fields, value, strict=True))
    return list(enumerate(value)) if isinstance(value, list | tuple) else []
