"""`dvme report`."""

from __future__ import annotations

import dvme
from dvme.defaults import FIGURE_KIND
from dvme_cli import options, pages
from dvme_cli.console import progress_bars, say, show_json
from dvme_cli.parsing import page_options
from dvme_cli.viz import say_rest, show_maps


def report(  # noqa: PLR0913 - one parameter per option
    run: options.Run,
    out: pages.Page,
    cache: options.RunCache = None,
    published: options.Published = None,
    methods: pages.Maps = pages.FIRST_MAPS,
    seed: options.Seed = None,
    thumbnails: pages.Thumbnails = True,
    anonymous: pages.Anonymous = False,
    finding: pages.ColouredBy = None,
    figures: pages.Figures = None,
    figure_kind: pages.FigureKind = FIGURE_KIND,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Write a finished sweep as one HTML page: which backbone, is fusion worth it, how many labels, and why."""
    page = page_options(
        methods=methods,
        seed=seed,
        thumbnails=thumbnails,
        anonymous=anonymous,
        finding=finding,
        figures=figures,
        figure_kind=figure_kind,
    )
    with progress_bars() as tell:
        result = dvme.write_report(
            run, out=out, cache=cache, published=published, options=page, force=force, progress=tell
        )
    if json:
        show_json(result.to_json())
        return
    for notice in result.notices:
        say(notice)
    show_maps(result.maps)
    if any(each.n_asked for of in result.maps.values() for each in of.values()):
        say("silhouette and kNN accuracy are of the test images, which the others vote on")
    say(result.verdict)
    say(f"wrote {result.html}")
    say_rest(result.figures, figures, is_seen=thumbnails and anonymous and result.n_points > 0)
