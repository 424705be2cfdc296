"""The frame of a page: sections in one self-contained HTML file, written whole or not at all."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dvme.extras import needed
from dvme.files import written_aside
from dvme.json_values import as_json

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

EXPLORER = ("points.js", "columns.js", "thumbnails.js", "map.js", "explorer.js")
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
    body: str
    """HTML."""


@dataclass
class Page:
    """What a page is made of."""

    title: str
    themes: Mapping[str, Any] = field(default_factory=dict)
    """The plotly templates `light` and `dark`, where there are figures."""
    head: str = ""
    """HTML of the first screen."""
    sections: list[Section] = field(default_factory=list)
    explorer: Mapping[str, Any] | None = None
    """Data of the maps (see dvme.report.html.explorer); None: there are none."""
    figures: dict[str, Figure] = field(default_factory=dict)
    """By name; `figure` shows one."""

    def figure(self, name: str, figure: Figure, caption: str = "") -> str:
        """HTML of a figure; the page keeps its data."""
        self.figures[name] = figure
        height = int(figure.layout.height or 450)
        label = " ".join(re.sub(r"<[^>]*>", " ", str(figure.layout.title.text or name)).split())
        said = f"<figcaption>{caption}</figcaption>" if caption else ""
        return (
            f'<figure><div class="plot" role="img" aria-label="{text(html.unescape(label))}" '
            f'data-figure="figure-{name}" data-name="{name}" style="height:{height}px"></div>{said}</figure>'
        )


def text(value: object) -> str:
    """A value as text of HTML, never as markup."""
    return html.escape(str(value), quote=True)


def write_page(page: Page, out: Path) -> None:
    """Write the page, whole or not at all."""
    with written_aside(out) as aside:
        aside.write_text(_rendered(page), encoding="utf-8", errors="replace")


def as_script(value: Any) -> str:
    """JSON that no browser takes for the end of its script element."""
    dumped = as_json(value, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        dumped = dumped.replace(character, f"\\u{ord(character):04x}")
    return dumped


def asset(name: str) -> str:
    """A file of the page that is the same in all."""
    return (files("dvme.report.html") / "assets" / name).read_text(encoding="utf-8")


def _rendered(page: Page) -> str:
    links = "".join(f'<a href="#{each.key}">{text(each.name)}</a>' for each in page.sections)
    sections = "".join(
        f'<section id="{each.key}" aria-labelledby="{each.key}-title">'
        f'<h2 id="{each.key}-title">{text(each.name)}</h2>{each.body}</section>'
        for each in page.sections
    )
    return "".join(
        [
            f'<!doctype html>\n<html lang="en" data-theme="light"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{NO_NETWORK}">'
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{text(page.title)}</title>'
            f"<style>{asset('page.css')}</style>",
            # Before anything is shown, so that a dark page does not flash.
            "<script>if(matchMedia('(prefers-color-scheme: dark)').matches)"
            "document.documentElement.dataset.theme='dark'</script></head><body>",
            f'<div class="bar"><div><nav aria-label="Sections">{links}</nav>'
            '<button type="button" data-control="theme">Dark</button></div></div>',
            f"<main>{page.head}{sections}</main>",
            *_scripts(page),
            "</body></html>\n",
        ]
    )


def _scripts(page: Page) -> Sequence[str]:
    """Maps first, for they answer at once; plotly.js, the largest part, last."""
    parts = [f"<script>{asset('page.js')}</script>"]
    if page.explorer is not None:
        parts += [_data("explorer-data", as_script(page.explorer))]
        parts += [f"<script>{''.join(asset(name) for name in EXPLORER)}</script>"]
    if page.figures:
        get_plotlyjs = needed("plotly.offline").get_plotlyjs

        parts += [_data(f"figure-{name}", as_script(_plain(figure))) for name, figure in page.figures.items()]
        parts += [f"<script>window.dvme={{templates:{as_script(page.themes)}}}</script>"]
        parts += [f"<script>{get_plotlyjs()}</script><script>startFigures()</script>"]
    return parts


def _plain(figure: Figure) -> Any:
    """A figure's data and layout without its template, which the page gives it."""
    found = json.loads(figure.to_json())
    found["layout"].pop("template", None)
    return {"data": found["data"], "layout": found["layout"]}


def _data(key: str, content: str) -> str:
    return f'<script type="application/json" id="{key}">{content}</script>'
