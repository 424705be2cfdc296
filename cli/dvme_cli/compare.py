"""`dvme compare`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

import dvme
from dvme.text import METRIC_NAMES, difference_text, p_text, spread_text
from dvme_cli import options
from dvme_cli.console import answer, console, progress_bars, say
from dvme_cli.parsing import parse_pairs
from dvme_cli.table import Table

if TYPE_CHECKING:
    from dvme.study.comparison import CompareReport
    from dvme.study.outcome import Score

SIZES_ABREAST = 4
LEVEL = 0.05


def compare(
    run: options.Run,
    other: Annotated[str | None, typer.Argument(help="Another run over the same subsets.")] = None,
    published: options.Published = None,
    stands_for: Annotated[
        list[str] | None,
        typer.Option("--as", help="swav=BACKBONE: which of the run's backbones stands beside a published one."),
    ] = None,
    metric: options.Metric = None,
    finding: options.ComparedFinding = None,
    json: options.Json = False,
) -> None:
    """Lay two runs side by side, with paired tests, or a run beside published numbers."""
    with progress_bars() as tell:
        report = dvme.compare(
            run,
            other,
            published=published,
            stands_for=parse_pairs(stands_for or [], "--as", "BACKBONE"),
            metric=metric,
            finding=finding,
            progress=tell,
        )
    answer(report, _show, is_json=json)


def _show(report: CompareReport) -> None:
    if report.is_published:
        _show_beside(report)
    else:
        _show_runs(report)
    say(f"p: {report.test}, times the number of pairs; intervals are widened for them (Bonferroni).")
    for line in report.notices:
        say(line)


def _show_runs(report: CompareReport) -> None:
    headings = ("method", "size", "first", "second", "difference, 95% CI", "p")
    table = Table(columns=headings, keys=2, numeric=4)
    for pair in report.pairs:
        p = "-" if math.isnan(pair.p_adjusted) else p_text(pair.p_adjusted)
        difference = "" if pair.comparison is None else difference_text(pair.comparison.difference)
        table.add_row(pair.method, pair.size, _shown(pair.one), _shown(pair.other), difference, p)
    table.show(console())
    of = "" if report.finding is None else f" of {report.finding}"
    say(f"Test {METRIC_NAMES[report.metric]}{of}, mean ± std over draws. Difference: the first minus the second.")
    say(f"first: {report.one}")
    say(f"second: {report.other}")


def _show_beside(report: CompareReport) -> None:
    """Rows of methods, columns of sizes, as in the paper; below each published row the run's own."""
    sizes = list(dict.fromkeys(pair.size for pair in report.pairs))
    doubts = [pair.doubt for pair in report.pairs if pair.doubt]
    headings = ("published, and below it yours", *sizes)
    table = Table(columns=headings, keys=1, numeric=len(sizes), abreast=SIZES_ABREAST)
    for method in dict.fromkeys(pair.method for pair in report.pairs):
        pairs = {pair.size: pair for pair in report.pairs if pair.method == method}
        row = [pairs[size] for size in sizes if size in pairs]
        table.add_row(method, *(f"{_shown(pair.other)} {'?' if pair.doubt else ' '}" for pair in row))
        beside = {pair.beside for pair in row if pair.beside}
        if beside:
            marked = (f"{_shown(pair.one)} {'≠' if pair.p_adjusted < LEVEL else ' '}" for pair in row)
            table.add_row(f"  {beside.pop()}", *marked, style="bold")
    table.show(console())
    say(f"Test {METRIC_NAMES[report.metric]}, mean ± std over folds.")
    say("≠: yours and the published one differ.")
    for doubt in doubts:
        say(f"?: {doubt}")


def _shown(score: Score | None) -> str:
    return "" if score is None else spread_text(score)
