"""The one way from a cache to what may be said: `dvme probe` is a study of one size, `dvme sweep` of several."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.cluster import check_cluster
from dvme.data.findings import finding_names, parsed
from dvme.data.uncertainty import is_unsure
from dvme.errors import parameter
from dvme.files import check_folder, new_folder
from dvme.notices import asides
from dvme.places import check_new_run, open_cache
from dvme.runtime import Progress, Runtime
from dvme.stats.units import Units
from dvme.study.design.learned import check_learned, learned_lines
from dvme.study.design.manifest import SubsetManifest
from dvme.study.design.options import SubsetOptions
from dvme.study.design.snapshot import (
    Snapshot,
    backbones_described,
    views_described,
)
from dvme.study.design.subsets import Design, draw_design, load_design
from dvme.study.design.units import units_of_test
from dvme.study.design.views import Views, views_asked
from dvme.study.findings import find
from dvme.study.fitting import EMBEDDINGS_SHARE
from dvme.study.grid import Grid
from dvme.study.headroom import grid_lines
from dvme.study.judge import Judge
from dvme.study.kept_heads import JOBS, heads_kept, place_heads
from dvme.study.ledger import TRAINING, Ledger
from dvme.study.methods import Method, check_cuts, check_order, check_views, method_notices, sampled
from dvme.study.outcome import StudyReport
from dvme.study.part import check_part, part_done
from dvme.study.pictures import PictureStore
from dvme.study.question import Question, check_apart, lines_of
from dvme.study.results import write_results
from dvme.study.run import SEEN, check_run, check_same_views, set_aside
from dvme.study.run_file import SUBSETS, write_run
from dvme.study.scoring import check_metric_of, image_scores
from dvme.study.segmenting import ceilings, grids
from dvme.study.sites.asked import open_sites
from dvme.study.sites.judging import judge_sites, matched_labels, matched_sites
from dvme.study.tuning import check_tuned
from dvme.study.writers import one_part, one_writer


def conduct(question: Question, runtime: Runtime, progress: Progress) -> StudyReport:
    """Fit every method on every draw of every size, judge them on one test set, and keep all of it where asked to.

    Raises:
        DataError, OptionError, UnknownNameError, CacheError: each says what is wrong and what to do.
    """
    clock, out = _Clock(), question.out
    question = question.judged()
    check_part(question.part, out=out, save=question.save)
    check_cluster(runtime)
    if out is not None:
        check_new_run(question.cache, out)
    if question.save is not None:
        check_folder(question.save, step="name another folder with " + parameter("save"))
        check_apart(question)
    store = open_cache(question.cache)
    names, methods, left_out = lines_of(question, runtime, store)
    views, lines = views_asked(question.views, store, names)
    _check_methods(question, methods, views)
    budget = runtime.memory_budget("cpu")  # before embeddings take of what is free
    opened = open_sites(question.sites, store, names, views)
    snapshot = Snapshot.take(store, names, question.people.columns, views, is_segmentation=question.is_segmentation)
    question.people.check(snapshot)
    _check_labels(question, snapshot, opened)
    design = _designed(question, snapshot.holding(budget // EMBEDDINGS_SHARE), progress)
    check_order(methods, design.subsets.targets.task, os.fspath(question.cache))
    check_tuned(methods, design.snapshot, sites=opened, engine=runtime.engine, save=question.save)
    sites = matched_sites(question.sites, opened, design.subsets, budget // EMBEDDINGS_SHARE)
    methods = [sampled(method, design.subsets.policy.get("oversample")) for method in methods]
    clock.lap("subsets")
    with ExitStack() as stack:  # all heads are saved, or none
        folder, earlier = None, list[str]()
        if out is not None:
            folder, earlier = stack.enter_context(_run_folder(out, question, design, methods))
        aside = None if question.save is None else stack.enter_context(new_folder(question.save))
        heads = heads_kept(stack, folder, aside, is_asked_elsewhere=bool(sites))
        ledger = Ledger(*((None, None) if folder is None else (folder / JOBS, folder / TRAINING)))
        grid = Grid(design.snapshot, design.subsets, methods, ledger, heads, PictureStore(folder), question.boundary)
        grid.fit(runtime, budget, progress, question.command, question.part)
        clock.lap("fit")
        if question.part is not None:
            asked = os.fspath(question.out or ""), os.fspath(question.cache), question.metric
            return part_done(question.part, grid, design.notices, clock.laps, *asked)
        judge, report = _judged(question, design, grid, clock, progress, [*left_out, *lines])
        report.notices.extend([*earlier, *grid_lines(report.rows, question.metric)])
        if sites:
            found, lines = judge_sites(sites, question.sites, design.snapshot, judge, grid, progress)
            report = report.with_sites(found, lines)
            clock.lap("sites")
        report = report.with_trust()
        if folder is not None:
            described = _described(question, design, methods) | _grids_described(judge)
            write_results(folder, described, grid, report, design.duplicates)
        if aside is not None:
            place_heads(grid.kept_folders, aside)
    clock.lap("write")
    return report


def _check_methods(question: Question, methods: Sequence[Method], views: Views | None) -> None:
    """Refuse heads that cannot do what is asked, see `check_views` and `check_cuts`."""
    people = question.people
    check_views(methods, views)
    check_cuts(methods, is_asked_elsewhere=bool(people.by or people.per or question.sites.test))


def _check_labels(question: Question, snapshot: Snapshot, opened: Mapping[str, Snapshot]) -> None:
    """Refuse sites whose labels do not fit the study's before anything is made of its images.

    Raises:
        OptionError, DataError: see `matched_labels`.
    """
    if not opened:
        return
    if question.subsets is not None:
        manifest = SubsetManifest.load(question.subsets)
        targets, policy = manifest.targets, manifest.policy
    else:
        options = question.options or SubsetOptions()
        targets, policy = snapshot.targets(options.uncertainty), asdict(options)
    matched_labels(question.sites, opened, targets, policy)


def _designed(question: Question, snapshot: Snapshot, progress: Progress) -> Design:
    needs_order, kept = question.metric == "kappa", None if question.out is None else Path(question.out) / SEEN
    if question.subsets is None:
        options = question.options or SubsetOptions()
        design = draw_design(snapshot, options, progress, needs_order=needs_order, kept=kept)
    else:
        design = load_design(snapshot, question.subsets, progress, needs_order=needs_order, kept=kept)
    for lines in (check_learned, learned_lines):
        design.notices.extend(lines(design.snapshot.learned, design.subsets.test))
    check_metric_of(question.metric, design.subsets.targets.scored)
    _test_units(design)  # a test set that can judge nothing is refused before anything is fitted
    question.operation.check_names(design.subsets.classes)
    return design


@contextmanager
def _run_folder(
    out: str | Path, question: Question, design: Design, methods: Sequence[Method]
) -> Iterator[tuple[Path, list[str]]]:
    """The run's folder, which nobody else writes to meanwhile, and a line on what of an earlier call is set aside."""
    folder, views = check_run(out, design.subsets, question.command), views_described(design.snapshot, question.views)
    check_same_views(folder, views)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        begun = stack.enter_context(one_writer(folder) if question.part is None else one_part(folder, question.part))
        check_run(out, design.subsets, question.command)  # another may have written to it until now
        earlier = set_aside(folder, methods, question.sites.places)
        # First what makes the folder a run, so that a call killed at any moment can be gone on with.
        write_run(folder, _described(question, design, methods), is_kept=True)
        design.subsets.save(folder / SUBSETS)
        design.keep(folder / SEEN)
        begun()
        yield folder, earlier


def _test_units(design: Design) -> tuple[Units, str]:
    manifest = design.subsets
    groups = design.snapshot.groups[manifest.test]
    return units_of_test(manifest.targets.scored[manifest.test], groups, manifest.classes)


def _judged(
    question: Question, design: Design, grid: Grid, clock: _Clock, progress: Progress, lines: Sequence[str]
) -> tuple[Judge, StudyReport]:
    """What the finished jobs allow to be said, beside these lines."""
    snapshot, manifest = design.snapshot, design.subsets
    units, line = _test_units(design)
    named = [(method.name, method.backbones) for method in grid.methods]
    is_segmentation = manifest.targets.is_segmentation
    shapes = grids(grid.methods, snapshot) if is_segmentation else {}
    reached = ceilings(shapes, snapshot, manifest.test, progress) if is_segmentation else {}
    most = {m: float(np.nanmean(image_scores(counts, question.metric))) for m, counts in reached.items()}
    judge = Judge(manifest, named, grid.by_cell(), units, question.metric, snapshot.origins, most, shapes)
    judge.score_all(progress)
    cells, gains, suspects = judge.cells(), judge.gains(), judge.suspects(snapshot.images, snapshot.paths)
    reliability = None
    if not is_segmentation:
        reliability = judge.reliability(question.operation, _uncertain(snapshot, manifest))
    clock.lap("statistics")
    notices = [
        *method_notices(grid.methods),
        *lines,
        *design.notices,
        *snapshot.notices,
        *grid.notices(f"dvme {question.command}"),
        line,
    ]
    saved = [] if question.save is None else [Path(question.save) / folder.name for folder in grid.kept_folders]
    return judge, StudyReport(
        run=None if question.out is None else os.fspath(question.out),
        cache=os.fspath(question.cache),
        subsets=manifest.hash,
        task=manifest.targets.task,
        plan=str(manifest.policy.get("plan", "")),
        metric=question.metric,
        columns=judge.columns(),
        cells=cells,
        gains=gains,
        suspects=suspects,
        notices=notices,
        n_jobs=len(grid.places),
        n_reused=grid.n_reused,
        seconds=clock.laps,
        n_left_out=dict(snapshot.left_out),
        findings=find(judge, gains),
        diagnoses=judge.diagnoses(snapshot.images.tolist(), snapshot.paths.tolist()),
        subgroups=question.people.by_subgroup(judge, snapshot, question.operation),
        per_patient=question.people.per_unit(judge, snapshot),
        reliability=reliability,
        asides=asides(notices),
        saved=[os.fspath(folder) for folder in saved],
        classes={grid.methods[m].title: judge.classes(m, counts) for m, counts in reached.items()},
        boundary=question.boundary,
    )


def _uncertain(snapshot: Snapshot, manifest: SubsetManifest) -> NDArray[np.bool_] | None:
    """(N test, L) which test images the cache's labels call uncertain; None where an image has one class."""
    if not manifest.targets.is_multilabel:
        return None
    labels = snapshot.labels[manifest.test]
    return is_unsure(parsed(labels, finding_names(labels, manifest.classes))[:, : len(manifest.classes)])


def _described(question: Question, design: Design, methods: Sequence[Method]) -> dict[str, Any]:
    """The resolved configuration of a run."""
    snapshot, manifest = design.snapshot, design.subsets
    groups = snapshot.numbered_groups(manifest.taking_part)
    n_groups = None if groups is None else len(set(groups))
    described = {
        "command": question.command,
        "cache": os.fspath(question.cache),
        "subsets": manifest.hash,
        "metric": question.metric,
        "test_groups": snapshot.numbered_groups(manifest.test),
        "n_groups": n_groups,
        **backbones_described(snapshot),
        "methods": [
            {
                "head": method.head.name,
                "name": method.name,
                "backbones": list(method.backbones),
                "settings": method.settings,
            }
            for method in methods
        ],
    }
    some = {
        "sites": question.sites.places or None,
        "views": views_described(snapshot, question.views),
        "boundary": question.boundary,
    }
    return described | {name: value for name, value in some.items() if value is not None}


def _grids_described(judge: Judge) -> dict[str, Any]:
    """Of a segmentation, what each method's grid is, and what it could reach."""
    return {name: [*each.values()] for name, each in (("ceilings", judge.ceilings), ("grids", judge.grids)) if each}


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
