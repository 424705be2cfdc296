"""What every figure looks like: colours that the colour-blind can tell apart, shapes, and two themes.

A figure holds its data and no colour of the page: text, grid and background come from a template, so that a page can
show the same figure in light and in dark. Figures do not know how wide they will be shown: legends lie below the
panels, and headings and names are broken into lines that fit a telephone.
"""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8C7A00", "#7A5195")
"""The first six are of Okabe and Ito 2008; their yellow and black, which vanish on white or on black, are replaced."""
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x", "star", "triangle-down")
"""In the order of the classes: where there are few, no two share a colour or a shape."""
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
NEUTRAL = "#8A8A8A"
"""What has no class or no part in a comparison."""
SEQUENTIAL = "Cividis"
"""Colour scale of matrices: perceptually even, and alike for the common colour-vision deficiencies."""
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
LONGEST_NAME = 40
"""Characters of a name in a figure; the whole name is in what hovers."""
LINE, MOST_LINES = 16, 2
"""Characters and lines of a name along an axis."""
TITLE_LINE, NOTE_LINE = 42, 54
"""Characters of a heading that fit 380 pixels."""


def template(*, is_dark: bool = False) -> dict[str, Any]:
    """A plotly template."""
    text, grid, line = ("#E6E6E6", "#3A3F47", "#6B7280") if is_dark else ("#1F2933", "#E3E6EA", "#9AA3AF")
    clear = "rgba(0,0,0,0)"
    axis = {
        "gridcolor": grid,
        "linecolor": line,
        "zeroline": False,  # where 0 is what matters, the figure turns it on
        "zerolinecolor": text,
        "zerolinewidth": 1.5,
        "ticks": "outside",
        "tickcolor": line,
        "tickfont": {"size": 12},
        "automargin": True,
        "title": {"standoff": 8, "font": {"size": 13}},
    }
    layout = {
        "font": {"family": FONT, "size": 13, "color": text},
        "paper_bgcolor": clear,
        "plot_bgcolor": clear,
        "colorway": list(PALETTE),
        "xaxis": axis,
        "yaxis": axis,
        "coloraxis": {"colorbar": {"outlinewidth": 0, "tickcolor": line, "ticks": "outside", "tickfont": {"size": 12}}},
        "margin": {"l": 56, "r": 16, "t": 48, "b": 48},
        "legend": {"bgcolor": clear},
        "modebar": {"bgcolor": clear, "color": line, "activecolor": text},
        "hoverlabel": {"font": {"size": 13, "family": FONT}, "align": "left"},
        "title": {"x": 0.0, "xanchor": "left", "font": {"size": 15}, "subtitle": {"font": {"size": 12}}},
    }
    return {"layout": layout}


def finished(
    figure: Figure, *, title: str, height: int, subtitle: str = "", n_legend: int = 0, panel_lines: int = 0
) -> Figure:
    """Give a figure its headings, its legend below, its height, and the light template.

    Args:
        figure: changed in place.
        title: plain text; what is shown.
        height: of the panels with their axes, in pixels; headings and legend are added to it.
        subtitle: plain text.
        n_legend: names in the legend.
        panel_lines: lines above each panel, as `make_subplots` puts them there.

    Returns:
        The same figure.
    """
    heading, note = textwrap.wrap(title, TITLE_LINE), textwrap.wrap(subtitle, NOTE_LINE)
    top = 24 + 20 * len(heading) + 16 * len(note) + 17 * panel_lines
    # On a telephone a row holds one name, on a screen four or more; past twelve rows the legend scrolls.
    bottom = 24 * min(12, math.ceil(n_legend / 1.5)) if n_legend else 0
    whole_height = height + top + bottom
    figure.update_layout(
        template=template(),
        height=whole_height,
        margin={"t": top},
        title={
            "text": "<br>".join(map(_escaped, heading)),
            "subtitle": {"text": "<br>".join(map(_escaped, note))},
            "xref": "container",
            "yref": "container",
            "y": 1.0,
            "yanchor": "top",
            "pad": {"t": 10 + 20 * (len(heading) - 1), "l": 8},  # plotly places the last line
        },
        legend={
            "orientation": "h",
            "yref": "container",
            "y": 0.0,
            "yanchor": "bottom",
            "x": 0.0,
            "maxheight": max(60, bottom) / whole_height,
        },
    )
    return figure


def share_colors(figure: Figure, low: float, high: float, **more: Any) -> None:
    """One colour scale for all panels, its bar below them; more: of the bar."""
    bar = {
        "orientation": "h",
        "yref": "container",
        "y": 0.0,
        "yanchor": "bottom",
        "thickness": 12,
        "nticks": 5,
        "exponentformat": "none",
    } | more
    figure.update_layout(coloraxis={"colorscale": SEQUENTIAL, "cmin": low, "cmax": high, "colorbar": bar})


def color_of(index: int) -> str:
    """The colour of a class or method by its position."""
    return PALETTE[index % len(PALETTE)]


def symbol_of(index: int) -> str:
    """The shape of a class by its position; with the colour, 64 classes differ."""
    return SYMBOLS[(index + index // len(PALETTE)) % len(SYMBOLS)]


def dash_of(index: int) -> str:
    """The dash of a line by its position."""
    return DASHES[(index // len(PALETTE)) % len(DASHES)]


def faded(color: str, opacity: float) -> str:
    """A `#rrggbb` colour that lets through what is below it, 0 <= opacity <= 1."""
    red, green, blue = (int(color[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def cut(name: object, at_most: int = LONGEST_NAME) -> str:
    """A name on one line, cut where it is long; plain text, for `finished`."""
    text = " ".join(str(name).split())
    return text if len(text) <= at_most else f"{text[: at_most - 1]}…"


def shown(name: object, at_most: int = LONGEST_NAME) -> str:
    """A name as plotly and HTML show it: text, never markup, and cut where it is long."""
    return _escaped(cut(name, at_most))


def whole(name: object) -> str:
    """A name for what hovers: text, never markup, and all of it."""
    return "<br>".join(map(_escaped, textwrap.wrap(str(name), 80)))


def wrapped(name: object, width: int = LINE) -> str:
    """As `shown`, on at most two lines."""
    text = cut(name)
    lines = textwrap.wrap(text, width)
    if len(lines) > MOST_LINES:
        lines = [lines[0], cut(text[len(lines[0]) :].strip(), width)]
    return "<br>".join(map(_escaped, lines))


def name_ticks(names: Sequence[str], *, at_most: int = 30) -> dict[str, Any]:
    """Ticks of an axis whose positions 0, 1, ... are names; of many names every n-th."""
    step = max(1, math.ceil(len(names) / at_most))
    positions = list(range(0, len(names), step))
    is_crowded = len(names) > at_most // 2
    texts = [shown(names[place], LINE) if is_crowded else wrapped(names[place]) for place in positions]
    return {"tickmode": "array", "tickvals": positions, "ticktext": texts}


def _escaped(text: str) -> str:
    """Plotly knows few entities by name, and `&quot;` is none of them; browsers know both forms."""
    return html.escape(text).replace("&quot;", "&#34;")
