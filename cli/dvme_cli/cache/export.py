"""`dvme cache export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dvme.text import counted
from dvme_cli.console import console, expected_errors, progress_bars, say, show_json
from dvme_cli.options import Backbones, Cache, Force, Json
from dvme_cli.parsing import optional_names
from dvme_cli.table import Table

if TYPE_CHECKING:
    from dvme.cache import ExportReport


def export(
    cache: Cache,
    out: Annotated[Path, typer.Argument(help="The file to write: .h5, .hdf5, .npz, .parquet or .csv.")],
    backbones: Backbones = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Write CACHE to one file, from which `dvme cache import` restores it exactly."""
    with expected_errors():
        from dvme.cache import export as export_cache

        names = optional_names(backbones, "--backbones")
        with progress_bars() as tell:
            report = export_cache(cache, out, backbones=names, force=force, progress=tell)
        if json:
            show_json(report.to_json())
        else:
            _show(report)


def _show(report: ExportReport) -> None:
    pruned = f"; {counted(report.n_pruned, 'pruned image')} left out" if report.n_pruned else ""
    files = " and ".join(report.files)
    say(f"{files}: {counted(report.n_rows, 'image')}, {report.n_bytes / 1e6:,.1f} MB ({report.format}){pruned}")
    table = Table(columns=("backbone", "dim", "dtype", "done", "failed", "pending"), keys=1, numeric=5)
    for item in report.backbones:
        counts = (f"{count:,}" for count in (item.done, item.failed, item.pending))
        table.add_row(item.backbone, f"{item.dim}", item.dtype, *counts)
    table.show(console())
