"""`dvme sweep`."""

from __future__ import annotations

from typing import Annotated

import typer

from dvme_cli.arguments import parse_names
from dvme_cli.console import expected_errors, progress_bars, show_json
from dvme_cli.subsets import (
    Balance,
    DropDuplicates,
    Folds,
    Oversample,
    Repeats,
    Seed,
    Sizes,
    TestFraction,
    Validation,
    subset_options,
)
from dvme_cli.sweep_table import show_sweep


def sweep(  # noqa: PLR0913 - one parameter per option
    cache: Annotated[str, typer.Argument(help="A cache, by path or URL.")],
    out: Annotated[str, typer.Option(help="The run's folder. One that was interrupted is gone on with.")],
    head: Annotated[str, typer.Option(help="Heads separated by commas, as of dvme probe.")] = "linear,knn,dvme",
    backbones: Annotated[str | None, typer.Option(help="Names separated by commas. Default: all.")] = None,
    controls: Annotated[
        bool,
        typer.Option(help="Beside dvme and dvme-tokens: every single backbone, and the fusions without attention."),
    ] = True,
    subsets: Annotated[str | None, typer.Option(help="A file of dvme subsets, in place of the next nine.")] = None,
    sizes: Sizes = None,
    folds: Folds = None,
    repeats: Repeats = None,
    balance: Balance = None,
    validation: Validation = None,
    oversample: Oversample = None,
    test_fraction: TestFraction = None,
    seed: Seed = None,
    drop_duplicates: DropDuplicates = None,
    metric: Annotated[
        str, typer.Option(help="auc, accuracy, balanced_accuracy or kappa: what table and verdicts are about.")
    ] = "auc",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps, or auto.")] = "auto",
    memory: Annotated[
        float | None, typer.Option(help="GiB that embeddings and heads may hold. Default: half of what is free.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Fit every head on subsets of growing size, and say how many labels a task needs."""
    given = {
        "sizes": sizes,
        "n_folds": folds,
        "n_repeats": repeats,
        "balance": balance,
        "validation": validation,
        "oversample": oversample,
        "test_fraction": test_fraction,
        "seed": seed,
        "drop_duplicates": drop_duplicates,
    }
    with expected_errors():
        import dvme

        with progress_bars() as tell:
            report = dvme.sweep(
                cache,
                out,
                heads=parse_names(head, "--head"),
                backbones=None if backbones is None else parse_names(backbones, "--backbones"),
                controls=controls,
                subsets=subsets,
                options=subset_options(given),
                metric=metric,
                runtime=dvme.Runtime(device=device, memory=None if memory is None else int(memory * 2**30)),
                progress=tell,
            )
        if json:
            show_json(report.to_json())
        else:
            show_sweep(report)
