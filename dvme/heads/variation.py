"""Settings of a head, written into its name: `dvme@max-epochs=20`, as backbones are varied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from dvme.errors import OptionError
from dvme.heads.fitting.jobs import Head
from dvme.text import choose_from

FIXED = frozenset({"name", "is_fusion"})
"""Fields that say what a head is; all others are settings."""
SHORT = {"neighbours": "k"}
"""Settings that are typed under another name than their field's."""

OF_ORDER = {"link": "softmax", "tune": "argmax"}
"""Settings that go by the order of the classes at other values than these."""
LATER = {**OF_ORDER, "search": "auto"}
"""Settings that heads have had for less long. At these values they are not written, so that what is written of a head,
and the key of a job, is what it was before."""


def split_name(text: str) -> tuple[str, dict[str, str]]:
    """(name, settings as typed) of `NAME@SETTING=VALUE@...`.

    Raises:
        OptionError: if a part is not SETTING=VALUE, or a setting is given twice.
    """
    name, *parts = text.split("@")
    settings: dict[str, str] = {}
    for part in parts:
        key, separator, value = part.partition("=")
        if not separator or not key or not value:
            raise OptionError(f"{text}: {part!r} is not SETTING=VALUE")
        if key in settings:
            raise OptionError(f"{text} says {key} twice; say it once")
        settings[key] = value
    return name, settings


def base_name(text: str) -> str:
    """The name without its settings: `knn` of `knn@k=5`."""
    return text.partition("@")[0]


def vary(head: Head, settings: Mapping[str, str]) -> Head:
    """A head with other settings.

    Args:
        head: with those that stay.
        settings: as typed, by name; several values are separated by colons.

    Raises:
        OptionError: naming the settings that there are, or what the value may be.
    """
    known = settings_of(head)
    given = {_typed(key): value for key, value in settings.items()}
    unknown = [key for key in given if key not in known]
    if unknown:
        raise OptionError(f"{head.name} has no setting {unknown[0]!r}; {choose_from(unknown[0], known)}")
    try:
        varied: Head = _varied(head, given)
    except OptionError as error:
        typed = "@".join([head.name, *(f"{key}={value}" for key, value in settings.items())])
        raise OptionError(f"{typed}: {error}") from error
    return varied


def differences(usual: Head, head: Head) -> list[str]:
    """SETTING=VALUE, as `vary` takes it, of every setting that has another value than in the usual head."""
    values = settings_of(usual)
    return [f"{key}={_text(value)}" for key, value in settings_of(head).items() if value != values[key]]


def settings_of(part: Any) -> dict[str, Any]:
    """Every setting's value by the name that is typed, those of the heads and protocols in it included."""
    found: dict[str, Any] = {}
    for field in fields(part):
        value = getattr(part, field.name)
        if is_dataclass(value):
            found |= settings_of(value)
        elif field.name not in FIXED:
            found[_typed(field.name)] = value
    return found


def written(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they are written, those of heads in them included: without those of LATER that change nothing."""
    return {
        key: written(value) if isinstance(value, Mapping) else value
        for key, value in settings.items()
        if key not in LATER or value != LATER[key]
    }


def needs_order(head: Head) -> bool:
    """Whether the head goes by the order of the classes."""
    own = settings_of(head)
    return any(own.get(key, usual) != usual for key, usual in OF_ORDER.items())


def _varied(part: Any, settings: Mapping[str, str]) -> Any:
    changed: dict[str, Any] = {}
    for field in fields(part):
        value, key = getattr(part, field.name), _typed(field.name)
        if is_dataclass(value):
            changed[field.name] = _varied(value, settings)
        elif field.name not in FIXED and key in settings:
            changed[field.name] = _parsed(key, settings[key], value)
    return replace(part, **changed)


def _typed(field: str) -> str:
    return SHORT.get(field, field.replace("_", "-"))


def _text(value: Any) -> str:
    return ":".join(map(_text, value)) if isinstance(value, tuple) else f"{value}"


def _parsed(key: str, text: str, like: Any) -> Any:
    """A value of the kind that the setting has now."""
    kind = type(like[0] if isinstance(like, tuple) else like)
    try:
        return tuple(map(kind, text.split(":"))) if isinstance(like, tuple) else kind(text)
    except ValueError as error:
        one, several = ("a whole number", "whole numbers") if kind is int else ("a number", "numbers")
        what = f"{several} separated by colons" if isinstance(like, tuple) else one
        raise OptionError(f"{key}={text} is not possible; it must be {what}") from error
