"""`dvme subsets`, and the options that `dvme sweep` shares with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dvme_cli.arguments import Backbones, parse_names
from dvme_cli.console import console, expected_errors, progress_bars, say, show_json
from dvme_cli.table import Table

if TYPE_CHECKING:
    from dvme.study.design.options import SubsetOptions
    from dvme.study.design.subsets import SubsetReport

Sizes = Annotated[
    str | None,
    typer.Option(
        help="Training images, separated by commas: numbers, parts (10%), full, or a preset: truong2021:aptos, "
        "truong2021:patchcam, truong2021:pneumonia-cxr, truong2021:nih-cxr, azizi2021. Default: 50,100,200,500,full."
    ),
]
Folds = Annotated[int | None, typer.Option(help="Folds of the training pool. Default: 5.")]
Repeats = Annotated[int | None, typer.Option(help="Times that the pool is folded anew. Default: 1.")]
Balance = Annotated[
    str | None,
    typer.Option(help="balanced: as many images of each class; stratified; natural. Default: balanced."),
]
Validation = Annotated[
    str | None,
    typer.Option(help="matched: small subsets choose on few images too; full: on the whole fold. Default: matched."),
]
Oversample = Annotated[
    bool | None,
    typer.Option(
        "--oversample/--no-oversample",
        help="Heads trained by minibatches see every class equally often. Default: where classes differ in number.",
    ),
]
TestFraction = Annotated[
    float | None, typer.Option(help="Part held out for testing, without a split column. Default: 0.2.")
]
Seed = Annotated[int | None, typer.Option(min=0, max=2**32 - 1, help="Of the split and all draws. Default: 0.")]
DropDuplicates = Annotated[
    bool | None,
    typer.Option("--drop-duplicates", help="Leave out training images that all but coincide with a test image."),
]


def subset_options(given: dict[str, Any]) -> SubsetOptions | None:
    """The options that were typed; None if there are none, so that a subset file may stand in for all of them."""
    from dvme.study.design.options import SubsetOptions

    known = {key: value for key, value in given.items() if value is not None}
    if isinstance(known.get("sizes"), str):
        known["sizes"] = tuple(parse_names(known["sizes"], "--sizes"))
    return SubsetOptions(**known) if known else None


def subsets(  # noqa: PLR0913 - one parameter per option
    cache: Annotated[str, typer.Argument(help="A cache, by path or URL.")],
    out: Annotated[Path, typer.Option(help="The file to write, .json.")],
    sizes: Sizes = None,
    folds: Folds = None,
    repeats: Repeats = None,
    balance: Balance = None,
    validation: Validation = None,
    oversample: Oversample = None,
    test_fraction: TestFraction = None,
    seed: Seed = None,
    drop_duplicates: DropDuplicates = None,
    label_separator: Annotated[
        str | None, typer.Option(help="What stands between the labels of an image that may have several, such as '|'.")
    ] = None,
    backbones: Backbones = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Draw nested training subsets and their folds into one file that another lab can load."""
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
        "separator": label_separator,
    }
    with expected_errors():
        import dvme

        with progress_bars() as tell:
            report = dvme.subsets(
                cache,
                out,
                options=subset_options(given),
                backbones=None if backbones is None else parse_names(backbones, "--backbones"),
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
