"""`dvme backbones list`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from dvme_cli import options
from dvme_cli.console import console, note, say, show_json
from dvme_cli.table import Table

if TYPE_CHECKING:
    from dvme.backbones import BackboneSpec


def list_(
    method: options.ListedMethod = None,
    architecture: options.ListedArchitecture = None,
    licence: Annotated[str | None, typer.Option(help="Only licences that contain this, such as MIT.")] = None,
    is_commercial: Annotated[bool, typer.Option("--commercial", help="Without non-commercial licences.")] = False,
    is_available: Annotated[
        bool, typer.Option("--available", help="Only those that load now, without a network.")
    ] = False,
    json: options.Json = False,
) -> None:
    """List the backbones and where their weights come from."""
    from dvme.backbones import listed
    from dvme.backbones.weights.finding import availability

    specs = listed(
        method=method,
        architecture=architecture,
        licence=licence,
        is_commercial=is_commercial,
        is_available=is_available,
        tell=note,
    )
    if json:
        found = [asdict(spec) | {"availability": availability(spec)} for spec in specs]
        show_json([{key: value for key, value in spec.items() if key != "build"} for spec in found])
        return
    _show(specs)


def _show(specs: list[BackboneSpec]) -> None:
    from dvme.backbones.weights.finding import availability

    if not specs:
        say("No backbone is of that kind; dvme backbones lists them all.")
        return
    headings = ("name", "architecture", "pooling", "licence", "weights", "px", "dim")
    table = Table(columns=headings, keys=2, numeric=2, drop=("pooling", "px"))
    for spec in specs:
        name = spec.name if spec.is_verified else f"{spec.name} (?)"
        licence = f"{spec.licence} (!)" if spec.is_non_commercial else spec.licence
        size, source = f"{spec.preprocess.crop}", " ".join(availability(spec).split()[:2])
        table.add_row(name, spec.architecture, spec.pooling, licence, source, size, f"{spec.dim or '-'}")
    table.show(console())
    n_verified = sum(spec.is_verified for spec in specs)
    say(
        f"{len(specs)} backbones, {n_verified} verified. (!) no commercial use. (?) layout not verified. Besides these:"
    )
    say("  timm:NAME, hf-hub:ORGANISATION/NAME, FILE.toml, FILE.py:NAME, or NAME with --arch NAME=ARCHITECTURE")
    say("  a local checkpoint: --weights NAME=PATH; a variation: NAME@pool=class-token@size=448@in-chans=1")
