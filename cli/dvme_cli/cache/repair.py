"""`dvme cache repair`."""

from __future__ import annotations

import typer

import dvme
from dvme.text import counted
from dvme_cli import options
from dvme_cli.cache.verify import show_findings
from dvme_cli.console import answer, progress_bars, say


def repair(cache: options.Cache, json: options.Json = False) -> None:
    """Mend CACHE: copies stand in for damaged files, rows whose bytes are lost are marked for extraction."""
    with progress_bars() as tell:
        report = dvme.cache.repair(cache, progress=tell)
    answer(report, _show, is_json=json)
    if report.left:
        raise typer.Exit(1)


def _show(report: dvme.cache.RepairReport) -> None:
    if not report.mended and not report.left:
        say(f"{report.cache} is sound; there was nothing to repair.")
    if report.mended:
        say(f"Mended in {report.cache}:")
        show_findings(report.mended)
    for backbone, count in report.n_rows_lost.items():
        if count:
            are = "is" if count == 1 else "are"
            say(f"{backbone}: {counted(count, 'embedding')} {are} lost; dvme extract computes what is lost")
    if report.left:
        say("Not mended; restore these files from a copy of the cache, or extract into a new one:")
        show_findings(report.left)
