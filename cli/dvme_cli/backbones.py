"""`dvme backbones`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from dvme_cli.console import console, expected_errors, new_table, say, show_json


def backbones(
    json: Annotated[bool, typer.Option("--json", help="Print the full specifications as JSON.")] = False,
) -> None:
    """List the backbones and where their weights come from."""
    with expected_errors():
        from dvme.backbones import get_spec, names
        from dvme.backbones.weights import availability

        specs = [get_spec(name) for name in names()]
        if json:
            show_json([asdict(spec) | {"availability": availability(spec)} for spec in specs])
            return
        headings = ("name", "architecture", "pooling", "licence", "weights", "input", "dim")
        table = new_table(*headings, numeric=2)
        for spec in specs:
            licence = f"{spec.licence} (!)" if spec.is_non_commercial else spec.licence
            source, size = availability(spec), f"{spec.preprocess.crop}"
            table.add_row(spec.name, spec.architecture, spec.pooling, licence, source, size, f"{spec.dim}")
        console().print(table)
        say("(!) no commercial use. Besides these: timm:NAME for any timm model with published weights.")
        say("A local checkpoint in the published layout: dvme extract ... --weights NAME=PATH")
