"""`dvme probe`: which backbone serves the task, and whether a fusion does better, in one honest table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from dvme.arguments import public
from dvme.defaults import (
    AT,
    BLANK,
    CONFLICTS,
    JOIN,
    N_FOLDS,
    NEAR_DUPLICATES,
    PROBE_HEADS,
    SEED,
    TEST_FRACTION,
    UNCERTAIN,
    VIEWS_USED,
)
from dvme.heads import Head
from dvme.metrics.joining import Conflicts, Join
from dvme.parts import parse_part
from dvme.runtime import Progress, Runtime, automatic
from dvme.study.conduct import conduct
from dvme.study.design.options import SubsetOptions
from dvme.study.design.sizes import FULL
from dvme.study.operation import Operation
from dvme.study.outcome import StudyReport
from dvme.study.people import People
from dvme.study.question import Question
from dvme.study.sites.asked import SiteOptions


@public
def probe(  # noqa: PLR0913 - the command's options, one to one
    cache: str | Path,
    *,
    heads: Sequence[str | Head] = PROBE_HEADS,
    backbones: Sequence[str] | None = None,
    controls: bool = True,
    views: str = VIEWS_USED,
    n_folds: int = N_FOLDS,
    test_fraction: float = TEST_FRACTION,
    seed: int = SEED,
    drop_duplicates: bool = False,
    near_duplicates: Literal["auto", "exact"] = NEAR_DUPLICATES,
    uncertain: str = UNCERTAIN,
    blank: Literal["ignore", "zeros"] = BLANK,
    by: Sequence[str] = (),
    per: str | None = None,
    join: Join = JOIN,
    conflicts: Conflicts = CONFLICTS,
    at: str = AT,
    prevalence: float | Mapping[str, float] | None = None,
    out: str | Path | None = None,
    save: str | Path | None = None,
    test: Sequence[str | Path] = (),
    label_map: Mapping[str, str | Sequence[str]] | None = None,
    score: Mapping[str, float] | None = None,
    boundary: float | None = None,
    part: str | None = None,
    runtime: Runtime | None = None,
    progress: Progress = automatic,
) -> StudyReport:
    """Train heads on cached embeddings and test them on one held-out set: a study of one size, all there is.

    Hyper-parameters, early stopping and the ranking come from validation rows; the test set is used once per
    number. Every method is judged on the same rows: those with a label and an embedding from each backbone.
    `dvme.sweep` with the same seed gives the same numbers at its full size.

    Args:
        cache: path of a cache.
        heads: names, with settings where they differ from the defaults (`knn@k=5:20`), or heads. Most are fitted on
            each backbone; a fusion takes all of them at once.
        backbones: names of backbones in the cache; None: all of them.
        controls: beside a fusion by attention, also fit `linear` on every single backbone and the controls
            `dvme-noattn`, `mlp`, `concat` and `mean-logits`; with default settings, where `heads` does not name them.
        views: `train`: heads learn from every view of an image that `dvme.extract(..., views=K)` kept; `train,test`:
            what is predicted of validation and test images is the mean over their views as well; `none`: plain images
            only. `train:rotate+crop` names the recipe where there are several.
        n_folds: folds of the training pool.
        test_fraction: part held out, where the user gave no split.
        seed: of the split and the heads.
        drop_duplicates: leave out training images that all but coincide with a test or validation image.
        near_duplicates: `auto`: those of many images may be searched for in part, which a notice then says; `exact`:
            all are found, however long it takes.
        uncertain: of images that may have several findings, what heads learn of an uncertain one: `ignore`, `zeros`,
            `ones`, or a part, `soft=0.7`. Nobody is chosen or tested on it.
        blank: what an empty cell is: `ignore`, unknown for that finding alone, or `zeros`, absent.
        by: columns that the cache keeps, by whose values the leading method is scored and its largest gap tested; with
            edges for numbers: `age:0-40-60-120` is [0, 40), [40, 60) and [60, 120].
        per: `patient` (the groups) or a column that the cache keeps, such as `study`: the predictions of its images are
            joined, and the leading method is scored per image and per unit.
        join: how probabilities are joined: `mean`, `max`, or `noisy-or`, 1 - prod(1 - p).
        conflicts: a unit of which some images have a finding and some have it not has it (`any`), or is left out
            (`drop`). Of several classes conflicts are always left out.
        at: what the operating point of a finding, or of a class against the others, reaches on validation:
            `specificity=0.9`, `sensitivity=0.95` and the like.
        prevalence: of the findings where the head is to be used, for predictive values: one for all, or by finding.
        out: a run's folder, made or gone on with; it keeps jobs, heads and predictions, and `dvme.write_report` takes
            it. None: nothing is kept.
        save: a folder for the fitted heads, one folder in it for each line of the table; it must not be there.
        test: caches of other sites, as paths or NAME=PATH: every head of the largest size is judged there as well,
            without a fit. Their embeddings have the study's fingerprints. Each labelled image counts.
        label_map: what a finding or class is called there, such as {"Effusion": "Pleural Effusion"}, or several names;
            of one site alone under "SITE:Effusion". Others are matched by name.
        score: weights of `test`, which is the study's own test set, and of sites by their names: every method's
            weighted score. They sum to 1.
        boundary: of a segmentation, also score outlines: HD95, and boundary Dice within so many pixels. Jobs that were
            finished without it, or within others, are fitted again.
        part: `3/16` fits the jobs of the third of sixteen parts into `out`, beside processes that fit the others, and
            judges nothing; the same call without it, once all are done, fits nothing and judges.
        runtime: device and memory budget.
        progress: told (stage, done, total); by default bars in a terminal or a notebook, `dvme.silent`: none.

    Raises:
        DataError, OptionError, UnknownNameError, CacheError: each says what is wrong and what to do.

    Example:
        >>> report = dvme.probe("my.zarr", heads=["linear", "concat"], n_folds=2)
        >>> sorted({cell.method for cell in report.cells})
        ['concat of 2 backbones', 'dino + linear', 'efficientnet-lite0 + linear']
    """
    options = SubsetOptions(
        sizes=(FULL,),
        n_folds=n_folds,
        test_fraction=test_fraction,
        seed=seed,
        drop_duplicates=drop_duplicates,
        near_duplicates=near_duplicates,
        uncertain=uncertain,
        blank=blank,
    )
    question = Question(
        command="probe",
        cache=cache,
        heads=heads,
        backbones=backbones,
        controls=controls,
        views=views,
        options=options,
        people=People(by=by, per=per, join=join, conflicts=conflicts),
        operation=Operation.of(at, prevalence),
        out=out,
        save=save,
        sites=SiteOptions(test=test, label_map=label_map or {}, score=score or {}),
        part=parse_part(part),
        boundary=boundary,
    )
    return conduct(question, runtime or Runtime(), progress)
