"""`dvme doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

import dvme
from dvme.health.machine import has_nvidia
from dvme.text import counted
from dvme_cli import image_options, options
from dvme_cli.console import answer, console, say
from dvme_cli.table import Table

if TYPE_CHECKING:
    from dvme.health.doctor import Health


def doctor(cache: image_options.PlaceOfCache = None, json: options.Json = False) -> None:
    """Look at packages, devices, memory and disk, and say what to do. Exit code 1 if something is wrong."""
    health = dvme.doctor(cache)
    answer(health, _show, is_json=json)
    if not health.is_well:
        raise typer.Exit(1)


def _show(health: Health) -> None:
    for each in health.findings:
        say(f"{each.mark}: {each.line}" if each.mark else each.line)
    table = Table(columns=("extra", "for", "here"), keys=1, numeric=0)
    for extra in health.extras:
        table.add_row(extra.name, extra.purpose, "yes" if extra.is_here else "no", style="" if extra.is_here else "dim")
    if health.extras:  # of an installed dvme
        table.show(console())
    useless = set() if has_nvidia() else {"gpu"}
    for extra in health.extras:
        if not extra.is_here and extra.name not in useless:
            typer.echo(f"{extra.name}: {extra.command}")  # no terminal breaks its line: it can be copied
    if health.is_well:
        say("Nothing is wrong.")
        return
    count = len(health.wrong)
    say(f"{counted(count, 'thing')} {'is' if count == 1 else 'are'} wrong; each such line ends with what to do.")
