"""How one method errs on a test set: confusion matrix, ROC, precision and recall, calibration.

The public functions take class indices and probabilities, have `dvme.metrics` compute, and draw; `draw_…` draw what is
computed already. Rows without a label (below 0) or with a probability that is not finite are left out, and the subtitle
counts them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme.extras import needed
from dvme.metrics import curves
from dvme.metrics.calibration import N_BINS, Reliability, reliability
from dvme.metrics.confusion import Confusion, count_confusion
from dvme.metrics.curves import GRID, Curves
from dvme.report.figures import style
from dvme.text import number_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure, Scatter

MOST_CELLS = 30
"""Classes up to which a confusion matrix shows every count and name."""
MOST_CURVES = 8
"""Classes up to which each has its curve; of more, the mean is drawn and the classes wait in the legend."""
LEGEND_NAME = 28
"""Characters of a class in a legend, before its area."""


def confusion(labels: NDArray[Any], probabilities: NDArray[Any], classes: Sequence[str]) -> Figure:
    """Counts of true (rows) and predicted (columns) classes, coloured by the share of their row.

    Args:
        labels: (N,) class indices.
        probabilities: (N, C).
        classes: C names.

    Raises:
        DataError: if the shapes do not fit, or a label is not a class.
    """
    return draw_confusion(count_confusion(labels, probabilities, classes))


def roc(labels: NDArray[Any], probabilities: NDArray[Any], classes: Sequence[str]) -> Figure:
    """ROC curves, one class against the others; of two classes that of the second.

    Arguments and errors as `confusion`. A class that all or none of the images have has no curve.
    """
    return draw_roc(curves.roc(labels, probabilities, classes))


def precision_recall(labels: NDArray[Any], probabilities: NDArray[Any], classes: Sequence[str]) -> Figure:
    """Precision over recall, one class against the others; of two classes that of the second.

    Arguments and errors as `confusion`. AP is the average precision: precision summed over the steps of recall.
    """
    return draw_precision_recall(curves.precision_recall(labels, probabilities, classes))


def calibration(labels: NDArray[Any], probabilities: NDArray[Any], classes: Sequence[str]) -> Figure:
    """Reliability diagram: how often the predicted class is right, by the confidence in it, in 10 equal bins.

    Arguments and errors as `confusion`. Bars are Wilson's 95 per cent intervals.
    """
    return draw_calibration(reliability(labels, probabilities, len(classes)))


def draw_confusion(found: Confusion) -> Figure:
    """See `confusion`."""
    graph_objects = needed("plotly.graph_objects")

    classes, counts = found.classes, np.array(found.counts, dtype=np.int64)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0)
    is_small = len(classes) <= MOST_CELLS
    figure = graph_objects.Figure(
        graph_objects.Heatmap(
            z=shares,
            text=counts.astype(str) if is_small else None,
            texttemplate="%{text}" if is_small else None,
            textfont={"size": 13 if len(classes) <= 8 else 10 if len(classes) <= 16 else 8},
            hovertext=_confusion_hover(counts, shares, classes),
            hoverinfo="text",
            coloraxis="coloraxis",
            xgap=1 if is_small else 0,
            ygap=1 if is_small else 0,
        )
    )
    _name_classes(figure, classes)
    said = f"{found.n_images:,} images, accuracy {number_text(found.accuracy)}; colour: share of the true class"
    return style.finished(
        figure,
        title="Confusion matrix",
        subtitle=said + _left_out(found.n_left_out),
        height=min(740, max(340, 200 + 40 * len(classes))),
    )


def draw_roc(found: Curves) -> Figure:
    """See `roc`."""
    figure, note = _drawn(found, "AUC")
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", line={"color": style.NEUTRAL, "width": 1, "dash": "dot"},
        name="chance", showlegend=False, hoverinfo="skip",
    )  # fmt: skip
    figure.update_xaxes(title_text="false positive rate", range=[-0.01, 1.01])
    figure.update_yaxes(title_text="true positive rate", range=[-0.01, 1.02])
    return style.finished(figure, title="ROC curves", subtitle=note, height=400, n_legend=len(figure.data))


def draw_precision_recall(found: Curves) -> Figure:
    """See `precision_recall`."""
    figure, note = _drawn(found, "AP")
    figure.update_xaxes(title_text="recall", range=[-0.01, 1.01])
    figure.update_yaxes(title_text="precision", range=[-0.01, 1.02])
    return style.finished(figure, title="Precision and recall", subtitle=note, height=400, n_legend=len(figure.data))


def draw_calibration(found: Reliability) -> Figure:
    """See `calibration`."""
    make_subplots = needed("plotly.subplots").make_subplots

    n = np.array(found.n)
    confidence, accuracy, low, high = (
        np.array(each) for each in (found.confidence, found.accuracy, found.low, found.high)
    )
    figure = make_subplots(2, 1, shared_xaxes=True, row_heights=[0.75, 0.25], vertical_spacing=0.08)
    filled = np.flatnonzero(n)
    hover = [
        f"confidence {b / N_BINS:g} to {(b + 1) / N_BINS:g}: {n[b]:,} images<br>mean confidence {confidence[b]:.3f}<br>"
        f"accuracy {accuracy[b]:.3f} (95% interval {low[b]:.3f} to {high[b]:.3f})"
        for b in filled
    ]
    line = {"color": style.NEUTRAL, "width": 1, "dash": "dot"}
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line=line, hoverinfo="skip", showlegend=False, row=1, col=1)
    figure.add_scatter(
        x=confidence[filled],
        y=accuracy[filled],
        error_y={"type": "data", "array": (high - accuracy)[filled], "arrayminus": (accuracy - low)[filled]},
        mode="lines+markers",
        marker={"size": 9, "color": style.PALETTE[0]},
        line={"color": style.PALETTE[0]},
        hovertext=hover,
        hoverinfo="text",
        showlegend=False,
        row=1,
        col=1,
    )
    middles = (np.arange(N_BINS) + 0.5) / N_BINS
    bars = {"x": middles, "y": n, "width": 0.9 / N_BINS, "marker": {"color": style.NEUTRAL, "line": {"width": 0}}}
    texts = [f"{count:,} images" for count in n]
    figure.add_bar(**bars, hovertext=texts, hoverinfo="text", showlegend=False, row=2, col=1)
    figure.update_xaxes(range=[0, 1])
    figure.update_xaxes(title_text="confidence in the predicted class", row=2, col=1)
    figure.update_yaxes(title_text="accuracy", range=[-0.02, 1.02], row=1, col=1)
    figure.update_yaxes(title_text="images", row=2, col=1)
    said = f"Expected calibration error {number_text(found.error)} over {N_BINS} bins, {found.n_images:,} images"
    subtitle = said + _left_out(found.n_left_out)
    return style.finished(figure, title="Calibration", subtitle=subtitle, height=440)


def _left_out(n: int) -> str:
    return f"; {n:,} without a label or a finite probability left out" if n else ""


def _drawn(found: Curves, what: str) -> tuple[Figure, str]:
    """A line for each class, below their mean where there are many; and the subtitle."""
    graph_objects = needed("plotly.graph_objects")

    figure = graph_objects.Figure()
    is_many = len(found.curves) > MOST_CURVES
    if is_many:
        macro = _line(GRID, found.mean, "macro mean", f"{what} {found.mean_area:.3f}", 0)
        figure.add_trace(macro.update(line={"width": 3}))
    for each in found.curves:
        line = _line(each.x, each.y, each.name, f"{what} {each.area:.3f}", each.index + is_many)
        figure.add_trace(line.update(line={"width": 1}, visible="legendonly") if is_many else line)
    n, n_absent = len(found.curves), found.n_undefined
    macro_said = f"; macro {what} {number_text(found.mean_area)}" if n + n_absent > 1 else ""
    absent = f"; {n_absent} {'class' if n_absent == 1 else 'classes'} without a curve" if n_absent else ""
    return figure, f"{found.n_images:,} images{macro_said}{absent}{_left_out(found.n_left_out)}"


def _line(x: Sequence[float] | NDArray[Any], y: Sequence[float], name: str, area: str, index: int) -> Scatter:
    graph_objects = needed("plotly.graph_objects")

    return graph_objects.Scatter(
        x=np.asarray(x),
        y=np.asarray(y),
        mode="lines",
        name=f"{style.shown(name, LEGEND_NAME)} ({area})",
        line={"color": style.color_of(index), "dash": style.dash_of(index), "width": 2},
        hovertext=f"{style.whole(name)}, {area}",
        hoverinfo="x+y+text",
    )


def _name_classes(figure: Figure, classes: Sequence[str]) -> None:
    """Along both axes, the first at the top left; of many every n-th, as fits a telephone's width."""
    most = MOST_CELLS if len(classes) <= MOST_CELLS else 12
    across, down = (style.name_ticks(classes, at_most=each) | {"showgrid": False} for each in (most, MOST_CELLS))
    last = len(classes) - 0.5
    figure.update_xaxes(range=[-0.5, last], title_text="predicted class", autotickangles=[0, 90], **across)
    figure.update_yaxes(range=[last, -0.5], title_text="true class", **down)
    style.share_colors(figure, 0.0, 1.0, tickformat=".0%")


def _confusion_hover(counts: NDArray[Any], shares: NDArray[Any], classes: Sequence[str]) -> list[list[str]]:
    """Of large matrices only for cells with images: 200 classes have 40,000 cells."""
    names = [style.whole(name) for name in classes]
    is_small = len(classes) <= MOST_CELLS
    return [
        [
            f"true <b>{true}</b><br>predicted <b>{predicted}</b><br>{counts[a, b]:,} images, "
            + (f"{shares[a, b]:.1%} of the true class" if counts[a].any() else "none of the true class")
            if is_small or counts[a, b]
            else ""
            for b, predicted in enumerate(names)
        ]
        for a, true in enumerate(names)
    ]
