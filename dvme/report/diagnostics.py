"""How one method errs on a test set: confusion matrix, ROC, precision and recall, calibration.

All take class indices and probabilities. Rows without a label (below 0) or with a probability that is not finite are
left out, and the subtitle counts them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError
from dvme.evaluation.metrics import log_odds
from dvme.report import style
from dvme.report.thinning import thinned
from dvme.wording import number_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure, Scatter

MOST_CELLS = 30
"""Classes up to which a confusion matrix shows every count and name."""
MOST_CURVES = 8
"""Classes up to which each has its curve; of more, the mean is drawn and the classes wait in the legend."""
LEGEND_NAME = 28
"""Characters of a class in a legend, before its area."""
N_BINS = 10
Z = 1.959963984540054
"""97.5th percentile of the normal distribution."""
Curve = Callable[[NDArray[Any], NDArray[Any]], tuple[NDArray[Any], NDArray[Any], float]]
GRID = np.linspace(0.0, 1.0, 101)
"""Where curves are averaged."""


def confusion(labels: NDArray[Any], probabilities: NDArray[Any], classes: Sequence[str]) -> Figure:
    """Counts of true (rows) and predicted (columns) classes, coloured by the share of their row.

    Args:
        labels: (N,) class indices.
        probabilities: (N, C).
        classes: C names.

    Raises:
        DataError: if the shapes do not fit, or a label is not a class.
    """
    from plotly import graph_objects

    y, p, note = _usable(labels, probabilities, classes)
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(counts, (y, p.argmax(axis=1)), 1)
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
    accuracy = counts.trace() / max(1, len(y)) if len(y) else math.nan
    return style.finished(
        figure,
        title="Confusion matrix",
        subtitle=f"{len(y):,} images, accuracy {number_text(accuracy)}; colour: share of the true class{note}",
        height=min(740, max(340, 200 + 40 * len(classes))),
    )


def roc(labels: NDArray[Any], probabilities: NDArray[Any], classes: Sequence[str]) -> Figure:
    """ROC curves, one class against the others; of two classes that of the second.

    Arguments and errors as `confusion`. A class that all or none of the images have has no curve.
    """
    figure, note = _curves(labels, probabilities, classes, roc_curve, "AUC")
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", line={"color": style.NEUTRAL, "width": 1, "dash": "dot"},
        name="chance", showlegend=False, hoverinfo="skip",
    )  # fmt: skip
    figure.update_xaxes(title_text="false positive rate", range=[-0.01, 1.01])
    figure.update_yaxes(title_text="true positive rate", range=[-0.01, 1.02])
    return style.finished(figure, title="ROC curves", subtitle=note, height=400, n_legend=len(figure.data))


def precision_recall(labels: NDArray[Any], probabilities: NDArray[Any], classes: Sequence[str]) -> Figure:
    """Precision over recall, one class against the others; of two classes that of the second.

    Arguments and errors as `confusion`. AP is the average precision: precision summed over the steps of recall.
    """
    figure, note = _curves(labels, probabilities, classes, precision_recall_curve, "AP")
    figure.update_xaxes(title_text="recall", range=[-0.01, 1.01])
    figure.update_yaxes(title_text="precision", range=[-0.01, 1.02])
    return style.finished(figure, title="Precision and recall", subtitle=note, height=400, n_legend=len(figure.data))


def calibration(labels: NDArray[Any], probabilities: NDArray[Any], classes: Sequence[str]) -> Figure:
    """Reliability diagram: how often the predicted class is right, by the confidence in it, in 10 equal bins.

    Arguments and errors as `confusion`. Bars are Wilson's 95 per cent intervals.

    Source: Guo et al. 2017, section 2, equations 2 and 3; Wilson 1927.
    """
    from plotly.subplots import make_subplots

    y, p, note = _usable(labels, probabilities, classes)
    n, confidence, accuracy, error = reliability(y, p)
    low, high = wilson(accuracy, n)
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
    said = f"Expected calibration error {number_text(error)} over {N_BINS} bins, {len(y):,} images{note}"
    return style.finished(figure, title="Calibration", subtitle=said, height=440)


def roc_curve(is_positive: NDArray[Any], scores: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], float]:
    """False positive rates, true positive rates and the area; nothing and nan without positives or negatives."""
    true, false = _cumulated(is_positive, scores)
    if not len(true) or not true[-1] or not false[-1]:
        return np.empty(0), np.empty(0), math.nan
    x, y = np.r_[0.0, false / false[-1]], np.r_[0.0, true / true[-1]]
    return x, y, float(np.trapezoid(y, x))


def precision_recall_curve(is_positive: NDArray[Any], scores: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], float]:
    """Recalls, precisions and the average precision, as steps; nothing and nan without positives.

    Between two thresholds there is no straight line: precision falls at once where recall goes on.

    Source: Davis and Goadrich 2006, on interpolation.
    """
    true, false = _cumulated(is_positive, scores)
    if not len(true) or not true[-1]:
        return np.empty(0), np.empty(0), math.nan
    recall, precision = true / true[-1], true / (true + false)
    steps = np.diff(np.r_[0.0, recall])
    is_step = steps > 0  # where only negatives are added, the precision counts for no recall
    steps, recall, precision = steps[is_step], recall[is_step], precision[is_step]
    x, y = np.r_[0.0, np.repeat(recall, 2)[:-1]], np.repeat(precision, 2)
    return x, y, float((steps * precision).sum())


def reliability(
    labels: NDArray[Any], probabilities: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], float]:
    """Images, mean confidence and accuracy of each bin of confidence (nan where empty), and the calibration error.

    Args:
        labels: (N,) class indices.
        probabilities: (N, C); a confidence on the border of two bins belongs to the lower one.
    """
    top = probabilities.max(axis=1, initial=0.0)
    is_right = probabilities.argmax(axis=1) == labels
    place = np.clip(np.ceil(top * N_BINS).astype(int) - 1, 0, N_BINS - 1)
    n = np.bincount(place, minlength=N_BINS)
    sums = [np.bincount(place, weights=values, minlength=N_BINS) for values in (top, is_right)]
    confidence, accuracy = (np.divide(each, n, out=np.full(N_BINS, np.nan), where=n > 0) for each in sums)
    error = float(np.nansum(n * np.abs(accuracy - confidence)) / len(labels)) if len(labels) else math.nan
    return n, confidence, accuracy, error


def wilson(shares: NDArray[Any], n: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Ends of the 95 per cent intervals of shares of n each; nan where n is 0.

    Source: Wilson 1927.
    """
    size = np.where(n > 0, n, np.nan)
    middle = (shares + Z**2 / (2 * size)) / (1 + Z**2 / size)
    half = Z * np.sqrt(shares * (1 - shares) / size + Z**2 / (4 * size**2)) / (1 + Z**2 / size)
    return np.maximum(0.0, middle - half), np.minimum(1.0, middle + half)


def _usable(
    labels: NDArray[Any], probabilities: NDArray[Any], classes: Sequence[str]
) -> tuple[NDArray[Any], NDArray[Any], str]:
    """The rows that count, and what the subtitle says of the others."""
    shape = (len(labels), len(classes))
    if probabilities.shape != shape:
        raise DataError(f"probabilities are {probabilities.shape}, and labels and classes make {shape}; pass matching")
    if len(labels) and labels.max() >= len(classes):
        raise DataError(f"a label is {labels.max()}, and there are {len(classes)} classes; count them from 0")
    usable = (labels >= 0) & np.isfinite(probabilities).all(axis=1)
    n_left_out = int((~usable).sum())
    note = f"; {n_left_out:,} without a label or a finite probability left out" if n_left_out else ""
    return labels[usable], probabilities[usable].astype(np.float64), note


def _cumulated(is_positive: NDArray[Any], scores: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Positives and negatives at or above each distinct score, the highest first."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.flatnonzero(np.r_[ordered[1:] != ordered[:-1], np.ones(min(1, len(ordered)), dtype=bool)])
    true = np.cumsum(is_positive[order])[last] if len(last) else np.empty(0)
    return true, last + 1 - true


def _curves(
    labels: NDArray[Any], probabilities: NDArray[Any], classes: Sequence[str], curve: Curve, what: str
) -> tuple[Figure, str]:
    """A line for each class, below their mean where there are many; and the subtitle."""
    from plotly import graph_objects

    y, p, note = _usable(labels, probabilities, classes)
    positions = [1] if len(classes) == 2 else range(len(classes))
    ranked = p
    if np.allclose(p.sum(axis=1), 1.0):  # else these are scores of another kind
        with np.errstate(divide="ignore"):
            ranked = log_odds(np.log(p))
    found = {c: curve(y == c, ranked[:, c]) for c in positions}
    known = {c: each for c, each in found.items() if not math.isnan(each[2])}
    mean = float(np.mean([each[2] for each in known.values()])) if known else math.nan
    figure = graph_objects.Figure()
    is_many = len(known) > MOST_CURVES
    if is_many:
        # Where a curve rises or falls at once, the height that it arrives at counts.
        at_grid = [np.interp(GRID, x, heights) for x, heights, _ in known.values()]
        macro = _line(GRID, np.mean(at_grid, axis=0), "macro mean", f"{what} {mean:.3f}", 0)
        figure.add_trace(macro.update(line={"width": 3}))
    for c, (x, heights, area) in known.items():
        line = _line(*thinned(x, heights), classes[c], f"{what} {area:.3f}", c + is_many)
        figure.add_trace(line.update(line={"width": 1}, visible="legendonly") if is_many else line)
    said = f"{len(y):,} images; macro {what} {number_text(mean)}" if len(found) > 1 else f"{len(y):,} images"
    n_absent = len(found) - len(known)
    absent = f"; {n_absent} {'class' if n_absent == 1 else 'classes'} without a curve" if n_absent else ""
    return figure, said + absent + note


def _line(x: NDArray[Any], y: NDArray[Any], name: str, area: str, index: int) -> Scatter:
    from plotly import graph_objects

    return graph_objects.Scatter(
        x=x,
        y=y,
        mode="lines",
        name=f"{style.shown(name, LEGEND_NAME)} ({area})",
        line={"color": style.color_of(index), "dash": style.dash_of(index), "width": 2},
        hovertext=f"{style.whole(name)}, {area}",
        hoverinfo="x+y+text",
    )


def _name_classes(figure: Figure, classes: Sequence[str]) -> None:
    """Along both axes, the first at the top left; of many every n-th, as fits a telephone's width."""
    most = MOST_CELLS if len(classes) <= MOST_CELLS else 12
    across, down = (style.name_ticks(classes, at_most=each) for each in (most, MOST_CELLS))
    last = len(classes) - 0.5
    figure.update_xaxes(range=[-0.5, last], title_text="predicted class", autotickangles=[0, 90], **across)
    figure.update_yaxes(range=[last, -0.5], title_text="true class", **down)
    figure.update_xaxes(showgrid=False)
    figure.update_yaxes(showgrid=False)
    scale = {"colorscale": style.SEQUENTIAL, "cmin": 0.0, "cmax": 1.0, "colorbar": style.color_bar(tickformat=".0%")}
    figure.update_layout(coloraxis=scale)


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
