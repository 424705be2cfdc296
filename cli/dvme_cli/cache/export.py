"""`dvme cache export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import dvme
from dvme.text import counted
from dvme_cli import options
from dvme_cli.console import answer, console, progress_bars, say
from dvme_cli.parsing import optional_names
from dvme_cli.table import Table


def export(
    cache: options.Cache,
    out: Annotated[Path, typer.Argument(help="The file to write: .h5, .hdf5, .npz, .parquet or .csv.")],
    backbones: options.Backbones = None,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Write CACHE to one file, from which `dvme cache import` restores it exactly."""
    names = optional_names(backbones, "--backbones")
    with progress_bars() as tell:
        report = dvme.cache.export(cache, out, backbones=names, force=force, progress=tell)
    answer(report, _show, is_json=json)


def _show(report: dvme.cache.ExportReport) -> None:
    pruned = f"; {counted(report.n_pruned, 'pruned image')} left out" if report.n_pruned else ""
    files = " and ".join(report.files)
    say(f"{files}: {counted(report.n_rows, 'image')}, {report.n_bytes / 1e6:,.1f} MB ({report.format}){pruned}")
    table = Table(columns=("backbone", "dim", "dtype", "done", "failed", "pending"), keys=1, numeric=5)
    for item in report.backbones:
        counts = (f"{count:,}" for count in (item.done, item.failed, item.pending))
        table.add_row(item.backbone, f"{item.dim}", item.dtype, *counts)
    table.show(console())
