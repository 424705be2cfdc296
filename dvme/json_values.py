"""Values as strict JSON: nan is null, infinities are "inf" and "-inf". Reading them by their type gives them back."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from math import isfinite, isnan
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints, is_typeddict


class ToJson:
    """A dataclass of others, of values that JSON has, and of arrays."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`; arrays and tuples as lists."""
        return asdict(self, dict_factory=_listed)  # type: ignore[call-overload, no-any-return]


def _listed(items: list[tuple[str, Any]]) -> dict[str, Any]:
    arrays = {name: value.tolist() for name, value in items if hasattr(value, "tolist")}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in items} | arrays


def plain(value: Any) -> Any:
    """The same as JSON has it: keys are texts, tuples and arrays lists, nan is None, infinities are "inf" and "-inf".

    Args:
        value: mappings, lists, tuples, numbers of Python and numpy, arrays, texts, paths, None, in any depth.

    Raises:
        TypeError: if something else is in it.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return float(value) if isfinite(value) else None if isnan(value) else f"{float(value)}"
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):  # numpy's, which the command line does not import
        return plain(value.tolist())
    raise TypeError(f"{value!r:.50} ({type(value).__name__}) is nothing that JSON has")


def as_json(value: Any, **layout: Any) -> str:
    """Strict JSON text.

    Args:
        value: as `plain` takes it.
        layout: `indent`, `separators`, `sort_keys` and the like of `json.dumps`.
    """
    return json.dumps(plain(value), allow_nan=False, **layout)


def rebuilt(kind: Any, value: Any) -> Any:
    """A value of this type from what `dataclasses.asdict` and JSON made of it.

    Args:
        kind: a dataclass, a TypedDict, `X | None`, `list[X]`, `tuple[X, ...]`, `dict[str, X]`, `Literal`, or a plain
            type.
        value: JSON values; None for a float is nan, "inf" an infinity. Keys that are no fields are passed over, and
            fields with a default may be missing, as in what an older dvme wrote.

    Raises:
        TypeError, ValueError, KeyError: if the value is not of the type.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if isinstance(value, dict) and (is_dataclass(kind) or is_typeddict(kind)):
        hints = get_type_hints(kind)
        own = {name: rebuilt(hints[name], value[name]) for name in _names(kind, value)}
        return kind(**own)
    if origin is UnionType and NoneType in inner:
        (other,) = (each for each in inner if each is not NoneType)
        return None if value is None else rebuilt(other, value)
    if origin in (list, tuple) and isinstance(value, list | tuple):
        return origin(rebuilt(inner[0], item) for item in value)
    if origin is dict and isinstance(value, dict):
        return {key: rebuilt(inner[1], item) for key, item in value.items()}
    if kind is float and not isinstance(value, bool):
        return float("nan") if value is None else float(value)
    if kind is Any or (value in inner if origin is Literal else type(value) is kind):
        return value
    raise TypeError(f"{value!r:.50} is not {getattr(kind, '__name__', kind)}")


def _names(kind: Any, value: Mapping[str, Any]) -> list[str]:
    """The fields of a dataclass or TypedDict, without those that are missing and may be."""
    if is_typeddict(kind):
        return [name for name in get_type_hints(kind) if name in value or name in kind.__required_keys__]
    needed = {field.name for field in fields(kind) if field.default is field.default_factory is MISSING}
    return [field.name for field in fields(kind) if field.name in value or field.name in needed]
