"""What the leading method finds, finding by finding, as one table and one sentence."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from dvme.text import number_text
from dvme_cli.console import console, say
from dvme_cli.table import NARROW, Table

if TYPE_CHECKING:
    from dvme.stats.intervals import Interval
    from dvme.study.reliability import FindingReliability, Reliability

LEAST_WORTH = ("prev.", "ECE>after", "spec.")


def show_reliability(found: Reliability) -> None:
    """Print the leading method's table; --json and the report have the other methods, and all other numbers."""
    what = found.what
    headings = (what, "with", "prev.", "AUC 95% CI", "sens. 95% CI", "spec.", "ECE>after")
    table = Table(columns=headings, keys=1, numeric=len(headings) - 1, drop=LEAST_WORTH, padding=NARROW)
    for each in found.leading.findings:
        table.add_row(each.finding, f"{each.n_positive:,}/{each.n_known:,}", _two(each.prevalence), *_scores(each))
    table.show(console())
    say(
        f"Of {found.leading.method}. With: test images that have it, of those known. Sensitivity and specificity at "
        f"{found.at} of validation; calibration error (ECE) before and after Platt scaling on validation. "
        f"Intervals are over {found.n_units:,} {found.unit}s.{_masked(found)}"
    )
    say(found.said())


def _scores(each: FindingReliability) -> tuple[str, ...]:
    if each.why_not:
        return (each.brief,)
    fits = [number_text(each.fits[name].expected_error.estimate, 2) for name in ("before", "platt")]
    at = ("no threshold", "") if each.at is None else (_with_ends(each.at.sensitivity), _two(each.at.specificity))
    return (_with_ends(each.auc), *at, ">".join(fits))


def _masked(found: Reliability) -> str:
    """How many cells take no part."""
    rows = found.leading.findings
    n_masked, n_uncertain = sum(each.n_masked for each in rows), sum(each.n_uncertain or 0 for each in rows)
    if not n_masked:
        return ""
    unsure = f", {n_uncertain:,} of them uncertain" if all(each.n_uncertain is not None for each in rows) else ""
    return f" {n_masked:,} cells are not known{unsure}, and take no part."


def _two(share: Interval) -> str:
    return number_text(share.estimate, 2, undefined="-")


def _with_ends(score: Interval) -> str:
    if math.isnan(score.low):
        return _two(score)
    return f"{score.estimate:.2f} {score.low:.2f}-{score.high:.2f}"
