"""`dvme report`."""

from __future__ import annotations

from dvme.defaults import FIGURE_KIND
from dvme_cli.console import expected_errors, progress_bars, say, show_json
from dvme_cli.options import (
    FIRST_MAPS,
    Anonymous,
    FigureKind,
    Figures,
    Force,
    Json,
    Maps,
    Page,
    Published,
    Run,
    RunCache,
    Seed,
    Thumbnails,
)
from dvme_cli.parsing import parse_names, typed
from dvme_cli.viz import say_rest, show_maps


def report(  # noqa: PLR0913 - one parameter per option
    run: Run,
    out: Page,
    cache: RunCache = None,
    published: Published = None,
    methods: Maps = FIRST_MAPS,
    seed: Seed = None,
    thumbnails: Thumbnails = True,
    anonymous: Anonymous = False,
    figures: Figures = None,
    figure_kind: FigureKind = FIGURE_KIND,
    force: Force = False,
    json: Json = False,
) -> None:
    """Write a finished sweep as one HTML page: which backbone, is fusion worth it, how many labels, and why."""
    with expected_errors():
        import dvme

        options = dvme.PageOptions(
            methods=parse_names(methods, "--method"),
            **typed(seed=seed),
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
