"""Drops that are claimed together: what is said of one of K is at 95% for all K."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from dvme.stats.intervals import Comparison
from dvme.stats.multiple import ALPHA, times
from dvme.stats.unpaired import Unpaired
from dvme.study.sites.outcome import Drop

AnyDrop = TypeVar("AnyDrop", bound=Drop)
Tested = tuple[AnyDrop, Unpaired | None]
"""A drop, and what its interval comes from at any level; None where there is no drop."""


def one_family(tested: Sequence[Tested[AnyDrop]]) -> list[AnyDrop]:
    """The same drops, each with its interval and p value for all together, by Bonferroni's inequality.

    Args:
        tested: K drops; those without an interval do not count.
    """
    n = sum(not math.isnan(drop.drop.difference.low) for drop, _ in tested)
    found = []
    for drop, source in tested:
        own = drop.drop
        if source is not None and not math.isnan(own.difference.low):
            wider = source.interval(1.0 - ALPHA / n) if n > 1 else own.difference
            drop = replace(drop, together=Comparison(wider, times(own.p, n), own.statistic, own.df))  # noqa: PLW2901
        found.append(drop)
    return found
