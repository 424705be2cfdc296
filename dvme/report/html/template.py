"""HTML from templates: whatever is put into one becomes text, unless its type says that it is HTML."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

BETWEEN, WITHIN = re.compile(r"(?<=[>}])\n *(?=[<{])"), re.compile(r"\n *")
"""Breaks of a template's lines between tags, which are none of the page, and within a sentence, which are blanks."""


def asset(name: str) -> str:
    """A file of the page that is the same in all."""
    return (files("dvme.report.html") / "assets" / name).read_text(encoding="utf-8")


def filled(template: str, **values: object) -> Markup:
    """A template with values in it.

    Args:
        template: a file of `assets`, without `.html`.
        values: what its names stand for; a Markup is HTML, anything else becomes text.
    """
    return verbatim(_TEMPLATES.get_template(template).render(values))


def verbatim(content: str) -> Markup:
    """What is HTML, a script or a style already."""
    return Markup(content)  # noqa: S704 - this is the place for it


def paragraph(said: object) -> Markup:
    """A paragraph of text, or of HTML."""
    return Markup("<p>{}</p>").format(said)


def soft(said: object) -> Markup:
    """A paragraph that stands back."""
    return Markup('<p class="soft">{}</p>').format(said)


def heading(said: object) -> Markup:
    """A heading within a section."""
    return Markup("<h3>{}</h3>").format(said)


def side_by_side(parts: Iterable[Markup]) -> Markup:
    """Figures in two columns, where there is room."""
    return Markup('<div class="two">{}</div>').format(Markup("").join(parts))


def folded(summary: object, *content: Markup) -> Markup:
    """What is there for who unfolds it."""
    return Markup("<details><summary>{}</summary>{}</details>").format(summary, Markup("").join(content))


def _source(name: str) -> str:
    return WITHIN.sub(" ", BETWEEN.sub("", asset(f"{name}.html").strip()))


_TEMPLATES = Environment(loader=FunctionLoader(_source), autoescape=True, undefined=StrictUndefined)
