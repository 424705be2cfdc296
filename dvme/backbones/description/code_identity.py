"""What code a model of one's own is made by: a part of its fingerprint, as no parameter shows a changed `forward`."""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    import torch
    from torch import nn
else:
    torch = deferred("torch")
    nn = deferred("torch.nn")

LIBRARIES = frozenset({"torch", "torchvision", "timm", "builtins", "functools", "collections", "numpy", "math"})
"""Their versions are part of no fingerprint, so their sources are not either."""
DIGEST_BYTES = 16
SHORT_DIGEST = 12
DEEPEST = 12
SCALARS = (str, int, float, type(None))


def code_digest(build: Callable[..., Any], model: nn.Module) -> str:
    """Digest of the source files of a build function and of the classes of all parts of its model, but libraries'."""
    made_by = [build.func if isinstance(build, functools.partial) else build, *map(type, model.modules())]
    sources = {_source(item) for item in made_by if not _is_library(item)}
    return _digest(sorted(sources))


def arguments_digest(build: Callable[..., Any], model: nn.Module) -> str:
    """Digest of what a build function was given, and of every attribute of the model that is no parameter or buffer."""
    parts = [_described(build)]
    # What every module has: tensors, which are hashed as weights, children, which are looked at in turn, and hooks.
    common = vars(nn.Module()).keys()
    for name, module in model.named_modules():
        own = {key: value for key, value in vars(module).items() if key not in common}
        parts.append(f"{name} {type(module).__qualname__} {_described(own)}")
    return _digest(part.encode() for part in parts)


def plain_argument(value: Any) -> Any:
    """An argument as JSON can hold it: a class or a function by its name, and its source if it is no library's."""
    if isinstance(value, SCALARS):
        return value
    if isinstance(value, list | tuple):
        return [plain_argument(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): plain_argument(item) for key, item in value.items()}
    if isinstance(value, functools.partial):
        return {"partial": plain_argument([value.func, value.args, value.keywords])}
    if not callable(value) or not hasattr(value, "__qualname__"):
        return f"{type(value).__qualname__} {_digest([_described(value).encode()])[:SHORT_DIGEST]}"
    is_library = _is_library(value)
    origin = f"{value.__module__}." if is_library else ""
    return f"{origin}{value.__qualname__}" + ("" if is_library else f" {_digest([_source(value)])[:SHORT_DIGEST]}")


def is_plain(value: Any) -> bool:
    """Whether a file can hold an argument, or all in a mapping of them, so that the model can be made again."""
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    if isinstance(value, Mapping):
        return all(map(is_plain, value.values()))
    return isinstance(value, SCALARS)


def _is_library(item: Any) -> bool:
    return str(getattr(item, "__module__", "") or "").partition(".")[0] in LIBRARIES


def _source(item: Any) -> bytes:
    """The bytes of the file that defines a class or function, or what else tells its code."""
    module = sys.modules.get(getattr(item, "__module__", ""))
    file = getattr(module, "__file__", None)
    if file is not None and Path(file).is_file():
        return Path(file).read_bytes()
    try:
        return inspect.getsource(item).encode()
    except (OSError, TypeError):  # typed at a prompt
        return _compiled(item).encode()


def _compiled(item: Any) -> str:
    """The instructions and constants of a function, or of all functions of a class."""
    if isinstance(item, type):
        return "".join(f"{name} {_compiled(value)}" for name, value in sorted(vars(item).items()) if callable(value))
    code = item if isinstance(item, types.CodeType) else getattr(item, "__code__", None)
    if code is None:
        return str(getattr(item, "__qualname__", type(item).__qualname__))
    constants = [_compiled(part) if isinstance(part, types.CodeType) else repr(part) for part in code.co_consts]
    return f"{code.co_code.hex()} {code.co_names} {constants}"


def _described(value: Any, within: tuple[int, ...] = ()) -> str:  # noqa: C901, PLR0911 - one line for each kind of value
    """A value in words that are the same in every process: never its address.

    Args:
        value: anything.
        within: ids of the objects that it is a part of, for objects may be parts of themselves.
    """
    if isinstance(value, SCALARS):
        return repr(value)
    if isinstance(value, nn.Module) or id(value) in within or len(within) > DEEPEST:
        return type(value).__qualname__
    describe = functools.partial(_described, within=(*within, id(value)))
    if isinstance(value, torch.Tensor | np.ndarray):
        array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value
        return f"{array.dtype}{array.shape}{_digest([np.ascontiguousarray(array).tobytes()])}"
    if isinstance(value, Mapping):
        return f"{{{', '.join(sorted(f'{describe(key)}: {describe(item)}' for key, item in value.items()))}}}"
    if isinstance(value, list | tuple | Set):
        items = map(describe, value)
        return f"[{', '.join(sorted(items) if isinstance(value, Set) else items)}]"
    if isinstance(value, functools.partial):
        return f"partial {describe([value.func, value.args, value.keywords])}"
    if isinstance(value, types.MethodType):
        return f"{describe(value.__self__)} {value.__func__.__qualname__}"
    if isinstance(value, types.FunctionType):
        captured = [cell.cell_contents for cell in value.__closure__ or () if not _is_empty(cell)]
        return f"{value.__qualname__} {describe([captured, value.__defaults__, value.__kwdefaults__])}"
    if isinstance(value, type | types.BuiltinFunctionType | types.ModuleType):
        return str(getattr(value, "__qualname__", value.__name__))
    if isinstance(value, torch.dtype | torch.device):
        return str(value)
    return f"{type(value).__qualname__} {describe(getattr(value, '__dict__', {}))}"


def _is_empty(cell: types.CellType) -> bool:
    """Whether a name is used before it has a value."""
    try:
        _ = cell.cell_contents
    except ValueError:
        return True
    return False


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()
