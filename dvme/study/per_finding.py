"""What a mean over findings hides: each finding by itself."""

from __future__ import annotations

import numpy as np

from dvme.metrics.ranking import Areas, areas
from dvme.stats.findings import scored_findings
from dvme.stats.influence import FEWEST
from dvme.stats.intervals import Interval
from dvme.study.outcome import FindingScore
from dvme.study.panel import Panel


def findings_of(method: str, panel: Panel) -> list[FindingScore]:
    """Every finding by one method, those that cannot be judged as well, with the reason.

    Args:
        method: what it is called.
        panel: what its heads say of the test images.
    """
    truth, folds, groups = panel.truth, panel.odds, panel.groups
    judged, _ = scored_findings(truth, folds, groups)
    every = [areas(truth, fold) for fold in folds]
    aucs, precisions = (np.mean([getattr(each, name) for each in every], axis=0) for name in Areas._fields)
    units = np.arange(len(truth)) if groups is None else groups
    what = "images" if groups is None else "groups"
    found = []
    for label, (name, own) in enumerate(zip(panel.names, judged, strict=True)):
        column = truth[:, label]
        n_with, n_without = (len(np.unique(units[column == side])) for side in (1.0, 0.0))
        nan = float("nan")
        found.append(
            FindingScore(
                method=method,
                finding=name,
                n_known=int((~np.isnan(column)).sum()),
                n_positive=int((column == 1.0).sum()),
                auc=Interval(float(aucs[label]), nan, nan) if own is None else own.interval(),
                average_precision=float(precisions[label]),
                why_not=f"{n_with} test {what} with it, {n_without} without: it takes {FEWEST}" if own is None else "",
            )
        )
    return found
