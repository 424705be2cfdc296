"""A study as text: the papers' table, then what it allows to be said."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.text import Text

from dvme.progress import duration
from dvme.text import (
    ADAPTED,
    CONTROL,
    FROZEN,
    MARKS,
    METRIC_NAMES,
    WHICH,
    counted,
    difference_text,
    grid_text,
    p_text,
    saved_text,
    spread_text,
    together_text,
)
from dvme_cli.console import console, say
from dvme_cli.masks_table import show_masks
from dvme_cli.people_table import show_people
from dvme_cli.reliability_table import show_reliability
from dvme_cli.sites_table import show_sites
from dvme_cli.table import NARROW, Table

if TYPE_CHECKING:
    from dvme.study.outcome import Cell, PartDone, StudyReport

FURTHER = {
    "accuracy": "accuracy",
    "balanced_accuracy": "bal. acc.",
    "kappa": "kappa",
    "average_precision": "avg. prec.",
    "subset_accuracy": "subset acc.",
    "iou": "IoU",
    "global_dice": "all pixels",
}
"""Metrics beside the AUC, as columns are called."""
WHAT_DICE_IS = (
    "Dice and IoU are means over images of the mean over classes, at each mask's own resolution; where a class is "
    "neither there nor predicted, both are 1. The ceiling is what the masks of these test images reach, down to a "
    "method's grid and up again; an interval is of other test images, and may end above it"
)
LEAST_WORTH = ("kappa", "subset acc.", "bal. acc.", "avg. prec.", "accuracy", "all pixels", "IoU", "95% CI", "val")


def show_probe(report: StudyReport) -> None:
    """Print a study of one size: all metrics, then what they allow to be said."""
    if report.part is not None:
        _show_part(report, report.part)
        return
    say(f"{report.task.describe()}")
    say(f"{report.plan}")
    has_order, metric = report.task.is_ordered, report.metric
    names = [name for name in FURTHER if name in report.rows[0].test and name != metric]
    has_ceiling, called = report.rows[0].ceiling is not None, METRIC_NAMES[metric]
    own = (f"val {called}", f"test {called}", "95% CI", *(["ceiling"] if has_ceiling else []))
    headings = ("backbone", "head", *own, *(FURTHER[name] for name in names))
    drop = (*LEAST_WORTH[:-1], own[0])
    table = Table(columns=headings, keys=2, numeric=len(headings) - 2, drop=drop, padding=NARROW)
    for row in report.rows:
        metrics = ["-" if name == "kappa" and not has_order else spread_text(row.test[name]) for name in names]
        low, high = row.interval.low, row.interval.high
        table.add_row(
            together_text(row.backbones),
            row.head,
            f"{row.validation:.3f}",
            f"{spread_text(row.test[metric])} {row.mark or ' '}",
            "-" if math.isnan(low) else f"{low:.3f}-{high:.3f}",
            *([_ceiling(row)] if has_ceiling else []),
            *metrics,
        )
    table.show(console())
    shown = "mean ± std over folds" if report.rows[0].test[metric].folds[1:] else "one fold, so no std"
    say(f"Test scores, {shown}; sorted by validation. {_what_auc_is(report)}.")
    for backbones in dict.fromkeys(row.backbones for row in report.rows if len(row.backbones) > 1):
        say(f"{together_text(backbones)}: {', '.join(backbones)}.")
    if report.rows[1:]:
        say(MARKS)
    for notice in report.notices:
        say(notice)
    if report.task.kind == "multiclass":
        from dvme.data.order import order_text

        order = order_text(report.task.classes)
        say(report.task.order_caveat(report.cache) or f"kappa is quadratic weighted: {order}.")
        _show_error(report)
    show_masks(report)
    _show_gains(report)
    if report.reliability is not None:
        show_reliability(report.reliability)
    show_sites(report.sites)
    show_people(report)
    _show_verdict(report)
    for folder in report.saved:
        say(f"saved {folder}")
    if report.run is not None:
        say(f"kept in {report.run}; dvme report {report.run} --out report.html shows it")


def _show_error(report: StudyReport) -> None:
    """By how many grades the leading method is off, with its interval; --json has those of all."""
    leading = report.rows[0]
    if leading.error_in_grades is not None:
        said = difference_text(leading.error_in_grades, named="95% CI", signed=False)
        say(f"Mean absolute error in grades of {leading.method}, lower is better: {said}.")


def show_sweep(report: StudyReport) -> None:
    """Print a study of several sizes: one metric, then what it allows to be said."""
    if report.part is not None:
        _show_part(report, report.part)
        return
    say(report.task.describe())
    say(report.plan)
    for notice in report.notices:
        say(notice)
    _show_scores(report)
    show_masks(report)
    _show_gains(report)
    if report.reliability is not None:
        show_reliability(report.reliability)
    show_sites(report.sites)
    show_people(report)
    _show_verdict(report)
    _show_cost(report)
    if report.suspects:
        n = counted(len(report.suspects), "image")
        say(f"{n} may have a wrong label, by {report.suspects[0].method}: {report.run}/suspects.csv lists them")
    reused = f", {report.n_reused:,} of them finished before" if report.n_reused else ""
    times = ", ".join(f"{stage} {duration(seconds)}" for stage, seconds in report.seconds.items() if seconds >= 1)
    say(f"{report.n_jobs:,} jobs{reused}{': ' + times if times else ''}; subsets {report.subsets}")
    say(f"wrote {report.run}; dvme report {report.run} --out report.html draws it")


def _show_part(report: StudyReport, done: PartDone) -> None:
    """Print what one part did, and what to do next."""
    n_fitted = report.n_jobs - report.n_reused
    there = f", {report.n_reused:,} of its {report.n_jobs:,} were there" if report.n_reused else ""
    say(f"part {done.part}: {counted(n_fitted, 'job')} fitted into {report.run}{there}")
    if done.n_left:
        say(f"{counted(done.n_left, 'job')} of the study {'are' if done.n_left > 1 else 'is'} left to other parts")
    else:
        say("all jobs of the study are there; the same command without --part judges them")


def _ceiling(cell: Cell) -> str:
    if cell.ceiling is None:
        return "-"
    return f"{cell.ceiling:.3f}" + ("" if cell.grid is None else f" ({grid_text(cell.grid)})")


def _what_auc_is(report: StudyReport) -> str:
    if report.task.is_segmentation:
        return WHAT_DICE_IS
    if report.task.is_multilabel:
        return f"AUC and average precision are means over the {_n_judged(report)} findings that can be judged"
    return "AUC" if report.task.kind == "binary" else "AUC is macro one-versus-rest"


def _n_judged(report: StudyReport) -> int:
    """How many findings the scores are means over; 0 where an image has one class."""
    if not report.task.is_multilabel or report.task.is_segmentation:
        return 0
    assert report.reliability is not None  # a study that has just ended
    return len(report.reliability.leading.judged)


def _show_scores(report: StudyReport) -> None:
    sizes = [column.name for column in report.columns]
    more = ["ceiling"] if report.cells[0].ceiling is not None else []
    table = Table(columns=("backbone", "head", *sizes, *more), keys=2, numeric=len(sizes) + len(more), padding=NARROW)
    for head, backbones in report.methods:
        row = report.row(head, backbones)
        cells = (_score(cell, report.metric) for cell in row)
        table.add_row(together_text(backbones), head, *cells, *([_ceiling(row[0])] if more else []))
    table.show(console())
    counts = ", ".join(f"{column.n_train:,.0f} + {column.n_validation:,.0f}" for column in report.columns)
    say(f"Images to train + to choose on: {counts}.")
    metric = METRIC_NAMES[report.metric]
    n_judged, extra = _n_judged(report), ""
    if report.task.is_segmentation:
        say(f"{WHAT_DICE_IS}.")
    elif n_judged:
        extra = f", mean over the {n_judged} findings that can be judged"
    elif report.metric == "auc" and report.task.kind != "binary":
        extra = ", macro one-versus-rest"
    say(f"Test {metric}{extra}, mean ± std over draws; the highest of a size is bold, which claims nothing.")
    say(MARKS)
    if report.metric == "kappa":
        _show_error(report)
    for backbones in dict.fromkeys(each for _, each in report.methods if len(each) > 1):
        say(f"{together_text(backbones)}: {', '.join(backbones)}.")


def _score(cell: Cell, metric: str) -> Text:
    score = cell.test[metric]
    return Text(f"{spread_text(score)} {cell.mark or ' '}", style="bold" if cell.is_highest else "")


def _show_gains(report: StudyReport) -> None:
    heads, several = {cell.method: cell.head for cell in report.cells}, len(report.columns) > 1
    for fusion in dict.fromkeys(gain.fusion for gain in report.gains):
        headings = ("size", f"{fusion} against", "difference, 95% CI", "p", "", *(["labels saved"] if several else []))
        table = Table(columns=headings, keys=2, numeric=1, padding=NARROW)
        for gain in (each for each in report.gains if each.fusion == fusion):
            table.add_row(
                gain.size,
                heads[gain.rival] if gain.role == CONTROL else gain.rival,
                difference_text(gain.comparison.difference),
                "-" if math.isnan(gain.p_adjusted) else p_text(gain.p_adjusted),
                gain.word,
                *([saved_text(gain.saved)] if several else []),
            )
        table.show(console())
    if report.gains:
        say(
            "A gain is one over every single backbone, or control, that is not told apart from the one that leads on "
            "validation; of those that decide, the one that it exceeds the least is shown. Intervals and p are for all "
            "comparisons of the table, as its marks are."
        )
    if report.gains and several:
        say("Labels saved: what that single backbone needs more for the same score (95% CI).")


def _show_verdict(report: StudyReport) -> None:
    """The sentence, how the other backbones differ from the one that leads, and how what was trained does."""
    say(report.verdict)
    for answer in report.findings.answers if report.findings is not None else ():
        for detail in (
            answer.details[1:] if answer.question == WHICH else answer.details[: answer.question in {FROZEN, ADAPTED}]
        ):
            say(detail)


def _show_cost(report: StudyReport) -> None:
    have_epochs = any(cell.epochs is not None for cell in report.cells)
    named = ("method", "seconds", "numbers held", *(["epochs to best"] if have_epochs else []))
    table = Table(columns=named, keys=1, numeric=len(named) - 1)
    for head, backbones in report.methods:
        cells = report.row(head, backbones)
        epochs = [cell.epochs for cell in cells if cell.epochs is not None]
        shown = f"{epochs[0].mean:.0f} to {epochs[-1].mean:.0f}" if epochs else ""
        name = f"{together_text(backbones)} + {head}"
        numbers = (f"{sum(cell.seconds for cell in cells):,.1f}", f"{cells[-1].n_parameters:,}")
        table.add_row(name, *numbers, *([shown] if have_epochs else []))
    table.show(console())
    at_which = "; epochs at the smallest and largest size" if have_epochs else ""
    say(f"Seconds of all fits; numbers that one head of the largest size holds{at_which}.")
