"""`dvme cache`: a module per command."""

from __future__ import annotations

import typer

from dvme_cli.cache import export, import_, label, prune, repair, verify
from dvme_cli.commands import Commands

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    help="Verify, repair, label or prune a cache; export and import embeddings.",
)
app.command("verify")(verify.verify)
app.command("repair")(repair.repair)
app.command("label")(label.label)
app.command("export")(export.export)
app.command("import")(import_.import_)
app.command("prune")(prune.prune)
