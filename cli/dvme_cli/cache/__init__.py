"""`dvme cache`: a module per command."""

from __future__ import annotations

import typer

from dvme_cli.cache import export, import_, label, prune, repair, verify
from dvme_cli.commands import Commands
from dvme_cli.interrupted import add_command

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    help="Verify, repair, label or prune a cache; export and import embeddings.",
)
add_command(app, "cache verify", verify.verify)
add_command(app, "cache repair", repair.repair)
add_command(app, "cache label", label.label)
add_command(app, "cache export", export.export)
add_command(app, "cache import", import_.import_)
add_command(app, "cache prune", prune.prune)
