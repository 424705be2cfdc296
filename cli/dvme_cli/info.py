"""`dvme info`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dvme_cli.console import console, expected_errors, new_table, say, show_json

if TYPE_CHECKING:
    from dvme.overview import CacheSummary


def info(
    cache: Annotated[Path, typer.Argument(help="A cache written by dvme extract.")],
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Show what CACHE holds."""
    with expected_errors():
        import dvme

        summary = dvme.info(cache)
        if json:
            show_json(summary.to_json())
        else:
            _show(summary)


def _show(summary: CacheSummary) -> None:
    say(f"{summary.cache}: {summary.n_rows:,} images; {summary.task.describe()}")
    known = ", ".join(f"{name} ({count:,})" for name, count in summary.columns.items() if count)
    say(f"columns: {known or 'none'}")
    headings = ("backbone", "pooling", "fingerprint", "dim", "dtype", "done", "failed", "pending", "MB")
    table = new_table(*headings, numeric=6)
    for item in summary.backbones:
        table.add_row(
            item.backbone,
            str(item.fingerprint.get("pooling", "")),
            item.digest[:12],
            f"{item.dim}",
            item.dtype,
            f"{item.done:,}",
            f"{item.failed:,}",
            f"{item.pending:,}",
            f"{item.n_bytes / 1e6:,.1f}",
        )
    console().print(table)
