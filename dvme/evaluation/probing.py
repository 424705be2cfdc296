"""`dvme probe`: which backbone serves the task, in one honest table."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data import MISSING, Task
from dvme.errors import DataError, OptionError
from dvme.evaluation.bootstrap import MIN_UNITS, Interval, percentile_interval, resample_weights, resampled_auc
from dvme.evaluation.metrics import METRICS, score
from dvme.evaluation.splits import Plan, make_plan
from dvme.heads import FittedHead, Head, Job, get_head
from dvme.runtime import Progress, silent
from dvme_cache import EmbeddingCache, RowState, content_id

RANKED_BY = METRICS[0]


@dataclass(frozen=True)
class Score:
    """One metric on the test set, over the folds' heads."""

    mean: float
    std: float
    """Sample standard deviation; nan with a single fold."""
    folds: list[float]


@dataclass(frozen=True)
class ProbeRow:
    """One backbone under one head."""

    backbone: str
    head: str
    dim: int
    validation_auc: float
    """Mean over the folds; what methods are ranked by."""
    test: dict[str, Score]
    """By metric."""
    auc_interval: Interval
    """Test AUC, bootstrap over test samples."""
    chosen: list[dict[str, Any]]
    """Hyper-parameters that validation chose, per fold."""


@dataclass(frozen=True)
class Verdict:
    """What the table allows to be said."""

    best: str
    runner_up: str
    difference: Interval
    """Test AUC of the best less that of the runner-up, paired bootstrap on the shared test set."""
    sentence: str


@dataclass(frozen=True)
class ProbeReport:
    """The outcome of `dvme probe`."""

    cache: str
    task: Task
    plan: str
    n_left_out: dict[str, int]
    """Rows that take no part, by reason."""
    notices: list[str]
    """What the reader of the table has to know."""
    rows: list[ProbeRow]
    """Best validation AUC first."""
    verdict: Verdict | None
    """None with a single row, or where the test set is too small to resample."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return asdict(self) | {"task": self.task.to_json()}


def probe(
    cache: str | Path,
    *,
    heads: Sequence[str] = ("linear", "knn"),
    backbones: Sequence[str] | None = None,
    n_folds: int = 5,
    test_fraction: float = 0.2,
    seed: int = 0,
    progress: Progress = silent,
) -> ProbeReport:
    """Train every head on every backbone's cached embeddings and test them on one held-out set.

    Hyper-parameters and the ranking come from validation rows; the test set is used once per number.
    Every backbone is judged on the same rows: those with a label and an embedding from each of them.

    Args:
        cache: path of a cache.
        heads: names of heads.
        backbones: names of backbones in the cache; None: all of them.
        n_folds: folds of the training pool.
        test_fraction: part held out, where the user gave no split.
        seed: of the split and the bootstrap.
        progress: told (stage, done, total).

    Raises:
        DataError, OptionError, UnknownNameError, CacheError: each says what is wrong and what to do.
    """
    store = EmbeddingCache.open(cache)
    names = list(dict.fromkeys(backbones)) if backbones else store.backbones
    if not names:
        raise OptionError(f"{store.location} has no embeddings yet; run dvme extract first")
    fitters = [get_head(name) for name in dict.fromkeys(heads)]
    if not fitters:
        raise OptionError("no head is named; pass --head linear,knn")
    rows, left_out = _usable_rows(store, names)
    columns = store.columns(["label", "split", "group"])  # of one moment, should someone label meanwhile
    labels_text = columns["label"][rows]
    task = Task.from_labels(labels_text)
    task.check_trainable()
    labels = task.encode(labels_text)
    groups = columns["group"][rows]
    first = store.embeddings(names[0]).read(rows)
    twins = _twins(first)
    plan = make_plan(
        labels,
        columns["split"][rows],
        groups,
        twins=twins,
        classes=task.classes,
        n_folds=n_folds,
        test_fraction=test_fraction,
        seed=seed,
    )
    weights, interval_notice = _test_weights(labels[plan.test], groups[plan.test], seed)
    results, resampled = _evaluate_all(store, names, fitters, rows, labels, plan, weights, first, seed, progress)
    results.sort(key=lambda row: -row.validation_auc)
    return ProbeReport(
        cache=os.fspath(cache),
        task=task,
        plan=plan.description,
        n_left_out={reason: count for reason, count in left_out.items() if count},
        notices=[*_copies_notice(plan, twins), interval_notice],
        rows=results,
        verdict=_verdict(results, resampled),
    )


def _usable_rows(store: EmbeddingCache, names: Sequence[str]) -> tuple[NDArray[Any], dict[str, int]]:
    """Rows with a label and an embedding of every backbone, and why the others are left out."""
    states = np.stack([store.embeddings(name).states() for name in names])
    has_label = store.column("label") != MISSING
    is_failed = (states == RowState.FAILED).any(axis=0)
    is_pending = (states == RowState.PENDING).any(axis=0) & ~is_failed
    usable = np.flatnonzero(has_label & ~is_failed & ~is_pending)
    left_out = {
        "without an embedding": int((has_label & is_failed).sum()),
        "not extracted yet": int((has_label & is_pending).sum()),
        "without a label": int((~has_label & ~store.samples.is_pruned).sum()),
    }
    if not len(usable):
        why = ", ".join(f"{count} {reason}" for reason, count in left_out.items() if count)
        message = f"{store.location} has no labelled row with an embedding of {', '.join(names)} ({why or 'empty'})"
        raise DataError(message)
    return usable, left_out


def _twins(features: NDArray[Any]) -> NDArray[Any]:
    """(N,) integers, equal for rows of bit-identical embeddings: one picture in files of different bytes."""
    digests = np.array([content_id(row.tobytes()).hex() for row in np.ascontiguousarray(features)])
    twins: NDArray[Any] = np.unique(digests, return_inverse=True)[1]
    return twins


def _copies_notice(plan: Plan, twins: NDArray[Any]) -> list[str]:
    n_copies = len(twins) - len(np.unique(twins))
    if not n_copies:
        return []
    pool = np.unique(np.concatenate([np.concatenate([fold.train, fold.validation]) for fold in plan.folds]))
    shared = int(np.isin(twins[plan.test], twins[pool]).sum())
    where = f"{shared} test images have a copy in your training rows: a leak" if shared else "kept on one side"
    return [f"{n_copies} images show the same picture as another file ({where})"]


def _test_weights(labels: NDArray[Any], groups: NDArray[Any], seed: int) -> tuple[NDArray[Any], str]:
    """Bootstrap weights of the test set, none where it is too small, and the line that says so."""
    units, what = None, "images"
    if (groups != MISSING).any():  # a row without a group is one of its own
        units, what = np.array([name or f"\0{index}" for index, name in enumerate(groups.tolist())]), "groups"
    n_units = len(labels) if units is None else len(np.unique(units))
    if n_units < MIN_UNITS:
        notice = f"{n_units} test {what} are too few for an interval (at least {MIN_UNITS}); no verdict"
        return np.empty((0, len(labels))), notice
    # A seed of its own: the split and the resampling are unrelated.
    weights = resample_weights(labels, units, seed=zlib.crc32(f"bootstrap {seed}".encode()))
    return weights, f"95% CI: bootstrap over {n_units:,} test {what}"


def _evaluate_all(  # noqa: PLR0913
    store: EmbeddingCache,
    names: Sequence[str],
    fitters: Sequence[Head],
    rows: NDArray[Any],
    labels: NDArray[Any],
    plan: Plan,
    weights: NDArray[Any],
    first: NDArray[Any],
    seed: int,
    progress: Progress,
) -> tuple[list[ProbeRow], dict[tuple[str, str], NDArray[Any]]]:
    """Rows and resampled AUCs of every backbone under every head; `first` is the first backbone's features."""
    jobs = [Job(fold.train, fold.validation, seed) for fold in plan.folds]
    n_classes = int(labels.max()) + 1
    results: list[ProbeRow] = []
    resampled: dict[tuple[str, str], NDArray[Any]] = {}
    for position, name in enumerate(names):
        features = store.embeddings(name).read(rows) if position else first
        for head in fitters:
            fitted = head.fit(features, labels, n_classes, jobs)
            row, resampled[name, head.name] = _evaluate(name, head.name, features, labels, plan, fitted, weights)
            results.append(row)
            progress("probe", len(results), len(names) * len(fitters))
    return results, resampled


def _evaluate(
    backbone: str,
    head: str,
    features: NDArray[Any],
    labels: NDArray[Any],
    plan: Plan,
    fitted: Sequence[FittedHead],
    weights: NDArray[Any],
) -> tuple[ProbeRow, NDArray[Any]]:
    validation = [
        score(labels[fold.validation], model.predict_proba(features[fold.validation]))[RANKED_BY]
        for fold, model in zip(plan.folds, fitted, strict=True)
    ]
    predictions = [model.predict_proba(features[plan.test]) for model in fitted]
    tested = [score(labels[plan.test], probabilities) for probabilities in predictions]
    test = {metric: _summary([scores[metric] for scores in tested]) for metric in METRICS}
    resampled = resampled_auc(labels[plan.test], predictions, weights)
    row = ProbeRow(
        backbone=backbone,
        head=head,
        dim=features.shape[1],
        validation_auc=float(np.mean(validation)),
        test=test,
        auc_interval=percentile_interval(test[RANKED_BY].mean, resampled),
        chosen=[dict(model.chosen) for model in fitted],
    )
    return row, resampled


def _summary(values: list[float]) -> Score:
    std = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
    return Score(float(np.mean(values)), std, values)


def _verdict(rows: Sequence[ProbeRow], resampled: dict[tuple[str, str], NDArray[Any]]) -> Verdict | None:
    """Compare the best on validation with the best of the other backbones, sample by sample on the test set.

    With one backbone only, its heads are compared.
    """
    if len(rows) < 2:
        return None
    best = rows[0]
    second = next((row for row in rows if row.backbone != best.backbone), rows[1])
    gap = best.test[RANKED_BY].mean - second.test[RANKED_BY].mean
    paired = resampled[best.backbone, best.head] - resampled[second.backbone, second.head]
    difference = percentile_interval(gap, paired)
    if np.isnan(difference.low):
        return None
    name, other = f"{best.backbone} + {best.head}", f"{second.backbone} + {second.head}"
    interval = f"{gap:+.3f} test AUC (95% CI {difference.low:+.3f} to {difference.high:+.3f})"
    if difference.includes_zero:
        sentence = f"{name} leads on validation; against {other}: {interval}, so these data do not tell them apart."
    elif gap > 0:
        sentence = f"{name} leads on validation and beats {other} by {interval}."
    else:
        sentence = f"{name} leads on validation, but {other} is better on the test set: {interval}. Trust neither yet."
    return Verdict(name, other, difference, sentence)
