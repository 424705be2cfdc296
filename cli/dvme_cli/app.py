"""One Typer application, a module per command."""

from __future__ import annotations

from typing import Annotated

import typer

import dvme
from dvme_cli import (
    adapt,
    backbones,
    cache,
    cite,
    compare,
    data,
    demo,
    doctor,
    explain,
    extract,
    info,
    methods,
    predict,
    probe,
    report,
    subsets,
    sweep,
    viz,
)
from dvme_cli.commands import Commands
from dvme_cli.interrupted import add_command
from dvme_cli.spelling import APPS

app = typer.Typer(
    cls=Commands,
    help="Extract frozen-backbone embeddings once, compare them honestly with few labels.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # wrong usage is plain lines, which a log can hold; help has pages of its own
    context_settings={"help_option_names": ["-h", "--help"]},
)
APPS.append(app)
add_command(app, "extract", extract.extract)
add_command(app, "info", info.info)
add_command(app, "probe", probe.probe)
add_command(app, "subsets", subsets.subsets)
add_command(app, "sweep", sweep.sweep)
add_command(app, "compare", compare.compare)
add_command(app, "adapt", adapt.adapt)
add_command(app, "predict", predict.predict)
add_command(app, "explain", explain.explain)
add_command(app, "report", report.report)
add_command(app, "viz", viz.viz)
add_command(app, "methods", methods.methods)
add_command(app, "cite", cite.cite)
add_command(app, "doctor", doctor.doctor)
add_command(app, "demo", demo.demo)
app.add_typer(data.app, name="data")
app.add_typer(cache.app, name="cache")
app.add_typer(backbones.app, name="backbones")


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"dvme {dvme.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Extract frozen-backbone embeddings once, compare them honestly with few labels."""
    del version
