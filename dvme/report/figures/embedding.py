"""Embedding maps side by side, for notebooks and for print."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme.data import MISSING, Task
from dvme.errors import DataError
from dvme.extras import needed
from dvme.report.figures import style

if TYPE_CHECKING:
    from plotly.graph_objects import Figure, Scatter, Scattergl

    from dvme.maps.maps import EmbeddingMap

MAPS_PER_ROW = 3
PANEL = 330
"""Pixels of a panel's height, its heading apart."""
PANEL_NAME = 28
"""Characters of a name above its panel."""
MOST_SHAPES = 5_000
"""Points of one map up to which each is a shape that prints sharply; more are drawn on the graphics card."""
UNLABELLED = "(no label)"


def embedding_maps(
    maps: Sequence[EmbeddingMap],
    labels: NDArray[Any] | Sequence[str],
    *,
    ids: Sequence[str] | NDArray[Any] | None = None,
    title: str = "",
    per_row: int = MAPS_PER_ROW,
    class_order: Sequence[str] = (),
) -> Figure:
    """One panel for each map, a colour and a shape for each class; the legend shows and hides a class everywhere.

    Args:
        maps: of the same N images.
        labels: (N,) class names, "" for none.
        ids: (N,) what hovers, such as file names; None: the class alone.
        title: plain text; nothing: what the maps are.
        per_row: panels side by side, 1 to 3; 1 suits a telephone.
        class_order: of the classes; () for that of their names.

    Raises:
        DataError: if labels or ids are not as many as the images, or there is no map.
    """
    make_subplots = needed("plotly.subplots").make_subplots

    _check(maps, labels, ids)
    named = np.asarray(labels, dtype=str)
    columns = min(len(maps), max(1, min(per_row, MAPS_PER_ROW)))
    rows = math.ceil(len(maps) / columns)
    figure = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=[_panel_title(each) for each in maps],
        horizontal_spacing=0.03,
        vertical_spacing=0.0 if rows == 1 else 70 / (rows * (PANEL + 70)),
    )
    task = Task.from_labels(named, class_order)
    classes = [*task.classes, *([MISSING] if task.n_unlabelled else [])]
    hover = _hover(named, ids)
    for panel, each in enumerate(maps):
        place = {"row": panel // columns + 1, "col": panel % columns + 1}
        for index, name in enumerate(classes):
            figure.add_trace(_points(each.positions, np.flatnonzero(named == name), name, index, hover, panel), **place)
        _frame(figure, each.positions, place)
    figure.update_annotations(font_size=13)
    heading = title or f"{maps[0].method} maps of {len(named):,} images"
    height = rows * (PANEL + 70) - 40
    lines = 3 + any(each.quality.n_laid_out is not None for each in maps)
    return style.finished(figure, title=heading, height=height, n_legend=len(classes), panel_lines=lines)


def map_figures(
    maps: Sequence[EmbeddingMap], labels: NDArray[Any] | Sequence[str], class_order: Sequence[str] = ()
) -> dict[str, Figure]:
    """`maps-METHOD` to the maps by that method, as files are named."""
    figures = {}
    for method in dict.fromkeys(each.method for each in maps):
        some = [each for each in maps if each.method == method]
        per_row = 2 if len(some) in (2, 4) else MAPS_PER_ROW
        figures[f"maps-{method}"] = embedding_maps(some, labels, per_row=per_row, class_order=class_order)
    return figures


def _check(maps: Sequence[EmbeddingMap], labels: Sequence[str] | NDArray[Any], ids: Any) -> None:
    if not maps:
        raise DataError("there is no map to draw; pass at least one")
    for each in maps:
        if each.positions.shape != (len(labels), 2):
            raise DataError(f"{each.name} has positions {each.positions.shape} for {len(labels)} labels; pass matching")
    if ids is not None and len(ids) != len(labels):
        raise DataError(f"there are {len(ids)} ids for {len(labels)} labels; pass one for each")


def _frame(figure: Figure, positions: NDArray[Any], place: dict[str, int]) -> None:
    """A square with nothing but a line around it: the axes of a map have no meaning."""
    across = figure.get_subplot(place["row"], place["col"]).xaxis.plotly_name.replace("axis", "")
    x_range, y_range = _square(positions)
    bare = {"showticklabels": False, "ticks": "", "showgrid": False, "mirror": True, "showline": True}
    figure.update_xaxes(range=x_range, constrain="domain", **bare, **place)
    figure.update_yaxes(range=y_range, constrain="domain", constraintoward="top", scaleanchor=across, **bare, **place)


def _square(positions: NDArray[Any]) -> tuple[list[float], list[float]]:
    """Ranges of x and y of one length that hold all points."""
    known = positions[np.isfinite(positions).all(axis=1)]
    low, high = (known.min(axis=0), known.max(axis=0)) if len(known) else (np.zeros(2), np.ones(2))
    half = 0.53 * float((high - low).max()) or 1.0
    x, y = ([float(middle) - half, float(middle) + half] for middle in (low + high) / 2)
    return x, y


def _panel_title(each: EmbeddingMap) -> str:
    """The name, and below it what is defined of the quality."""
    quality = each.quality
    parts = [
        ("trust", quality.trustworthiness, ".2f"),
        ("preserved", quality.preservation, ".0%"),
        ("silhouette", quality.silhouette, ".2f"),
        ("kNN", quality.knn_accuracy, ".0%"),
    ]
    said = [f"{name} {value:{form}}" for name, value, form in parts if not math.isnan(value)]
    lines = [" · ".join(said[start : start + 2]) for start in range(0, len(said), 2)]
    if quality.n_laid_out is not None:
        lines.append(f"{quality.n_laid_out:,} of {len(each.positions):,} laid out, the others placed")
    small = [f"<span style='font-size:11px'>{line}</span>" for line in lines]
    return "<br>".join([f"<b>{style.shown(each.name, PANEL_NAME)}</b>", *small])


def _hover(labels: NDArray[Any], ids: Sequence[str] | NDArray[Any] | None) -> NDArray[Any]:
    """(N,) text of every point."""
    classes = {name: style.whole(name or UNLABELLED) for name in np.unique(labels).tolist()}
    texts = [classes[name] for name in labels.tolist()]
    if ids is not None:
        texts = [f"{style.whole(each)}<br>{text}" for each, text in zip(ids, texts, strict=True)]
    return np.array(texts, dtype=object)


def _points(
    positions: NDArray[Any], members: NDArray[Any], name: str, index: int, hover: NDArray[Any], panel: int
) -> Scatter | Scattergl:
    """One class in one panel."""
    graph_objects = needed("plotly.graph_objects")

    kind = graph_objects.Scatter if len(positions) <= MOST_SHAPES else graph_objects.Scattergl
    return kind(
        x=positions[members, 0],
        y=positions[members, 1],
        mode="markers",
        name=f"{style.shown(name or UNLABELLED)} ({len(members):,})",
        legendgroup=f"class {index}",
        showlegend=panel == 0,
        marker={
            "size": 6 if len(positions) <= MOST_SHAPES else 4,
            "opacity": 0.75,
            "color": style.NEUTRAL if name == MISSING else style.color_of(index),
            "symbol": style.symbol_of(index),
            "line": {"width": 0},
        },
        hovertext=hover[members],
        hoverinfo="text",
    )
