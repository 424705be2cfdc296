"""The test of the verdicts: folds' heads crossed with one shared test set, both of them left to chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dvme.stats.influence import Scored
from dvme.stats.intervals import LEVEL, Comparison
from dvme.stats.t_comparison import compared_by_t


def crossed(
    differences: ArrayLike,
    test_covariance: ArrayLike,
    shared_rows: float,
    *,
    test_df: float = math.inf,
    level: float = LEVEL,
) -> Comparison:
    """Whether one method is better on average over training sets, by heads that were all tested on the same images.

    A fold's difference d_j holds the luck of its training rows and that of the test images; the second is common to
    all folds, so the folds' spread S^2 does not show it, and a bootstrap over test images does not show the first. As
    in the reading of the same cases by several readers, the variance of the mean of d is estimated by

        k + S^2 / J + c max(0, S^2 - (v - k)),    c = o / (1 - o)

    with v the mean variance of a d_j over test sets given the heads, k the mean covariance of two, and o the share of
    training rows that two folds have in common. Without overlap this is the test of Obuchowski and Rockette. With it,
    the training luck of two folds has a correlation r > 0: S^2 then shows only 1 - r of its variance, and r of it stays
    in the mean however many the folds, hence c = r / (1 - r), applied to the part of S^2 that is training luck and not
    test noise. By Hoeffding's theorem r is at most o, which is what is taken. It is o where the score is linear in the
    rows' contributions, and o^2 near an optimum, where what is lost is quadratic in the error of the weights: in
    simulated studies at o = 0.75 it was 0.43 to 0.60 (o^2 = 0.56), but 0.73 for biased heads on 2,000 rows. Nadeau and
    Bengio's r of n_test / (n_test + n_train), 0.2 at o = 0.75, is made for folds with test sets of their own; with a
    shared one it is too small, and rejected up to 12 per cent where 5 were due.

    Measured (tests/benchmarks/test_statistics.py), equal methods are told apart at the 5 per cent level in 3.8 to 5.0
    per cent of studies with little overlap, in 1.7 to 3.1 with half or three quarters of the rows shared, as r is then
    below o, and in 3.4 where r is o. Where few images of a class decide (test_levels.py) it is 0.1 to 4.5. So it is
    careful, and never above its level.

    Args:
        differences: (J,) of the two methods' scores, paired by fold.
        test_covariance: (J, J) of the differences over test sets; see `Scored.test_covariance`.
        shared_rows: o, from `overlap`.
        test_df: degrees of freedom of the test covariance; few where a rare class decides it, see `Scored.test_df`.
        level: of the interval.

    Returns:
        t. Its degrees of freedom are the harmonic mean of J - 1 and test_df, weighted by the shares in the variance of
        what comes from S^2 and of k. Satterthwaite's weights, as Hillis has them, are the squares of the shares. They
        keep the 5 per cent level. But where S^2 of few folds happens to be small, so is the variance, and its degrees
        of freedom are overrated: with folds of 20 rows equal methods had p < 0.001 three times too often, and a table
        of many methods is judged there. With one fold all but the estimate is nan; without any variance p is 1 if the
        mean difference is 0, else nan.

    Raises:
        ValueError: if shared_rows is outside [0, 1): folds that train on the same rows say nothing of other rows; or
            if the shapes disagree.

    Source: Obuchowski and Rockette 1995; Hillis 2007 for degrees of freedom by shares, Cochran and Cox 1957 for
        weights that are the shares themselves; Nadeau and Bengio 2003 for r; Hoeffding 1948, theorem 5.1, for its
        bound.
    """
    values, covariance = np.asarray(differences, dtype=np.float64), np.asarray(test_covariance, dtype=np.float64)
    n = len(values)
    if not 0.0 <= shared_rows < 1.0:
        raise ValueError(f"folds share {shared_rows:.3g} of their training rows; it must be from 0 to below 1")
    if covariance.shape != (n, n):
        raise ValueError(f"test_covariance is {covariance.shape}, and there are {n} differences; pass ({n}, {n})")
    mean = float(values.mean())
    if n < 2:
        return compared_by_t(mean, float("nan"), float("nan"), level)
    variance, common, from_spread = crossed_variance(values, covariance, shared_rows)
    doubt = from_spread / (n - 1) + common / test_df
    df = variance / doubt if doubt > 0 else math.inf
    return compared_by_t(mean, variance, df, level)


def crossed_variance(
    differences: NDArray[Any], test_covariance: NDArray[Any], shared_rows: float
) -> tuple[float, float, float]:
    """Variance of the mean difference over training sets and test images, see `crossed`.

    Args:
        differences: (J,), two or more.
        test_covariance: (J, J).
        shared_rows: o, from 0 to below 1.

    Returns:
        The variance; what of it test images give all folds in common; and what comes from the folds' spread.
    """
    n = len(differences)
    own = float(np.trace(test_covariance)) / n
    common = max((float(test_covariance.sum()) - n * own) / (n * (n - 1)), 0.0)
    spread = float(differences.var(ddof=1))
    correction = shared_rows / (1.0 - shared_rows)
    training = max(spread - max(own - common, 0.0), 0.0)
    variance = common + spread / n + correction * training
    from_spread = spread * (1.0 / n + (correction if training > 0 else 0.0))  # what of it has n - 1 degrees of freedom
    return variance, common, min(from_spread, variance)  # S^2 less test noise has n - 1 at least


def compared(gap: Scored, shared_rows: float, *, level: float = LEVEL) -> Comparison:
    """The difference of two methods by `crossed`; of a single fold, by what the test images say of these very heads.

    Args:
        gap: one method less another.
        shared_rows: of two folds, see `crossed`.
        level: of the interval.
    """
    if len(gap.folds) < 2:
        found = compared_by_t(gap.estimate, gap.test_variance, gap.test_df, level)
    else:
        found = crossed(gap.folds, gap.test_covariance, shared_rows, test_df=gap.test_df, level=level)
    low, high = (float(np.clip(end, -gap.most, gap.most)) for end in (found.difference.low, found.difference.high))
    return replace(found, difference=replace(found.difference, low=low, high=high))


def overlap(trains: Sequence[NDArray[Any]]) -> float:
    """Mean share of training rows that two folds have in common.

    Args:
        trains: J >= 2 arrays of distinct row numbers, none empty; of patients where they are drawn whole.

    Returns:
        |A and B| / sqrt(|A| |B|), averaged over pairs: 0.75 for five plain folds of a pool, n / N for n rows drawn
        from N independently in each fold.

    Raises:
        ValueError: if there are fewer than two folds.
    """
    if len(trains) < 2:
        raise ValueError(f"overlap is between folds, and there are {len(trains)}; pass two or more")
    shares = [len(np.intersect1d(a, b)) / np.sqrt(len(a) * len(b)) for a, b in combinations(trains, 2)]
    return float(np.mean(shares))
