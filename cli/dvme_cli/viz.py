"""`dvme viz`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dvme_cli.arguments import Backbones, parse_names
from dvme_cli.console import console, expected_errors, number, progress_bars, say, show_json
from dvme_cli.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dvme.maps.quality import MapQuality

Anonymous = Annotated[
    bool,
    typer.Option(
        "--anonymous",
        help="Names of images become digests, groups numbers; paths, splits and further columns are left out. Names of "
        "classes and backbones stay, and so do the images: see --no-thumbnails.",
    ),
]
FigureKind = Annotated[str, typer.Option(help="svg, png or pdf.")]
Figures = Annotated[
    Path | None,
    typer.Option(help="A folder for every figure as a file (needs the extra figures, and Chromium)."),
]
Maps = Annotated[str, typer.Option(help="tsne, umap and pca, separated by commas; the page shows one at a time.")]
MapSeed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the maps.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")]
Out = Annotated[Path, typer.Option(help="The HTML file to write.")]
Thumbnails = Annotated[bool, typer.Option(help="Whether the images may be seen.")]


def viz(  # noqa: PLR0913 - one parameter per option
    cache: Annotated[str, typer.Argument(help="A cache, by path or URL.")],
    out: Out,
    backbones: Backbones = None,
    head: Annotated[
        Path | None, typer.Option(help="A saved dvme head, of probe --save or a run: maps its embedding as well.")
    ] = None,
    method: Maps = "tsne",
    seed: MapSeed = 0,
    thumbnails: Thumbnails = True,
    anonymous: Anonymous = False,
    figures: Figures = None,
    figure_kind: FigureKind = "svg",
    force: Force = False,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Draw embedding maps side by side, to explore, in one HTML file that opens without a network."""
    with expected_errors():
        import dvme

        options = dvme.PageOptions(
            methods=parse_names(method, "--method"),
            seed=seed,
            thumbnails=thumbnails,
            anonymous=anonymous,
            figures=figures,
            figure_kind=figure_kind,
        )
        with progress_bars() as tell:
            report = dvme.viz(
                cache,
                out=out,
                backbones=None if backbones is None else parse_names(backbones, "--backbones"),
                head=head,
                options=options,
                force=force,
                progress=tell,
            )
        if json:
            show_json(report.to_json())
            return
        show_maps(report.maps)
        left_out = f"; {report.n_left_out:,} without an embedding left out" if report.n_left_out else ""
        say(f"{report.html}: {' and '.join(report.methods)} maps of {report.n_points:,} images{left_out}")
        for notice in report.notices:
            say(notice)
        say_rest(report.figures, figures, is_seen=thumbnails and anonymous)


def show_maps(maps: Mapping[str, Mapping[str, MapQuality]]) -> None:
    """Print the quality of every map."""
    if not maps:
        return
    headings = ("map", "embedding", "trustworthiness", "preservation", "silhouette", "kNN accuracy")
    table = Table(columns=headings, keys=2, numeric=4)
    for method, qualities in maps.items():
        for name, quality in qualities.items():
            values = (quality.trustworthiness, quality.preservation, quality.silhouette, quality.knn_accuracy)
            table.add_row(method, name, *map(number, values))
    table.show(console())


def say_rest(files: Sequence[str], folder: Path | None, *, is_seen: bool) -> None:
    """Print what else was written, and what an anonymous page still shows."""
    if files:
        say(f"wrote {len(files)} figures to {folder}")
    if is_seen:
        say("the images themselves are in the page; --no-thumbnails leaves them out")
