"""Two runs over the same subsets, or a run and a published table, cell by cell."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from dvme.arguments import public
from dvme.data import MISSING
from dvme.errors import DataError, OptionError, parameter
from dvme.heads import base_name
from dvme.heads.neighbours.recall import search_notices
from dvme.notices import Aside
from dvme.places import check_run
from dvme.runtime import Progress, automatic
from dvme.stats.crossed import compared
from dvme.stats.findings import AUC
from dvme.stats.folds import welch_of
from dvme.stats.intervals import Comparison
from dvme.stats.multiple import ALPHA, times
from dvme.study.cells import Score
from dvme.study.comparison import CompareReport, Pair
from dvme.study.design.manifest import alike_sizes
from dvme.study.design.units import units_of_test
from dvme.study.judge import Judge
from dvme.study.published import N_FOLDS, TEST_IMAGES, PublishedCell, published_cells
from dvme.study.run import Run
from dvme.study.run_file import SUBSETS
from dvme.study.scoring import check_metric_of, judging_metric, scores_of
from dvme.text import some_of

OURS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("dvme", "dvme"): ("dvme",),
    ("dvme", "dvme-no-attention"): ("dvme-noattn",),
    ("linear", ""): ("linear-adam", "linear"),
}
"""Heads that stand beside a published setting, the nearest first."""


@public
def compare(
    run: str | Path,
    other: str | Path | None = None,
    *,
    published: str | None = None,
    stands_for: Mapping[str, str] | None = None,
    metric: str | None = None,
    finding: str | None = None,
    progress: Progress = automatic,
) -> CompareReport:
    """Lay a run beside another over the same subsets, or beside a published table.

    Args:
        run: a folder of `dvme sweep`.
        other: another one; methods of the same name are compared image by image.
        published: such as `truong2021:aptos`.
        stands_for: by published initialisation, the backbone of the run that is to stand beside it, where names differ.
        metric: of METRICS; None: the run's, or the published one. Runs of several findings are compared by AUC.
        finding: of runs of several findings, the one to compare by; None: the mean over all that can be judged.
        progress: told (stage, done, total); by default bars in a terminal or a notebook, `dvme.silent`: none.

    Raises:
        DataError, OptionError, UnknownNameError: each says what is wrong and what to do.

    Example:
        >>> report = dvme.compare("run", "other-run")
        >>> report.test, report.metric
        ('crossed', 'auc')
    """
    if (other is None) == (published is None):
        table = parameter("published", "truong2021:aptos")
        raise OptionError("name a second run to compare with, or a published table: " + table)
    for named in (run, other):
        if named is not None:
            check_run(named)
    one = Run.load(run)
    if metric is not None:
        metric = judging_metric(metric, is_segmentation=one.manifest.targets.is_segmentation)
        check_metric_of(metric, one.manifest.targets.scored)
    if finding is not None and published is not None:
        raise OptionError("a published table has one class for each image; leave out " + parameter("finding"))
    if published is not None:
        return _with_published(one, published, stands_for or {}, metric)
    assert other is not None
    if (metric or one.metric) == "kappa":
        one.manifest.targets.task.check_ordered(str(one.described.get("cache", "CACHE")))
    first, second = (_about(each, finding) for each in (one, Run.load(other)))
    return _two_runs(first, second, metric or one.metric, finding, progress)


def _about(run: Run, finding: str | None) -> Run:
    """The run with one finding, of which alone it is known which image has it.

    Raises:
        OptionError: if it has no such finding.
    """
    targets = run.manifest.targets
    if finding is None:
        return run
    if targets.is_segmentation:
        raise OptionError(
            f"{run.folder} is of masks, whose scores are over all classes; leave out " + parameter("finding")
        )
    if not targets.is_multilabel or finding not in targets.classes:
        there = f"choose from {some_of(targets.classes)}" if targets.is_multilabel else "its images have one class each"
        raise OptionError(f"{run.folder} has no finding {finding!r}; {there}")
    values = np.where(np.array(targets.classes) == finding, targets.values, np.float32(np.nan))
    return replace(run, manifest=replace(run.manifest, targets=replace(targets, values=values)))


def _two_runs(one: Run, other: Run, metric: str, finding: str | None, progress: Progress) -> CompareReport:
    targets = one.manifest.targets
    if targets.is_multilabel and not targets.is_segmentation and metric != AUC:
        raise OptionError(
            f"runs of several findings are compared by auc, not by {metric}; pass " + parameter("metric", AUC)
        )
    sizes = alike_sizes(one.manifest, other.manifest)
    if not sizes:
        raise DataError(
            f"{one.folder} and {other.folder} are over different subsets ({one.manifest.hash[:8]}, "
            f"{other.manifest.hash[:8]}): at no size do both train and test on the same images; sweep one of them "
            "again with " + parameter("subsets", one.folder / SUBSETS)
        )
    # The same units for both, even where only one of the caches knew the test images' groups.
    groups = one.test_groups if (one.test_groups != MISSING).any() else other.test_groups
    units, line = units_of_test(one.manifest.targets.scored[one.manifest.test], groups, one.manifest.classes)
    judges = [Judge(run.manifest, run.methods, run.finished, units, metric) for run in (one, other)]
    theirs = {method: position for position, method in enumerate(other.methods)}
    both = [(m, theirs[method]) for m, method in enumerate(one.methods) if method in theirs]
    if not both:
        raise DataError(f"{one.folder} and {other.folder} have no method in common; sweep the same heads and backbones")
    for each, which in zip(judges, ("first", "second"), strict=True):
        each.score_all(progress, f"score the {which}")
    places = [(mine, its, size) for size in sizes for mine, its in both]
    cells = [(judges[0].scored[mine, size], judges[1].scored[its, sizes[size]]) for mine, its, size in places]
    level = 1.0 - ALPHA / len(places)
    comparisons = [
        compared(mine - its, judges[0].shared_rows[size], level=level)
        for (mine, its), (_, _, size) in zip(cells, places, strict=True)
    ]
    pairs = [
        Pair(
            method=one.names[method],
            size=one.manifest.sizes[size],
            one=Score.over(mine.folds.tolist()),
            other=Score.over(its.folds.tolist()),
            comparison=comparison,
            p_adjusted=times(comparison.p, len(places)),
        )
        for (method, _, size), (mine, its), comparison in zip(places, cells, comparisons, strict=True)
    ]
    is_known = isinstance(line, Aside) or not one.manifest.targets.is_multilabel or finding is not None
    notices = [] if is_known else [line]
    if one.views != other.views:
        notices.append(f"heads of {one.folder} learned from {one.views}, those of {other.folder} from {other.views}")
    for run, others in ((one, other.methods), (other, one.methods)):
        alone = [name for name, method in zip(run.names, run.methods, strict=True) if method not in others]
        notices += [f"only in {run.folder}: {', '.join(alone)}"] if alone else []
    for run, compared_sizes in ((one, set(sizes)), (other, set(sizes.values()))):
        left = [name for size, name in enumerate(run.manifest.sizes) if size not in compared_sizes]
        which = f"sizes of {run.folder} that the other has not with the same images: {', '.join(left)}"
        notices += [which] if left else []
    for run in (one, other):
        fits = [(run.methods[method][0], job.chosen) for (method, _), jobs in run.finished.items() for job in jobs]
        notices += [f"in {run.folder}, {each}" for each in search_notices(fits)]
    return CompareReport(
        os.fspath(one.folder),
        os.fspath(other.folder),
        metric,
        "crossed",
        pairs,
        notices,
        is_published=False,
        finding=finding,
    )


def _with_published(run: Run, name: str, stands_for: Mapping[str, str], metric: str | None) -> CompareReport:
    cells = published_cells(name)
    wanted = metric or cells[0].metric
    if wanted != cells[0].metric:
        step = "pass " + parameter("metric", cells[0].metric)
        raise OptionError(f"{name} was published as {cells[0].metric}; " + step)
    sizes = {size.split(" ")[0]: position for position, size in enumerate(run.manifest.sizes)}
    counterparts = [(cell, _counterpart(run, cell, stands_for), sizes.get(cell.size)) for cell in cells]
    labels = run.manifest.targets.values[run.manifest.test]
    if labels.ndim == 2:
        has = "masks" if run.manifest.targets.is_segmentation else "several findings"
        raise OptionError(f"{run.folder} has {has}, and {name} one class for each image; compare two runs")
    mine: list[Score | None] = []
    for _, method, size in counterparts:
        jobs = run.finished[method, size] if method is not None and size is not None else []
        values = [scores_of(labels, job.log_test, job.cuts)[wanted] for job in jobs]
        mine.append(Score.over(values) if values else None)
    n = max(1, sum(own is not None for own in mine))
    comparisons = [_welch(own, cell, 1.0 - ALPHA / n) for own, (cell, _, _) in zip(mine, counterparts, strict=True)]
    pairs = [
        Pair(
            method=_published_name(cell),
            size=cell.size if not cell.subtask else f"{cell.size} ({cell.subtask})",
            one=own,
            other=Score(cell.mean, cell.std, []),
            comparison=comparison,
            p_adjusted=math.nan if comparison is None else times(comparison.p, n),
            beside="" if method is None else run.names[method],
            doubt=cell.doubt,
        )
        for (cell, method, _), own, comparison in zip(counterparts, mine, comparisons, strict=True)
    ]
    dataset = name.partition(":")[2]
    notices = [
        f"Published: mean and std over {N_FOLDS} folds, another test set ({TEST_IMAGES[dataset]:,} images), other "
        "training images. A difference is one between studies, not between methods."
    ]
    caveat = (
        run.manifest.targets.task.order_caveat(str(run.described.get("cache", "CACHE"))) if wanted == "kappa" else ""
    )
    notices += [caveat] if caveat else []
    if not any(pair.one for pair in pairs):
        notices.append(
            "This run has no cell beside it: pass "
            + parameter("stands_for", {"swav": "BACKBONE"})
            + " where names differ, and sweep with "
            + parameter("sizes", [name])
        )
    return CompareReport(
        os.fspath(run.folder), name, wanted, "Welch's t from means and std", pairs, notices, is_published=True
    )


def _counterpart(run: Run, cell: PublishedCell, stands_for: Mapping[str, str]) -> int | None:
    """The run's method beside a published one."""
    is_single = cell.setting == "linear"
    heads = OURS.get((cell.setting, "" if is_single else cell.method), ())
    backbone = stands_for.get(cell.method, cell.method)
    for head in heads:
        alike = [
            m
            for m, (own, names) in enumerate(run.methods)
            if base_name(own) == head and (not is_single or names == (backbone,))
        ]
        if alike:
            return min(alike, key=lambda m: run.methods[m][0] != head)  # as it is, before other settings of it
    return None


def _published_name(cell: PublishedCell) -> str:
    return cell.method if cell.setting == "dvme" else f"{cell.method}, {cell.setting}"


def _welch(own: Score | None, cell: PublishedCell, level: float) -> Comparison | None:
    """None where one of the two has no spread to go by."""
    if own is None or len(own.folds) < 2 or math.isnan(cell.std) or not own.std + cell.std:
        return None
    return welch_of(own.mean - cell.mean, (own.std**2, len(own.folds)), (cell.std**2, N_FOLDS), level=level)
