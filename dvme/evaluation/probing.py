"""`dvme probe`: which backbone serves the task, and whether a fusion does better, in one honest table."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data import MISSING, Task
from dvme.errors import DataError, OptionError
from dvme.evaluation.metrics import METRICS, score
from dvme.evaluation.outcome import ProbeReport, ProbeRow, Score
from dvme.evaluation.splits import Plan, make_plan
from dvme.evaluation.verdict import fusion_verdicts, verdict_of
from dvme.heads import ATTENTION_HEADS, CONTROLS, Embedded, FittedHead, Head, Job, fit_jobs, get_head
from dvme.heads.saving import SavedFold, SavedHead, check_folder, folder_name, new_folder, save_head, subset_hash
from dvme.runtime import Progress, Runtime, silent
from dvme.stats.resampling import MIN_UNITS, N_RESAMPLES, Draws, Resampled, draw, resample
from dvme_cache import EmbeddingCache, RowState, content_id

RANKED_BY = METRICS[0]
SINGLE_CONTROL = "linear"
"""The head under which every single backbone stands beside a fusion."""


@dataclass(frozen=True)
class Method:
    """One line of the table: a head on these backbones."""

    head: Head
    backbones: tuple[str, ...]


@dataclass(frozen=True)
class _Study:
    """What every method of one probe shares."""

    store: EmbeddingCache
    rows: NDArray[Any]
    """(N,) cache rows that take part; positions in the plan and the labels are positions here."""
    task: Task
    labels: NDArray[Any]
    plan: Plan
    draws: Draws
    """Of the test set, the same for every method."""
    seed: int
    runtime: Runtime
    progress: Progress


def probe(  # noqa: PLR0913 - the command's options, one to one
    cache: str | Path,
    *,
    heads: Sequence[str] = ("linear", "knn"),
    backbones: Sequence[str] | None = None,
    controls: bool = True,
    n_folds: int = 5,
    test_fraction: float = 0.2,
    seed: int = 0,
    save: str | Path | None = None,
    runtime: Runtime | None = None,
    progress: Progress = silent,
) -> ProbeReport:
    """Train heads on cached embeddings and test them on one held-out set.

    Hyper-parameters, early stopping and the ranking come from validation rows; the test set is used once per
    number. Every method is judged on the same rows: those with a label and an embedding from each backbone.

    Args:
        cache: path of a cache.
        heads: names of heads. Most are fitted on each backbone; a fusion takes all of them at once.
        backbones: names of backbones in the cache; None: all of them.
        controls: beside a fusion by attention, also fit `linear` on every single backbone and the controls
            `dvme-noattn`, `mlp`, `concat` and `mean-logits`.
        n_folds: folds of the training pool.
        test_fraction: part held out, where the user gave no split.
        seed: of the split, the heads and the bootstrap.
        save: a folder for the fitted heads, one folder in it for each line of the table; it must not be there.
        runtime: device and memory budget.
        progress: told (stage, done, total).

    Raises:
        DataError, OptionError, UnknownNameError, CacheError: each says what is wrong and what to do.
    """
    store = EmbeddingCache.open(cache)
    names = list(dict.fromkeys(backbones)) if backbones else store.backbones
    if not names:
        raise OptionError(f"{store.location} has no embeddings yet; run dvme extract first")
    methods = _methods(heads, names, with_controls=controls)
    if save is not None:
        check_folder(save)
    rows, left_out = _usable_rows(store, names)
    columns = store.columns(["label", "split", "group"])  # of one moment, should someone label meanwhile
    labels_text = columns["label"][rows]
    task = Task.from_labels(labels_text)
    task.check_trainable()
    labels = task.encode(labels_text)
    groups = columns["group"][rows]
    twins = _twins(store.embeddings(names[0]).read(rows))
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
    draws, interval_notice = _test_draws(labels[plan.test], groups[plan.test], seed)
    study = _Study(store, rows, task, labels, plan, draws, seed, runtime or Runtime(), progress)
    with ExitStack() as stack:  # all heads are saved, or none
        aside = None if save is None else stack.enter_context(new_folder(save))
        results, resampled = _evaluate_all(study, methods, aside)
    saved = [] if save is None else [os.fspath(Path(save) / _folder_name(method)) for method in methods]
    results.sort(key=lambda row: -row.validation_auc)
    return ProbeReport(
        cache=os.fspath(cache),
        task=task,
        plan=plan.description,
        n_left_out={reason: count for reason, count in left_out.items() if count},
        notices=[*_fusion_notice(methods), *_copies_notice(plan, twins), interval_notice],
        rows=results,
        verdict=verdict_of(results, resampled),
        fusion=fusion_verdicts(results, resampled),
        saved=saved,
    )


def _methods(heads: Sequence[str], names: Sequence[str], *, with_controls: bool) -> list[Method]:
    """The lines of the table: single heads on each backbone, fusions on all of them."""
    wanted = list(dict.fromkeys(heads))
    if not wanted:
        raise OptionError("no head is named; pass --head linear,knn")
    if with_controls and set(wanted) & set(ATTENTION_HEADS):
        wanted = list(dict.fromkeys([SINGLE_CONTROL, *wanted, *CONTROLS]))
    fitters = [get_head(name) for name in wanted]
    single = [Method(head, (name,)) for name in names for head in fitters if not head.is_fusion]
    return single + [Method(head, tuple(names)) for head in fitters if head.is_fusion]


def _fusion_notice(methods: Sequence[Method]) -> list[str]:
    alone = [method.head.name for method in methods if method.head.is_fusion and len(method.backbones) == 1]
    return [f"{', '.join(alone)}: one backbone is nothing to fuse; pass more --backbones"] if alone else []


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


def _test_draws(labels: NDArray[Any], groups: NDArray[Any], seed: int) -> tuple[Draws, str]:
    """Draws of the test set, none where it is too small, and the line that says so."""
    units, what = None, "images"
    if (groups != MISSING).any():  # a row without a group is one of its own
        units, what = np.array([name or f"\0{index}" for index, name in enumerate(groups.tolist())]), "groups"
    n_units = len(labels) if units is None else len(np.unique(units))
    is_enough = n_units >= MIN_UNITS
    # A seed of its own: the split and the resampling are unrelated.
    crc = zlib.crc32(f"bootstrap {seed}".encode())
    draws = draw(labels, units, seed=crc, n_resamples=N_RESAMPLES if is_enough else 0)
    if not is_enough:
        return draws, f"{n_units} test {what} are too few for an interval (at least {MIN_UNITS}); no verdict"
    return draws, f"95% CI: bootstrap over {n_units:,} test {what}"


def _evaluate_all(
    study: _Study, methods: Sequence[Method], save: Path | None
) -> tuple[list[ProbeRow], dict[str, Resampled]]:
    """Rows of the table, and resampled test AUCs by method."""
    results: list[ProbeRow] = []
    resampled: dict[str, Resampled] = {}
    for data, some in _loaded(study, methods):
        jobs = [
            Job(method.head, method.backbones, fold.train, fold.validation, study.seed)
            for method in some
            for fold in study.plan.folds
        ]
        fitted = fit_jobs(jobs, data, runtime=study.runtime, progress=study.progress)
        for position, method in enumerate(some):
            n_folds = len(study.plan.folds)
            folds = fitted[position * n_folds : (position + 1) * n_folds]
            row, resampled_row = _evaluate(study, data, method, folds)
            results.append(row)
            resampled[row.method] = resampled_row
            study.progress("probe", len(results), len(methods))
            if save is not None:
                save_head(save / _folder_name(method), _savable(study, row, folds))
    return results, resampled


def _folder_name(method: Method) -> str:
    return folder_name(method.head.name, method.backbones)


def _loaded(study: _Study, methods: Sequence[Method]) -> Iterator[tuple[Embedded, list[Method]]]:
    """The methods with the embeddings that they need: all at once where memory allows, else set by set of backbones."""
    tables = {name: study.store.embeddings(name) for method in methods for name in method.backbones}
    n_bytes = sum(len(study.rows) * table.dim * table.features.dtype.itemsize for table in tables.values())
    groups: dict[tuple[str, ...], list[Method]] = {}
    is_small = n_bytes <= study.runtime.memory_budget("cpu")
    for method in methods:
        groups.setdefault(tuple(tables) if is_small else method.backbones, []).append(method)
    for names, some in groups.items():
        embeddings = {name: tables[name].read(study.rows) for name in names}
        _check_finite(embeddings)
        yield Embedded(embeddings, study.labels, len(study.task.classes)), some


def _check_finite(embeddings: Mapping[str, NDArray[Any]]) -> None:
    """Refuse what would spoil scores in silence; a head checks only what it learns from or chooses on."""
    for name, values in embeddings.items():
        n_bad = int((~np.isfinite(values).all(axis=1)).sum())
        if n_bad:
            rows = f"{n_bad} of {len(values)} rows of {name}"
            raise DataError(f"{rows} are not finite; dvme cache verify says which, then extract")


def _evaluate(
    study: _Study, data: Embedded, method: Method, fitted: Sequence[FittedHead]
) -> tuple[ProbeRow, Resampled]:
    plan, labels = study.plan, study.labels
    validation = [
        score(labels[fold.validation], model.predict_proba(data.blocks(method.backbones, fold.validation)))[RANKED_BY]
        for fold, model in zip(plan.folds, fitted, strict=True)
    ]
    tested = data.blocks(method.backbones, plan.test)
    predictions = [model.predict_proba(tested) for model in fitted]
    scores = [score(labels[plan.test], probabilities) for probabilities in predictions]
    test = {metric: Score.over([each[metric] for each in scores]) for metric in METRICS}
    resampled = resample(labels[plan.test], predictions, study.draws, [RANKED_BY])[RANKED_BY]
    row = ProbeRow(
        backbones=method.backbones,
        head=method.head.name,
        dim=sum(data.dims(method.backbones)),
        validation_auc=float(np.mean(validation)),
        test=test,
        auc_interval=resampled.interval(),
        chosen=[dict(model.chosen) for model in fitted],
    )
    return row, resampled


def _savable(study: _Study, row: ProbeRow, fitted: Sequence[FittedHead]) -> SavedHead:
    """The folds' heads with all that predicting and explaining need to know."""
    ids = study.store.samples.ids[study.rows]
    folds = [
        SavedFold(
            head=head,
            train_ids=ids[fold.train],
            validation_ids=ids[fold.validation],
            metrics={metric: summary.folds[number] for metric, summary in row.test.items()},
        )
        for number, (head, fold) in enumerate(zip(fitted, study.plan.folds, strict=True))
    ]
    return SavedHead(
        name=row.head,
        backbones=row.backbones,
        dims=tuple(study.store.embeddings(name).dim for name in row.backbones),
        fingerprints=tuple(study.store.embeddings(name).fingerprint for name in row.backbones),
        classes=study.task.classes,
        test_hash=subset_hash(ids[study.plan.test]),
        folds=folds,
    )
