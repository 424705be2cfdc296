"""`dvme sweep`."""

from __future__ import annotations

from typing import Annotated

import typer

from dvme.defaults import DEVICE, METRIC, SWEEP_HEADS
from dvme_cli.console import expected_errors, progress_bars, show_json
from dvme_cli.options import (
    Backbones,
    Balance,
    Cache,
    Controls,
    Device,
    DropDuplicates,
    Folds,
    Heads,
    Json,
    Memory,
    Metric,
    Oversample,
    Repeats,
    RunFolder,
    Seed,
    Sizes,
    TestFraction,
    Validation,
)
from dvme_cli.parsing import optional_names, parse_names, runtime_of, subset_options, typed
from dvme_cli.study_table import show_sweep

HEADS = ",".join(SWEEP_HEADS)


def sweep(  # noqa: PLR0913 - one parameter per option
    cache: Cache,
    out: RunFolder,
    heads: Heads = HEADS,
    backbones: Backbones = None,
    controls: Controls = True,
    subsets: Annotated[str | None, typer.Option(help="A file of dvme subsets, in place of the next nine.")] = None,
    sizes: Sizes = None,
    n_folds: Folds = None,
    n_repeats: Repeats = None,
    balance: Balance = None,
    validation: Validation = None,
    oversample: Oversample = None,
    test_fraction: TestFraction = None,
    seed: Seed = None,
    drop_duplicates: DropDuplicates = None,
    metric: Metric = METRIC,
    device: Device = DEVICE,
    memory: Memory = None,
    json: Json = False,
) -> None:
    """Fit every head on subsets of growing size, and say how many labels a task needs."""
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
        )
        with progress_bars() as tell:
            report = dvme.sweep(
                cache,
                out,
                heads=parse_names(heads, "--head"),
                backbones=optional_names(backbones, "--backbones"),
                controls=controls,
                subsets=subsets,
                options=options,
                **typed(metric=metric),
                runtime=runtime_of(device=device, memory=memory),
                progress=tell,
            )
        if json:
            show_json(report.to_json())
        else:
            show_sweep(report)
