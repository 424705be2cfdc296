"""The area under the risk-coverage curve, with what every image contributes to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.stats.influence import Scored
from dvme.stats.shares import scored_share


def area_scored(
    losses: Sequence[NDArray[Any]], confidences: Sequence[NDArray[Any]], groups: NDArray[Any] | None = None
) -> Scored:
    """`dvme.metrics.referral.risk_coverage_area` of J heads, on other images.

    Args:
        losses: J of (N,), each in [0, 1], N at least 1.
        confidences: J of (N,).
        groups: (N,) patients; None: every image is a unit of its own.

    Source: Geifman et al. 2019, equation 2, differentiated by the weight of an image.
    """
    found = [_parts(*each) for each in zip(losses, confidences, strict=True)]
    values, parts = zip(*found, strict=True)
    return scored_share(np.array(values), np.stack(parts, axis=1), groups)


def _parts(losses: NDArray[Any], confidences: NDArray[Any]) -> tuple[float, NDArray[np.float64]]:
    """The area, and (N,) derivatives."""
    n = len(losses)
    _, place, counts = np.unique(-confidences, return_inverse=True, return_counts=True)
    kept = np.cumsum(counts)
    risk = np.cumsum(np.bincount(place, losses)) / kept  # (V,) by falling confidence
    area = float(counts @ risk) / n
    # An image moves the risk at its own confidence and below: by its loss less the risk, over the images kept there.
    by_loss, by_weight = (np.cumsum(each[::-1])[::-1] for each in (counts / kept, counts * risk / kept))
    return area, (risk[place] - area + losses * by_loss[place] - by_weight[place]) / n
