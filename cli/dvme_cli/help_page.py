"""`--help`: panels of options, each name beside what it does, whole in terminals of any width."""

from __future__ import annotations

import inspect
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.text import Text
from typer.core import TyperCommand

from dvme_cli.console import console
from dvme_cli.panels import ARGUMENTS, COMMANDS, FEW, OPTIONS, PANELS, REQUIRED, panel_of

WIDEST, NARROWEST = 100, 40
"""Columns of a page; a wider terminal leaves some empty, for short lines are read faster."""
NAMES = 3 / 8
"""Part of the columns that names may take. A longer one has a line of its own."""
INDENT, GAP = 2, 2
TITLE, NAME = "bold", "bold cyan"

Entry = tuple[str, str]
"""An option with its kind of value, and what it does; or a command and what that does."""


class Command(TyperCommand):
    """A command whose `--help` fits the terminal."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the page of the command."""
        formatter.write(help_page(self, ctx))


def help_page(command: Any, ctx: Any) -> str:
    """The page of a command or of a group, in the columns and the colours of stdout.

    Args:
        command: of typer.
        ctx: in which it was called.
    """
    width = max(NARROWEST, min(WIDEST, shutil.get_terminal_size().columns))
    target = console()
    with target.capture() as page:
        for line in _lines(command, ctx, width):
            target.print(line, soft_wrap=True)
    return page.get()


def _lines(command: Any, ctx: Any, width: int) -> Iterator[Text]:
    yield Text(command.get_usage(ctx), TITLE)
    for paragraph in _paragraphs(command):
        yield Text()
        yield Text(textwrap.fill(paragraph, width, initial_indent=INDENT * " ", subsequent_indent=INDENT * " "))
    panels = _panels(command, ctx)
    longest = max(len(name) for entries in panels.values() for name, _ in entries)
    for title, entries in panels.items():
        yield Text()
        yield Text(title, TITLE)
        for entry in entries:
            yield from _entry(entry, min(longest, int(NAMES * width)), width)


def _entry(entry: Entry, n_name: int, width: int) -> Iterator[Text]:
    """The lines of one option: its name in at most so many columns, beside it or below what it does."""
    name, said = entry
    left = INDENT + n_name + GAP
    first, *rest = textwrap.wrap(said, width - left, break_on_hyphens=False) or [""]
    shown = Text.assemble(INDENT * " ", (name, NAME))
    if len(name) > n_name:
        yield shown
        yield Text(left * " " + first)
    else:
        yield shown.append((n_name - len(name) + GAP) * " " + first)
    for line in rest:
        yield Text(left * " " + line)


def _panels(command: Any, ctx: Any) -> Mapping[str, Sequence[Entry]]:
    """Title to what stands below it."""
    found: dict[str, list[Entry]] = {title: [] for title in (ARGUMENTS, REQUIRED, *PANELS, OPTIONS, COMMANDS)}
    parameters = command.get_params(ctx)
    has_panels = sum(each.param_type_name == "option" for each in parameters) > FEW
    for each in parameters:
        record = each.get_help_record(ctx)
        if record is None:  # hidden
            continue
        title = REQUIRED if each.required else panel_of(command.name, each.name) if has_panels else OPTIONS
        title = ARGUMENTS if each.param_type_name == "argument" else title
        found[title].append((record[0], " ".join(record[1].split())))
    for name, nested in getattr(command, "commands", {}).items():
        found[COMMANDS].append((name, next(_paragraphs(nested), "")))
    return {title: entries for title, entries in found.items() if entries}


def _paragraphs(command: Any) -> Iterator[str]:
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        if paragraph.strip():
            yield " ".join(paragraph.split())
