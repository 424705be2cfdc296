"""`dvme methods`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

import dvme
from dvme.text import counted
from dvme_cli import image_options, options
from dvme_cli.console import answer, note, say

if TYPE_CHECKING:
    from dvme.paper.methods import MethodsReport


def methods(
    run: options.Run,
    out: image_options.MethodsFile = None,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Write the methods section of a paper and its BibTeX: only what RUN really did."""
    report = dvme.methods(run, out, force=force)
    answer(report, _show, is_json=json)
    if report.n_unknown:
        places = counted(report.n_unknown, "place")
        note(f"{places} marked [cite], to be filled in by hand: dvme knows of no work to cite there")


def _show(report: MethodsReport) -> None:
    if report.out is not None:
        say(f"{counted(len(report.keys), 'reference')} and {len(report.paragraphs)} paragraphs are in {report.out}")
        return
    for line in report.text.splitlines():
        say(line)
    typer.echo(f"\n{report.bibtex}")  # no terminal breaks its lines anew
