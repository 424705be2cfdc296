"""`dvme subsets`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dvme_cli.console import console, expected_errors, progress_bars, say, show_json
from dvme_cli.options import (
    Backbones,
    Balance,
    Cache,
    DropDuplicates,
    Folds,
    Force,
    Json,
    Oversample,
    Repeats,
    Seed,
    Sizes,
    SubsetFile,
    TestFraction,
    Validation,
)
from dvme_cli.parsing import optional_names, subset_options
from dvme_cli.table import Table

if TYPE_CHECKING:
    from dvme.study.design.subsets import SubsetReport


def subsets(  # noqa: PLR0913 - one parameter per option
    cache: Cache,
    out: SubsetFile,
    sizes: Sizes = None,
    n_folds: Folds = None,
    n_repeats: Repeats = None,
    balance: Balance = None,
    validation: Validation = None,
    oversample: Oversample = None,
    test_fraction: TestFraction = None,
    seed: Seed = None,
    drop_duplicates: DropDuplicates = None,
    separator: Annotated[
        str | None,
        typer.Option(
            "--label-separator", help="What stands between the labels of an image that may have several, such as '|'."
        ),
    ] = None,
    backbones: Backbones = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Draw nested training subsets and their folds into one file that another lab can load."""
    with expected_errors():
        import dvme

        options = subset_options(
            sizes=sizes,
            n_folds=n_folds,
            n_repeats=n_repeats,
            balance=balance,
            validation=validation,
            oversample=oversample,
            test_fraction=test_fraction,
            seed=seed,
            drop_duplicates=drop_duplicates,
            separator=separator,
        )
        with progress_bars() as tell:
            report = dvme.subsets(
                cache,
                out,
                options=options,
                backbones=optional_names(backbones, "--backbones"),
                force=force,
                progress=tell,
            )
        if json:
            show_json(report.to_json())
        else:
            _show(report)


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
