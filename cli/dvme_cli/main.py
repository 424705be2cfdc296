"""The entry point: one Typer application, a module per command."""

from __future__ import annotations

from typing import Annotated

import typer

from dvme_cli import backbones, cache, compare, explain, extract, info, predict, probe, report, subsets, sweep, viz
from dvme_cli.commands import Commands

app = typer.Typer(
    cls=Commands,
    help="Extract frozen-backbone embeddings once, compare them honestly with few labels.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("extract")(extract.extract)
app.command("info")(info.info)
app.command("probe")(probe.probe)
app.command("subsets")(subsets.subsets)
app.command("sweep")(sweep.sweep)
app.command("compare")(compare.compare)
app.command("predict")(predict.predict)
app.command("explain")(explain.explain)
app.command("report")(report.report)
app.command("viz")(viz.viz)
app.add_typer(cache.app, name="cache")
app.add_typer(backbones.app, name="backbones")


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        from importlib.metadata import version

        typer.echo(f"dvme {version('dvme')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Extract frozen-backbone embeddings once, compare them honestly with few labels."""
    del version


def main() -> None:
    """Run the command line."""
    app()
