"""What is gained where the images that a method is least sure of go to someone who knows: oracle AUC, risk-coverage.

Three measures in the literature are called oracle AUC. Here each has a name of its own, and their values differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError, OptionError
from dvme.metrics.labelled import Labelled
from dvme.metrics.ranking import Ranking
from dvme.metrics.weighting import Weighting, blocks, gathering, ratio

FRACTIONS = (0.0, 0.05, 0.10, 0.15, 0.20, 0.25)
"""Of the images that are referred, in Krones et al. 2026."""
ROUNDING = 1e-9
"""Of a count: 0.29 of 100 are 29, which floats fall short of."""


def image_confidence(probabilities: NDArray[Any]) -> NDArray[np.float64]:
    """(N,) mean over its labels of |p - 0.5|, from 0 to 0.5, for (N, L) probabilities."""
    confidence: NDArray[np.float64] = np.abs(np.asarray(probabilities, dtype=np.float64) - 0.5).mean(axis=1)
    return confidence


def oracle_auc(
    truth: NDArray[Any],
    probabilities: NDArray[Any],
    weights: NDArray[Any] | None = None,
    *,
    fractions: tuple[float, ...] = FRACTIONS,
) -> NDArray[np.float64]:
    """AUC of each label after the least confident images got their true labels in place of their probabilities.

    Of N images the floor(N t) least confident by `image_confidence` are referred, whole; of equally confident ones
    those that come first. Of weighted images that is the weight, and the last one may be referred in part.

    Args:
        truth: (N, L) 1, 0, or nan for unknown.
        probabilities: (N, L).
        weights: (N,), or (R, N) for many weightings at once; None: all 1.
        fractions: T, of images that are referred.

    Returns:
        (T, L), or (R, T, L) for many weightings; nan without positives or without negatives.

    Raises:
        OptionError: if a fraction is not within [0, 1].
        DataError: as `Labelled.of`.

    Source: Krones et al. 2026, as its text defines it; its tables are `cumulative_oracle_auc`.
    """
    return _oracle_auc(truth, probabilities, weights, fractions, is_cumulative=False)


def cumulative_oracle_auc(
    truth: NDArray[Any],
    probabilities: NDArray[Any],
    weights: NDArray[Any] | None = None,
    *,
    fractions: tuple[float, ...] = FRACTIONS,
) -> NDArray[np.float64]:
    """As `oracle_auc`, but each fraction is referred on top of those before it, as the published tables have it.

    With the default fractions 0, 5, 15, 30, 50 and 75 per cent are referred, less what rounding leaves. It is for
    comparison with these tables only. Their mean over labels drops labels without positives.

    Source: Krones et al. 2026, table 8, by the code that computed it.
    """
    return _oracle_auc(truth, probabilities, weights, fractions, is_cumulative=True)


def referred(
    probabilities: NDArray[Any], fractions: tuple[float, ...] = FRACTIONS, *, is_cumulative: bool = False
) -> NDArray[np.bool_]:
    """(T, N) which images `oracle_auc`, or `cumulative_oracle_auc`, refers at each fraction where all weigh the same.

    Args:
        probabilities: (N, L).
        fractions: T.
        is_cumulative: each on top of those before it.

    Raises:
        OptionError: if a fraction is not within [0, 1].
    """
    _check_fractions(fractions)
    confidence = image_confidence(probabilities)
    rank = np.empty(len(confidence), dtype=np.intp)
    rank[np.argsort(confidence, kind="stable")] = np.arange(len(confidence))
    limits = np.floor(len(confidence) * np.asarray(fractions) + ROUNDING)
    found: NDArray[np.bool_] = rank < (np.cumsum(limits) if is_cumulative else limits)[:, None]
    return found


def collaborative_auc(
    truth: NDArray[Any],
    probabilities: NDArray[Any],
    fraction: float,
    weights: NDArray[Any] | None = None,
    *,
    n_thresholds: int = 200,
    n_bins: int = 1000,
) -> NDArray[np.float64]:
    """AUC of each label where at every threshold the probabilities nearest to it are decided by someone who knows.

    At each of evenly spaced thresholds a share `fraction` of the images, rounded down, is decided rightly: those whose
    distance from the threshold is in the lowest bins, and of the last bin an equal part of each. The area is that of
    straight lines between the thresholds.

    Args:
        truth: (N, L) 1, 0, or nan for unknown.
        probabilities: (N, L).
        fraction: in [0, 1].
        weights: (N,); None: all 1.
        n_thresholds: from 0 to 1; the first and the last call all images positive, and none, and refer nothing.
        n_bins: of distances, from 0 to 1.

    Returns:
        (L,); nan without positives or without negatives.

    Raises:
        OptionError: if the fraction is not within [0, 1].
        DataError: as `Labelled.of`, or of several weightings.

    Source: Kivlichan et al. 2021, section 3.2, used in Plex (Tran et al. 2022).
    """
    _check_fractions((fraction,))
    given = Labelled.of(truth, probabilities, weights, are_probabilities=True)
    if not given.weighting.is_one:
        raise DataError("this area is of one weighting; pass weights (N,)")
    found = np.full(given.scores.shape[1], np.nan)
    for label in range(len(found)):
        rows = given.is_known[:, label]
        p, is_positive, weight = (
            given.scores[rows, label],
            given.is_positive[rows, label],
            given.weighting.rows[0][rows],
        )
        yeses = [weight]
        for threshold in np.arange(1, n_thresholds - 1) / (n_thresholds - 1):
            place = np.minimum((np.abs(p - threshold) * n_bins).astype(np.intp), n_bins - 1)
            in_bin = np.bincount(place, weight, minlength=n_bins)
            limit = np.floor(weight.sum() * fraction + ROUNDING)
            referred = np.clip(ratio(limit - np.cumsum(in_bin) + in_bin, in_bin), 0.0, 1.0)[place]
            yeses.append(
                weight * np.where(weight > 0, referred * is_positive + (1.0 - referred) * (p > threshold), 0.0)
            )
        chosen = np.stack([*yeses, np.zeros_like(weight)])
        true = ratio(chosen @ is_positive, (weight @ is_positive)[None])
        false = ratio(chosen @ ~is_positive, (weight @ ~is_positive)[None])
        found[label] = float(np.trapezoid(true[::-1], false[::-1]))
    return found


@dataclass(frozen=True)
class RiskCoverage:
    """What is lost on the images that are kept, by how many are kept."""

    coverage: NDArray[np.float64]
    """(K,) share of the images that are at least so confident, rising to 1; one point for each distinct confidence."""
    risk: NDArray[np.float64]
    """(K,) their mean loss."""
    area: float
    """As `risk_coverage_area`."""


def risk_coverage(losses: NDArray[Any], confidences: NDArray[Any], weights: NDArray[Any] | None = None) -> RiskCoverage:
    """The curve of one loss, such as 1 for a wrong decision and 0 for a right one.

    Args:
        losses: (N,), nan where unknown: that image takes no part.
        confidences: (N,) by which images are kept; equally confident ones are kept or referred together.
        weights: (N,); None: all 1.

    Raises:
        DataError: if shapes do not fit, a confidence is nan, or a weight is negative.

    Source: El-Yaniv and Wiener 2010; Geifman and El-Yaniv 2017.
    """
    lost, confident, weighting = _checked(losses, confidences, weights)
    if not weighting.is_one:
        raise DataError("a curve is of one weighting; pass weights (N,), or ask for the area")
    kept, loss = (each[:, 0] for each in _by_confidence(lost[:, 0], confident[:, 0], weighting.rows.T))
    is_there = kept > 0
    coverage, total = np.cumsum(kept[is_there]), np.cumsum(loss[is_there])
    area = float(risk_coverage_area(losses, confidences, weights))
    return RiskCoverage(coverage / coverage[-1] if len(coverage) else coverage, total / coverage, area)


def risk_coverage_area(
    losses: NDArray[Any], confidences: NDArray[Any], weights: NDArray[Any] | None = None
) -> NDArray[np.float64]:
    """Area under the risk-coverage curve: mean over the images of the risk at the coverage that keeps just that image.

    Args:
        losses: (N,), or (N, L) for several labels; nan where unknown: that cell takes no part.
        confidences: of the same shape.
        weights: (N,), or (R, N) for many weightings at once; None: all 1.

    Returns:
        () or (L,), or with R before them for many weightings; lower is better, nan without known cells.

    Raises:
        DataError: as `risk_coverage`.

    Source: Geifman et al. 2019, equation 2; equal confidences share the risk of all of them.
    """
    lost, confident, weighting = _checked(losses, confidences, weights)
    found = np.empty((len(weighting.rows), lost.shape[1]))
    for label in range(lost.shape[1]):
        for rows, block in blocks(weighting.rows, 2):
            kept, loss = _by_confidence(lost[:, label], confident[:, label], block.T)
            coverage = np.cumsum(kept, axis=0)
            risk = np.divide(np.cumsum(loss, axis=0), coverage, out=np.zeros_like(coverage), where=coverage > 0)
            found[rows, label] = ratio(np.einsum("vr,vr->r", kept, risk), kept.sum(axis=0))
    return np.asarray(weighting.as_given(found[:, 0] if np.ndim(losses) == 1 else found))


def _check_fractions(fractions: tuple[float, ...]) -> None:
    if not all(0 <= each <= 1 for each in fractions):
        raise OptionError(f"fractions of referred images lie from 0 to 1, not {', '.join(f'{x}' for x in fractions)}")


def _oracle_auc(
    truth: NDArray[Any],
    probabilities: NDArray[Any],
    weights: NDArray[Any] | None,
    fractions: tuple[float, ...],
    *,
    is_cumulative: bool,
) -> NDArray[np.float64]:
    """Every image is there twice, with its probabilities and with its true labels; weights say which one counts."""
    _check_fractions(fractions)
    given = Labelled.of(truth, probabilities, weights, are_probabilities=True)
    twice = Labelled(
        np.concatenate([given.is_known, given.is_known]),
        np.concatenate([given.is_positive, given.is_positive]),
        np.concatenate([given.scores, given.is_positive]),
        given.weighting,
    )
    rankings = [Ranking.of(twice, label) for label in range(given.scores.shape[1])]
    order = np.argsort(image_confidence(given.scores), kind="stable")
    found = np.empty((len(given.weighting.rows), len(fractions), len(rankings)))
    for rows, block in blocks(given.weighting.rows, 2):
        columns = block.T
        in_order = columns[order]
        before = np.cumsum(in_order, axis=0) - in_order
        limits = np.floor(columns.sum(axis=0) * np.asarray(fractions)[:, None] + ROUNDING)
        for place, limit in enumerate(np.cumsum(limits, axis=0) if is_cumulative else limits):
            referred = np.empty_like(columns)
            referred[order] = np.clip(limit - before, 0.0, in_order)
            both = np.concatenate([columns - referred, referred]).T
            for label, ranking in enumerate(rankings):
                found[rows, place, label] = ranking.areas(both)[0]
    return given.weighting.as_given(found)


def _checked(
    losses: NDArray[Any], confidences: NDArray[Any], weights: NDArray[Any] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], Weighting]:
    """Losses and confidences, (N, 1) of one label."""
    lost, confident = np.asarray(losses, dtype=np.float64), np.asarray(confidences, dtype=np.float64)
    if lost.shape != confident.shape or lost.ndim not in {1, 2}:
        raise DataError(f"losses are {lost.shape} and confidences {confident.shape}; pass (N,) or (N, L) of both")
    if np.isnan(confident).any():
        raise DataError("a confidence is nan; leave the image out, or make its loss nan and give it any number")
    weighting = Weighting.of(weights, len(lost))
    return (lost, confident, weighting) if lost.ndim == 2 else (lost[:, None], confident[:, None], weighting)


def _by_confidence(
    losses: NDArray[np.float64], confidences: NDArray[np.float64], weights: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(V, R) weights and losses of each distinct confidence, falling, for (N, R) weights."""
    images = np.flatnonzero(~np.isnan(losses))
    values, place = np.unique(-confidences[images], return_inverse=True)
    columns = np.ascontiguousarray(weights, dtype=np.float64)
    counted, summed = (gathering(place, images, len(values), len(losses), each) for each in (None, losses[images]))
    return counted @ columns, summed @ columns
