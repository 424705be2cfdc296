"""`dvme sweep`."""

from __future__ import annotations

from typing import Annotated

import typer

import dvme
from dvme.defaults import AT, DEVICE, ENGINE, SWEEP_HEADS, VIEWS_USED
from dvme_cli import image_options, options
from dvme_cli.console import answer, progress_bars
from dvme_cli.parsing import (
    optional_names,
    parse_names,
    parse_shares,
    runtime_of,
    site_options,
    subset_options,
    typed,
)
from dvme_cli.study_table import show_sweep

HEADS = ",".join(SWEEP_HEADS)


def sweep(  # noqa: PLR0913, PLR0917 - one parameter per option
    cache: options.Cache,
    out: options.RunFolder,
    heads: options.Heads = HEADS,
    backbones: options.Backbones = None,
    controls: options.Controls = True,
    views: options.ViewsUsed = VIEWS_USED,
    subsets: Annotated[str | None, typer.Option(help="A file of dvme subsets, in place of the others here.")] = None,
    sizes: options.Sizes = None,
    n_folds: options.Folds = None,
    n_repeats: options.Repeats = None,
    balance: options.Balance = None,
    validation: options.Validation = None,
    oversample: options.Oversample = None,
    test_fraction: options.TestFraction = None,
    seed: options.Seed = None,
    drop_duplicates: options.DropDuplicates = None,
    near_duplicates: options.NearDuplicates = None,
    uncertain: image_options.Uncertain = None,
    blank: image_options.Blank = None,
    by: options.By = None,
    per: options.Per = None,
    join: options.JoinImages = None,
    conflicts: options.ConflictingLabels = None,
    metric: options.Metric = None,
    test: options.Sites = None,
    label_map: options.LabelMap = None,
    score: options.Portions = None,
    at: options.At = AT,
    prevalence: options.Prevalence = None,
    boundary: image_options.Boundary = None,
    part: options.StudyPart = None,
    engine: options.Engine = ENGINE,
    ray_address: options.RayAddress = None,
    ray_cpus: options.RayCpus = None,
    device: options.Device = DEVICE,
    memory: options.Memory = None,
    json: options.Json = False,
) -> None:
    """Fit every head on subsets of growing size, and say how many labels a task needs."""
    drawn = subset_options(
        sizes=sizes,
        n_folds=n_folds,
        n_repeats=n_repeats,
        balance=balance,
        validation=validation,
        oversample=oversample,
        test_fraction=test_fraction,
        seed=seed,
        drop_duplicates=drop_duplicates,
        near_duplicates=near_duplicates,
        uncertain=uncertain,
        blank=blank,
    )
    with progress_bars() as tell:
        report = dvme.sweep(
            cache,
            out,
            heads=parse_names(heads, "--head"),
            backbones=optional_names(backbones, "--backbones"),
            controls=controls,
            views=views,
            by=optional_names(by, "--by") or (),
            per=per,
            subsets=subsets,
            options=drawn,
            **typed(
                metric=metric,
                join=join,
                conflicts=conflicts,
                prevalence=parse_shares(prevalence, "--prevalence"),
            ),
            at=at,
            **site_options(test=test, label_map=label_map, score=score),
            boundary=boundary,
            part=part,
            runtime=runtime_of(device=device, memory=memory, engine=engine, ray_address=ray_address, ray_cpus=ray_cpus),
            progress=tell,
        )
    answer(report, show_sweep, is_json=json)
