"""Tables of a page. Whatever comes in is text; only what is marked as HTML already is taken for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dvme.report.html.page import text


@dataclass(frozen=True)
class Row:
    """One line: its names, its numbers, and how it stands out."""

    names: Sequence[str]
    numbers: Sequence[str]
    best: frozenset[int] = frozenset()
    """Positions of numbers that are set in bold."""
    is_first: bool = False
    """Whether a rule above it begins a group."""


def table(name_headings: Sequence[str], number_headings: Sequence[str], rows: Sequence[Row], label: str) -> str:
    """A table with names on the left and numbers, flushed right, beside them; it scrolls where it is too wide."""
    heading = "".join(f'<th scope="col">{text(each)}</th>' for each in name_headings)
    heading += "".join(f'<th scope="col" class="number">{text(each)}</th>' for each in number_headings)
    body = "".join(_row(row) for row in rows)
    return scrolling(f"<table><thead><tr>{heading}</tr></thead><tbody>{body}</tbody></table>", label)


def facts(values: Mapping[str, str]) -> str:
    """A table of names and what they are; values are code."""
    rows = "".join(
        f'<tr><th scope="row">{text(name)}</th><td><code>{text(value)}</code></td></tr>'
        for name, value in values.items()
    )
    return scrolling(f"<table><tbody>{rows}</tbody></table>", "Provenance")


def scrolling(content: str, label: str) -> str:
    """A part that scrolls by itself, also by the keyboard."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{text(label)}">{content}</div>'


def choice(name: str, label: str, options: Mapping[str, str]) -> str:
    """A selection of which of the parts of this name is shown; options: value to what it is called."""
    entries = "".join(f'<option value="{text(value)}">{text(shown)}</option>' for value, shown in options.items())
    return f'<p><label>{text(label)} <select data-choice="{name}">{entries}</select></label></p>'


def part(name: str, value: str, content: str) -> str:
    """What is shown while this value is chosen."""
    return f'<div data-part="{name}" data-value="{text(value)}">{content}</div>'


def _row(row: Row) -> str:
    names = "".join(f'<td class="name">{text(each)}</td>' for each in row.names)
    kinds = ["number best" if place in row.best else "number" for place in range(len(row.numbers))]
    numbers = "".join(f'<td class="{kind}">{text(each)}</td>' for kind, each in zip(kinds, row.numbers, strict=True))
    kind = "group" if row.is_first else "plain"
    return f"<tr class='{kind}'>{names}{numbers}</tr>"
