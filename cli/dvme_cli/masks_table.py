"""A segmentation as text, class by class."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from dvme.text import (
    WHAT_ALL_PIXELS_ARE,
    counted,
    mean_count_text,
    number_text,
    some_of,
    what_outlines_are,
)
from dvme_cli.console import console, say
from dvme_cli.table import NARROW, Table

if TYPE_CHECKING:
    from dvme.stats.intervals import Interval
    from dvme.study.by_class import ClassScores
    from dvme.study.outcome import StudyReport

IMAGES, DICE, IOU, ALL, CEILING = "images", "Dice (95% CI)", "IoU (95% CI)", "all pixels", "ceiling"
HAUSDORFF, BOUNDARY = "HD95 (95% CI; missed)", "boundary Dice (95% CI)"


def show_masks(report: StudyReport) -> None:
    """Print the classes of the method that leads on validation, at the largest size; nothing of other studies."""
    leading = report.rows[0]
    classes = report.classes.get(leading.method, [])
    if not classes:
        return
    is_outlined = report.boundary is not None
    numbers = (IMAGES, DICE, IOU, ALL, CEILING, *((HAUSDORFF, BOUNDARY) if is_outlined else ()))
    drop = (ALL, IOU, CEILING, IMAGES)
    table = Table(columns=("class", *numbers), keys=1, numeric=len(numbers), drop=drop, padding=NARROW)
    for each in classes:
        own = (_score(each.dice), _score(each.iou), _number(each.global_dice), _number(each.ceiling))
        table.add_row(each.name, f"{each.n_images:,}", *own, *(_outlines(each) if is_outlined else ()))
    table.show(console())
    heads = counted(len(leading.chosen), "head")
    say(
        f"{leading.method}, which leads on validation, class by class: means over {heads} of the largest size. Images: "
        "test images in whose mask the class occurs. The ceiling is of Dice. --json has every method."
    )
    say(WHAT_ALL_PIXELS_ARE)
    if report.boundary is not None:
        empty = [(each.name, each.outlines.n_empty) for each in classes if each.outlines is not None]
        left_out = [f"{mean_count_text(n_images)} of {name}" for name, n_images in empty if n_images]
        say(what_outlines_are(report.boundary) + (f" These are {some_of(left_out)}." if left_out else ""))


def _outlines(scores: ClassScores) -> tuple[str, ...]:
    found = scores.outlines
    if found is None:
        return "-", "-"
    return _score(found.hausdorff95, 1, mean_count_text(found.n_missed)), _score(found.boundary_dice)


def _score(score: Interval, digits: int = 3, further: str = "") -> str:
    """`0.815 (0.792-0.834)`, and what stands behind the interval."""
    ends = "" if math.isnan(score.low) else f"{score.low:.{digits}f}-{score.high:.{digits}f}"
    inside = "; ".join(part for part in (ends, further) if part)
    return _number(score.estimate, digits) + (f" ({inside})" if inside else "")


def _number(value: float, digits: int = 3) -> str:
    return number_text(value, digits, undefined="-")
