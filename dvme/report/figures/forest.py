"""Forest plots: differences with their intervals, row by row, and where 0 lies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dvme.extras import needed
from dvme.report.figures import style
from dvme.report.figures.given import summary_of
from dvme.stats.multiple import ALPHA
from dvme.study.answers import Difference
from dvme.text import METRIC_NAMES, WORDS, difference_text, number_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure, Scatter

    from dvme.explanation.ablation import Ablation, LeftOut
    from dvme.stats.intervals import Interval
    from dvme.study.outcome import StudyReport

ROW = 46
"""Pixels of one comparison: its name, and its bar below."""
_LOOKS = {
    "gain": (style.PALETTE[0], "circle"),
    "loss": (style.PALETTE[3], "square"),
    "no gain shown": (style.NEUTRAL, "circle-open"),
    "no test": (style.NEUTRAL, "x-thin-open"),
}
_CHANGES = (
    ("auc_difference", "AUC", "change of test AUC (left is worse)"),
    ("log_loss_difference", "log loss", "change of log loss, nats (right is worse)"),
)
"""What the panels of `reliance` show, from the top: the interval, its name, and its axis."""


def differences(rows: Sequence[Difference], *, metric: str = "", title: str = "Differences") -> Figure:
    """A forest plot: estimates with 95 per cent intervals, by size; filled where the adjusted p is below 0.05.

    Args:
        rows: from top to bottom; those of one size are to follow each other.
        metric: of METRICS, for the axis; nothing where it is not known.
        title: what is compared.
    """
    graph_objects = needed("plotly.graph_objects")

    names = {row.name for row in rows}
    places, texts = _placed(rows, is_named=len(names) > 1)
    figure = graph_objects.Figure()
    for word in WORDS:
        chosen = [(place, row) for place, row in zip(places, rows, strict=True) if row.word == word]
        if chosen:
            figure.add_trace(_points(chosen, word))
    figure.update_xaxes(zeroline=True, title_text=f"difference in test {METRIC_NAMES.get(metric, 'score')}")
    _include_zero(figure, [row.comparison.difference for row in rows])
    bottom = max(places, default=0.0) + 0.4
    figure.update_yaxes(range=[bottom, -0.5], showgrid=False, showticklabels=False, ticks="")
    for place, text in texts:  # not ticks: beside the panel they take its room, and in it plotly hides 0 behind them
        figure.add_annotation(x=0.0, y=place, xref="paper", xanchor="left", text=text, font_size=12, align="left")
    figure.update_annotations(showarrow=False)
    figure.update_layout(margin_l=16)
    one = f"{style.cut(next(iter(names)))} minus its rival. " if len(names) == 1 else ""
    said = f"{one}Bars: 95% intervals. Filled: adjusted p < {ALPHA:g}"
    return style.finished(
        figure,
        title=title,
        subtitle=said if rows else "Nothing to compare",
        height=round(ROW * (bottom + 0.5)) + 60,
        n_legend=len(figure.data),
    )


def gains(results: StudyReport | str | Path) -> Figure:
    """The gains of a sweep: every fusion against its hardest single backbone and control, size by size.

    Args:
        results: of a sweep, or the folder of its run.
    """
    results = summary_of(results)
    rows = [Difference(gain.fusion, gain.rival, gain.size, gain.comparison, gain.p_adjusted) for gain in results.gains]
    return differences(rows, metric=results.metric, title="What fusion gains, by size")


def reliance(kept: Ablation, retrained: Ablation | None = None) -> Figure:
    """What a fusion loses without each of its backbones: the change of AUC above, of the log loss below.

    Args:
        kept: with the heads as they were fitted.
        retrained: with heads fitted again on the other backbones.
    """
    make_subplots = needed("plotly.subplots").make_subplots

    figure = make_subplots(rows=2, cols=1, vertical_spacing=0.24)
    looks = [(kept, "head kept, backbone at its mean", style.PALETTE[0], "circle", -0.13 if retrained else 0.0)]
    if retrained is not None:
        looks.append((retrained, "head fitted again without it", style.PALETTE[3], "diamond-open", 0.13))
    for ablation, name, color, symbol, shift in looks:
        marker = {"color": color, "symbol": symbol, "size": 9, "line": {"width": 2, "color": color}}
        for row, (interval, what, _) in enumerate(_CHANGES, start=1):
            trace = _changed(ablation.left_out, interval, what, shift, marker)
            figure.add_trace(trace.update(name=name, legendgroup=name, showlegend=row == 1), row=row, col=1)
    names = [item.backbone for item in kept.left_out]
    figure.update_yaxes(range=[len(names) - 0.5, -0.5], showgrid=False, **style.name_ticks(names, at_most=100))
    figure.update_xaxes(zeroline=True)
    for row, (interval, _, axis) in enumerate(_CHANGES, start=1):
        figure.update_xaxes(title_text=axis, row=row, col=1)
        both = [getattr(item, interval) for ablation, *_ in looks for item in ablation.left_out]
        _include_zero(figure, both, row=row, col=1)
    return style.finished(
        figure,
        title="Without one of the backbones",
        subtitle="Bars: 95% intervals over test images, mean over the folds",
        height=2 * (70 + 46 * len(names)),
        n_legend=len(looks),
    )


def _placed(rows: Sequence[Difference], *, is_named: bool) -> tuple[list[float], list[tuple[float, str]]]:
    """Where each row lies, and what names rows and sizes, and where."""
    places: list[float] = []
    texts: list[tuple[float, str]] = []
    position, size = 0.0, None
    for row in rows:
        if row.size and row.size != size:
            texts.append((position, f"<b>size {style.shown(row.size)}</b>"))
            position, size = position + (0.7 if is_named else 0.55), row.size
        rival = f"minus {style.shown(row.against)}"
        texts.append((position, f"{style.shown(row.name)}<br>{rival}" if is_named else rival))
        places.append(position + (0.56 if is_named else 0.4))  # below its name, which may be as wide as the figure
        position = places[-1] + (0.7 if is_named else 0.5)
    return places, texts


def _points(chosen: Sequence[tuple[float, Difference]], word: str) -> Scatter:
    graph_objects = needed("plotly.graph_objects")

    color, symbol = _LOOKS[word]
    return graph_objects.Scatter(
        x=[row.comparison.difference.estimate for _, row in chosen],
        y=[place for place, _ in chosen],
        error_x=bars([row.comparison.difference for _, row in chosen], color),
        mode="markers",
        name=word,
        marker={"color": color, "symbol": symbol, "size": 10, "line": {"width": 2, "color": color}},
        hovertext=[_hover(row) for _, row in chosen],
        hoverinfo="text",
    )


def bars(intervals: Sequence[Interval], color: str) -> dict[str, Any]:
    """No bar where an end is undefined."""
    low, middle, high = np.array([(each.low, each.estimate, each.high) for each in intervals]).T
    is_known = ~np.isnan(low + middle + high)
    above, below = (np.where(is_known, length, 0.0).tolist() for length in (high - middle, middle - low))
    return {"type": "data", "array": above, "arrayminus": below, "color": color, "thickness": 2, "width": 0}


def _include_zero(figure: Figure, intervals: Sequence[Interval], **place: int) -> None:
    """An x axis that holds all intervals and 0, with room at both sides."""
    values = [value for each in intervals for value in (each.low, each.estimate, each.high) if not math.isnan(value)]
    low, high = min([0.0, *values]), max([0.0, *values])
    room = 0.06 * (high - low) or 0.01
    figure.update_xaxes(range=[low - room, high + room], **place)


def _hover(row: Difference) -> str:
    comparison = row.comparison
    lines = [
        f"<b>{style.whole(row.name)}</b> minus {style.whole(row.against)}",
        *([f"size {style.whole(row.size)}"] if row.size else []),
        _interval(comparison.difference),
        f"p {number_text(comparison.p, 4)}, adjusted {number_text(row.p_adjusted, 4)}: <b>{row.word}</b>",
    ]
    return "<br>".join(lines)


def _interval(interval: Interval) -> str:
    return difference_text(interval, 4, named="95% interval", without="no interval")


def _changed(left_out: Sequence[LeftOut], interval: str, what: str, shift: float, marker: dict[str, Any]) -> Scatter:
    graph_objects = needed("plotly.graph_objects")

    intervals = [getattr(item, interval) for item in left_out]
    hover = [
        f"without <b>{style.whole(item.backbone)}</b><br>{what} {_interval(change)}"
        for item, change in zip(left_out, intervals, strict=True)
    ]
    return graph_objects.Scatter(
        x=[change.estimate for change in intervals],
        y=[place + shift for place in range(len(left_out))],
        error_x=bars(intervals, marker["color"]),
        mode="markers",
        marker=marker,
        hovertext=hover,
        hoverinfo="text",
    )
