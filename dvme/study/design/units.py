"""What is independent on a test set, and how few of it there may be."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from numpy.typing import NDArray

from dvme.notices import Aside
from dvme.stats.influence import FEWEST
from dvme.stats.units import Units
from dvme.study.design.splits import groups_to_resample
from dvme.text import counted, first_few

FEW = 10
"""Test images or groups of a class below which a study says so."""


def units_of_test(labels: NDArray[Any], groups: NDArray[Any], classes: Sequence[str]) -> tuple[Units, str]:
    """What is independent on the test set, images or whole groups where there are any, and the line that says so.

    Args:
        labels: (N,) class indices of the test images.
        groups: (N,) their groups, "" for none.
        classes: names.
    """
    units = Units(labels, groups_to_resample(groups))
    what = "image" if units.groups is None else "group"
    most = FEWEST if units.fewest < FEWEST else FEW
    rare = [(name, int(n)) for name, n in zip(classes, units.counts, strict=False) if 0 < n < most]
    named = first_few((f"{name!r} has {counted(n, f'test {what}')}" for name, n in sorted(rare, key=itemgetter(1))), 3)
    line = f"95% CI: over {counted(units.n, f'test {what}')}"
    if units.fewest < FEWEST:
        return units, f"no interval and no verdict: {named}, and it takes {FEWEST} of every class"
    return units, f"{line}; few of a class: {named}, so differences hardly show" if rare else Aside(line)
