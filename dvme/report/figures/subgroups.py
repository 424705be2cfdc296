"""Forest plot of subgroups: the score of each with its interval, and the largest gap of each column in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dvme.extras import needed
from dvme.report.figures import style
from dvme.study.by_subgroup import Division
from dvme.text import METRIC_NAMES, difference_text, p_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

ROW, HEADING = 30, 62
"""Pixels of a subgroup, and of a column's name with its gap."""


def subgroups(divisions: Sequence[Division], *, metric: str, title: str = "By subgroup") -> Figure:
    """Points with 95 per cent intervals, column by column from the top; filled where the column's gap is shown.

    Args:
        divisions: one of each column.
        metric: of METRICS, for the axis.
        title: what is shown.
    """
    graph_objects = needed("plotly.graph_objects")

    figure = graph_objects.Figure()
    top, ticks, ends = 0.0, list[tuple[float, str]](), list[float]()
    for place, each in enumerate(divisions):
        figure.add_annotation(x=0.0, y=top, xref="paper", text=_heading(each))
        top += HEADING
        shown = each.gap is not None and each.gap.is_shown
        color, symbol = style.color_of(place), "circle" if shown else "circle-open"
        rows = [(top + ROW * at, score) for at, score in enumerate(each.scores)]
        top += ROW * len(rows)
        ticks += [(y, style.shown(score.name, style.LINE)) for y, score in rows]
        known = [(y, score) for y, score in rows if not math.isnan(score.score.estimate)]
        ends += [end for _, score in known for end in (score.score.low, score.score.high) if not math.isnan(end)]
        figure.add_trace(
            graph_objects.Scatter(
                x=[score.score.estimate for _, score in known],
                y=[y for y, _ in known],
                error_x={
                    "type": "data",
                    "array": [_length(score.score.estimate, score.score.high) for _, score in known],
                    "arrayminus": [_length(score.score.low, score.score.estimate) for _, score in known],
                    "color": color,
                    "thickness": 2,
                    "width": 0,
                },
                mode="markers",
                name=style.shown(each.column),
                showlegend=False,
                marker={"color": color, "symbol": symbol, "size": 10, "line": {"width": 2, "color": color}},
                hovertext=[
                    f"{style.whole(each.column)} <b>{style.whole(score.name)}</b><br>{score.n_images:,} images<br>"
                    + difference_text(score.score, named="95% interval", without="no interval", signed=False)
                    for _, score in known
                ],
                hoverinfo="text",
            )
        )
        for y, score in rows:
            if score.why_not:
                figure.add_annotation(x=0.0, y=y, xref="paper", yanchor="middle", text=style.shown(score.why_not, 60))
    figure.update_annotations(showarrow=False, xanchor="left", align="left", font_size=12)
    for note in figure.layout.annotations:
        note.yanchor = note.yanchor or "top"
    low, high = min([0.5, *ends]), max([1.0, *ends])
    figure.update_xaxes(title_text=f"test {METRIC_NAMES.get(metric, 'score')}", range=[low - 0.02, high + 0.02])
    values, texts = [y for y, _ in ticks], [name for _, name in ticks]
    figure.update_yaxes(range=[top, 0.0], showgrid=False, ticks="", tickmode="array", tickvals=values, ticktext=texts)
    said = "Bars: 95% intervals, each of its own subgroup. Filled: the column has a gap, adjusted p < 0.05"
    return style.finished(figure, title=title, subtitle=said, height=round(top) + 60)


def _heading(division: Division) -> str:
    """The column, and its largest gap."""
    name, gap = f"<b>by {style.shown(division.column)}</b>", division.gap
    if gap is None:
        return f"{name}<br>{style.shown(division.why_no_gap, 60)}"
    apart = difference_text(gap.comparison.difference, without="no interval")
    p = "no test" if math.isnan(gap.p_adjusted) else f"p {p_text(gap.p_adjusted)}".replace("<", "&lt;")
    p = p.replace("p >", "p &gt;")
    names = f"{style.shown(gap.better, style.LINE)} minus {style.shown(gap.worse, style.LINE)}"
    return f"{name}: {names}<br>{apart}, {p}"


def _length(low: float, high: float) -> float:
    """No bar where an end is undefined."""
    return 0.0 if math.isnan(high - low) else high - low
