"""Tables of a page, and parts of which one is shown at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from dvme.report.html.template import filled


@dataclass(frozen=True)
class Row:
    """One line: its names, its numbers, and how it stands out."""

    names: Sequence[str]
    numbers: Sequence[str]
    best: frozenset[int] = frozenset()
    """Positions of numbers that are set in bold."""
    is_first: bool = False
    """Whether a rule above it begins a group."""


def table(name_headings: Sequence[str], number_headings: Sequence[str], rows: Sequence[Row], label: str) -> Markup:
    """A table with names on the left and numbers, flushed right, beside them; it scrolls where it is too wide."""
    return filled("table", name_headings=name_headings, number_headings=number_headings, rows=rows, label=label)


def facts(values: Mapping[str, str]) -> Markup:
    """A table of names and what they are; values are code."""
    return filled("facts", facts=values)


def choice(name: str, label: str, options: Mapping[str, str]) -> Markup:
    """A selection of which of the parts of this name is shown; options: value to what it is called."""
    return filled("choice", name=name, label=label, options=options)


def part(name: str, value: str, content: Markup) -> Markup:
    """What is shown while this value is chosen."""
    return Markup('<div data-part="{}" data-value="{}">{}</div>').format(name, value, content)
