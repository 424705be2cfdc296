"""How a message of one line counts things, and names the first few of many."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

CHARACTERS_SHOWN = 200
EXAMPLES, CHOICES = 3, 20
"""How many of a fault's places are named, and how many of the things to choose from."""


def counted(count: int, noun: str, plural: str = "") -> str:
    """`1 image`, `1,200 images`; with a plural where an s is not enough: `1 entry`, `2 entries`."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def first_few(values: Iterable[object], at_most: int = EXAMPLES) -> str:
    """`a, b, c, ...`: the first ones, each cut at 200 characters, on one line."""
    found = [" ".join(str(value).split())[:CHARACTERS_SHOWN] for value in islice(values, at_most + 1)]
    return ", ".join(found[:at_most]) + (", ..." if len(found) > at_most else "")
