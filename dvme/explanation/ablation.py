"""What a fusion loses without one of its backbones: as it was fitted, or fitted again on the others.

Of several findings the log loss of a sample is the mean over the findings of which it is known whether they are there,
and the AUC is the mean over the findings that the test samples can judge.

The two answer different questions. `leave_one_out` keeps the head and shows it the mean embedding in place of a
backbone's: how much this head relies on that backbone. Another head could do as well without it, where backbones know
the same. `leave_one_out_retrained` fits that other head: what the backbone adds to the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError
from dvme.heads.fitting.jobs import Embedded, FittedHead, Job, fit_jobs
from dvme.json_values import ToJson
from dvme.metrics.classification import log_odds
from dvme.runtime import Progress, Runtime, silent
from dvme.stats.findings import scored_findings
from dvme.stats.influence import FEWEST, Scored, mean_scored, scored
from dvme.stats.intervals import Interval
from dvme.stats.units import Units
from dvme.study.outcome import Score

FLOOR = float(np.finfo(np.float64).eps)
"""Smallest probability that a log loss is taken of, as in scikit-learn: a sample costs at most 36."""


@dataclass(frozen=True)
class Performance:
    """How well the folds' heads do on the shared test set, and each on its own validation rows."""

    validation_log_loss: Score
    """nan in a fold without validation rows."""
    log_loss: Score
    """On the test set, in nats; lower is better."""
    auc: Score
    """Macro AUC on the test set; of several findings the mean of theirs."""


@dataclass(frozen=True)
class LeftOut:
    """The performance without one backbone, and what it is less that with all of them."""

    backbone: str
    performance: Performance
    validation_log_loss_difference: Score
    """Paired by fold; above zero: worse without the backbone."""
    log_loss_difference: Interval
    """Mean over the folds, paired by test sample; above zero: worse without the backbone."""
    auc_difference: Interval
    """Mean over the folds, paired by test sample; below zero: worse without the backbone."""


@dataclass(frozen=True)
class Ablation(ToJson):
    """What every backbone of a fusion is good for.

    Intervals are over test samples or groups under the heads at hand, see `dvme.stats.influence.Scored.interval`. They
    do not hold the luck of training, for which see the spread over the folds, and are not corrected for there being M
    of them. They are nan where a class has fewer than 3 test samples or groups, or where no sample differs.
    """

    is_retrained: bool
    """Whether the heads were fitted again on the other backbones."""
    n_test: int
    intact: Performance
    """With all backbones."""
    left_out: tuple[LeftOut, ...]
    """In the order of the backbones."""


@dataclass(frozen=True)
class _Predictions:
    """Of every fold's head."""

    test: list[NDArray[Any]]
    """(n, C) log probabilities each."""
    validation_losses: list[float]


@dataclass(frozen=True)
class _Test:
    """The test samples."""

    labels: NDArray[Any]
    """(n,) class indices, or (n, L) findings."""
    groups: NDArray[Any] | None

    @property
    def units(self) -> Units:
        """Of one class, where a sample may have several."""
        several = self.labels.ndim == 2
        return Units(np.zeros(len(self.labels), dtype=np.int64) if several else self.labels, self.groups)

    def auc(self, folds: Sequence[NDArray[Any]]) -> Scored:
        """Of (n, C) log probabilities by each fold's head.

        Raises:
            DataError: if no finding can be judged.
        """
        if self.labels.ndim == 1:
            return scored(self.labels, [log_odds(fold) for fold in folds], self.units, ["auc"])["auc"]
        odds = [log_odds(fold, is_multilabel=True) for fold in folds]
        _, mean = scored_findings(self.labels, odds, self.groups)
        if mean is None:
            raise DataError(
                f"no finding can be judged on these {len(self.labels)} images: it takes {FEWEST} images or groups that "
                "have it and as many that have not; explain on more images"
            )
        return mean

    def mean_losses(self, losses: NDArray[Any]) -> Scored:
        """The mean of (n,) losses over the samples that have one."""
        known = np.flatnonzero(~np.isnan(losses))
        groups = None if self.groups is None else self.groups[known]
        return mean_scored(losses[known], _Test(self.labels[known], groups).units)


def leave_one_out(
    heads: Sequence[FittedHead],
    jobs: Sequence[Job],
    data: Embedded,
    test: NDArray[Any],
    *,
    groups: NDArray[Any] | None = None,
) -> Ablation:
    """How much fitted heads rely on each backbone: their loss with its embeddings replaced by a constant.

    The constant is the mean of the backbone's embeddings over the rows that the head was trained on. The head is not
    retrained, so this is reliance, not what a head fitted without the backbone would lose: two backbones that know the
    same may both matter here. The mean is also unlike any real embedding (shorter, for one), and a head that is not
    linear may answer to that as well.

    Args:
        heads: one fitted head for each of F folds, F >= 1.
        jobs: what they were fitted on, in the same order and with the same backbones.
        data: embeddings and labels of all rows that the jobs and `test` name.
        test: (n,) row indices of the shared test set.
        groups: (n,) group (patient) of each test row; None: every row on its own.

    Source: Breiman 2001, section 10, with the mean in place of a permutation; Covert et al. 2021, on such removals.
    """
    names = jobs[0].backbones
    intact = _predictions(heads, jobs, data, test)
    others = [_predictions(heads, jobs, data, test, absent=m) for m in range(len(names))]
    return _compared(names, intact, others, _Test(data.labels[test], groups), is_retrained=False)


def leave_one_out_retrained(
    heads: Sequence[FittedHead],
    jobs: Sequence[Job],
    data: Embedded,
    test: NDArray[Any],
    *,
    groups: NDArray[Any] | None = None,
    runtime: Runtime | None = None,
    progress: Progress = silent,
) -> Ablation:
    """What each backbone adds to the others: the same head fitted on the others, with the same rows and seeds.

    A head that chooses hyper-parameters chooses them anew, and one whose size follows from the embeddings gets smaller
    with them.

    Args:
        heads: one for each of F folds, fitted on all M >= 2 backbones.
        jobs: what they were fitted on, in the same order.
        data: embeddings and labels of all rows that the jobs and `test` name.
        test: (n,) row indices of the shared test set.
        groups: (n,) group (patient) of each test row; None: every row on its own.
        runtime: device and memory budget.
        progress: told (stage, done, total) of the fits.

    Raises:
        DataError: see fit_jobs.
    """
    names = jobs[0].backbones
    reduced = [replace(job, backbones=(*names[:m], *names[m + 1 :])) for m in range(len(names)) for job in jobs]
    fitted, size = fit_jobs(reduced, data, runtime=runtime, progress=progress), len(jobs)
    intact = _predictions(heads, jobs, data, test)
    others = [
        _predictions(fitted[start : start + size], reduced[start : start + size], data, test)
        for start in range(0, len(reduced), size)
    ]
    return _compared(names, intact, others, _Test(data.labels[test], groups), is_retrained=True)


def _predictions(
    heads: Sequence[FittedHead], jobs: Sequence[Job], data: Embedded, test: NDArray[Any], *, absent: int | None = None
) -> _Predictions:
    """What every fold's head says of the test rows and of its validation rows.

    With backbone `absent` at the mean of its embeddings over the training rows, whatever the row.
    """
    result = _Predictions([], [])
    for head, job in zip(heads, jobs, strict=True):
        shown, validation = data.blocks(job.backbones, test), data.blocks(job.backbones, job.validation)
        if absent is not None:
            mean = data.embeddings[job.backbones[absent]][job.train].mean(axis=0, dtype=np.float64)
            for blocks in (shown, validation):
                blocks[absent] = np.tile(mean.astype(np.float32), (len(blocks[absent]), 1))
        result.test.append(head.log_proba(shown))
        loss = float("nan")
        if len(job.validation):
            loss = _mean(_losses(_truth(data, job.validation), head.log_proba(validation)))
        result.validation_losses.append(loss)
    return result


def _compared(
    names: Sequence[str], intact: _Predictions, others: Sequence[_Predictions], test: _Test, *, is_retrained: bool
) -> Ablation:
    """Every other way of using the backbones beside the intact one, paired by fold and by test sample."""
    labels = test.labels
    auc_before = test.auc(intact.test)
    before = _performance(intact, labels, auc_before)
    left_out = []
    for name, other in zip(names, others, strict=True):
        gaps = np.subtract(other.validation_losses, intact.validation_losses).tolist()
        increases = _mean_losses(labels, other) - _mean_losses(labels, intact)
        log_loss, auc = test.mean_losses(increases).interval(), test.auc(other.test)
        after = _performance(other, labels, auc)
        left_out.append(LeftOut(name, after, Score.over(gaps), log_loss, (auc - auc_before).interval()))
    return Ablation(is_retrained, len(labels), before, tuple(left_out))


def _performance(predictions: _Predictions, labels: NDArray[Any], auc: Scored) -> Performance:
    return Performance(
        validation_log_loss=Score.over(predictions.validation_losses),
        log_loss=Score.over([_mean(_losses(labels, fold)) for fold in predictions.test]),
        auc=Score.over(auc.folds.tolist()),
    )


def _truth(data: Embedded, rows: NDArray[Any]) -> NDArray[Any]:
    """Labels of some rows, as losses are counted on them."""
    truth: NDArray[Any] = data.truth_of(rows) if data.is_multilabel else data.labels[rows]
    return truth


def _losses(labels: NDArray[Any], log_probabilities: NDArray[Any]) -> NDArray[Any]:
    """(n,) log loss of every sample; of several findings the mean over those that are known, nan where none is."""
    if labels.ndim == 2:
        with np.errstate(divide="ignore"):
            against = np.log(-np.expm1(log_probabilities))
        each = np.where(
            np.isnan(labels), 0.0, -np.maximum(np.where(labels == 1.0, log_probabilities, against), np.log(FLOOR))
        )
        n_known = (~np.isnan(labels)).sum(axis=1)
        sums = each.sum(axis=1)
        means: NDArray[Any] = np.divide(sums, n_known, out=np.full(len(labels), np.nan), where=n_known > 0)
        return means
    losses: NDArray[Any] = -np.maximum(log_probabilities[np.arange(len(labels)), labels], np.log(FLOOR))
    return losses


def _mean(losses: NDArray[Any]) -> float:
    """Over the samples that have one; nan without any."""
    known = losses[~np.isnan(losses)]
    return float(known.mean()) if len(known) else float("nan")


def _mean_losses(labels: NDArray[Any], predictions: _Predictions) -> NDArray[Any]:
    """(n,) log loss of every test sample, averaged over the folds."""
    mean: NDArray[Any] = np.mean([_losses(labels, fold) for fold in predictions.test], axis=0)
    return mean
