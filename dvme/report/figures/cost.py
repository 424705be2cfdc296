"""What a score costs: methods by the seconds of their fits."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from dvme.extras import needed
from dvme.report.figures import style
from dvme.text import METRIC_NAMES, number_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from dvme.study.outcome import StudyReport

LEAST_SECONDS = 1e-3
"""What is faster is drawn here."""


def score_by_cost(results: StudyReport) -> Figure:
    """Test scores of the largest size, with their intervals, by the seconds of all fits of that size."""
    graph_objects = needed("plotly.graph_objects")

    figure = graph_objects.Figure()
    cells = results.rows
    for cell in cells:
        index = results.methods.index((cell.head, cell.backbones))
        mean, low, high = cell.test[results.metric].mean, cell.interval.low, cell.interval.high
        has_bar = not math.isnan(low + high)
        hover = [
            f"<b>{style.whole(cell.method)}</b>",
            f"backbones: {style.whole(', '.join(cell.backbones))}",
            f"test {METRIC_NAMES[results.metric]} {number_text(mean)}, 95% interval over test images "
            f"{number_text(low)} to {number_text(high)}",
            f"{cell.seconds:,.1f} seconds of all fits, {cell.n_parameters:,} numbers held",
        ]
        figure.add_trace(
            graph_objects.Scatter(
                x=[max(cell.seconds, LEAST_SECONDS)],
                y=[mean],
                error_y={"type": "data", "array": [high - mean], "arrayminus": [mean - low]} if has_bar else None,
                mode="markers",
                name=style.shown(cell.method),
                marker={"color": style.color_of(index), "symbol": style.symbol_of(index), "size": 10},
                hovertext=["<br>".join(hover)],
                hoverinfo="text",
            )
        )
    figure.update_xaxes(type="log", title_text="seconds of all fits (log scale)")
    figure.update_yaxes(title_text=f"test {METRIC_NAMES[results.metric]}")
    return style.finished(
        figure,
        title=f"Test {METRIC_NAMES[results.metric]} by cost",
        subtitle="The largest size, with the 95% interval over test images",
        height=320,
        n_legend=len(cells),
    )
