"""Dataclasses as JSON values, and back."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from math import isinf
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints


def with_infinities(value: Any) -> Any:
    """The same with "inf" and "-inf" in place of the infinities, which JSON does not have; `rebuilt` takes them back.

    Degrees of freedom are infinite where a z test stands in for t; None is nan.
    """
    if isinstance(value, dict):
        return {key: with_infinities(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(with_infinities(item) for item in value)
    return str(value) if isinstance(value, float) and isinf(value) else value


def rebuilt(kind: Any, value: Any) -> Any:
    """A value of this type from what `dataclasses.asdict` and JSON made of it.

    Args:
        kind: a dataclass, `X | None`, `list[X]`, `tuple[X, ...]`, `dict[str, X]`, `Literal`, or a plain type.
        value: JSON values; None for a float is nan. Keys that are no fields are passed over, and
            fields with a default may be missing, as in what an older dvme wrote.

    Raises:
        TypeError, ValueError, KeyError: if the value is not of the type.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if is_dataclass(kind) and isinstance(value, dict):
        hints = get_type_hints(kind)
        needed = {field.name for field in fields(kind) if field.default is field.default_factory is MISSING}
        known = [field for field in fields(kind) if field.name in value or field.name in needed]
        own = {field.name: rebuilt(hints[field.name], value[field.name]) for field in known}
        return kind(**own)  # type: ignore[operator]
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
