"""`dvme backbones`: a module per command."""

from __future__ import annotations

import typer

from dvme_cli import options
from dvme_cli.backbones import check, convert, list_, show
from dvme_cli.commands import Commands
from dvme_cli.interrupted import add_command

app = typer.Typer(cls=Commands, help="List and show backbones, check a checkpoint, convert one. Alone: list.")
_list = add_command(app, "backbones list", list_.list_)
add_command(app, "backbones show", show.show)
add_command(app, "backbones check", check.check)
add_command(app, "backbones convert", convert.convert)


@app.callback(invoke_without_command=True)
def _alone(
    context: typer.Context,
    json: options.Json = False,
) -> None:
    if context.invoked_subcommand is None:
        _list(json=json)
