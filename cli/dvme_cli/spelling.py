"""What the command line calls the parameters of the library: by the parameters of the commands themselves."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

from dvme.errors import Parameter, Text

COMMAND: ContextVar[Callable[..., Any] | None] = ContextVar("command", default=None)
"""The function of the command that runs: its options come first where several commands have one of the same name."""

APPS: list[typer.Typer] = []
"""The application, once it is there."""


def spelled(text: str) -> str:
    """A message of the library with options in place of its parameters."""
    return text.spelled(_spelled) if isinstance(text, Text) else text


def declared(function: Callable[..., Any]) -> Iterator[tuple[str, OptionInfo | ArgumentInfo]]:
    """(parameter, what was declared) of a command's options and arguments."""
    for name, hint in get_type_hints(function, include_extras=True).items():
        for info in getattr(hint, "__metadata__", ()):
            if isinstance(info, OptionInfo | ArgumentInfo):
                yield name, info


def option_of(name: str, info: OptionInfo | ArgumentInfo) -> str:
    """As it is typed: `--folds`; an argument as it is called in the texts: `FILE`."""
    if isinstance(info, ArgumentInfo):
        return f"{info.metavar or name}".upper()
    given = (info.default, *(info.param_decls or ()))  # inside Annotated, typer has the first name as the default
    named = [each for each in given if isinstance(each, str) and each.startswith("--")]
    return (named or [f"--{name.replace('_', '-')}"])[0].partition("/")[0]


def commands_of(app: typer.Typer, above: str = "") -> Iterator[tuple[str, Callable[..., Any]]]:
    """(name, function) of every command: `cache verify`."""
    for command in app.registered_commands:
        if command.callback is not None:
            yield f"{above}{command.name}", command.callback
    for group in app.registered_groups:
        if group.typer_instance is not None:
            yield from commands_of(group.typer_instance, f"{above}{group.name} ")


def _spelled(parameter: Parameter) -> str:
    option, value = _option(parameter.name), parameter.value
    if option is None:
        return f"{parameter}"
    if not parameter.has_value or value is True:
        return option
    if value is False:
        return f"--no-{option.removeprefix('--')}"
    if isinstance(value, Mapping):
        return " ".join(f"{option} {shlex.quote(f'{name}={each}')}" for name, each in value.items())
    if isinstance(value, list):
        value = ",".join(f'"{each}"' if "," in f"{each}" else f"{each}" for each in value)
    typed = shlex.quote(f"{value}")
    return f"{option} {typed}" if option.startswith("--") else typed


def _option(name: str) -> str | None:
    """What the command calls a parameter; else what the first one that has it does."""
    running = COMMAND.get()
    functions = [] if running is None else [running]
    for function in (*functions, *(each for app in APPS for _, each in commands_of(app))):
        for own, info in declared(function):
            if own == name:
                return option_of(name, info)
    return None
