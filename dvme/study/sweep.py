"""`dvme sweep`: how many labels a task needs, and whether a fusion is really better."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from dvme.arguments import public
from dvme.data.names import images_and_paths, names_of_rows
from dvme.errors import OptionError
from dvme.heads import Head
from dvme.metrics.classification import METRICS, check_metric
from dvme.notices import asides
from dvme.places import check_new_run, open_cache
from dvme.runtime import Progress, Runtime, automatic
from dvme.study.design.duplicates import across_splits, describe, listed
from dvme.study.design.manifest import SubsetManifest
from dvme.study.design.matching import check_ordered, ordered, rows_of
from dvme.study.design.options import SubsetOptions
from dvme.study.design.splits import groups_to_resample
from dvme.study.design.subsets import draw_subsets, find_similar
from dvme.study.findings import find
from dvme.study.grid import Grid
from dvme.study.judge import Judge
from dvme.study.kept_heads import JOBS, KeptHeads, largest_size
from dvme.study.ledger import FinishedJob, Ledger
from dvme.study.methods import (
    Method,
    alike_rows,
    group_notices,
    left_out_notices,
    make_methods,
    method_name,
    method_notices,
    named_backbones,
    test_units,
    usable_rows,
)
from dvme.study.outcome import SweepReport
from dvme.study.run import SUBSETS, check_run, one_writer, write_results, write_run
from dvme.study.suspects import Suspect, find_suspects
from dvme_cache import EmbeddingCache

DEFAULT_HEADS = ("linear", "knn", "dvme")


@public
def sweep(  # noqa: PLR0913 - the command's options, one to one
    cache: str | Path,
    out: str | Path,
    *,
    heads: Sequence[str | Head] = DEFAULT_HEADS,
    backbones: Sequence[str] | None = None,
    controls: bool = True,
    subsets: str | Path | None = None,
    options: SubsetOptions | None = None,
    metric: str = METRICS[0],
    runtime: Runtime | None = None,
    progress: Progress = automatic,
) -> SweepReport:
    """Fit every head on every subset, and compare them on one test set.

    Hyper-parameters, early stopping and every baseline are chosen on validation images; the test set is used once per
    number. A job that is finished in the run's folder is not fitted again, whatever stopped the call before. Fusions by
    attention are kept with their heads at the largest size, in `out`/heads, for `dvme explain` and `dvme predict`.

    Args:
        cache: path of a cache.
        out: the run's folder; made, or gone on with.
        heads: names, with settings where they differ from the defaults (`knn@k=5:20`), or heads. Most are fitted on
            each backbone; a fusion takes all of them at once.
        backbones: names of backbones in the cache; None: all of them.
        controls: beside a fusion by attention, also `linear` on every single backbone and the fusions without it.
        subsets: a manifest made by `dvme subsets`; None: drawn from the cache with `options`.
        options: how subsets are drawn; not together with `subsets`.
        metric: of METRICS, what the table, the marks and the verdicts are about; `knn` chooses its k by it.
        runtime: device and memory budget.
        progress: told (stage, done, total); by default bars in a terminal or a notebook, `dvme.silent`: none.

    Raises:
        DataError, OptionError, UnknownNameError, CacheError: each says what is wrong and what to do.
    """
    clock = _Clock()
    check_metric(metric)
    if subsets is not None and options is not None:
        raise OptionError("a subset file is a whole study: leave out --sizes, --folds and the like beside --subsets")
    check_new_run(cache, out)
    store = open_cache(cache)
    names = named_backbones(store, backbones)
    methods = make_methods(heads, names, with_controls=controls, metric=metric)
    usable, left_out = usable_rows(store, names)
    if metric == "kappa":
        check_ordered(store, usable, subsets)
    manifest, rows, notices, duplicates = _drawn(store, names, usable, subsets, options, progress)
    if manifest.is_multilabel:
        raise OptionError("these subsets are multi-label, and heads take one label per image; draw others")
    folder = check_run(out, manifest)
    clock.lap("subsets")
    folder.mkdir(parents=True, exist_ok=True)
    with one_writer(folder):
        # First what makes the folder a run, so that a call killed at any moment can be gone on with.
        described = _described(cache, store, rows, methods, manifest, metric)
        write_run(folder, described)
        manifest.save(folder / SUBSETS)
        grid = Grid(store, rows, manifest, methods, Ledger(folder / JOBS), KeptHeads(folder))
        grid.fit(runtime or Runtime(), progress)
        clock.lap("fit")
        judge, line = _judge(store, grid, metric)
        judge.score_all(progress)
        named = [each.tolist() for each in images_and_paths(store, rows)]
        cells, gains, suspects = judge.cells(), judge.gains(), _suspects(judge, *named)
        clock.lap("statistics")
        said = [
            *left_out_notices(left_out),
            *method_notices(methods),
            *notices,
            *group_notices(store.column("group")[rows]),
            *grid.notices(),
            line,
        ]
        report = SweepReport(
            run=os.fspath(out),
            cache=os.fspath(cache),
            subsets=manifest.hash,
            task=manifest.task,
            plan=str(manifest.policy.get("plan", "")),
            metric=metric,
            columns=judge.columns(),
            cells=cells,
            gains=gains,
            suspects=suspects,
            notices=said,
            n_jobs=len(grid.places),
            n_reused=grid.n_reused,
            seconds=clock.laps,
            findings=find(judge, gains),
            diagnoses=judge.diagnoses(*named),
            asides=asides(said),
        )
        write_results(folder, described, grid, report, duplicates)
    clock.lap("write")
    return report


def _drawn(
    store: EmbeddingCache,
    names: Sequence[str],
    usable: NDArray[Any],
    subsets: str | Path | None,
    options: SubsetOptions | None,
    progress: Progress,
) -> tuple[SubsetManifest, NDArray[Any], list[str], list[dict[str, Any]]]:
    """The manifest, from its file or from the cache, with its rows, notices and near-duplicates."""
    if subsets is None:
        manifest, duplicates = draw_subsets(store, names, usable, options or SubsetOptions(), progress)
        return manifest, usable, list(manifest.notices), duplicates
    manifest = SubsetManifest.load(subsets)
    rows = rows_of(store, manifest, usable, str(subsets))
    manifest, lines = ordered(store, manifest, str(subsets))
    constant = alike_rows(store, names, rows)[1]
    near, duplicates = _duplicates(store, names, rows, manifest, constant, progress)
    lines += [*constant.values(), *near]
    return manifest, rows, list(dict.fromkeys([*manifest.notices, *lines])), duplicates


def _judge(store: EmbeddingCache, grid: Grid, metric: str) -> tuple[Judge, str]:
    """What the finished jobs are judged by, and the line that says what the intervals are over."""
    manifest = grid.manifest
    groups = store.column("group")[grid.rows][manifest.test]
    units, line = test_units(manifest.class_indices()[manifest.test], groups, manifest.classes)
    named = [(method.head.name, method.backbones) for method in grid.methods]
    return Judge(manifest, named, by_cell(grid), units, metric), line


def _suspects(judge: Judge, images: Sequence[str], paths: Sequence[str]) -> list[Suspect]:
    """By the method that leads on validation at the largest size."""
    size = largest_size(judge.manifest)
    leader = judge.standing.leader(size) or 0
    name = method_name(*judge.methods[leader])
    return find_suspects(judge.manifest, judge.finished[leader, size], size, name, images, paths)


def by_cell(grid: Grid) -> dict[tuple[int, int], list[FinishedJob]]:
    """The finished jobs by (method, size), in the order of the draws."""
    cells: dict[tuple[int, int], list[FinishedJob]] = {}
    for place in grid.places:
        cells.setdefault((place.method, place.size), []).append(grid.finished[place])
    return cells


def _duplicates(
    store: EmbeddingCache,
    names: Sequence[str],
    rows: NDArray[Any],
    manifest: SubsetManifest,
    constant: Collection[str],
    progress: Progress,
) -> tuple[list[str], list[dict[str, Any]]]:
    """What this cache's embeddings show of a manifest that was drawn before."""
    similar = find_similar(store, names, rows, progress)
    paths, found = names_of_rows(store, rows), across_splits(manifest, similar)
    return describe(found, paths, [name for name in similar.blind if name not in constant]), listed(found, paths)


def _described(
    cache: str | Path,
    store: EmbeddingCache,
    rows: NDArray[Any],
    methods: Sequence[Method],
    manifest: SubsetManifest,
    metric: str,
) -> dict[str, Any]:
    """The resolved configuration of a run."""
    tables = {name: store.embeddings(name) for name in dict.fromkeys(n for each in methods for n in each.backbones)}
    return {
        "cache": os.fspath(cache),
        "subsets": manifest.hash,
        "metric": metric,
        "test_groups": _numbered(store.column("group")[rows][manifest.test]),
        "backbones": [
            {
                "name": name,
                "dim": table.dim,
                "digest": table.fingerprint.digest,
                "fingerprint": dict(table.fingerprint.fields),
            }
            for name, table in tables.items()
        ],
        "methods": [
            {
                "head": method.head.name,
                "backbones": list(method.backbones),
                "settings": json.loads(json.dumps(asdict(method.head))),  # type: ignore[call-overload]
            }
            for method in methods
        ],
    }


def _numbered(groups: NDArray[Any]) -> list[int] | None:
    """Which test images share a group, without its name; None where there are no groups."""
    units = groups_to_resample(groups)
    return None if units is None else units.tolist()


class _Clock:
    """Where the time goes."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self.since = time.perf_counter()

    def lap(self, name: str) -> None:
        """The time since the last lap belongs to this stage."""
        now = time.perf_counter()
        self.laps[name] = self.laps.get(name, 0.0) + now - self.since
        self.since = now
