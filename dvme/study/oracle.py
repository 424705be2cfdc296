"""AUCs that heads would reach if the images that they are least sure of went to someone who knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.metrics.referral import FRACTIONS, referred
from dvme.stats.findings import scored_findings
from dvme.stats.intervals import Interval
from dvme.study.panel import Panel
from dvme.study.reliability import UNDEFINED

Areas = tuple[tuple[Interval, ...], Interval]
"""AUC of each finding, and their mean."""


@dataclass
class Oracle:
    """Of one method on the test images."""

    test: Panel
    """What its J heads say of them."""
    _known: dict[bytes, Areas] = field(default_factory=dict)

    def areas(self, *, is_cumulative: bool) -> tuple[list[tuple[Interval, ...]], tuple[Interval, ...]]:
        """By finding, and the mean: the AUC at each of FRACTIONS; see `referred`."""
        masks = [referred(each, FRACTIONS, is_cumulative=is_cumulative) for each in self.test.probabilities]
        at_each = [self._told([mask[place] for mask in masks]) for place in range(len(FRACTIONS))]
        return list(zip(*(own for own, _ in at_each), strict=True)), tuple(mean for _, mean in at_each)

    def _told(self, images: Sequence[NDArray[np.bool_]]) -> Areas:
        """Where each head is told the truth of these J times (N,) images."""
        key = np.packbits(images).tobytes()
        if key not in self._known:
            truth, shown = self.test.truth, []
            for own, (places, highest) in zip(images, self._places, strict=True):
                ends = np.where(truth == 1.0, highest, np.int32(0))
                shown.append(np.where(own[:, None] & ~np.isnan(truth), ends, places))
            found, mean = scored_findings(truth, shown, self.test.groups)
            every = tuple(UNDEFINED if each is None else each.interval() for each in found)
            self._known[key] = every, UNDEFINED if mean is None else mean.interval()
        return self._known[key]

    @cached_property
    def _places(self) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        """(J,) of int32: (N, L) which of its finding's distinct probabilities each is, and (L,) which one 1 is; 0 is 0.

        AUCs go by the order alone. By places they are counted in linear time, see `auc_parts`, at each fraction.
        """
        found = []
        for own in self.test.probabilities:
            ends = np.repeat([[0.0], [1.0]], own.shape[1], axis=1)
            columns = np.concatenate([own, ends]).T
            places = np.stack([np.unique(p, return_inverse=True)[1].astype(np.int32) for p in columns], axis=1)
            found.append((places[:-2], places[-1]))
        return found
