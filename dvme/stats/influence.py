"""What every test image or patient contributes to a score: how far it varies over test sets, and intervals that cover.

A score of fixed heads is, to first order, a sum of one part for every image. Within a class the parts are centred, as
the sizes of the classes are held fixed. Summed by patient they are independent: their squares add up to the variance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.metrics.classification import METRICS
from dvme.stats.delong import auc_parts
from dvme.stats.intervals import LEVEL, ROUNDING, Interval
from dvme.stats.t_comparison import satterthwaite, wilson
from dvme.stats.units import Units
from dvme_cache.deferred import deferred

special = deferred("scipy.special")

FEWEST = 3
"""Units of the rarest class, images or patients that hold it, below which no interval and no test is given."""
CAP = {"auc": 4.0, "kappa": 3.0}
"""Most observations that a score is taken to rest on, in units of the rarest class times the number of problems that
the score is a mean of. See `Scored.interval`."""
OF_IMAGES = ("dice", "iou", "boundary_dice")
"""Means of a score in [0, 1] that each image has by itself: they vary less than shares of right and wrong images do."""


@dataclass(frozen=True)
class Scored:
    """One metric of one method, or the difference of two: over J folds' heads, on one shared test set."""

    metric: str
    """A name of METRICS."""
    folds: NDArray[Any]
    """(J,) each head's value on the test set."""
    parts: NDArray[Any]
    """(K, J) what each cell of the units contributes."""
    units: Units
    recalls: NDArray[Any] | None = None
    """(C,) of each class that occurs, mean over the heads; for balanced accuracy."""
    most: float = 1.0
    """No value, and no difference of two, is farther from 0: 1, or 2 of a difference of kappas."""
    is_difference: bool = False

    @cached_property
    def estimate(self) -> float:
        """Mean over the heads."""
        return float(self.folds.mean())

    @cached_property
    def test_covariance(self) -> NDArray[Any]:
        """(J, J) of the heads' values over test sets, given these heads; nan where a class has too few units.

        Of AUCs with images as units it is DeLong's. A patient with images of several classes adds the products of its
        sums in them.

        Source: DeLong et al. 1988; Obuchowski 1997 for images of patients; Davison and Hinkley 1997, section 2.7.2, for
            the other metrics, by their empirical influence.
        """
        if np.isnan(self.folds).any():
            return np.full((len(self.folds), len(self.folds)), np.nan)
        return covariance(self.units, self.parts)

    @cached_property
    def test_variance(self) -> float:
        """Of the mean over the heads, over test sets; 0 where rounding would leave less, as of heads that cancel."""
        return max(float(self.test_covariance.mean()), 0.0)  # nan stays nan

    @cached_property
    def class_variances(self) -> NDArray[Any]:
        """(C,) variance of the mean over the heads that comes from each class's images."""
        of_class, counts = self.units.cells[2], self.units.counts
        squares = np.bincount(of_class, self.parts.mean(axis=1) ** 2, minlength=len(counts))
        variances: NDArray[Any] = squares * counts / np.maximum(counts - 1.0, 1.0)
        return variances

    @cached_property
    def test_df(self) -> float:
        """Degrees of freedom of the variance of the mean over the heads: few where a rare class decides it.

        They are at most those of a score to which all images of a class contribute alike, and, but for accuracy, all
        classes as well. Else a rare class of which the few images happen to agree would seem not to matter: with 3 to
        10 images of it and scores near 1, intervals of differences covered 86 to 91 per cent. A class in which few
        patients have most of the images counts as fewer patients. Patients with images of several classes are counted
        once: of 5 patients with images of all of 5 classes, 14 per cent of equal methods would be told apart.

        Source: Satterthwaite 1946.
        """
        counts = self.units.counts[self.units.counts > 0]
        variances = self.class_variances[self.units.counts > 0]
        if variances.sum() <= ROUNDING**2:
            return float(max(self.units.fewest - 1, 1))
        first, second, fourth = (self.units.powers(k)[self.units.counts > 0] for k in (1, 2, 4))
        alike = second if self.metric == "accuracy" else second / first**2
        return min(satterthwaite(variances, counts), satterthwaite(alike, second**2 / fourth), self.units.n - 1.0)

    def interval(self, level: float = LEVEL) -> Interval:
        """Of the mean over these heads on other test sets.

        Scores in [0, 1] get Wilson's interval of a share, with the number of observations that has the same variance:
        it stays within [0, 1], is not symmetric near the ends, and is not a point where no image is wrong. That number
        is capped, as the variance near 1 is decided by few images: for accuracy by the images, for AUC by four times
        the units of the rarest class; Dice and IoU of images have no cap. Where no image varies it is the units, or
        those of the rarest class: as many pairs as have none in common. Balanced accuracy is put together from the
        intervals of the classes' recalls. Kappa is moved to [0, 1]. The quantile is of t.

        Measured (tests/benchmarks/test_intervals.py): BENCHMARKS.md has the coverage.

        Source: Wilson 1927; Korn and Graubard 1998 for the effective number; Zou and Donner 2008 for sums;
            Satterthwaite 1946 for the degrees of freedom.
        """
        estimate, nan = self.estimate, float("nan")
        variance = self.test_variance
        if np.isnan(variance):
            return Interval(estimate, nan, nan)
        reach = (1.0 + level) / 2.0
        if self.metric == "balanced_accuracy" and not self.is_difference:
            return self._of_recalls(reach)
        quantile = float(special.stdtrit(self.test_df, reach))
        if self.is_difference:
            margin = quantile * float(np.sqrt(variance))
            return (
                Interval(estimate, max(estimate - margin, -self.most), min(estimate + margin, self.most))
                if margin > ROUNDING
                else Interval(estimate, nan, nan)
            )
        if self.metric == "kappa":
            low, high = wilson((estimate + 1.0) / 2.0, variance / 4.0, self._most(), quantile)
            return Interval(estimate, 2.0 * low - 1.0, 2.0 * high - 1.0)
        return Interval(estimate, *wilson(estimate, variance, self._most(), quantile))

    def _most(self) -> tuple[float, float]:
        """Observations that the score rests on at most, and where no image varies at all."""
        n_images, n_units = float(len(self.units.labels)), float(self.units.n)
        if self.metric in OF_IMAGES:
            return float("inf"), n_units
        if self.metric not in CAP:
            return n_images, n_units
        n_classes = int((self.units.counts > 0).sum())
        apart = float(self.units.fewest * (1 if n_classes == 2 and self.metric == "auc" else n_classes))
        most = CAP[self.metric] * apart
        return (most, apart) if self.metric == "auc" else (min(most, n_images), min(apart, n_units))

    def _of_recalls(self, reach: float) -> Interval:
        """Square and add, wider where patients' images of several classes are right or wrong together."""
        assert self.recalls is not None
        counts, variances = (each[self.units.counts > 0] for each in (self.units.counts, self.class_variances))
        n_images = np.unique(self.units.labels, return_counts=True)[1]
        ends = [
            wilson(
                recall, variance * len(counts) ** 2, (float(images), float(n)), float(special.stdtrit(n - 1.0, reach))
            )
            for recall, variance, images, n in zip(self.recalls, variances, n_images, counts, strict=True)
        ]
        apart = float(variances.sum())
        wider = max(1.0, self.test_variance / apart) if apart > ROUNDING**2 else 1.0
        low, high = (
            float(np.sqrt(wider * ((np.array(end) - self.recalls) ** 2).sum())) / len(counts)
            for end in zip(*ends, strict=True)
        )
        return Interval(self.estimate, max(0.0, self.estimate - low), min(1.0, self.estimate + high))

    def __sub__(self, other: Scored) -> Scored:
        """The difference from another method on the same test set and folds, paired.

        Raises:
            ValueError: if the two are not of one metric on the same units, or differ in their number of folds.
        """
        if self.metric != other.metric:
            raise ValueError(f"one is {self.metric}, the other {other.metric}; a paired difference is of one metric")
        if not self.units.is_same(other.units):
            raise ValueError("the labels or patients of the two differ; a paired difference needs the same test set")
        if self.parts.shape != other.parts.shape:
            raise ValueError(
                f"(units, folds) are {self.parts.shape} and {other.parts.shape}; a paired difference needs the same"
            )
        folds, parts = self.folds - other.folds, self.parts - other.parts
        most = 2.0 if self.metric == "kappa" else self.most
        return Scored(self.metric, folds, parts, self.units, most=most, is_difference=True)


def covariance(units: Units, parts: NDArray[Any]) -> NDArray[Any]:
    """(n, n) over test sets of scores to which cells contribute (K, n) parts; nan where a class has too few units."""
    n_scores = parts.shape[1]
    if units.fewest < FEWEST:
        return np.full((n_scores, n_scores), np.nan)
    _, unit, of_class = units.cells
    counts = units.counts[of_class]
    total: NDArray[Any] = (parts * (counts / (counts - 1.0))[:, None]).T @ parts
    if units.groups is not None:
        whole = np.zeros((int(unit.max()) + 1, n_scores))
        np.add.at(whole, unit, parts)
        total += whole.T @ whole - parts.T @ parts
    return total


def scored(
    labels: NDArray[Any],
    folds: Sequence[NDArray[Any]],
    units: Units,
    metrics: Sequence[str] = METRICS,
    *,
    predicted: Sequence[NDArray[Any]] | None = None,
) -> dict[str, Scored]:
    """One method's metrics on the test set, with what every unit contributes.

    Args:
        labels: (N,) class indices, two classes at least.
        folds: J of (N, C) scores, one of each fold's head; their order within a column is what an AUC goes by.
        units: of these labels.
        metrics: names in METRICS.
        predicted: J of (N,) what images are taken for, where that is not the class of the largest score.
    """
    taken = predicted
    if taken is None:
        taken = [fold.argmax(axis=1) for fold in folds] if set(metrics) != {"auc"} else ()
    found = {}
    for metric in metrics:
        values, parts = _auc(labels, folds) if metric == "auc" else _counted(labels, taken, metric)
        recalls = None
        if metric == "balanced_accuracy":
            right = np.mean([fold == labels for fold in taken], axis=0)
            recalls = np.array([right[labels == c].mean() for c in np.unique(labels)])
        found[metric] = Scored(metric, values, units.sums(parts), units, recalls)
    return found


def mean_of_images(values: NDArray[Any], units: Units, metric: str) -> Scored:
    """Of each head the mean of what every image scores by itself, as its Dice.

    Args:
        values: (N, J) in [0, 1] of images and heads; nan where an image tells nothing.
        units: of one class.
        metric: its name.
    """
    means = np.nanmean(values, axis=0)
    parts = np.where(np.isnan(values), 0.0, values - means) / (~np.isnan(values)).sum(axis=0)
    return Scored(metric, means, units.sums(parts), units)


def mean_scored(values: NDArray[Any], units: Units) -> Scored:
    """The mean of (N,) values of the images, such as their losses or differences of losses."""
    parts = values / len(values)
    for c in np.unique(units.labels):
        parts[units.labels == c] -= parts[units.labels == c].mean()
    mean, sums = np.array([values.mean()]), units.sums(parts[:, None])
    return Scored("", mean, sums, units, most=float("inf"), is_difference=True)


def _auc(labels: NDArray[Any], folds: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], NDArray[Any]]:
    """(J,) macro AUCs and (N, J) parts."""
    n_heads = len(folds)
    if len(np.unique(labels)) < 2:
        return np.full(n_heads, np.nan), np.zeros((len(labels), n_heads))
    parts = auc_parts(labels, folds).T
    values = np.zeros(n_heads)
    for c in np.unique(labels):
        rows = labels == c
        means = parts[rows].mean(axis=0)
        values += means / 2.0  # positives' and negatives' parts are each the whole AUC
        parts[rows] = (parts[rows] - means) / rows.sum()
    return values, parts


def _counted(labels: NDArray[Any], taken: Sequence[NDArray[Any]], metric: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """(J,) accuracies, balanced accuracies or quadratic kappas, and (N, J) parts."""
    predicted = np.stack(taken, axis=1)
    n, classes = len(labels), np.unique(labels)
    if metric == "kappa":
        values, parts = _kappa(labels[:, None].astype(np.float64), predicted.astype(np.float64))
    else:
        counts = np.bincount(labels)[labels]
        weights = np.full(n, 1.0 / n) if metric == "accuracy" else 1.0 / (len(classes) * counts)
        is_right = predicted == labels[:, None]
        recalls = [is_right[labels == c].mean(axis=0) for c in classes]
        values = is_right.mean(axis=0) if metric == "accuracy" else np.mean(recalls, axis=0)
        parts = is_right * weights[:, None]
    for c in classes:
        rows = labels == c
        parts[rows] -= parts[rows].mean(axis=0)
    return values, parts


def _kappa(i: NDArray[Any], j: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Quadratic kappa is 1 - E(i - j)^2 / (E i^2 + E j^2 - 2 E i E j): (J,) values and the (N, J) derivatives."""
    apart, i1, j1 = ((i - j) ** 2).mean(axis=0), i.mean(axis=0), j.mean(axis=0)
    chance = (i**2).mean(axis=0) + (j**2).mean(axis=0) - 2.0 * i1 * j1
    chance = np.where(chance > ROUNDING, chance, np.nan)
    by_apart = (i - j) ** 2 - apart
    by_chance = i**2 + j**2 - 2.0 * (i * j1 + j * i1) - (chance - 2.0 * i1 * j1)
    return 1.0 - apart / chance, -(by_apart - by_chance * apart / chance) / chance / len(i)
