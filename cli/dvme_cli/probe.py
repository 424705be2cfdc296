"""`dvme probe`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

import dvme
from dvme.defaults import DEVICE, PROBE_HEADS
from dvme.text import MARKS, spread_text, together_text
from dvme_cli import options
from dvme_cli.console import answer, console, progress_bars, say
from dvme_cli.parsing import optional_names, parse_names, runtime_of, typed
from dvme_cli.table import NARROW, Table

if TYPE_CHECKING:
    from dvme.study.outcome import StudyReport

HEADS = ",".join(PROBE_HEADS)
LEAST_WORTH = ("kappa", "bal. acc.", "accuracy", "95% CI", "val AUC")


def probe(  # noqa: PLR0913 - one parameter per option
    cache: options.Cache,
    heads: options.Heads = HEADS,
    backbones: options.Backbones = None,
    controls: options.Controls = True,
    n_folds: options.Folds = None,
    test_fraction: options.TestFraction = None,
    seed: options.Seed = None,
    drop_duplicates: options.DropDuplicates = None,
    out: options.OptionalRunFolder = None,
    save: Annotated[
        str | None, typer.Option(help="A new folder for the fitted heads, one in it for each line.")
    ] = None,
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
            **typed(n_folds=n_folds, test_fraction=test_fraction, seed=seed, drop_duplicates=drop_duplicates),
            out=out,
            save=save,
            runtime=runtime_of(device=device, memory=memory),
            progress=tell,
        )
    answer(report, _show, is_json=json)


def _show(report: StudyReport) -> None:
    say(f"{report.task.describe()}")
    say(f"{report.plan}")
    headings = ("backbone", "head", "val AUC", "test AUC", "95% CI", "accuracy", "bal. acc.", "kappa")
    table = Table(columns=headings, keys=2, numeric=6, drop=LEAST_WORTH, padding=NARROW)
    for row in report.rows:
        metrics = [spread_text(row.test[name]) for name in ("accuracy", "balanced_accuracy", "kappa")]
        low, high = row.interval.low, row.interval.high
        table.add_row(
            together_text(row.backbones),
            row.head,
            f"{row.validation:.3f}",
            f"{spread_text(row.test['auc'])} {row.mark or ' '}",
            "-" if math.isnan(low) else f"{low:.3f}-{high:.3f}",
            *(metrics if report.task.is_ordered else [*metrics[:-1], "-"]),
        )
    table.show(console())
    shown = "mean ± std over folds" if report.rows[0].test["auc"].folds[1:] else "one fold, so no std"
    auc = "AUC" if report.task.kind == "binary" else "AUC is macro one-versus-rest"
    say(f"Test scores, {shown}; sorted by validation. {auc}.")
    for backbones in dict.fromkeys(row.backbones for row in report.rows if len(row.backbones) > 1):
        say(f"{together_text(backbones)}: {', '.join(backbones)}.")
    if report.rows[1:]:
        say(MARKS)
    for notice in report.notices:
        say(notice)
    if report.task.kind != "binary":
        from dvme.data.order import order_text

        order = order_text(report.task.classes)
        say(report.task.order_caveat(report.cache) or f"kappa is quadratic weighted: {order}.")
    for verdict in (report.verdict, *report.fusion):
        if verdict is not None:
            say(verdict.sentence)
    for folder in report.saved:
        say(f"saved {folder}")
    if report.run is not None:
        say(f"kept in {report.run}; dvme report {report.run} --out report.html shows it")
