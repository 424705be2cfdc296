"""`dvme subsets`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

import dvme
from dvme_cli import image_options, options
from dvme_cli.console import answer, console, progress_bars, say
from dvme_cli.parsing import optional_names, subset_options
from dvme_cli.table import Table

if TYPE_CHECKING:
    from dvme.study.design.subsets import SubsetReport


def subsets(  # noqa: PLR0913 - one parameter per option
    cache: options.Cache,
    out: options.SubsetFile,
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
    backbones: options.Backbones = None,
    masks: Annotated[bool, typer.Option("--masks", help="Of the images with a mask, for a segmentation.")] = False,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Draw nested training subsets and their folds into one file that another lab can load."""
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
        names = optional_names(backbones, "--backbones")
        report = dvme.subsets(cache, out, options=drawn, backbones=names, masks=masks, force=force, progress=tell)
    answer(report, _show, is_json=json)


def _show(report: SubsetReport) -> None:
    manifest = report.manifest
    say(f"{manifest.policy['plan']}; {manifest.policy['balance']}")
    table = Table(columns=("size", "train", "validation"), keys=1, numeric=2)
    draw = manifest.draws[0]
    for index, name in enumerate(manifest.sizes):
        table.add_row(name, f"{draw.n_train[index]:,}", f"{draw.n_validation[index]:,}")
    table.show(console())
    for notice in report.notices:
        say(notice)
    say(f"wrote {report.path}: {len(manifest.draws)} draws of {len(manifest.sizes)} sizes, hash {manifest.hash}")
