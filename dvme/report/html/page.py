"""The frame of a page: sections in one self-contained HTML file, written whole or not at all."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from dvme.extras import needed
from dvme.files import written_aside
from dvme.json_values import as_json
from dvme.report.html.template import asset, filled, verbatim

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

EXPLORER = (
    "points.js",
    "bins.js",
    "columns.js",
    "packing.js",
    "selection.js",
    "thumbnails.js",
    "map.js",
    "explorer.js",
)
"""The scripts of the maps, in the order in which they need each other."""
NO_NETWORK = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; form-action 'none'"
)
"""The browser itself refuses to fetch anything for the page."""


@dataclass(frozen=True)
class Section:
    """One part of a page."""

    key: str
    """Its anchor."""
    name: str
    """In the navigation, and as its heading."""
    body: Markup


@dataclass
class Page:
    """What a page is made of."""

    title: str
    themes: Mapping[str, Any] = field(default_factory=dict)
    """The plotly templates `light` and `dark`, where there are figures."""
    head: Markup = field(default_factory=Markup)
    """The first screen."""
    sections: list[Section] = field(default_factory=list)
    explorer: Mapping[str, Any] | None = None
    """Data of the maps (see dvme.report.html.explorer); None: there are none."""
    figures: dict[str, Figure] = field(default_factory=dict)
    """By name; `figure` shows one."""

    def figure(self, name: str, figure: Figure, caption: str = "") -> Markup:
        """The place of a figure; the page keeps its data."""
        self.figures[name] = figure
        height = int(figure.layout.height or 450)
        label = " ".join(re.sub(r"<[^>]*>", " ", str(figure.layout.title.text or name)).split())
        return filled("figure", name=name, label=html.unescape(label), height=height, caption=caption)


def write_page(page: Page, out: Path) -> None:
    """Write the page, whole or not at all."""
    with written_aside(out) as aside:
        aside.write_text(f"{_rendered(page)}\n", encoding="utf-8", errors="replace")


def as_script(value: Any) -> str:
    """JSON that no browser takes for the end of its script element."""
    dumped = as_json(value, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        dumped = dumped.replace(character, f"\\u{ord(character):04x}")
    return dumped


def _rendered(page: Page) -> str:
    plotly = ""
    if page.figures:
        get_plotlyjs = needed("plotly.offline").get_plotlyjs

        plotly = get_plotlyjs()
    return filled(
        "page",
        page=page,
        policy=verbatim(NO_NETWORK),
        style=verbatim(asset("page.css")),
        script=verbatim(asset("page.js")),
        maps=None if page.explorer is None else _data(page.explorer),
        explorer=verbatim("".join(map(asset, EXPLORER))),
        figures={name: _data(_plain(figure)) for name, figure in page.figures.items()},
        themes=_data(page.themes),
        plotly=verbatim(plotly),
    )


def _plain(figure: Figure) -> Any:
    """A figure's data and layout without its template, which the page gives it."""
    found = json.loads(figure.to_json())
    found["layout"].pop("template", None)
    return {"data": found["data"], "layout": found["layout"]}


def _data(value: Any) -> Markup:
    return verbatim(as_script(value))
