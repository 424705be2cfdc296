"""A spec as the text of a TOML file, which `spec_from_toml` reads back. The standard library only reads TOML."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from dvme.backbones.description.spec import BackboneSpec, Checkpoint, Layout
from dvme.backbones.own.custom import check_own_name, spec_to_mapping
from dvme.errors import DataError

BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
NOT_FOR_A_FILE = ("built", "hub")
"""Sources of weights that a TOML file cannot name."""


def can_be_written(spec: BackboneSpec) -> bool:
    """Whether a file can say where the weights come from; of a model that Python builds, or of the hub, it cannot."""
    return spec.source not in NOT_FOR_A_FILE and spec.build is None


def spec_to_toml(spec: BackboneSpec) -> str:
    """A text from which `spec_from_toml` reads the same spec; of `architecture_args`, tuples become lists.

    Raises:
        DataError: if a file cannot say it: a model that Python builds, a view, a name with variations or of the zoo, or
            values that TOML does not have.
    """
    check_own_name(spec.name, "a TOML file")
    if not can_be_written(spec):
        raise DataError(f"{spec.name}: source = {spec.source!r} is not for a TOML file; write Python")
    if not spec.view.is_plain:
        raise DataError(f"{spec.name}: a view is a version of the image, not of the backbone; leave it out")
    if spec.dense:
        raise DataError(f"{spec.name}: dense features are a variation of a backbone; leave it out")
    values = spec_to_mapping(spec)
    if spec.checkpoint is not None:  # what is at its default has no line, but for `wrapping`, which reading may change
        values["checkpoint"] = _layout(spec.checkpoint, values["checkpoint"])
    values["reading"] = spec.reading.set_fields
    try:
        text = "\n".join(_table(values, (), spec.name)).strip() + "\n"
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{spec.name}: a text of it is no Unicode and cannot be written: {error.reason}") from error
    return text


def _layout(layout: Layout, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a layout that differ from their defaults."""
    kept = {
        field.name: values[field.name]
        for field in dataclasses.fields(layout)
        if field.name == "wrapping" or getattr(layout, field.name) != field.default
    }
    if "other_layouts" in kept:
        assert isinstance(layout, Checkpoint)
        kept["other_layouts"] = [
            _layout(each, own) for each, own in zip(layout.other_layouts, values["other_layouts"], strict=True)
        ]
    return kept


def _table(values: Mapping[str, Any], at: tuple[str, ...], where: str) -> list[str]:
    """Lines of a table: its values first, for what follows a header belongs to that."""
    tables = {key: value for key, value in values.items() if isinstance(value, Mapping)}
    of_tables = {key: value for key, value in values.items() if _is_tables(value)}
    plain = {key: value for key, value in values.items() if key not in tables | of_tables and value is not None}
    lines = [f"{_key(key)} = {_value(value, f'{where}: {key}')}" for key, value in plain.items()]
    for key, table in tables.items():
        if table:
            path = (*at, key)
            lines += ["", f"[{'.'.join(map(_key, path))}]", *_table(table, path, f"{where}: {key}")]
    for key, several in of_tables.items():
        for table in several:
            path = (*at, key)
            lines += ["", f"[[{'.'.join(map(_key, path))}]]", *_table(table, path, f"{where}: {key}")]
    return lines


def _is_tables(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(each, Mapping) for each in value)


def _key(key: str) -> str:
    return key if BARE_KEY.fullmatch(key) else _text(key)


def _value(value: Any, where: str) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return _text(value)
        case int():
            return str(value)
        case float():
            return repr(value) if math.isfinite(value) else str(value)  # inf, -inf and nan are TOML
        case list() | tuple():
            return f"[{', '.join(_value(each, where) for each in value)}]"
        case Mapping():
            return f"{{{', '.join(f'{_key(key)} = {_value(each, where)}' for key, each in value.items())}}}"
        case _:
            raise DataError(f"{where} is {value!r}, which a TOML file cannot say")


def _text(value: str) -> str:
    """As JSON has it, which escapes all that TOML wants escaped but for one character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
