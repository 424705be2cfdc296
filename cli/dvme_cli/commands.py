"""Groups of commands: the name they go by, their help, streams that say everything, an answer to what is mistyped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from dvme_cli.help_page import help_page
from dvme_cli.streams import spell_what_is_lost
from dvme_cli.suggestions import commands_like, options_like

NAME = "dvme"
TAKERS_SHOWN = 3
UsageError: type[Any] = typer.BadParameter.__mro__[1]
"""What typer raises for wrong usage; it is click's or typer's own, by the version."""


class Commands(TyperGroup):
    """A group that says what may have been meant."""

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, *rest: Any, **named: Any) -> Any:
        """Run the command line, as `dvme` whatever started it."""
        spell_what_is_lost()
        return super().main(args, prog_name or NAME, *rest, **named)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the page of the group."""
        formatter.write(help_page(self, ctx))

    def invoke(self, ctx: Any) -> Any:
        """Run the command that the context names.

        Raises:
            UsageError: of typer, for wrong usage; that of an option that does not exist has the one that does.
        """
        try:
            return super().invoke(ctx)
        except UsageError as error:
            if ctx.parent is None and hasattr(error, "possibilities") and error.ctx is not None:
                self._amend(error)
            raise

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the options in front of the command.

        Raises:
            UsageError: of typer; options of commands stand behind their names.
        """
        try:
            return super().parse_args(ctx, args)
        except UsageError as error:
            if hasattr(error, "possibilities"):
                error.message += f"; options stand behind the command: {ctx.command_path} COMMAND {error.option_name}"
                error.possibilities = None
            raise

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command by its name.

        Raises:
            UsageError: of typer, with the command that may have been meant.
        """
        typed = args[0]
        is_known = self.get_command(ctx, typed) is not None
        if not (is_known or typed.startswith("-") or ctx.resilient_parsing):
            ctx.fail(f"No such command '{typed}'{_asked(self._commands_like(ctx, typed))}")
        return super().resolve_command(ctx, args)

    def _commands_like(self, ctx: Any, typed: str) -> list[str]:
        """As they would be typed, without `dvme` where this is the root."""
        groups = {name: [*command.commands] for name, command in self.commands.items() if hasattr(command, "commands")}
        found = commands_like(typed, [*self.commands], groups)
        if found or ctx.parent is None:
            return found
        root = ctx.find_root().command
        return [f"{NAME} {name}" for name in root._commands_like(ctx.find_root(), typed)]  # noqa: SLF001 - its own

    def _amend(self, error: Any) -> None:
        """Say of an option that does not exist which one may have been meant, or which command takes it."""
        typed, command = error.option_name, error.ctx.command
        known = _options(command, error.ctx)
        found = options_like(typed, known)
        takers = [path for path, other in self._all() if typed in _options(other, error.ctx)]
        if found or not takers:
            error.message += _asked(found)
        else:
            shown = " and ".join(f"{NAME} {path}" for path in takers[:TAKERS_SHOWN])
            error.message += f"; it is one of {shown}"
        error.possibilities = None

    def _all(self) -> Iterator[tuple[str, Any]]:
        """(path, command) of every command."""
        for name, command in self.commands.items():
            yield name, command
            for within, nested in getattr(command, "commands", {}).items():
                yield f"{name} {within}", nested


def _options(command: Any, ctx: Any) -> list[str]:
    named = (option for each in command.get_params(ctx) for option in (*each.opts, *each.secondary_opts))
    return [option for option in named if option.startswith("--")]


def _asked(names: list[str]) -> str:
    return f"; did you mean {' or '.join(names)}?" if names else ""
