"""`dvme sweep`: how many labels a task needs, and whether a fusion is really better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dvme.arguments import public
from dvme.defaults import AT, CONFLICTS, JOIN, SWEEP_HEADS, VIEWS_USED
from dvme.errors import OptionError, parameter
from dvme.heads import Head
from dvme.metrics.joining import Conflicts, Join
from dvme.parts import parse_part
from dvme.runtime import Progress, Runtime, automatic
from dvme.study.conduct import conduct
from dvme.study.design.options import SubsetOptions
from dvme.study.operation import Operation
from dvme.study.outcome import StudyReport
from dvme.study.people import People
from dvme.study.question import Question
from dvme.study.sites.asked import SiteOptions


@public
def sweep(  # noqa: PLR0913 - the command's options, one to one
    cache: str | Path,
    out: str | Path,
    *,
    heads: Sequence[str | Head] = SWEEP_HEADS,
    backbones: Sequence[str] | None = None,
    controls: bool = True,
    views: str = VIEWS_USED,
    subsets: str | Path | None = None,
    options: SubsetOptions | None = None,
    metric: str | None = None,
    test: Sequence[str | Path] = (),
    label_map: Mapping[str, str | Sequence[str]] | None = None,
    score: Mapping[str, float] | None = None,
    by: Sequence[str] = (),
    per: str | None = None,
    join: Join = JOIN,
    conflicts: Conflicts = CONFLICTS,
    at: str = AT,
    prevalence: float | Mapping[str, float] | None = None,
    boundary: float | None = None,
    part: str | None = None,
    runtime: Runtime | None = None,
    progress: Progress = automatic,
) -> StudyReport:
    """Fit every head on every subset, and compare them on one test set.

    Hyper-parameters, early stopping and every baseline are chosen on validation images; the test set is used once per
    number. A job that is finished in the run's folder is not fitted again, whatever stopped the call before. The heads
    of the largest size are kept in `out`/heads, for `dvme explain` and `dvme predict`.

    Args:
        cache: path of a cache.
        out: the run's folder; made, or gone on with.
        heads: names, with settings where they differ from the defaults (`knn@k=5:20`), or heads. Most are fitted on
            each backbone; a fusion takes all of them at once.
        backbones: names of backbones in the cache; None: all of them.
        controls: beside a fusion by attention, also `linear` on every single backbone and the fusions without it.
        views: `train`: heads learn from every view of an image that `dvme.extract(..., views=K)` kept; `train,test`:
            what is predicted of validation and test images is the mean over their views as well; `none`: plain images
            only. `train:rotate+crop` names the recipe where there are several.
        subsets: a manifest made by `dvme subsets`; None: drawn from the cache with `options`.
        options: how subsets are drawn; not together with `subsets`.
        metric: of METRICS, what the table, the marks and the verdicts are about; `knn` chooses its k by it. None: auc;
            of masks dice, where iou is the other one.
        test: caches of other sites, as paths or NAME=PATH: every head of the largest size is judged there as well,
            without a fit. Their embeddings have the study's fingerprints. Each labelled image counts.
        label_map: what a finding or class is called there, such as {"Effusion": "Pleural Effusion"}, or several names;
            of one site alone under "SITE:Effusion". Others are matched by name.
        score: weights of `test`, which is the study's own test set, and of sites by their names: every method's
            weighted score. They sum to 1.
        by: columns that the cache keeps, by whose values the leading method is scored and its largest gap tested; with
            edges for numbers: `age:0-40-60-120` is [0, 40), [40, 60) and [60, 120].
        per: `patient` (the groups) or a column that the cache keeps, such as `study`: the predictions of its images are
            joined, and the leading method is scored per image and per unit.
        join: how probabilities are joined: `mean`, `max`, or `noisy-or`, 1 - prod(1 - p).
        conflicts: a unit of which some images have a finding and some have it not has it (`any`), or is left out
            (`drop`). Of several classes conflicts are always left out.
        at: what the operating point of a finding, or of a class against the others, reaches on validation.
        prevalence: of the findings where the head is to be used, for predictive values: one for all, or by finding.
        boundary: of a segmentation, also score outlines: HD95, and boundary Dice within so many pixels. Jobs that were
            finished without it, or within others, are fitted again.
        part: `3/16` fits the jobs of the third of sixteen parts into `out`, beside processes that fit the others, and
            judges nothing; the same call without it, once all are done, fits nothing and judges.
        runtime: device and memory budget.
        progress: told (stage, done, total); by default bars in a terminal or a notebook, `dvme.silent`: none.

    Raises:
        DataError, OptionError, UnknownNameError, CacheError: each says what is wrong and what to do.

    Example:
        >>> options = {"sizes": "8,full", "n_folds": 2}
        >>> report = dvme.sweep("my.zarr", "a-run", heads="linear", backbones="dino", options=options)
        >>> [column.name for column in report.columns]
        ['8', 'full']
    """
    if subsets is not None and options is not None:
        others = parameter("sizes") + ", " + parameter("n_folds") + " and the like"
        raise OptionError("a subset file is a whole study: leave out " + others + " beside " + parameter("subsets"))
    question = Question(
        command="sweep",
        cache=cache,
        heads=heads,
        backbones=backbones,
        controls=controls,
        views=views,
        options=options,
        subsets=subsets,
        metric=metric or "",
        people=People(by=by, per=per, join=join, conflicts=conflicts),
        operation=Operation.of(at, prevalence),
        out=out,
        sites=SiteOptions(test=test, label_map=label_map or {}, score=score or {}),
        part=parse_part(part),
        boundary=boundary,
    )
    return conduct(question, runtime or Runtime(), progress)
