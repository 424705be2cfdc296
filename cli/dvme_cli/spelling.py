"""What the command line calls the fields of the library: by the parameters of the commands themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo


def declared(function: Callable[..., Any]) -> Iterator[tuple[str, OptionInfo | ArgumentInfo]]:
    """(parameter, what was declared) of a command's options and arguments."""
    for name, hint in get_type_hints(function, include_extras=True).items():
        for info in getattr(hint, "__metadata__", ()):
            if isinstance(info, OptionInfo | ArgumentInfo):
                yield name, info


def option_of(name: str, info: OptionInfo | ArgumentInfo) -> str:
    """As it is typed: `--folds`; an argument as it is called in the texts: `FILE`."""
    if isinstance(info, ArgumentInfo):
        return (info.metavar or name).upper()
    return (*(info.param_decls or ()), f"--{name.replace('_', '-')}")[0].partition("/")[0]


def commands_of(app: typer.Typer, above: str = "") -> Iterator[tuple[str, Callable[..., Any]]]:
    """(name, function) of every command: `cache verify`."""
    for command in app.registered_commands:
        if command.callback is not None:
            yield f"{above}{command.name}", command.callback
    for group in app.registered_groups:
        if group.typer_instance is not None:
            yield from commands_of(group.typer_instance, f"{above}{group.name} ")
