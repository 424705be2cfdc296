"""`dvme probe`."""

from __future__ import annotations

from typing import Annotated

import typer

import dvme
from dvme.defaults import AT, DEVICE, ENGINE, PROBE_HEADS, VIEWS_USED
from dvme_cli import image_options, options
from dvme_cli.console import answer, progress_bars
from dvme_cli.parsing import (
    optional_names,
    parse_names,
    parse_shares,
    runtime_of,
    site_options,
    typed,
)
from dvme_cli.study_table import show_probe

HEADS = ",".join(PROBE_HEADS)


def probe(  # noqa: PLR0913, PLR0917 - one parameter per option
    cache: options.Cache,
    heads: options.Heads = HEADS,
    backbones: options.Backbones = None,
    controls: options.Controls = True,
    views: options.ViewsUsed = VIEWS_USED,
    n_folds: options.Folds = None,
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
    at: options.At = AT,
    prevalence: options.Prevalence = None,
    out: options.OptionalRunFolder = None,
    save: Annotated[
        str | None, typer.Option(help="A new folder for the fitted heads, one in it for each line.")
    ] = None,
    test: options.Sites = None,
    label_map: options.LabelMap = None,
    score: options.Portions = None,
    boundary: image_options.Boundary = None,
    part: options.StudyPart = None,
    engine: options.Engine = ENGINE,
    ray_address: options.RayAddress = None,
    ray_cpus: options.RayCpus = None,
    device: options.Device = DEVICE,
    memory: options.Memory = None,
    json: options.Json = False,
) -> None:
    """Train light heads on cached embeddings and print one honest table."""
    with progress_bars() as tell:
        report = dvme.probe(
            cache,
            heads=parse_names(heads, "--head"),
            backbones=optional_names(backbones, "--backbones"),
            controls=controls,
            views=views,
            by=optional_names(by, "--by") or (),
            per=per,
            **typed(
                n_folds=n_folds,
                test_fraction=test_fraction,
                seed=seed,
                drop_duplicates=drop_duplicates,
                near_duplicates=near_duplicates,
                uncertain=uncertain,
                blank=blank,
                join=join,
                conflicts=conflicts,
                prevalence=parse_shares(prevalence, "--prevalence"),
            ),
            at=at,
            out=out,
            save=save,
            **site_options(test=test, label_map=label_map, score=score),
            boundary=boundary,
            part=part,
            runtime=runtime_of(device=device, memory=memory, engine=engine, ray_address=ray_address, ray_cpus=ray_cpus),
            progress=tell,
        )
    answer(report, show_probe, is_json=json)
