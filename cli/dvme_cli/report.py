"""`dvme report`."""

from __future__ import annotations

from typing import Annotated

import typer

from dvme_cli.arguments import parse_names
from dvme_cli.compare import Published
from dvme_cli.console import expected_errors, progress_bars, say, show_json
from dvme_cli.viz import Anonymous, FigureKind, Figures, Force, Maps, MapSeed, Out, Thumbnails, say_rest, show_maps


def report(  # noqa: PLR0913 - one parameter per option
    run: Annotated[str, typer.Argument(help="A folder of dvme sweep.")],
    out: Out,
    cache: Annotated[str | None, typer.Option(help="Where the run's cache is now. Default: where it was.")] = None,
    published: Published = None,
    method: Maps = "tsne",
    seed: MapSeed = 0,
    thumbnails: Thumbnails = True,
    anonymous: Anonymous = False,
    figures: Figures = None,
    figure_kind: FigureKind = "svg",
    force: Force = False,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Write a finished sweep as one HTML page: which backbone, is fusion worth it, how many labels, and why."""
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
            result = dvme.write_report(
                run,
                out=out,
                cache=cache,
                published=published,
                options=options,
                force=force,
                progress=tell,
            )
        if json:
            show_json(result.to_json())
            return
        for notice in result.notices:
            say(notice)
        show_maps(result.maps)
        if result.maps:
            say("silhouette and kNN accuracy are of the test images, which the others vote on")
        say(result.verdict)
        say(f"wrote {result.html}")
        say_rest(result.figures, figures, is_seen=thumbnails and anonymous and result.n_points > 0)
