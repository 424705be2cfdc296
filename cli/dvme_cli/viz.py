"""`dvme viz`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dvme
from dvme.defaults import FIGURE_KIND
from dvme.text import number_text
from dvme_cli import options, pages
from dvme_cli.console import console, progress_bars, say, show_json
from dvme_cli.parsing import optional_names, page_options
from dvme_cli.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from dvme.maps.quality import MapQuality


def viz(  # noqa: PLR0913 - one parameter per option
    cache: options.Cache,
    out: pages.Page,
    backbones: options.Backbones = None,
    head: pages.SavedHead = None,
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
    """Draw embedding maps side by side, to explore, in one HTML file that opens without a network."""
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
        report = dvme.viz(
            cache,
            out=out,
            backbones=optional_names(backbones, "--backbones"),
            head=head,
            options=page,
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
            table.add_row(method, name, *(number_text(value, undefined="") for value in values))
    table.show(console())


def say_rest(files: Sequence[str], folder: Path | None, *, is_seen: bool) -> None:
    """Print what else was written, and what an anonymous page still shows."""
    if files:
        say(f"wrote {len(files)} figures to {folder}")
    if is_seen:
        say("the images themselves are in the page; --no-thumbnails leaves them out")
