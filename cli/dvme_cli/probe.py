"""`dvme probe`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

from dvme.text import MARKS
from dvme_cli.arguments import Backbones, parse_names
from dvme_cli.console import console, expected_errors, progress_bars, say, show_json
from dvme_cli.subsets import DropDuplicates
from dvme_cli.table import NARROW, Table

if TYPE_CHECKING:
    from dvme.study.outcome import Cell, Score, StudyReport

LEAST_WORTH = ("kappa", "bal. acc.", "accuracy", "95% CI", "val AUC")


def probe(  # noqa: PLR0913 - one parameter per option
    cache: Annotated[str, typer.Argument(help="A cache, by path or URL.")],
    head: Annotated[
        str,
        typer.Option(
            help="Heads separated by commas: linear, linear-adam, knn; and the fusions dvme, dvme-noattn, dvme-tokens, "
            "concat, mean-logits, mlp. With settings: dvme@max-epochs=100, knn@k=5:20 (k is 5 or 20)."
        ),
    ] = "linear,knn",
    backbones: Backbones = None,
    controls: Annotated[
        bool,
        typer.Option(help="Beside dvme and dvme-tokens: every single backbone, and the fusions without attention."),
    ] = True,
    folds: Annotated[int, typer.Option(help="Folds of the training pool.")] = 5,
    test_fraction: Annotated[float, typer.Option(help="Part held out for testing, without a split column.")] = 0.2,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the split and the heads.")] = 0,
    drop_duplicates: DropDuplicates = False,
    out: Annotated[
        str | None, typer.Option(help="A run's folder: made, or gone on with. dvme report takes it. Default: none.")
    ] = None,
    save: Annotated[
        str | None, typer.Option(help="A new folder for the fitted heads, one in it for each line.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps, or auto.")] = "auto",
    memory: Annotated[
        float | None,
        typer.Option(help="GiB that embeddings and heads may hold. Default: half of what is free."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Train light heads on cached embeddings and print one honest table."""
    with expected_errors():
        import dvme

        with progress_bars() as tell:
            report = dvme.probe(
                cache,
                heads=parse_names(head, "--head"),
                backbones=None if backbones is None else parse_names(backbones, "--backbones"),
                controls=controls,
                n_folds=folds,
                test_fraction=test_fraction,
                seed=seed,
                drop_duplicates=bool(drop_duplicates),
                out=out,
                save=save,
                runtime=dvme.Runtime(device=device, memory=None if memory is None else int(memory * 2**30)),
                progress=tell,
            )
        if json:
            show_json(report.to_json())
        else:
            _show(report)


def _show(report: StudyReport) -> None:
    say(f"{report.task.describe()}")
    say(f"{report.plan}")
    headings = ("backbone", "head", "val AUC", "test AUC", "95% CI", "accuracy", "bal. acc.", "kappa")
    table = Table(columns=headings, keys=2, numeric=6, drop=LEAST_WORTH, padding=NARROW)
    for row in report.rows:
        metrics = [_spread(row.test[name]) for name in ("accuracy", "balanced_accuracy", "kappa")]
        low, high = row.interval.low, row.interval.high
        table.add_row(
            _together(row),
            row.head,
            f"{row.validation:.3f}",
            f"{_spread(row.test['auc'])} {row.mark or ' '}",
            "-" if math.isnan(low) else f"{low:.3f}-{high:.3f}",
            *(metrics if report.task.is_ordered else [*metrics[:-1], "-"]),
        )
    table.show(console())
    shown = "mean ± std over folds" if report.rows[0].test["auc"].folds[1:] else "one fold, so no std"
    auc = "AUC" if report.task.kind == "binary" else "AUC is macro one-versus-rest"
    say(f"Test scores, {shown}; sorted by validation. {auc}.")
    for label, names in {_together(row): row.backbones for row in report.rows if len(row.backbones) > 1}.items():
        say(f"{label}: {', '.join(names)}.")
    if report.rows[1:]:
        say(MARKS)
    for notice in report.notices:
        say(notice)
    if report.task.kind != "binary":
        from dvme.data.order import order_text

        order = order_text(report.task.classes)
        say(report.task.order_caveat(report.cache) or f"kappa is quadratic weighted: {order}.")
    _show_verdicts(report)
    for folder in report.saved:
        say(f"saved {folder}")
    if report.run is not None:
        say(f"kept in {report.run}; dvme report {report.run} --out report.html shows it")


def _show_verdicts(report: StudyReport) -> None:
    if report.verdict is not None:
        say(report.verdict.sentence)
    for verdict in report.fusion:
        say(verdict.sentence)


def _together(row: Cell) -> str:
    return row.backbones[0] if len(row.backbones) == 1 else f"{len(row.backbones)} together"


def _spread(score: Score) -> str:
    return f"{score.mean:.3f}" if math.isnan(score.std) else f"{score.mean:.3f} ± {score.std:.3f}"
