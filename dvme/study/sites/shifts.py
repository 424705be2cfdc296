"""How far apart a study's images and a site's are to a backbone, and whether its neighbours go by class or by site."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.heads.neighbours.robustness import Robustness, robustness_index
from dvme.stats.intervals import Interval
from dvme.stats.shift import discrepancy, domain_classifier
from dvme.study.design.snapshot import Snapshot
from dvme.study.design.splits import groups_to_resample
from dvme.study.sites.outcome import Shift

NAN = float("nan")
NO_CLASS = "there is no finding or class that both can judge"


@dataclass(frozen=True, eq=False)
class Located:
    """Images of one place, with what is known of their classes."""

    snapshot: Snapshot
    truth: NDArray[Any]
    """(N, L) of 1, 0 and nan, of the findings or classes that both can judge."""
    is_shared: NDArray[np.bool_]
    """(N,) whether the image is of a class that both have."""

    @property
    def groups(self) -> NDArray[Any]:
        """(N,) numbers of the patients; images, where there are no groups."""
        groups = groups_to_resample(self.snapshot.groups)
        return np.arange(len(self.snapshot)) if groups is None else np.unique(groups, return_inverse=True)[1].ravel()


def shifts(own: Located, there: Located, seed: int) -> Iterator[Shift]:
    """By backbone.

    Args:
        own: all images of the study.
        there: those of the site.
        seed: of folds, permutations and draws of images.
    """
    known = [np.flatnonzero(~np.isnan(each.truth).any(axis=1) & each.is_shared) for each in (own, there)]
    truth = np.concatenate([each.truth[rows] for each, rows in zip((own, there), known, strict=True)])
    classes = np.unique(truth, axis=0, return_inverse=True)[1].ravel() if truth.size else np.empty(0, dtype=np.int64)
    sites = np.repeat([0, 1], [len(rows) for rows in known])
    both = own.groups, there.groups
    groups = np.concatenate([both[0][known[0]], both[1][known[1]] + len(own.snapshot)])
    for backbone in own.snapshot.backbones:
        one, other = own.snapshot.read(backbone), there.snapshot.read(backbone)
        robustness = Robustness(Interval(NAN, NAN, NAN), NAN, 0, 0, 0, 0, 0, NO_CLASS)
        if truth.size:
            rows = np.concatenate([one[known[0]], other[known[1]]])
            robustness = robustness_index(rows, classes, sites, groups, seed=seed)
        classifier = domain_classifier(one, other, both, seed=seed)
        yield Shift(backbone, classifier, discrepancy(one, other, both, seed=seed), robustness)
