"""Heat maps between backbones: who attends to whom, and whose embeddings are alike."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme.errors import OptionError
from dvme.extras import needed
from dvme.report.figures import style
from dvme.text import number_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure, Heatmap

    from dvme.explanation.attention_summary import AttentionMap, AttentionSummary
    from dvme.explanation.similarity import Similarity

MOST_CLASSES = 11
"""Maps of single classes beside the one over all samples."""
MAPS_PER_ROW = 2
PER_BACKBONE = 32
"""Rows of a token map that stand for one backbone."""
MOST_NUMBERS = 6
"""Backbones up to which every cell carries its number."""


def attention(summary: AttentionSummary, *, classes: Sequence[str] | None = None) -> Figure:
    """Mean block attention over all samples and over those of each class: rows attend, columns are attended to.

    Args:
        summary: of M backbones.
        classes: which, in this order; None: the first eleven. More than eleven are cut to as many.

    Raises:
        OptionError: if a class is not in the summary.
    """
    make_subplots = needed("plotly.subplots").make_subplots

    wanted = list(summary.classes if classes is None else classes)
    strange = [name for name in wanted if name not in summary.classes]
    if strange:
        raise OptionError(f"class {strange[0]!r} has no attention; choose from {', '.join(summary.classes)}")
    maps = {"all samples": summary.overall} | {f"class {name}": summary.classes[name] for name in wanted[:MOST_CLASSES]}
    columns = min(len(maps), MAPS_PER_ROW)
    rows = math.ceil(len(maps) / columns)
    titles = [f"{style.shown(name, 22)}<br>n = {each.n_samples:,}" for name, each in maps.items()]
    figure = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=titles,
        horizontal_spacing=0.05,
        vertical_spacing=0.0 if rows == 1 else min(0.2, 60 / (210 * rows)),
        shared_xaxes="all",
        shared_yaxes="all",
    )
    for panel, (name, each) in enumerate(maps.items()):
        hover = _attention_hover(summary.backbones, each, name)
        place = {"row": panel // columns + 1, "col": panel % columns + 1}
        figure.add_trace(_heat_map(each.mean, hover), **place)
    # A column that ends early shows its names where it ends.
    for panel in range(max(0, len(maps) - columns), len(maps)):
        figure.update_xaxes(showticklabels=True, row=panel // columns + 1, col=panel % columns + 1)
    _name_axes(figure, summary.backbones)
    known = _known([each.mean for each in maps.values()])
    style.share_colors(figure, 0.0, float(known.max()) if len(known) else 1.0)
    left_out = len(wanted) - MOST_CLASSES
    return style.finished(
        figure,
        title="Attention between backbones" + (f" ({left_out} classes left out)" if left_out > 0 else ""),
        subtitle=_uniformity(len(summary.backbones), known),
        height=210 * rows + 110,
        panel_lines=2,
    )


def token_attention(matrix: NDArray[Any], backbones: Sequence[str]) -> Figure:
    """The attention between all tokens, block by block, with a gap between backbones.

    Args:
        matrix: (T, T), rows attend; T a multiple of the M backbones, already `down_sampled`.
        backbones: M names, in the order of the blocks.

    Raises:
        OptionError: if the tokens are not the same number for each backbone.
    """
    graph_objects = needed("plotly.graph_objects")

    _check_blocks(matrix, len(backbones))
    size = len(matrix) // len(backbones)
    gap = max(0.4, size / 40)
    starts = [block * (size + gap) for block in range(len(backbones))]
    figure = graph_objects.Figure()
    for row, giver in enumerate(backbones):
        for column, taker in enumerate(backbones):
            block = matrix[row * size : (row + 1) * size, column * size : (column + 1) * size]
            figure.add_trace(
                graph_objects.Heatmap(
                    z=block.astype(np.float32),
                    x0=starts[column],
                    y0=starts[row],
                    dx=1,
                    dy=1,
                    coloraxis="coloraxis",
                    name=f"{style.whole(giver)} attends to<br>{style.whole(taker)}",
                    hovertemplate="%{fullData.name}<br>%{z:.2e}<extra></extra>",
                )
            )
    middles = [start + (size - 1) / 2 for start in starts]
    ticks = {"tickmode": "array", "tickvals": middles, "ticktext": [style.wrapped(name) for name in backbones]}
    end = starts[-1] + size - 0.5
    figure.update_xaxes(range=[-0.5, end], showgrid=False, constrain="domain", title_text="is attended to", **ticks)
    figure.update_yaxes(range=[end, -0.5], showgrid=False, scaleanchor="x", constrain="domain", **ticks)
    figure.update_xaxes(autotickangles=[0, 90])
    figure.update_yaxes(constraintoward="top", title_text="attends")
    known = _known([matrix])
    style.share_colors(figure, 0.0, float(known.max()) if len(known) else 1.0)
    title, note = "Attention between tokens", "Rows attend to columns; gaps part the backbones"
    return style.finished(figure, title=title, subtitle=note, height=440)


def down_sampled(matrix: NDArray[Any], n_backbones: int, per_backbone: int = PER_BACKBONE) -> NDArray[Any]:
    """Means over blocks of tokens, so that every backbone keeps at most `per_backbone` rows and columns.

    Args:
        matrix: (T, T), T a multiple of `n_backbones`. Tokens that do not divide evenly are spread over blocks whose
            sizes differ by at most one.
        n_backbones: M.
        per_backbone: P >= 1.

    Returns:
        (M min(P, T / M), M min(P, T / M)).

    Raises:
        OptionError: if the tokens are not the same number for each backbone.
    """
    _check_blocks(matrix, n_backbones)
    size = len(matrix) // n_backbones
    kept = min(per_backbone, size)
    within = np.arange(kept) * size // kept
    starts = (np.arange(n_backbones)[:, None] * size + within).ravel()
    sizes = np.diff(np.r_[starts, len(matrix)])
    summed = np.add.reduceat(np.add.reduceat(matrix.astype(np.float64), starts, axis=0), starts, axis=1)
    means: NDArray[Any] = summed / np.outer(sizes, sizes)
    return means


def similarity(result: Similarity) -> Figure:
    """Linear CKA of every pair of backbones, plain and debiased, on one colour scale."""
    make_subplots = needed("plotly.subplots").make_subplots

    panels = {"CKA": result.cka, "debiased CKA": result.debiased}
    figure = make_subplots(1, 2, subplot_titles=list(panels), horizontal_spacing=0.05, shared_yaxes=True)
    for column, (name, matrix) in enumerate(panels.items(), start=1):
        hover = [
            [
                f"{style.whole(one)}<br>{style.whole(other)}<br>{name} {number_text(matrix[a, b], 4)}"
                for b, other in enumerate(result.backbones)
            ]
            for a, one in enumerate(result.backbones)
        ]
        figure.add_trace(_heat_map(matrix, hover), row=1, col=column)
    _name_axes(figure, result.backbones)
    known = _known(panels.values())
    style.share_colors(figure, min(0.0, float(known.min())) if len(known) else 0.0, 1.0)
    return style.finished(
        figure,
        title="How alike the embeddings are",
        subtitle=f"{result.n_samples:,} samples. CKA is biased upwards with few samples for the dimensions",
        height=330,
        panel_lines=1,
    )


def _check_blocks(matrix: NDArray[Any], n_backbones: int) -> None:
    if matrix.ndim != 2 or len(matrix) != matrix.shape[1] or not n_backbones or len(matrix) % n_backbones:
        raise OptionError(
            f"a map of {matrix.shape} tokens cannot be divided into {n_backbones} backbones of equal size"
        )


def _heat_map(matrix: NDArray[Any], hover: Sequence[Sequence[str]]) -> Heatmap:
    """Cells at 0, 1, ... with their numbers where there is room for them."""
    graph_objects = needed("plotly.graph_objects")

    has_numbers = len(matrix) <= MOST_NUMBERS
    numbers = [["n/a" if np.isnan(value) else f"{value:.2f}" for value in row] for row in matrix]
    return graph_objects.Heatmap(
        z=matrix.astype(np.float64),
        text=numbers if has_numbers else None,
        texttemplate="%{text}" if has_numbers else None,
        textfont={"size": 12 if len(matrix) <= 3 else 10},
        hovertext=hover,
        hoverinfo="text",
        coloraxis="coloraxis",
        xgap=1,
        ygap=1,
    )


def _name_axes(figure: Figure, backbones: Sequence[str]) -> None:
    """Names along both axes, the first at the top left."""
    ticks = style.name_ticks(backbones, at_most=2 * MOST_NUMBERS) | {"showgrid": False, "ticks": ""}
    figure.update_xaxes(range=[-0.5, len(backbones) - 0.5], autotickangles=[0, 90], **ticks)
    figure.update_yaxes(range=[len(backbones) - 0.5, -0.5], **ticks)
    figure.update_annotations(font_size=13)


def _known(matrices: Iterable[NDArray[Any]]) -> NDArray[Any]:
    """All numbers of several matrices that are defined."""
    return np.concatenate([matrix[~np.isnan(matrix)] for matrix in matrices])


def _attention_hover(backbones: Sequence[str], each: AttentionMap, panel: str) -> list[list[str]]:
    return [
        [
            f"<b>{style.whole(giver)}</b> attends to <b>{style.whole(taker)}</b><br>{style.whole(panel)}: "
            f"{number_text(each.mean[a, b], 4)} ± {number_text(each.std_over_folds[a, b], 4)} std over folds"
            for b, taker in enumerate(backbones)
        ]
        for a, giver in enumerate(backbones)
    ]


def _uniformity(n_backbones: int, known: NDArray[Any]) -> str:
    """What no preference would look like, and how far from it the maps are."""
    uniform = 1.0 / n_backbones
    said = f"Rows attend to columns. Uniform attention is {uniform:.3f} everywhere"
    return f"{said}; the largest deviation here is {np.abs(known - uniform).max():.2g}" if len(known) else said
