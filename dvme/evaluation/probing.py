"""`dvme probe`: which backbone serves the task, and whether a fusion does better, in one honest table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.arguments import public
from dvme.data import Task
from dvme.defaults import N_FOLDS, PROBE_HEADS, SEED, TEST_FRACTION
from dvme.evaluation.metrics import METRICS, log_odds, score
from dvme.evaluation.outcome import ProbeReport, ProbeRow, Score
from dvme.evaluation.splits import Plan, make_plan
from dvme.evaluation.standing import UNTESTED, Standing
from dvme.evaluation.study import (
    EMBEDDINGS_SHARE,
    HIDDEN,
    Method,
    alike_rows,
    convergence_notice,
    group_notices,
    loaded,
    make_methods,
    method_name,
    method_notices,
    named_backbones,
    test_units,
    usable_rows,
)
from dvme.evaluation.verdict import fusion_verdicts, verdict_of
from dvme.heads import Embedded, FittedHead, Head, Job, fit_jobs
from dvme.heads.jobs import kept_log_proba
from dvme.heads.saving import SavedFold, SavedHead, check_folder, folder_name, new_folder, save_head, subset_hash
from dvme.places import open_cache
from dvme.runtime import Progress, Runtime, automatic
from dvme.stats.crossed import overlap
from dvme.stats.influence import Scored, scored
from dvme.stats.units import Units
from dvme_cache import EmbeddingCache

RANKED_BY = METRICS[0]


@dataclass(frozen=True)
class _Study:
    """What every method of one probe shares."""

    store: EmbeddingCache
    rows: NDArray[Any]
    """(N,) cache rows that take part; positions in the plan and the labels are positions here."""
    task: Task
    labels: NDArray[Any]
    plan: Plan
    units: Units
    """Of the test set."""
    seed: int
    runtime: Runtime
    progress: Progress


@public
def probe(  # noqa: PLR0913 - the command's options, one to one
    cache: str | Path,
    *,
    heads: Sequence[str | Head] = PROBE_HEADS,
    backbones: Sequence[str] | None = None,
    controls: bool = True,
    n_folds: int = N_FOLDS,
    test_fraction: float = TEST_FRACTION,
    seed: int = SEED,
    save: str | Path | None = None,
    runtime: Runtime | None = None,
    progress: Progress = automatic,
) -> ProbeReport:
    """Train heads on cached embeddings and test them on one held-out set.

    Hyper-parameters, early stopping and the ranking come from validation rows; the test set is used once per
    number. Every method is judged on the same rows: those with a label and an embedding from each backbone.

    Args:
        cache: path of a cache.
        heads: names, with settings where they differ from the defaults (`knn@k=5:20`), or heads. Most are fitted on
            each backbone; a fusion takes all of them at once.
        backbones: names of backbones in the cache; None: all of them.
        controls: beside a fusion by attention, also fit `linear` on every single backbone and the controls
            `dvme-noattn`, `mlp`, `concat` and `mean-logits`; with default settings, where `heads` does not name them.
        n_folds: folds of the training pool.
        test_fraction: part held out, where the user gave no split.
        seed: of the split and the heads.
        save: a folder for the fitted heads, one folder in it for each line of the table; it must not be there.
        runtime: device and memory budget.
        progress: told (stage, done, total); by default bars in a terminal or a notebook, `dvme.silent`: none.

    Raises:
        DataError, OptionError, UnknownNameError, CacheError: each says what is wrong and what to do.
    """
    store = open_cache(cache)
    names = named_backbones(store, backbones)
    methods = make_methods(heads, names, with_controls=controls)
    if save is not None:
        check_folder(save)
    rows, left_out = usable_rows(store, names)
    columns = store.columns(["label", "split", "group"])  # of one moment, should someone label meanwhile
    labels_text = columns["label"][rows]
    task = Task.from_labels(labels_text, store.class_order)
    task.check_trainable()
    labels = task.encode(labels_text)
    groups = columns["group"][rows]
    twins, constant = alike_rows(store, names, rows)
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
    units, interval_notice = test_units(labels[plan.test], groups[plan.test], task.classes)
    study = _Study(store, rows, task, labels, plan, units, seed, runtime or Runtime(), progress)
    with ExitStack() as stack:  # all heads are saved, or none
        aside = None if save is None else stack.enter_context(new_folder(save))
        results, scores = _evaluate_all(study, methods, aside)
    saved = [] if save is None else [os.fspath(Path(save) / _folder_name(method)) for method in methods]
    trains = [fold.train for fold in plan.folds]
    shared = overlap(trains) if len(trains) > 1 else 0.0
    results.sort(key=lambda row: -row.validation_auc)
    standing = Standing(
        {(n, 0): scores[row.method] for n, row in enumerate(results)},
        {(n, 0): row.validation_auc for n, row in enumerate(results)},
        [shared],
    )
    results = [replace(row, mark=standing.mark(n, 0)) for n, row in enumerate(results)]
    return ProbeReport(
        cache=os.fspath(cache),
        task=task,
        plan=plan.description,
        n_left_out={reason: count for reason, count in left_out.items() if count},
        notices=[
            *method_notices(methods),
            *constant.values(),
            *(_copies_notice(plan, twins) if len(constant) < len(names) else []),
            *group_notices(groups),
            *convergence_notice((row.head, chosen) for row in results for chosen in row.chosen),
            interval_notice,
        ],
        rows=results,
        verdict=verdict_of(results, standing),
        fusion=fusion_verdicts(results, standing),
        saved=saved,
    )


def _copies_notice(plan: Plan, twins: NDArray[Any]) -> list[str]:
    n_copies = len(twins) - len(np.unique(twins))
    if not n_copies:
        return []
    pool = np.unique(np.concatenate([np.concatenate([fold.train, fold.validation]) for fold in plan.folds]))
    shared = int(np.isin(twins[plan.test], twins[pool]).sum())
    where = f"{shared} test images have a copy in your training rows: a leak" if shared else "kept on one side"
    return [f"{n_copies} images show the same picture as another file ({where})"]


def _evaluate_all(
    study: _Study, methods: Sequence[Method], save: Path | None
) -> tuple[list[ProbeRow], dict[str, Scored]]:
    """Rows of the table, and test AUCs by method."""
    results: list[ProbeRow] = []
    scores: dict[str, Scored] = {}
    budget, n_folds = study.runtime.memory_budget("cpu"), len(study.plan.folds)
    hidden = study.labels.copy()
    hidden[study.plan.test] = HIDDEN
    for embeddings, some in loaded(study.store, study.rows, methods, budget // EMBEDDINGS_SHARE):
        data = Embedded(embeddings, hidden, len(study.task.classes))
        jobs = [
            Job(method.head, method.backbones, fold.train, fold.validation, study.seed)
            for method in some
            for fold in study.plan.folds
        ]
        tell = partial(_tell, study.progress, len(results) * n_folds, len(methods) * n_folds)
        fitted = fit_jobs(jobs, data, runtime=study.runtime, progress=tell)
        for position, method in enumerate(some):
            folds = fitted[position * n_folds : (position + 1) * n_folds]
            row, scores[method_name(method.head.name, method.backbones)] = _evaluate(study, data, method, folds)
            results.append(row)
            if save is not None:
                save_head(save / _folder_name(method), _savable(study, method, row, folds))
    return results, scores


def _tell(progress: Progress, before: int, total: int, stage: str, done: int, n_jobs: int) -> None:
    """Of the jobs that are fitted now, as some of all."""
    del stage, n_jobs
    progress("probe", before + done, total)


def _folder_name(method: Method) -> str:
    return folder_name(method.head.name, method.backbones)


def _evaluate(study: _Study, data: Embedded, method: Method, fitted: Sequence[FittedHead]) -> tuple[ProbeRow, Scored]:
    plan, labels = study.plan, study.labels

    def ranked(model: FittedHead, rows: NDArray[Any]) -> NDArray[Any]:
        name = method_name(method.head.name, method.backbones)
        return log_odds(kept_log_proba(model, data.blocks(method.backbones, rows), name))

    validation = [
        score(labels[fold.validation], ranked(model, fold.validation))[RANKED_BY]
        for fold, model in zip(plan.folds, fitted, strict=True)
    ]
    predictions = [ranked(model, plan.test) for model in fitted]
    scores = [score(labels[plan.test], each) for each in predictions]
    test = {metric: Score.over([each[metric] for each in scores]) for metric in METRICS}
    found = scored(labels[plan.test], predictions, study.units, [RANKED_BY])[RANKED_BY]
    row = ProbeRow(
        backbones=method.backbones,
        head=method.head.name,
        dim=sum(data.dims(method.backbones)),
        validation_auc=float(np.mean(validation)),
        test=test,
        mark=UNTESTED,  # until all are there
        auc_interval=found.interval(),
        chosen=[dict(model.chosen) for model in fitted],
    )
    return row, found


def _savable(study: _Study, method: Method, row: ProbeRow, fitted: Sequence[FittedHead]) -> SavedHead:
    """The folds' heads with all that predicting and explaining need to know."""
    ids = study.store.samples.ids[study.rows]
    folds = [
        SavedFold(
            head=head,
            train_ids=ids[fold.train],
            validation_ids=ids[fold.validation],
            seed=study.seed,
            metrics={metric: summary.folds[number] for metric, summary in row.test.items()},
        )
        for number, (head, fold) in enumerate(zip(fitted, study.plan.folds, strict=True))
    ]
    return SavedHead(
        head=method.head,
        backbones=row.backbones,
        dims=tuple(study.store.embeddings(name).dim for name in row.backbones),
        fingerprints=tuple(study.store.embeddings(name).fingerprint for name in row.backbones),
        classes=study.task.classes,
        test_hash=subset_hash(ids[study.plan.test]),
        folds=folds,
    )
