"""Tests on one score per fold: they see what the training rows do, and nothing of a test set that folds share."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from dvme.stats.intervals import LEVEL, Comparison
from dvme.stats.t_comparison import compared_by_t


def nadeau_bengio(differences: ArrayLike, n_train: float, n_test: float, *, level: float = LEVEL) -> Comparison:
    """Corrected resampled t test: the paired t test, its variance raised because training sets overlap.

    It is made for folds that each have a test set of their own. With a shared one the folds' spread holds nothing of
    the luck of its images, while n_test / n_train raises it as if it did, so the test is wrong either way: at 5 per
    cent it tells equal methods apart in 33 to 51 per cent of studies where the test images matter most (five folds of
    200 or more rows), and in 0.0 to 1.9 where training does (tests/benchmarks/test_statistics.py). Use `crossed` there.

    Args:
        differences: (J,) of the two methods' scores, paired by fold.
        n_train: training rows of a fold.
        n_test: test rows of a fold; a cross-validation of k folds has n_test / n_train = 1 / (k - 1).
        level: of the interval.

    Returns:
        J - 1 degrees of freedom. With one fold all but the estimate is nan; without any spread p is 1 if the mean
        difference is 0, else nan.

    Raises:
        ValueError: if n_train or n_test is not positive.

    Source: Nadeau and Bengio 2003, the corrected resampled t test.
    """
    if not (n_train > 0 and n_test > 0):
        raise ValueError(f"n_train is {n_train} and n_test {n_test}; both must be positive")
    values = np.asarray(differences, dtype=np.float64)
    n = len(values)
    spread = float(values.var(ddof=1)) if n > 1 else float("nan")
    return compared_by_t(float(values.mean()), spread * (1.0 / n + n_test / n_train), n - 1.0, level)


def welch(one: ArrayLike, other: ArrayLike, *, level: float = LEVEL) -> Comparison:
    """Independent t test with unequal variances.

    Runs on one shared test set, or on overlapping training sets, are not independent: at 5 per cent it tells equal
    methods apart in 7 to 22 per cent of studies with 20 or 40 rows a fold, and in 33 to 76 with folds that overlap
    (tests/benchmarks/test_statistics.py). It is offered for comparison with papers that used it.

    Args:
        one: (J,) scores of the first method, of independent runs.
        other: (K,) of the second.
        level: of the interval.

    Returns:
        Degrees of freedom of Welch and Satterthwaite. With a single run on either side all but the estimate is nan;
        without any spread p is 1 if the means are equal, else nan.

    Source: Welch 1947.
    """
    a, b = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    variances = [float(each.var(ddof=1)) if len(each) > 1 else float("nan") for each in (a, b)]
    return welch_of(float(a.mean() - b.mean()), (variances[0], len(a)), (variances[1], len(b)), level=level)


def welch_of(
    difference: float, one: tuple[float, int], other: tuple[float, int], *, level: float = LEVEL
) -> Comparison:
    """The same from what papers print.

    Args:
        difference: of the means.
        one: variance of the first method's runs, and how many they are.
        other: of the second's.
        level: of the interval.

    Returns:
        As of `welch`.

    Source: Welch 1947.
    """
    (first, n_first), (second, n_second) = one, other
    if n_first < 2 or n_second < 2:
        return compared_by_t(difference, float("nan"), float("nan"), level)
    total = first / n_first + second / n_second
    parts = (first / n_first) ** 2 / (n_first - 1) + (second / n_second) ** 2 / (n_second - 1)
    return compared_by_t(difference, total, total**2 / parts if parts > 0 else n_first + n_second - 2.0, level)


def two_sample_t(one: ArrayLike, other: ArrayLike, *, level: float = LEVEL) -> Comparison:
    """Student's independent t test with one pooled variance: the test of Taher et al. 2021, offered to repeat theirs.

    As with `welch`, runs that share test images or training rows are not independent: it tells equal methods apart in 8
    to 24 per cent of studies with 20 or 40 rows a fold, and in 35 to 77 with folds that overlap.

    Args:
        one: (J,) scores of the first method, of independent runs.
        other: (K,) of the second.
        level: of the interval.

    Returns:
        J + K - 2 degrees of freedom. With fewer than three runs in all, all but the estimate is nan; without any
        spread p is 1 if the means are equal, else nan.

    Source: Student 1908; Fisher 1925; Taher et al. 2021, on ten runs of each method.
    """
    a, b = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    df = len(a) + len(b) - 2
    squares = float(((a - a.mean()) ** 2).sum() + ((b - b.mean()) ** 2).sum())
    pooled = squares / df if df > 0 else float("nan")
    return compared_by_t(float(a.mean() - b.mean()), pooled * (1.0 / len(a) + 1.0 / len(b)), float(df), level)
