"""Subgroups of images by what a column says of them: its values, or its numbers between edges."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from dvme.data import MISSING
from dvme.data.natural import natural_key
from dvme.data.spelling import NUMBER
from dvme.errors import OptionError, parameter
from dvme.text import EXAMPLES, counted, some_of

NUMBERS = re.compile(r"-?\d+(\.\d+)?(--?\d+(\.\d+)?)*")
"""Edges: 0-40-60-120; -10-0-10 begins below 0."""
MOST = 20
"""Values of a column without edges: there is a gap between any two."""


class Divided(NamedTuple):
    """Images by subgroup."""

    members: Mapping[str, NDArray[np.bool_]]
    """Name to (N,) which images are in it; no image is in two."""
    left_out: tuple[str, ...]
    """Which images are in none, a line for each reason."""


@dataclass(frozen=True)
class Divider:
    """A column, and where its numbers are cut."""

    column: str
    edges: tuple[float, ...] = ()
    """Ascending. Each subgroup begins with its lower edge and ends before its upper one, but for the last, which has
    its upper edge too; () takes the values as they are."""

    @classmethod
    def of(cls, text: str) -> Self:
        """From `sex`, or `age:0-40-60-120`.

        Raises:
            OptionError: if the edges do not ascend, or are fewer than two.
        """
        column, colon, cuts = text.rpartition(":")
        if not colon or not NUMBERS.fullmatch(cuts.strip()):
            return cls(text.strip())
        edges = tuple(float(each) for each in re.split(r"(?<=\d)-", cuts.strip()))
        if len(edges) < 2 or not all(low < high for low, high in pairwise(edges)):
            raise OptionError(
                f"edges {cuts.strip()} do not ascend; "
                + parameter("by", [f"{column.strip()}:0-40-60-120"])
                + " makes [0, 40), [40, 60) and [60, 120]"
            )
        return cls(column.strip(), edges)

    def divide(self, values: NDArray[Any]) -> Divided:
        """The subgroups of N images.

        Args:
            values: (N,) text; "" is missing.

        Raises:
            OptionError: if there are too many values, and no edges.
        """
        is_missing = values == MISSING
        left_out = [f"{counted(int(is_missing.sum()), 'test image')} without {self.column}"] if is_missing.any() else []
        if self.edges:
            members, further = self._cut(values, ~is_missing)
            return Divided(members, (*left_out, *further))
        names = _distinct(values[~is_missing])
        if len(names) > MOST:
            raise OptionError(
                f"{self.column} has {len(names):,} values, more than the {MOST} subgroups that are possible; cut "
                "numbers at edges with " + parameter("by", [f"{self.column}:0-40-60-120"])
            )
        return Divided({name: values == name for name in names}, tuple(left_out))

    def _cut(self, values: NDArray[Any], is_there: NDArray[np.bool_]) -> tuple[dict[str, NDArray[np.bool_]], list[str]]:
        is_number = np.array([bool(NUMBER.fullmatch(value)) for value in values.tolist()], dtype=bool)
        numbers = np.full(len(values), np.nan)
        numbers[is_number] = values[is_number].astype(np.float64)
        members, last = dict[str, NDArray[np.bool_]](), len(self.edges) - 2
        for place, (low, high) in enumerate(pairwise(self.edges)):
            is_below = numbers <= high if place == last else numbers < high
            members[f"[{low:g}, {high:g}{']' if place == last else ')'}"] = (numbers >= low) & is_below
        is_odd, lines = is_there & ~is_number, []
        is_outside = is_number & ~np.any([*members.values()], axis=0)
        if is_odd.any():
            shown = some_of(_distinct(values[is_odd]), EXAMPLES)
            lines.append(f"{counted(int(is_odd.sum()), 'test image')} whose {self.column} is no number: {shown}")
        if is_outside.any():
            far = sorted(_distinct(values[is_outside]), key=float)
            outside = f"outside of {self.edges[0]:g} to {self.edges[-1]:g}: {some_of(far, EXAMPLES)}"
            lines.append(f"{counted(int(is_outside.sum()), 'test image')} whose {self.column} is {outside}")
        return members, lines


def _distinct(values: NDArray[Any]) -> list[str]:
    """In natural order."""
    found: set[str] = set(values.tolist())
    return sorted(found, key=natural_key)
