"""What a researcher's input can get wrong. Every error is also a built-in, and says the next step.

A message names a parameter by `parameter("n_folds", 2)`, added to the rest of the text with `+`. Python then says
`n_folds=2`; the command line, whose options have other names and another spelling, asks `Text.spelled` for `--folds 2`.
What stands in an f-string is taken as it is: no text of the user's can be mistaken for a parameter.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

ANY = object()
"""The value where a message names the parameter only."""


@dataclass(frozen=True)
class Parameter:
    """One of a public function, or a field of its options."""

    name: str
    value: Any = None
    has_value: bool = False

    def __str__(self) -> str:
        """As Python writes it: `n_folds`, `n_folds=2`."""
        return f"{self.name}={self.value!r}" if self.has_value else self.name


class Text(str):
    """A text that knows where it names parameters. As a str it has them as Python writes them.

    `+` keeps them, on either side; other methods of str, and f-strings, give a plain str.
    """

    __slots__ = ("parts",)
    parts: tuple[str | Parameter, ...]

    def __new__(cls, *parts: str | Parameter) -> Text:
        """Put it together from texts and parameters."""
        text = super().__new__(cls, "".join(f"{part}" for part in parts))
        text.parts = tuple(each for part in parts for each in (part.parts if isinstance(part, Text) else (part,)))
        return text

    def __add__(self, other: str) -> Text:
        return Text(self, other)

    def __radd__(self, other: str) -> Text:
        return Text(other, self)

    def __reduce__(self) -> tuple[type[Text], tuple[str | Parameter, ...]]:
        return type(self), self.parts

    def spelled(self, spell: Callable[[Parameter], str]) -> str:
        """The text with its parameters in another spelling."""
        return "".join(spell(part) if isinstance(part, Parameter) else part for part in self.parts)


def parameter(name: str, value: Any = ANY) -> Text:
    """A parameter in a message, with a value that it has or may be given.

    Args:
        name: as a public function, or its options, have it.
        value: True for a switch; a list or a mapping where the parameter takes one.
    """
    return Text(Parameter(name) if value is ANY else Parameter(name, _plain(value), has_value=True))


def message_of(error: Exception) -> Text:
    """The message of an error, to be part of another one."""
    first = error.args[0] if len(error.args) == 1 else None
    return first if isinstance(first, Text) else Text(str(error))


def _plain(value: Any) -> Any:
    """With paths as texts, which is how they are typed."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


class DvmeError(Exception):
    """Base of every error that dvme raises on purpose; the command line prints it as one line."""


class DataError(DvmeError, ValueError):
    """Images, labels or a manifest that cannot be used as they are."""


class ImageError(DvmeError, ValueError):
    """One image that cannot be decoded; its row keeps the reason and the run goes on."""


class UnknownNameError(DvmeError, ValueError):
    """A backbone, head or method that does not exist."""


class WeightsError(DvmeError, OSError):
    """A checkpoint that is not here and cannot be fetched."""


class CheckpointError(DvmeError, ValueError):
    """A checkpoint whose keys or shapes do not fit the architecture."""


class EnvironmentMismatchError(DvmeError, ImportError):
    """Installed packages that do not fit together."""


class MissingPackageError(EnvironmentMismatchError):
    """A package of an extra that is not installed."""


class ArgumentError(DvmeError, TypeError):
    """An argument of a kind that a function does not take, such as a text for a list."""


class ClusterError(DvmeError, RuntimeError):
    """A cluster that cannot be reached, has no room, or whose workers die."""


class OptionError(DvmeError, ValueError):
    """An option's value that is not possible."""
