"""How far one finding can be trusted: calibration before and after scaling, underdiagnosis, referral."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dvme.extras import needed
from dvme.report.figures import style
from dvme.text import difference_text, number_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from dvme.stats.intervals import Interval
    from dvme.study.reliability import FindingReliability, Fit, MethodReliability, Reliability

SCALING_NAMES = {
    "before": "as the heads say",
    "temperature": "after temperature scaling",
    "platt": "after Platt scaling",
}
"""What probabilities are called in a legend."""
BAND = 0.18
"""Opacity of an interval."""
TICKS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.9)
"""Thresholds that are named along the axis."""


def draw_fits(finding: FindingReliability) -> Figure:
    """Reliability diagram of one finding: how often it is there, by its probability, before and after scaling."""
    graph_objects = needed("plotly.graph_objects")

    figure = graph_objects.Figure()
    figure.add_scatter(x=[0, 1], y=[0, 1], **_guide())
    for index, (name, fit) in enumerate(finding.fits.items()):
        called = f"{SCALING_NAMES[name]} (ECE {number_text(fit.expected_error.estimate)})"
        figure.add_scatter(**_diagram(fit), name=called, mode="lines+markers",
            line={"color": style.color_of(index)}, marker={"size": 8, "symbol": style.symbol_of(index)})  # fmt: skip
    figure.update_xaxes(title_text="probability", range=[-0.01, 1.01])
    figure.update_yaxes(title_text="part that has it", range=[-0.02, 1.02])
    said = "10 bins of equal width; bars: 95% intervals that take images for independent"
    return style.finished(
        figure, title=f"Calibration: {style.cut(finding.finding)}", subtitle=said, height=340, n_legend=5
    )


def draw_missed(found: Reliability, finding: FindingReliability) -> Figure:
    """What is missed and what is called wrongly over the thresholds, and where validation put the operating point."""
    graph_objects = needed("plotly.graph_objects")

    figure = graph_objects.Figure()
    for index, (name, rates) in enumerate((("missed", finding.missed), ("false alarms", finding.alarms))):
        color, x = style.color_of(index), list(found.thresholds)
        _band(figure, x, rates, color)
        hover = [
            f"above {at:g}: {name} {difference_text(rate, signed=False)}" for at, rate in zip(x, rates, strict=True)
        ]
        figure.add_scatter(x=x, y=[rate.estimate for rate in rates], mode="lines", name=name, line={"color": color},
            hovertext=hover, hoverinfo="text")  # fmt: skip
    said = "Part of the images with it that are missed, and of those without it that are called"
    if finding.at is not None:
        at, thresholds = finding.at, [each for each in finding.at.thresholds if not math.isnan(each)]
        figure.add_scatter(x=[float(np.clip(np.median(thresholds), found.thresholds[0], found.thresholds[-1]))],
            y=[at.missed.estimate], error_y=_error([at.missed]), mode="markers", name="operating point",
            marker={"size": 11, "symbol": "diamond", "color": style.color_of(3)},
            hovertext=[f"missed {difference_text(at.missed, signed=False)}"], hoverinfo="text")  # fmt: skip
        said += f"; diamond: at {found.at} of validation, drawn at the median of the draws' thresholds"
    figure.update_xaxes(title_text="threshold (probability, logarithmic)", type="log", tickmode="array", tickvals=TICKS,
        ticktext=[f"{each:g}" for each in TICKS])  # fmt: skip
    figure.update_yaxes(title_text="part of the images", range=[-0.02, 1.02])
    return style.finished(
        figure, title=f"Missed: {style.cut(finding.finding)}", subtitle=said, height=320, n_legend=len(figure.data)
    )


def draw_risk(found: Reliability, finding: FindingReliability) -> Figure:
    """What part of the decisions is wrong where those nearest the threshold go to someone who knows."""
    graph_objects = needed("plotly.graph_objects")

    figure = graph_objects.Figure()
    figure.add_scatter(x=list(found.coverages), y=list(finding.risk), mode="lines", line={"color": style.color_of(0)},
        showlegend=False, hovertemplate="%{x:.0%} kept: %{y:.3f} wrong<extra></extra>")  # fmt: skip
    figure.update_xaxes(title_text="part of the images that is kept", tickformat=".0%", range=[0, 1.02])
    figure.update_yaxes(title_text="part of them decided wrongly", rangemode="tozero")
    said = (
        f"Decisions at {found.at} of validation; the farther from the threshold, the longer kept. Area under the curve "
    )
    said += difference_text(finding.risk_area, named="95% CI", signed=False)
    return style.finished(figure, title=f"Risk and coverage: {style.cut(finding.finding)}", subtitle=said, height=300)


def draw_oracle(found: Reliability, method: MethodReliability) -> Figure:
    """The mean AUC after the least sure images were told, by both definitions."""
    graph_objects = needed("plotly.graph_objects")

    figure = graph_objects.Figure()
    shown = (("referred, as defined", method.oracle), ("cumulative, as in published tables", method.cumulative_oracle))
    for index, (name, rates) in enumerate(shown):
        x, color = list(found.fractions), style.color_of(index)
        _band(figure, x, rates, color)
        hover = [f"{at:.0%}: {difference_text(each, signed=False)}" for at, each in zip(x, rates, strict=True)]
        figure.add_scatter(x=x, y=[each.estimate for each in rates], mode="lines+markers", name=name, hoverinfo="text",
            hovertext=hover, line={"color": color}, marker={"symbol": style.symbol_of(index)})  # fmt: skip
    figure.update_xaxes(title_text="fraction of the images that is referred", tickformat=".0%")
    figure.update_yaxes(title_text="mean AUC")
    said = "The images that the method is least sure of get their true labels"
    return style.finished(figure, title="Oracle AUC", subtitle=said, height=300, n_legend=2)


def _guide() -> dict[str, Any]:
    line = {"color": style.NEUTRAL, "width": 1, "dash": "dot"}
    return {"mode": "lines", "line": line, "hoverinfo": "skip", "showlegend": False}


def _diagram(fit: Fit) -> dict[str, Any]:
    """Points and bars of the bins that are not empty."""
    filled = [place for place, n in enumerate(fit.n_images) if n > 0]
    x, y, low, high, n = (
        [each[place] for place in filled] for each in (fit.confidence, fit.share, fit.low, fit.high, fit.n_images)
    )
    hover = [
        f"mean probability {a:.3f}<br>has it {b:.3f} ({c:.3f} to {d:.3f})<br>{size:,.1f} images a head"
        for a, b, c, d, size in zip(x, y, low, high, n, strict=True)
    ]
    error = {
        "type": "data",
        "array": [max(0.0, d - b) for b, d in zip(y, high, strict=True)],
        "arrayminus": [max(0.0, b - c) for b, c in zip(y, low, strict=True)],
        "thickness": 1,
        "width": 2,
    }
    return {"x": x, "y": y, "error_y": error, "hovertext": hover, "hoverinfo": "text"}


def _band(figure: Figure, x: Sequence[float], rates: Sequence[Interval], color: str) -> None:
    ends = [rate.high for rate in rates] + [rate.low for rate in reversed(rates)]
    figure.add_scatter(x=[*x, *reversed(x)], y=ends, fill="toself", fillcolor=style.faded(color, BAND), mode="lines",
        line={"width": 0}, hoverinfo="skip", showlegend=False)  # fmt: skip


def _error(rates: Sequence[Interval]) -> dict[str, Any]:
    up, down = [each.high - each.estimate for each in rates], [each.estimate - each.low for each in rates]
    return {"type": "data", "array": up, "arrayminus": down, "thickness": 1.5}
