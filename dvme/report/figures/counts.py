"""How many images each class has."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from dvme.extras import needed
from dvme.report.figures import style
from dvme.text import counted

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

ROW, LONGEST = 26, 1100
"""Pixels of a class, and of all of them."""
TICK = 18
"""Pixels that a name takes."""
FEW = 10
"""Images up to which plotly would put ticks at parts of one."""


def class_counts(counts: Mapping[str, Mapping[str, int]]) -> Figure:
    """Images of each class, stacked by the side of the split that they are on.

    Args:
        counts: images by side, such as `train + validation` or `test`, and by class. Classes are drawn in the order
            in which they come, from the top; one that a side lacks has none there.
    """
    graph_objects = needed("plotly.graph_objects")

    classes = list(dict.fromkeys(name for side in counts.values() for name in side))
    totals = [sum(side.get(name, 0) for side in counts.values()) for name in classes]
    figure = graph_objects.Figure()
    for index, (side, own) in enumerate(counts.items()):
        images = [own.get(name, 0) for name in classes]
        figure.add_trace(
            graph_objects.Bar(
                x=images,
                y=list(range(len(classes))),
                orientation="h",
                name=style.shown(side),
                marker={"color": style.color_of(index), "line": {"width": 0}},
                hovertext=[
                    f"<b>{style.whole(name)}</b><br>{style.whole(side)}: {count:,} of {total:,} images"
                    for name, count, total in zip(classes, images, totals, strict=True)
                ],
                hoverinfo="text",
            )
        )
    height = min(max(3, len(classes)) * ROW, LONGEST)
    ticks = style.name_ticks(classes, at_most=math.floor(height / TICK))
    figure.update_yaxes(range=[len(classes) - 0.5, -0.5], showgrid=False, **ticks)
    figure.update_xaxes(title_text="images", rangemode="tozero")
    if max(totals, default=0) <= FEW:
        figure.update_xaxes(dtick=1)
    figure.update_layout(barmode="stack", bargap=0.2, legend_traceorder="normal")
    return style.finished(
        figure,
        title="Images by class",
        subtitle=f"{sum(totals):,} images of {counted(len(classes), 'class', 'classes')}",
        height=height + 70,
        n_legend=len(counts),
    )
