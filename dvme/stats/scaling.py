"""Probabilities made to fit how often they are right: temperature and Platt scaling, fitted on validation rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme_cache.deferred import deferred

special, optimize = deferred("scipy.special"), deferred("scipy.optimize")

FEWEST_ROWS = 10
"""Rows, or known cells, below which nothing is fitted."""
LOWEST, HIGHEST = 0.05, 20.0
"""Temperatures that are taken."""
FLAT = 1e-9
"""Log odds, and slopes of their standardised ones, that are closer than this are the same."""
FARTHEST = 30.0
"""Log odds are taken as at most so far from 0, and log probabilities as no lower than it: heads that vote give
probabilities of 0 and 1."""


@dataclass(frozen=True)
class Temperature:
    """What all log probabilities of the classes, or log odds of the labels, are divided by."""

    value: float
    """Above 1: less sure than before."""
    reason: str = ""
    """Why it is 1, unfitted, or at one of its bounds."""

    def of_classes(self, log_probabilities: NDArray[Any]) -> NDArray[np.float64]:
        """(N, C) log probabilities; the order of a row's classes stays."""
        scaled = np.maximum(log_probabilities.astype(np.float64), -FARTHEST) / self.value
        found: NDArray[np.float64] = special.log_softmax(scaled, axis=1)
        return found

    def of_labels(self, log_odds: NDArray[Any]) -> NDArray[np.float64]:
        """(N, L) log odds; the order of a label's images stays, but for those at FARTHEST, which become equal."""
        return _near(log_odds) / self.value


@dataclass(frozen=True)
class Platt:
    """A line for each label, from log odds to log odds."""

    slopes: NDArray[np.float64]
    """(L,), above 0."""
    intercepts: NDArray[np.float64]
    """(L,)."""
    reasons: tuple[str, ...]
    """By label: why it is left as it is, or empty."""

    def of_labels(self, log_odds: NDArray[Any]) -> NDArray[np.float64]:
        """(N, L) log odds; the order of a label's images stays, but for those at FARTHEST, which become equal."""
        return self.slopes * _near(log_odds) + self.intercepts


def temperature_of_classes(
    labels: NDArray[Any], log_probabilities: NDArray[Any], weights: NDArray[Any] | None = None
) -> Temperature:
    """The temperature with the least log loss of one label in C classes.

    Args:
        labels: (N,) class indices; below 0: none.
        log_probabilities: (N, C).
        weights: (N,), non-negative: 2 is as if an image was there twice; None: 1.

    Returns:
        1, and why, with fewer than FEWEST_ROWS rows or labels of one class, where every row is right, so that less is
        always better, and where the classes are no more probable on the images that have them.

    Raises:
        ValueError: if the shapes do not fit.

    Source: Guo et al. 2017, section 4.2. The loss is convex in 1 / T.
    """
    if log_probabilities.ndim != 2 or labels.shape != log_probabilities.shape[:1]:
        raise ValueError(
            f"labels are {labels.shape}, log probabilities {log_probabilities.shape}; pass (N,) and (N, C)"
        )
    every = _weights(weights, len(labels))
    counts = (labels >= 0) & (every > 0)
    y, w = labels[counts].astype(np.intp), every[counts]
    if len(np.unique(y)) < 2:
        return Temperature(1.0, "the validation rows are of one class")
    z = np.maximum(log_probabilities[counts].astype(np.float64), -FARTHEST)
    own = z[np.arange(len(y)), y]

    def slope(sharpness: float) -> float:
        """Of the mean loss by 1 / T."""
        return float(np.average((special.softmax(sharpness * z, axis=1) * z).sum(axis=1) - own, weights=w))

    is_right = bool((own >= z.max(axis=1)).all())
    return _temperature(slope, len(y), is_right=is_right, spread=float(np.ptp(z, axis=1).max()))


def temperature_of_labels(
    truth: NDArray[Any], log_odds: NDArray[Any], weights: NDArray[Any] | None = None
) -> Temperature:
    """The temperature with the least log loss over all known cells of L labels.

    Args:
        truth: (N, L), 0 to 1; nan: not known, and the cell takes no part.
        log_odds: (N, L).
        weights: (N,), non-negative; None: 1.

    Returns:
        1, and why, as of `temperature_of_classes`; here with fewer than FEWEST_ROWS cells, or cells of one value.

    Raises:
        ValueError: if the shapes do not fit.

    Source: Guo et al. 2017, section 4.2, with a sigmoid for each label.
    """
    t, z, w = (np.concatenate(each) for each in zip(*_cells(truth, log_odds, weights), strict=True))
    if not len(t) or np.ptp(t) == 0.0:
        return Temperature(1.0, "the known cells of the validation rows are of one value")

    def slope(sharpness: float) -> float:
        return float(np.average((special.expit(sharpness * z) - t) * z, weights=w))

    is_right = bool((((t == 0.0) & (z <= 0.0)) | ((t == 1.0) & (z >= 0.0))).all())
    return _temperature(slope, len(t), is_right=is_right, spread=float(np.abs(z).max()))


def platt(truth: NDArray[Any], log_odds: NDArray[Any], weights: NDArray[Any] | None = None) -> Platt:
    """A slope and an intercept for each label, with the least log loss.

    The targets are not 0 and 1, but 1 / (n_0 + 2) and (n_1 + 1) / (n_1 + 2), as of one more image of either kind. So
    slope and intercept are finite even where the label is told perfectly.

    Args:
        truth: (N, L), 0 to 1; nan: not known, and the cell takes no part.
        log_odds: (N, L).
        weights: (N,), non-negative; None: 1.

    Returns:
        A label is left as it is (slope 1, intercept 0), and why, with fewer than FEWEST_ROWS known cells or cells of
        one value, where all log odds are equal, and where the slope is not above 0: then the head ranks the label no
        better than chance, and turning it round would be a guess.

    Raises:
        ValueError: if the shapes do not fit.

    Source: Platt 1999; Lin, Lin and Weng 2007 for a minimisation that does not fail.
    """
    found = [_line(*cells) for cells in _cells(truth, log_odds, weights)]
    return Platt(
        np.array([slope for slope, _, _ in found]),
        np.array([intercept for _, intercept, _ in found]),
        tuple(reason for _, _, reason in found),
    )


def _line(t: NDArray[Any], z: NDArray[Any], w: NDArray[Any]) -> tuple[float, float, str]:
    """(slope, intercept, reason) of one label's known cells."""
    if len(t) < FEWEST_ROWS:
        return 1.0, 0.0, f"{len(t)} validation rows have a known value; it takes {FEWEST_ROWS}"
    if np.ptp(t) == 0.0:
        return 1.0, 0.0, "the known validation rows are of one value"
    centre, scale = float(np.average(z, weights=w)), float(np.ptp(z))
    if scale <= FLAT * max(1.0, abs(centre)):
        return 1.0, 0.0, "the log odds of all validation rows are equal"
    positive, negative = float(w @ t), float(w @ (1.0 - t))
    target = t * (positive + 1.0) / (positive + 2.0) + (1.0 - t) / (negative + 2.0)
    x, share = (z - centre) / scale, w / w.sum()

    def loss(line: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        y = line[0] * x + line[1]
        error = share * (special.expit(y) - target)
        return float(share @ (np.logaddexp(0.0, y) - target * y)), np.array([error @ x, error.sum()])

    def curvature(line: NDArray[Any]) -> NDArray[Any]:
        p = special.expit(line[0] * x + line[1])
        v = share * p * (1.0 - p)
        return np.array([[v @ x**2, v @ x], [v @ x, v.sum()]])

    start = np.array([0.0, math.log((positive + 1.0) / (negative + 1.0))])
    options = {"gtol": 1e-12, "maxiter": 200}
    line = optimize.minimize(loss, start, jac=True, hess=curvature, method="trust-exact", options=options).x
    if line[0] <= FLAT:
        return 1.0, 0.0, "the head ranks the validation rows no better than chance"
    slope = float(line[0]) / scale
    return slope, float(line[1]) - slope * centre, ""


def _temperature(slope: Callable[[float], float], n: int, *, is_right: bool, spread: float) -> Temperature:
    """From the derivative of the convex loss by 1 / T."""
    dullest, sharpest = 1.0 / HIGHEST, 1.0 / LOWEST
    reasons = {
        f"{n} known values in the validation rows; it takes {FEWEST_ROWS}": n < FEWEST_ROWS,
        "the head says the same of every class on all validation rows": spread <= FLAT,
        "every validation row is right, so that no certainty is too high": is_right,
        "the head is no better than chance on the validation rows": slope(0.0) >= 0.0,
    }
    for reason, holds in reasons.items():
        if holds:
            return Temperature(1.0, reason)
    if slope(sharpest) <= 0.0:
        return Temperature(LOWEST, f"at the lower bound {LOWEST:g}")
    if slope(dullest) >= 0.0:
        return Temperature(HIGHEST, f"at the upper bound {HIGHEST:g}")
    return Temperature(1.0 / float(optimize.brentq(slope, dullest, sharpest, xtol=1e-13)))


def _cells(
    truth: NDArray[Any], log_odds: NDArray[Any], weights: NDArray[Any] | None
) -> list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]:
    """By label: known values, log odds and weights of its cells."""
    if truth.ndim != 2 or truth.shape != log_odds.shape:
        raise ValueError(f"truth is {truth.shape}, log odds {log_odds.shape}; pass (N, L) of both")
    every, z = _weights(weights, len(truth)), _near(log_odds)
    known = ~np.isnan(truth) & (every > 0)[:, None]
    return [(truth[rows, c].astype(np.float64), z[rows, c], every[rows]) for c, rows in enumerate(known.T)]


def _near(log_odds: NDArray[Any]) -> NDArray[np.float64]:
    near: NDArray[np.float64] = np.clip(log_odds.astype(np.float64), -FARTHEST, FARTHEST)
    return near


def _weights(weights: NDArray[Any] | None, n: int) -> NDArray[np.float64]:
    if weights is None:
        return np.ones(n)
    if weights.shape != (n,):
        raise ValueError(f"weights are {weights.shape}, and there are {n} rows; pass one for each")
    return weights.astype(np.float64)
