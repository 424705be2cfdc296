"""Learning curves of a sweep: the test metric over the number of training images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dvme.errors import OptionError
from dvme.extras import needed
from dvme.heads import ATTENTION_HEADS
from dvme.report.figures import style
from dvme.report.figures.given import cells_of, summary_of
from dvme.study.frozen import overtakes
from dvme.study.methods import method_name
from dvme.study.roles import Roles
from dvme.text import METRIC_NAMES, ends_text, number_text, p_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure, Scatter

    from dvme.study.outcome import Cell, Column, StudyReport
    from dvme.study.published import PublishedCell

MOST_LINES = 6
"""Lines that are told apart at a glance; of more, only the leading ones are drawn until the legend is clicked."""
RIBBON = 0.15
"""Opacity."""
STEP, ALONE = 1.03, 0.3
"""Between the points of a lone size, as a factor, and the powers of ten around it."""

_MARKED = {
    "*": "leads on validation at its size",
    "=": "not told apart from the one that leads on validation",
    "+": "better than the one that leads on validation",
    "": "worse than the one that leads on validation",
    "?": "no test could be made",
}


def learning_curve(
    results: StudyReport | str | Path,
    *,
    published: Sequence[PublishedCell] | str = (),
    metric: str | None = None,
) -> Figure:
    """The mean test metric of every method over the sizes of a sweep.

    Thick, with a ribbon: every fusion by attention, and the single backbone, the control and the fine-tuned method that
    lead on validation at the largest size. The ribbon is the 95 per cent interval over test images for the sweep's own
    metric, and mean ± std over the draws for another. A dotted line is where fine-tuning overtakes. Of more than six
    methods the others wait in the legend.

    Args:
        results: of a sweep, or the folder of its run.
        published: cells of a paper, of the metric shown, or their table such as `truong2021:aptos`; open markers with
            their std.
        metric: that the cells have; None: the sweep's own.

    Raises:
        OptionError: if the metric is unknown, or the published cells are of another.

    Example:
        >>> figure = dvme.report.learning_curve("run")
        >>> figure.layout.xaxis.type
        'log'
    """
    graph_objects = needed("plotly.graph_objects")

    results, published = summary_of(results), cells_of(published)
    wanted = metric or results.metric
    there = results.cells[0].test
    if wanted not in there:
        raise OptionError(f"metric {wanted!r} is none of this study; choose from {', '.join(there)}")
    strange = {cell.metric for cell in published} - {wanted}
    if strange:
        raise OptionError(f"the cells were published as {strange.pop()}, the figure shows {wanted}; pass metric=")
    figure = graph_objects.Figure()
    leading = _leading(results)
    for index, method in enumerate([*leading, *(each for each in results.methods if each not in leading)]):
        figure.add_traces(_method_traces(results, method, wanted, index, is_leading=index < len(leading)))
    figure.add_traces(list(_published_traces(published)))
    if wanted == results.metric:
        figure.add_traces(_crossing_trace(results))
    figure.update_xaxes(type="log", title_text="training images (log scale)", **_size_ticks(results.columns))
    figure.update_yaxes(title_text=f"test {METRIC_NAMES[wanted]}")
    has_intervals = any(not math.isnan(cell.interval.low) for cell in results.cells)
    within = "with the 95% interval over test images" if has_intervals else "of too few test images for an interval"
    spread = within if wanted == results.metric else "± std over the draws"
    if len(results.columns) == 1:
        middle = math.log10(results.columns[0].n_train)
        figure.update_xaxes(range=[middle - ALONE, middle + ALONE])
    return style.finished(
        figure,
        title=f"Test {METRIC_NAMES[wanted]} by training images",
        subtitle=f"Mean over the draws, {spread}",
        height=400,
        n_legend=len(results.methods) + len({_published_name(cell) for cell in published}),
    )


def _leading(results: StudyReport) -> list[tuple[str, tuple[str, ...]]]:
    """The fusions by attention, then the single backbone, the control and what was fine-tuned that lead at the end."""
    roles = Roles(results.methods)
    known = [cell for cell in results.rows if not math.isnan(cell.validation)]
    ranked = [results.methods.index((cell.head, cell.backbones)) for cell in known]
    leaders = [next((m for m in ranked if m in some), None) for some in (roles.singles, roles.controls, roles.tuned)]
    return [results.methods[m] for m in (*roles.attention, *leaders) if m is not None]


def _method_traces(
    results: StudyReport, method: tuple[str, tuple[str, ...]], metric: str, index: int, *, is_leading: bool
) -> list[Scatter]:
    """One line with markers, after its ribbon where it leads; a lone size has bars in place of the ribbon."""
    graph_objects = needed("plotly.graph_objects")

    color, is_hidden = style.color_of(index), not is_leading and len(results.methods) > MOST_LINES
    shared = {"legendgroup": f"method {index}", "visible": "legendonly" if is_hidden else True}
    step = STEP**index if len(results.columns) == 1 else 1.0  # lone points of several methods would hide each other
    n_train = {column.name: column.n_train for column in results.columns}
    cells = sorted(results.row(*method), key=lambda cell: n_train[cell.size])
    means = [cell.test[metric].mean for cell in cells]
    trace = graph_objects.Scatter(
        x=[n_train[cell.size] * step for cell in cells],
        y=means,
        mode="lines+markers",
        name=_method_name(*method),
        line={"color": color, "dash": style.dash_of(index), "width": 3 if is_leading else 1.25},
        marker={"color": color, "symbol": style.symbol_of(index), "size": 9 if is_leading else 6},
        hovertext=[_hover(cell, n_train[cell.size], metric, is_own=metric == results.metric) for cell in cells],
        hoverinfo="text",
        **shared,
    )
    ends = [(n_train[cell.size], *_ends(cell, metric, is_own=metric == results.metric)) for cell in cells]
    band = [each for each in ends if not math.isnan(sum(each))]
    if not is_leading or not band:
        return [trace]
    if len(cells) == 1:
        _, low, high = band[0]
        trace.error_y = {"type": "data", "array": [high - means[0]], "arrayminus": [means[0] - low]}
        return [trace]
    return [_ribbon(band, color, shared), trace]


def _crossing_trace(results: StudyReport) -> list[Scatter]:
    """Where fine-tuning overtakes the frozen method that leads, if that is within the sizes."""
    graph_objects = needed("plotly.graph_objects")

    found = None if results.findings is None else results.findings.crossing
    if found is None or found.estimate.relation != "=" or math.isnan(found.estimate.value):
        return []
    means = [cell.test[results.metric].mean for cell in results.cells]
    means = [mean for mean in means if not math.isnan(mean)]
    said = overtakes(found, "the frozen method that leads")
    return [
        graph_objects.Scatter(
            x=[found.estimate.value] * 2,
            y=[min(means), max(means)],
            mode="lines",
            name="fine-tuning overtakes",
            line={"color": style.NEUTRAL, "width": 1.5, "dash": "dot"},
            hovertext=[said] * 2,
            hoverinfo="text",
        )
    ]


def _method_name(head: str, backbones: Sequence[str]) -> str:
    """With the head, however long the backbone's name is."""
    return style.shown(method_name(head, [style.cut(name, style.LONGEST_NAME - len(head) - 3) for name in backbones]))


def _ribbon(band: Sequence[tuple[float, float, float]], color: str, shared: dict[str, Any]) -> Scatter:
    """The area between the (x, low, high)."""
    graph_objects = needed("plotly.graph_objects")

    x, low, high = zip(*band, strict=True)
    return graph_objects.Scatter(
        x=[*x, *reversed(x)],
        y=[*high, *reversed(low)],
        mode="lines",
        fill="toself",
        fillcolor=style.faded(color, RIBBON),
        line={"width": 0, "color": color},
        showlegend=False,
        hoverinfo="skip",
        **shared,
    )


def _ends(cell: Cell, metric: str, *, is_own: bool) -> tuple[float, float]:
    """Of the ribbon; nan where there are none."""
    score = cell.test[metric]
    return (cell.interval.low, cell.interval.high) if is_own else (score.mean - score.std, score.mean + score.std)


def _hover(cell: Cell, n_train: float, metric: str, *, is_own: bool) -> str:
    score = cell.test[metric]
    lines = [
        f"<b>{style.whole(cell.method)}</b>",
        f"backbones: {style.whole(', '.join(cell.backbones))}",
        f"size {style.whole(cell.size)}: {n_train:,.0f} training images",
        f"test {METRIC_NAMES[metric]} {number_text(score.mean)} ± {number_text(score.std)} std over "
        f"{len(score.folds)} draws",
    ]
    if is_own:
        ends = ends_text(cell.interval, signed=False)
        lines += [
            f"95% interval over test images {ends}" if ends else "no interval: too few test images",
            f"validation {number_text(cell.validation)}",
            _MARKED[cell.mark] + ("" if math.isnan(cell.p_adjusted) else f", p {p_text(cell.p_adjusted)}"),
        ]
    return "<br>".join(lines)


def _size_ticks(columns: Sequence[Column]) -> dict[str, Any]:
    """The sizes by name and count; sizes of the same images share a tick."""
    names: dict[float, list[str]] = {}
    for column in columns:
        names.setdefault(column.n_train, []).append(column.name)
    texts = []
    for n_train, own in names.items():
        count = f"{n_train:,.0f}"
        other = [style.shown(name, 12) for name in own if name not in {count, f"{n_train:.0f}"}]
        texts.append("<br>".join([count, *other]))
    return {"tickmode": "array", "tickvals": list(names), "ticktext": texts}


def _published_name(cell: PublishedCell) -> str:
    return cell.method if cell.setting == "dvme" else f"{cell.method}, {cell.setting}"


def _published_traces(published: Sequence[PublishedCell]) -> Iterator[Scatter]:
    """A dashed line for each published method; of more than six, the fusion and the best of each setting are drawn."""
    graph_objects = needed("plotly.graph_objects")

    lines: dict[str, list[PublishedCell]] = {}
    for cell in sorted(published, key=lambda each: each.n_train):
        lines.setdefault(_published_name(cell), []).append(cell)
    best: dict[str, tuple[float, str]] = {}
    for name, cells in lines.items():
        setting = cells[-1].setting
        best[setting] = max(best.get(setting, (-math.inf, "")), (cells[-1].mean, name))
    few = {name for _, name in best.values()} | {name for name in lines if name in ATTENTION_HEADS}
    drawn = set(lines) if len(lines) <= MOST_LINES else few
    for index, (name, cells) in enumerate(lines.items()):
        yield graph_objects.Scatter(
            x=[cell.n_train for cell in cells],
            y=[cell.mean for cell in cells],
            error_y={
                "type": "data",
                "array": [0.0 if math.isnan(cell.std) else cell.std for cell in cells],
                "color": style.NEUTRAL,
                "thickness": 1,
            },
            mode="lines+markers",
            name=f"published: {style.shown(name)}",
            visible=True if name in drawn else "legendonly",
            line={"color": style.NEUTRAL, "width": 1.5, "dash": style.DASHES[1 + index % (len(style.DASHES) - 1)]},
            marker={"color": style.NEUTRAL, "size": 8, "symbol": f"{style.symbol_of(index)}-open"},
            hovertext=[_published_hover(name, cell) for cell in cells],
            hoverinfo="text",
        )


def _published_hover(name: str, cell: PublishedCell) -> str:
    lines = [
        f"<b>published: {style.whole(name)}</b>",
        f"table {style.whole(cell.table)}, {cell.n_train:,} training images",
        f"{METRIC_NAMES[cell.metric]} {number_text(cell.mean, 4)} ± {number_text(cell.std, 4)} std over folds",
    ]
    return "<br>".join([*lines, *([f"doubtful: {style.whole(cell.doubt)}"] if cell.doubt else [])])
