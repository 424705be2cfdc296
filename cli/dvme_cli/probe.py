"""`dvme probe`."""

from __future__ import annotations

from typing import Annotated

import typer

from dvme.defaults import DEVICE, PROBE_HEADS
from dvme_cli.console import expected_errors, progress_bars, show_json
from dvme_cli.options import (
    Backbones,
    Cache,
    Controls,
    Device,
    DropDuplicates,
    Folds,
    Heads,
    Json,
    Memory,
    OptionalRunFolder,
    Seed,
    TestFraction,
)
from dvme_cli.parsing import optional_names, parse_names, runtime_of, typed

HEADS = ",".join(PROBE_HEADS)


def probe(  # noqa: PLR0913 - one parameter per option
    cache: Cache,
    heads: Heads = HEADS,
    backbones: Backbones = None,
    controls: Controls = True,
    n_folds: Folds = None,
    test_fraction: TestFraction = None,
    seed: Seed = None,
    drop_duplicates: DropDuplicates = None,
    out: OptionalRunFolder = None,
    save: Annotated[
        str | None, typer.Option(help="A new folder for the fitted heads, one in it for each line.")
    ] = None,
    device: Device = DEVICE,
    memory: Memory = None,
    json: Json = False,
) -> None:
    """Train light heads on cached embeddings and print one honest table."""
    with expected_errors():
        import dvme

        with progress_bars() as tell:
            report = dvme.probe(
                cache,
                heads=parse_names(heads, "--head"),
                backbones=optional_names(backbones, "--backbones"),
                controls=controls,
                **typed(n_folds=n_folds, test_fraction=test_fraction, seed=seed, drop_duplicates=drop_duplicates),
                out=out,
                save=save,
                runtime=runtime_of(device=device, memory=memory),
                progress=tell,
            )
        if json:
            show_json(report.to_json())
        else:
            from dvme_cli.study_table import show_probe

            show_probe(report)
