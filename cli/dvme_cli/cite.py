"""`dvme cite`."""

from __future__ import annotations

from typing import Annotated

import typer

import dvme
from dvme_cli import options
from dvme_cli.console import say, show_json


def cite(
    bibtex: Annotated[bool, typer.Option("--bibtex", help="Print the entries for a .bib file.")] = False,
    json: options.Json = False,
) -> None:
    """Say how to cite dvme, and what it is made from."""
    citation = dvme.cite()
    if json:
        show_json(citation.to_json())
        return
    if bibtex:
        typer.echo(citation.bibtex)  # no terminal breaks its lines anew
        return
    for line in citation.text.splitlines():
        say(line)
