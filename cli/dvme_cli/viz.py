"""`dvme viz`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dvme_cli.arguments import parse_names
from dvme_cli.console import expected_errors, progress_bars, say, show_json


def viz(
    cache: Annotated[str, typer.Argument(help="A cache, by path or URL.")],
    out: Annotated[Path, typer.Option(help="The HTML file to write.")],
    backbones: Annotated[str | None, typer.Option(help="Names separated by commas. Default: all.")] = None,
    method: Annotated[str, typer.Option(help="tsne, umap or pca.")] = "tsne",
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the map.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Draw embedding maps side by side in one HTML file that opens without a network."""
    with expected_errors():
        import dvme

        with progress_bars("maps") as tell:
            report = dvme.viz(
                cache,
                out=out,
                backbones=None if backbones is None else parse_names(backbones, "--backbones"),
                method=method,
                seed=seed,
                progress=tell,
            )
        if json:
            show_json(report.to_json())
            return
        left_out = f"; {report.n_left_out:,} without an embedding left out" if report.n_left_out else ""
        say(f"{report.html}: {report.method} maps of {report.n_points:,} images{left_out}")
