"""How far apart two sets of embeddings are: how well a classifier tells them apart, and their mean discrepancy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme.seeds import checked_seed
from dvme.stats.influence import FEWEST, Scored, scored
from dvme.stats.intervals import LEVEL, ROUNDING, Interval
from dvme.stats.units import Units
from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    from sklearn import linear_model, model_selection, preprocessing
else:
    linear_model, model_selection, preprocessing = (
        deferred(f"sklearn.{name}") for name in ("linear_model", "model_selection", "preprocessing")
    )

MOST_ROWS = 2000
"""Of a side that are looked at; of more, as many are drawn without replacement."""
BANDWIDTH_ROWS = 1000
"""Of both sides together whose distances are looked at for their median."""
N_SPLITS = 5
STRENGTH = 0.01
"""Of the logistic regression, as scikit-learn's C, on features of variance 1: there may be more of them than rows."""
N_PERMUTATIONS = 999
BLOCK = 512
"""Rows whose kernel with all others is held at once, or permutations that are worked on."""


@dataclass(frozen=True)
class DomainClassifier:
    """How well a linear classifier tells which side an unseen image is of."""

    auc: Interval
    """0.5: not at all."""
    n_rows: tuple[int, int]
    """Of each side that were looked at."""
    n_all: tuple[int, int]
    """Of each side that there are."""
    reason: str = ""
    """Why the AUC is nan."""

    @property
    def is_sample(self) -> bool:
        """Whether some rows were left out, for time and memory."""
        return self.n_rows != self.n_all


@dataclass(frozen=True)
class Discrepancy:
    """Squared maximum mean discrepancy."""

    squared: float
    """Unbiased: about 0 without a shift, and below 0 by chance."""
    p: float
    """Of no shift, one-sided."""
    bandwidth: float
    """Of the Gaussian kernel."""
    n_rows: tuple[int, int]
    """Of each side that were looked at."""
    n_all: tuple[int, int]
    """Of each side that there are."""
    reason: str = ""
    """Why all of it is nan."""

    @property
    def is_sample(self) -> bool:
        """Whether some rows were left out, for time and memory."""
        return self.n_rows != self.n_all


def domain_classifier(
    one: NDArray[Any],
    other: NDArray[Any],
    groups: tuple[NDArray[Any] | None, NDArray[Any] | None] = (None, None),
    *,
    seed: int = 0,
    most_rows: int = MOST_ROWS,
    level: float = LEVEL,
) -> DomainClassifier:
    """The AUC of a logistic regression that is asked which side an image is of, cross-validated.

    Features are standardised by the training rows. The images of a patient are in one fold. The AUC is the mean of the
    folds', each within its own held-out rows, as the folds' scores are not on one scale.

    The interval is for the mean true AUC of the folds' classifiers. Every row that is held out in one fold is trained
    on in the others, so that the folds' AUCs vary together: their correlation is taken to be 1 / K of K folds. Without
    it 80 to 87 per cent of intervals cover where there is no shift.

    Args:
        one: (N, D) embeddings, finite.
        other: (M, D).
        groups: (N,) and (M,) patient of each row, or None: every row is one. The sides have no patient in common.
        seed: of the folds, and of the rows where there are more than `most_rows` of a side.
        most_rows: of a side, two at least.
        level: of the interval.

    Returns:
        nan, and why, with fewer than FEWEST patients on a side. Of few patients there are fewer folds.

    Raises:
        ValueError: if the two are not of one width, or the groups are not one for each row.

    Source: Lopez-Paz and Oquab 2017 for the classifier as a test of two samples; LeDell, Petersen and van der Laan 2015
        for the variance of a cross-validated AUC; Nadeau and Bengio 2003 for the correlation.
    """
    rng = np.random.default_rng(checked_seed(seed))
    n_all, sample = (len(one), len(other)), _drawn(one, other, groups, most_rows, rng)
    fewest = min(sample.n_units)
    if fewest < FEWEST:
        reason = f"{fewest} images or patients on a side; it takes {FEWEST}"
        return DomainClassifier(Interval(*[float("nan")] * 3), sample.n_rows, n_all, reason)
    n_splits = min(N_SPLITS, fewest)
    folds = model_selection.StratifiedGroupKFold(n_splits, shuffle=True, random_state=int(rng.integers(2**31)))
    means, parts = [], np.zeros((len(sample.side), 1))
    for train, held in folds.split(sample.rows, sample.side, sample.unit):
        scaler = preprocessing.StandardScaler().fit(sample.rows[train])
        model = linear_model.LogisticRegression(C=STRENGTH, max_iter=1000)
        model.fit(scaler.transform(sample.rows[train]), sample.side[train])
        score = model.decision_function(scaler.transform(sample.rows[held]))
        side = sample.side[held]
        if len(np.unique(side)) < 2:  # patients of very different sizes: this fold says nothing
            continue
        fold = scored(side, [np.stack([-score, score], axis=1)], Units(side), ["auc"])["auc"]
        means.append(fold.estimate)
        parts[held] = fold.parts
    if not means:
        reason = "no fold holds rows of both sides, as few patients have most of them"
        return DomainClassifier(Interval(*[float("nan")] * 3), sample.n_rows, n_all, reason)
    units, n = Units(sample.side, sample.unit), len(means)
    together = parts / n * np.sqrt(1.0 + (n - 1.0) / n)
    found = Scored("auc", np.array([np.mean(means)]), units.sums(together), units)
    return DomainClassifier(found.interval(level), sample.n_rows, n_all)


def discrepancy(
    one: NDArray[Any],
    other: NDArray[Any],
    groups: tuple[NDArray[Any] | None, NDArray[Any] | None] = (None, None),
    *,
    seed: int = 0,
    most_rows: int = MOST_ROWS,
    n_permutations: int = N_PERMUTATIONS,
) -> Discrepancy:
    """Squared MMD with a Gaussian kernel, and a permutation test.

    The kernel is exp(-d^2 / (2 b^2)); b is the median distance of two rows of both sides together. Pairs of rows of one
    patient are left out, so that the estimate is unbiased for patients, too; whole patients change sides in the test.

    Args:
        one: (N, D) embeddings, finite, at their own scale.
        other: (M, D).
        groups: (N,) and (M,) patient of each row, or None: every row is one. The sides have no patient in common.
        seed: of the permutations, and of the rows where there are more than `most_rows` of a side.
        most_rows: of a side, two at least: time and memory grow with its square.
        n_permutations: R; p is 1 / (R + 1) at least.

    Returns:
        nan, and why, with fewer than 2 patients on a side. Where all rows are equal there is no shift, and p is 1.

    Raises:
        ValueError: if the two are not of one width, or the groups are not one for each row.

    Source: Gretton et al. 2012, equation 3, lemma 6, and section 8 for the median; Phipson and Smyth 2010 for p.
    """
    rng = np.random.default_rng(checked_seed(seed))
    n_all, sample = (len(one), len(other)), _drawn(one, other, groups, most_rows, rng)
    nan, fewest = float("nan"), min(sample.n_units)
    if fewest < 2:
        reason = f"{fewest} images or patients on a side; it takes 2"
        return Discrepancy(nan, nan, nan, sample.n_rows, n_all, reason)
    rows = sample.rows.astype(np.float64)
    rows -= rows.mean(axis=0)  # distances stay, and lose less to rounding
    bandwidth = _median_distance(rows[rng.permutation(len(rows))[:BANDWIDTH_ROWS]])
    if bandwidth <= ROUNDING:
        return Discrepancy(0.0, 1.0, 0.0, sample.n_rows, n_all)
    sums, sizes = _kernel_sums(rows, sample.unit, bandwidth), np.bincount(sample.unit).astype(np.float64)
    is_one = np.zeros(len(sizes))
    is_one[sample.unit[sample.side == 0]] = 1.0
    observed = float(_squared(sums, sizes, is_one[None])[0])
    n_larger = 0
    for start in range(0, n_permutations, BLOCK):
        some = np.tile(is_one, (min(BLOCK, n_permutations - start), 1))
        n_larger += int((_squared(sums, sizes, rng.permuted(some, axis=1)) >= observed - ROUNDING).sum())
    return Discrepancy(observed, (n_larger + 1) / (n_permutations + 1), bandwidth, sample.n_rows, n_all)


@dataclass(frozen=True)
class _Sample:
    rows: NDArray[Any]
    """(n, D) of both sides, by unit."""
    side: NDArray[np.intp]
    """(n,) 0 or 1."""
    unit: NDArray[np.intp]
    """(n,) image or patient, ascending from 0."""

    @property
    def n_rows(self) -> tuple[int, int]:
        """Of each side."""
        return int((self.side == 0).sum()), int((self.side == 1).sum())

    @property
    def n_units(self) -> tuple[int, int]:
        """Of each side."""
        return len(np.unique(self.unit[self.side == 0])), len(np.unique(self.unit[self.side == 1]))


def _drawn(
    one: NDArray[Any],
    other: NDArray[Any],
    groups: tuple[NDArray[Any] | None, NDArray[Any] | None],
    most_rows: int,
    rng: np.random.Generator,
) -> _Sample:
    if one.ndim != 2 or other.ndim != 2 or one.shape[1] != other.shape[1]:
        raise ValueError(f"embeddings are {one.shape} and {other.shape}; pass (N, D) and (M, D) of one backbone")
    rows, unit, n_before = [], [], 0
    for features, of in zip((one, other), groups, strict=True):
        if of is not None and len(of) != len(features):
            raise ValueError(f"there are {len(of)} groups and {len(features)} rows; pass one for each")
        chosen = np.arange(len(features))
        if len(features) > most_rows:
            chosen = np.sort(rng.permutation(len(features))[:most_rows])
        own = np.arange(len(chosen)) if of is None else np.unique(of[chosen], return_inverse=True)[1].ravel()
        order = np.argsort(own, kind="stable")
        rows.append(features[chosen[order]])
        unit.append(own[order] + n_before)
        n_before += int(own.max(initial=-1)) + 1
    side = np.repeat(np.arange(2), [len(each) for each in rows])
    return _Sample(np.concatenate(rows), side, np.concatenate(unit))


def _squared_distances(some: NDArray[Any], rows: NDArray[Any]) -> NDArray[Any]:
    lengths = np.einsum("nd,nd->n", rows, rows)
    own = np.einsum("nd,nd->n", some, some)
    squared: NDArray[Any] = np.maximum(own[:, None] + lengths - 2.0 * some @ rows.T, 0.0)
    return squared


def _median_distance(rows: NDArray[Any]) -> float:
    """Of two different rows; where most rows are equal, the root mean square one."""
    squared = _squared_distances(rows, rows)[np.triu_indices(len(rows), 1)]
    scale = float(np.einsum("nd,nd->n", rows, rows).max())
    squared[squared <= 1e-12 * scale] = 0.0  # rows that are equal but for rounding
    median = float(np.median(np.sqrt(squared)))
    return median if median > 0.0 else float(np.sqrt(squared.mean()))


def _kernel_sums(rows: NDArray[Any], unit: NDArray[np.intp], bandwidth: float) -> NDArray[Any]:
    """(U, U) sums of the kernel over the rows of two units; 0 of a unit with itself."""
    starts = np.flatnonzero(np.r_[True, np.diff(unit) > 0])
    sums = np.zeros((len(starts), len(starts)))
    for start in range(0, len(rows), BLOCK):
        block = slice(start, start + BLOCK)
        kernel = np.exp(_squared_distances(rows[block], rows) / (-2.0 * bandwidth**2))
        np.add.at(sums, unit[block], np.add.reduceat(kernel, starts, axis=1))
    np.fill_diagonal(sums, 0.0)
    return sums


def _squared(sums: NDArray[Any], sizes: NDArray[Any], is_one: NDArray[Any]) -> NDArray[Any]:
    """(R,) squared MMD where (R, U) units, 0 or 1, are on the first side."""
    reached = is_one @ sums
    first, all_of_first = np.einsum("ru,ru->r", reached, is_one), reached.sum(axis=1)
    across = all_of_first - first
    second = sums.sum() - first - 2.0 * across
    n_first, n_second = is_one @ sizes, (1.0 - is_one) @ sizes
    of_first, of_second = n_first**2 - is_one @ sizes**2, n_second**2 - (1.0 - is_one) @ sizes**2
    squared: NDArray[Any] = first / of_first + second / of_second - 2.0 * across / (n_first * n_second)
    return squared
