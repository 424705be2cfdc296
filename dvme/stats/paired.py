"""Two methods on the same test predictions: the paired bootstrap."""

from __future__ import annotations

from dvme.stats.intervals import LEVEL, Comparison, bca_interval, bca_p_value
from dvme.stats.resampling import Resampled


def paired_bootstrap(one: Resampled, other: Resampled, *, level: float = LEVEL) -> Comparison:
    """Difference of two methods' mean over their heads, on the same resamples of the shared test set.

    It asks whether these very heads differ on all images, and of that it keeps its level: at 5 per cent, 5.2 to 6.7 per
    cent of true differences lie outside its intervals (400 resamples; DeLong 4.2 to 5.5). It knows nothing of the luck
    of training: of methods that are equal on average over training sets it tells 7 per cent apart with five folds of
    200 rows, 9 to 25 with 40 and 20 rows a fold, and 31 with five folds of 60 (tests/benchmarks/test_statistics.py).
    Where methods rather than heads are compared, use `crossed`.

    The p value inverts the BCa interval: p < 1 - level where, and only where, the interval leaves out 0. A bootstrap
    shifted to no difference would keep the level as well, but could contradict the interval beside it.

    Args:
        one: any metric.
        other: the same metric on the same draws.
        level: of the interval.

    Raises:
        ValueError: if the two are not of the same draws and number of folds.

    Source: Efron and Tibshirani 1993, chapters 14 and 16; Davison and Hinkley 1997, section 5.3.2.
    """
    gap = one - other
    speed = gap.acceleration
    interval = bca_interval(gap.estimate, gap.resampled, speed, level=level)
    return Comparison(interval, bca_p_value(gap.estimate, gap.resampled, speed), float("nan"), float("inf"))
