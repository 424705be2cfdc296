"""DeLong's test of two AUCs on the same test samples, for any number of classes and of heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.stats.intervals import LEVEL, Interval
from dvme.stats.t_comparison import compared_by_t


@dataclass(frozen=True)
class DeLong:
    """Two AUCs and their difference, the first less the second."""

    one: float
    other: float
    difference: Interval
    z: float
    p: float
    """Two-sided, of no difference between these very heads on all images."""


def delong(
    labels: NDArray[Any], one: Sequence[NDArray[Any]], other: Sequence[NDArray[Any]], *, level: float = LEVEL
) -> DeLong:
    """Compare two methods' AUCs without resampling: macro one-versus-rest, averaged over the folds' heads.

    With two classes and one head each this is DeLong's test. An AUC is a mean of per-sample parts (the share of the
    other side that a sample beats), so means over classes and heads are means of the parts as well; their variance is
    taken within every class, as the class sizes are held fixed. Samples must be independent: with patients, use the
    paired bootstrap over groups.

    It asks whether these very heads differ on all images, and of that it keeps its level: at 5 per cent, 4.2 to 5.5 per
    cent of true differences lie outside its intervals; with four images a patient, 21. It knows nothing of the luck
    of training: of methods that are equal on average over training sets it tells 6 per cent apart with five folds
    of 200 rows, 12 to 24 with 40 and 20 rows a fold, and 29 with five folds of 60
    (tests/benchmarks/test_statistics.py). Where methods rather than heads are compared, use `crossed`.

    Args:
        labels: (N,) class indices, two samples of every class at least.
        one: (N, C) probabilities of each of the first method's heads.
        other: of the second method's.
        level: of the interval.

    Returns:
        Without any variance p is 1 for equal AUCs, else nan, and so where a class has a single sample.

    Raises:
        ValueError: if the labels hold fewer than two classes.

    Source: DeLong et al. 1988; placements from sorted scores as in Sun and Xu 2014.
    """
    first, second = auc_parts(labels, one), auc_parts(labels, other)
    gaps = first.mean(axis=0) - second.mean(axis=0)
    members = [labels == c for c in np.unique(labels)]
    aucs = [float(np.mean([_class_mean(labels, head) for head in parts])) for parts in (first, second)]
    difference = aucs[0] - aucs[1]
    is_counted = all(member.sum() > 1 for member in members)
    variance = sum(float(gaps[m].var(ddof=1)) / int(m.sum()) for m in members) if is_counted else float("nan")
    found = compared_by_t(difference, variance, float("inf"), level)
    return DeLong(aucs[0], aucs[1], found.difference, found.statistic, found.p)


def auc_parts(labels: NDArray[Any], folds: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """What every sample contributes to each head's macro AUC.

    The AUC is the mean over one-versus-rest problems; in each, a positive's part is the share of negatives below it, a
    negative's the share of positives above it. The parts of the problems are summed in the weights of a sample in them.

    Args:
        labels: (N,) class indices.
        folds: J of (N, C) scores; places in an order, as whole numbers, are counted in linear time.

    Returns:
        (J, N); the variance of a head's AUC is the sum over classes of their variance within the class by its size.

    Raises:
        ValueError: if the labels hold fewer than two classes.
    """
    n_classes = folds[0].shape[1]
    classes = [c for c in ([1] if n_classes == 2 else range(n_classes)) if 0 < (labels == c).sum() < len(labels)]
    if not classes:
        raise ValueError("the labels hold one class only; an AUC needs two")
    size = np.bincount(labels, minlength=n_classes)[labels]  # (N,) of each sample's class
    parts = np.zeros((len(folds), len(labels)))
    for c in classes:
        is_positive = labels == c
        n_negative = int((~is_positive).sum())
        for head, fold in enumerate(folds):
            below = _share_below(fold[:, c], is_positive)
            parts[head] += np.where(is_positive, below, (1.0 - below) * size / n_negative)
    return parts / len(classes)


def _class_mean(labels: NDArray[Any], parts: NDArray[Any]) -> float:
    """The AUC: positives' and negatives' parts are each its whole, so a sum over classes counts it twice."""
    return float(sum(parts[labels == c].mean() for c in np.unique(labels))) / 2.0


def _share_below(scores: NDArray[Any], is_positive: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(N,) share of the other side's scores below each score, equal ones counted half, from one sort of both sides.

    Whole numbers that lie close together are counted without it.
    """
    if scores.dtype.kind != "i" or np.ptp(scores) > 2 * len(scores):
        scores = np.unique(scores, return_inverse=True)[1]
    place = scores - scores.min()
    of_all = np.bincount(place)
    of_positives = np.bincount(place[is_positive], minlength=len(of_all))
    sides = of_positives, of_all - of_positives
    # Of each place the share of a side that is below it, and half of what stands there.
    positives, negatives = ((2 * np.cumsum(own) - own) / (2.0 * own.sum()) for own in sides)
    shares: NDArray[np.float64] = np.where(is_positive, negatives[place], positives[place])
    return shares
