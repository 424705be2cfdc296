"""What is independent on a test set, and how few of it there may be."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError
from dvme.notices import Aside
from dvme.stats.findings import can_be_judged
from dvme.stats.influence import FEWEST
from dvme.stats.units import Units
from dvme.study.design.splits import groups_to_resample
from dvme.text import counted, first_few, some_of

FEW = 10
"""Test images or groups of a class, or with masks, below which a study says so."""


def units_of_test(labels: NDArray[Any], groups: NDArray[Any], classes: Sequence[str]) -> tuple[Units, str]:
    """What is independent on the test set, images or whole groups where there are any, and the line that says so.

    Args:
        labels: (N,) class indices of the test images, (N, L) findings, or (N, L, 1) of a segmentation.
        groups: (N,) their groups, "" for none.
        classes: names.
    """
    if labels.ndim == 3:
        return _units_of_masks(len(labels), groups)
    if labels.ndim == 2:
        return _units_of_findings(labels, groups, classes)
    units = Units(labels, groups_to_resample(groups))
    what = "image" if units.groups is None else "group"
    most = FEWEST if units.fewest < FEWEST else FEW
    rare = [(name, int(n)) for name, n in zip(classes, units.counts, strict=False) if 0 < n < most]
    named = first_few((f"{name!r} has {counted(n, f'test {what}')}" for name, n in sorted(rare, key=itemgetter(1))), 3)
    line = f"95% CI: over {counted(units.n, f'test {what}')}"
    if units.fewest < FEWEST:
        return units, f"no interval and no verdict: {named}, and it takes {FEWEST} of every class"
    return units, f"{line}; few of a class: {named}, so differences hardly show" if rare else Aside(line)


def _units_of_masks(n_images: int, groups: NDArray[Any]) -> tuple[Units, str]:
    """Of images whose pixels are counted: the units are of one class."""
    units = Units(np.zeros(n_images, dtype=np.int64), groups_to_resample(groups))
    what = "image" if units.groups is None else "group"
    if units.n < FEWEST:
        return units, f"no interval and no verdict: {counted(units.n, f'test {what}')}, and it takes {FEWEST}"
    line = f"95% CI: over {counted(units.n, f'test {what}')}"
    return units, f"{line}; so few that differences hardly show" if units.n < FEW else Aside(line)


def _units_of_findings(truth: NDArray[Any], groups: NDArray[Any], names: Sequence[str]) -> tuple[Units, str]:
    """Of images that may have several findings: the units are of one class, see `dvme.stats.findings`.

    Raises:
        DataError: if no finding can be judged.
    """
    units = Units(np.zeros(len(truth), dtype=np.int64), groups_to_resample(groups))
    what = "image" if units.groups is None else "group"
    is_judged = can_be_judged(truth, units.groups)
    rule = f"it takes {FEWEST} test {what}s with a finding and {FEWEST} without"
    if not is_judged.any():
        raise DataError(f"none of {len(names)} findings can be judged: {rule}; hold out more images")
    line = f"95% CI: over {counted(units.n, f'test {what}')}"
    left = [name for name, judged in zip(names, is_judged, strict=True) if not judged]
    if not left:
        return units, Aside(f"{line}; means are over all {len(names)} findings")
    which = f"means are over {int(is_judged.sum())} of {len(names)} findings, without {some_of(left)}"
    return units, f"{line}; {which}: {rule}"
