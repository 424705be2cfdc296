"""Backbones that users describe: a spec in a TOML file, or Python that makes one."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import importlib.metadata
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dvme.backbones.description.spec import BackboneSpec, Checkpoint, Layout, Preprocess
from dvme.backbones.model.architectures import check_architecture
from dvme.backbones.zoo import ZOO
from dvme.defaults import PRECISION
from dvme.errors import DataError, parameter

OWN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
ENTRY_POINTS = "dvme.backbones"
"""The entry-point group in which an installed package names its specs."""
_SECTIONS: dict[str, type] = {"preprocess": Preprocess, "checkpoint": Checkpoint}
_DEFAULTS: dict[str, Any] = {
    "method": "custom",
    "dim": None,
    "licence": "not stated",
    "paper": "not stated",
    "preprocess": {},
    "checkpoint": None,
}
_SECTION_DEFAULTS: dict[str, dict[str, Any]] = {"preprocess": {}, "checkpoint": {"url": ""}}
_KEY_RULES = {"nesting", "keep", "drop"}
_NOT_IN_A_FILE = {"build"}


def spec_from_architecture(name: str, architecture: str) -> BackboneSpec:
    """The spec of a torchvision-style checkpoint: a state dict of that architecture, wrapped as is usual.

    The architecture's own classifier is left over, and so is another one (`fc.`, `head.`, `classifier.`).

    Raises:
        UnknownNameError: if there is no such architecture.
    """
    check_own_name(name, parameter("architectures"))
    check_architecture(architecture, parameter("architectures", {name: architecture}))
    return BackboneSpec(
        name=name,
        method="custom",
        architecture=architecture,
        dim=None,
        pooling="model",
        preprocess=Preprocess(),
        checkpoint=Checkpoint(filename=f"{name}.pth", url="", wrapping="usual"),
        licence="not stated",
        paper="not stated",
        is_verified=False,
        remark="ImageNet's preprocessing and timm's pooling are assumed",
    )


def spec_from_toml(path: Path) -> BackboneSpec:
    """Read a spec from a TOML file. A weights file beside it is found without --weights.

    Raises:
        DataError: naming the field that is missing, unknown or of the wrong kind.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise DataError(f"{path} cannot be read as TOML: {reason}") from error
    if content.get("source") in {"built", "hub"}:
        raise DataError(f"{path}: source = {content['source']!r} is not for a TOML file; leave it out, or write Python")
    if "view" in content:
        raise DataError(f"{path}: a view is a version of the image, not of the backbone; say it as {path}@view=1")
    if "dense" in content:
        raise DataError(f"{path}: dense features are a variation of a backbone; say it as {path}@dense=last")
    spec = spec_from_mapping({"is_verified": False} | content, source=str(path))
    check_own_name(spec.name, str(path))
    folder = path.parent.absolute()
    if spec.trained_on:
        spec = dataclasses.replace(spec, trained_on=str(folder / spec.trained_on))
    if spec.checkpoint is None:
        return spec
    return dataclasses.replace(spec, checkpoint=_placed(spec.checkpoint, folder))


def _placed(checkpoint: Checkpoint, folder: Path) -> Checkpoint:
    """With the copy beside the description, if it lies there, and a name of its own in the download folder.

    Everyone calls a file model.pth: two addresses must not share what was downloaded from one of them.
    """
    beside = folder / checkpoint.filename
    local = str(beside) if beside.is_file() else checkpoint.local
    name = Path(checkpoint.local_name)
    address = hashlib.blake2b(checkpoint.url.encode(), digest_size=4).hexdigest()
    is_own = bool(checkpoint.saved_as or checkpoint.sha256 or checkpoint.md5 or not checkpoint.url)
    saved_as = checkpoint.saved_as if is_own else f"{name.stem}-{address}{name.suffix}"
    return dataclasses.replace(checkpoint, local=local, saved_as=saved_as)


def spec_from_mapping(content: Mapping[str, Any], *, source: str) -> BackboneSpec:
    """A spec from plain values, as TOML and JSON have them.

    Raises:
        DataError: naming the field that is missing, unknown or of the wrong kind.
    """
    from pydantic import TypeAdapter, ValidationError

    values = _DEFAULTS | dict(content)
    _check_names(values, BackboneSpec, source)
    for section, kind in _SECTIONS.items():
        if isinstance(values[section], Mapping):
            _check_names(values[section], kind, f"{source}, [{section}]")
            others = values[section].get("other_layouts", ())
            if not isinstance(others, list | tuple) or not all(isinstance(layout, Mapping) for layout in others):
                message = f"other_layouts is {others!r}; write tables, each under [[{section}.other_layouts]]"
                raise DataError(f"{source}, [{section}]: {message}")
            for layout in others:
                _check_names(layout, Layout, f"{source}, [[{section}.other_layouts]]")
            values[section] = _SECTION_DEFAULTS[section] | dict(values[section])
            if section == "checkpoint" and not ({"nesting"} < values[section].keys() & _KEY_RULES):
                values[section].setdefault("wrapping", "usual")
    if values.get("source") == "built":
        raise DataError(f"{source}: a model that Python builds cannot be described in a file")
    if values["checkpoint"] is None and values.get("source") not in {"timm", "hub", "random"}:
        raise DataError(f"{source}: there is no [checkpoint]; add one, or say source = 'timm' or 'random'")
    try:
        return TypeAdapter(BackboneSpec).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) + ": " if first["loc"] else ""
        given = "" if isinstance(first["input"], Mapping) else f" (given: {first['input']!r})"
        raise DataError(f"{source}: {place}{first['msg'].removeprefix('Value error, ')}{given}") from error


def spec_to_mapping(spec: BackboneSpec) -> dict[str, Any]:
    """Plain values from which `spec_from_mapping` makes the spec again; a `build` function is no such value."""
    values = dataclasses.asdict(dataclasses.replace(spec, build=None, architecture_args={}))
    del values["build"]
    if spec.precision == PRECISION:
        del values["precision"]
    if spec.view.is_plain:
        del values["view"]
    # Of the few that say it: other caches keep what they kept before.
    for name in ("trained_on", "is_transductive", "adapted_from", "dense"):
        if not values[name]:
            del values[name]
    return values | {"architecture_args": dict(spec.architecture_args)}


def installed_spec(name: str) -> BackboneSpec | None:
    """The spec that an installed package provides under the entry point of that name.

    Raises:
        DataError: if it cannot be loaded, or is none.
    """
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS, name=name):
        try:
            found = entry.load()
        except (Exception, SystemExit) as error:
            message = f"entry point {name} = {entry.value} cannot be loaded: {type(error).__name__}: {error}"
            raise DataError(message) from error
        return dataclasses.replace(resolved(found, f"entry point {entry.value}"), name=name)
    return None


def installed_names() -> list[str]:
    """Names of the backbones that installed packages provide."""
    return sorted({entry.name for entry in importlib.metadata.entry_points(group=ENTRY_POINTS)})


def resolved(found: Any, reference: str) -> BackboneSpec:
    """A spec, or what a function returns that makes one.

    Raises:
        DataError: if it is none, or the function fails.
    """
    try:
        spec = found() if callable(found) and not isinstance(found, BackboneSpec) else found
    except (Exception, SystemExit) as error:
        raise DataError(f"{reference} failed with {type(error).__name__}: {error}") from error
    if not isinstance(spec, BackboneSpec):
        raise DataError(f"{reference} is {type(spec).__name__}, not a dvme.backbones.BackboneSpec or a function of one")
    if not spec.view.is_plain:
        raise DataError(f"{reference} has a view of its own; leave it out, and name the backbone with @view=1")
    if spec.dense:
        raise DataError(f"{reference} has dense features of its own; leave it out, and name it with @dense=last")
    if spec.source == "built" and spec.build is None:
        raise DataError(f"{reference}: source 'built' needs build, a function that returns the model")
    return spec


def check_own_name(name: str, source: str) -> None:
    """Refuse a name that could not be typed, or that stands for something else.

    Raises:
        DataError: saying which.
    """
    if not OWN_NAME.fullmatch(name):
        raise DataError(source + f": the name {name!r} will not do; use letters, digits, '.', '_', '+' and '-'")
    if name in {spec.name for spec in ZOO}:
        raise DataError(source + f": {name} is a backbone that dvme knows; choose another name")


def _check_names(values: Mapping[str, Any], kind: type, source: str) -> None:
    fields = [field.name for field in dataclasses.fields(kind) if field.name not in _NOT_IN_A_FILE]
    for name in values:
        if name not in fields:
            nearest = difflib.get_close_matches(name, fields, n=1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(fields)}"
            raise DataError(f"{source}: unknown field {name!r}; {hint}")
