"""`dvme cache repair`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from dvme.text import counted
from dvme_cli.cache.verify import show_findings
from dvme_cli.console import expected_errors, progress_bars, say, show_json
from dvme_cli.options import Cache, Json

if TYPE_CHECKING:
    from dvme.upkeep.verify import RepairReport


def repair(cache: Cache, json: Json = False) -> None:
    """Mend CACHE: copies stand in for damaged files, rows whose bytes are lost are marked for extraction."""
    with expected_errors():
        import dvme

        with progress_bars() as tell:
            report = dvme.cache.repair(cache, progress=tell)
        if json:
            show_json(report.to_json())
        else:
            _show(report)
    if report.left:
        raise typer.Exit(1)


def _show(report: RepairReport) -> None:
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
