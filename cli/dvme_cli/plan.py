"""What `dvme extract --plan` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dvme.progress import duration
from dvme.text import counted
from dvme_cli.console import console, say, size
from dvme_cli.table import Table

if TYPE_CHECKING:
    from dvme.extraction.extract import ExtractReport
    from dvme.extraction.plan import BackbonePlan, ExtractPlan


def show_plan(plan: ExtractPlan) -> None:
    """Print what a run would reuse and compute."""
    where = plan.cache if plan.exists else f"{plan.cache} (to be created)"
    images, files = counted(plan.n_rows, "distinct image"), counted(plan.n_files, "file")
    say(f"{where}: {images} of {files}, {plan.n_new:,} new to the cache")
    if plan.n_unlisted:
        stay = "is not among these and stays" if plan.n_unlisted == 1 else "are not among these and stay"
        say(f"{counted(plan.n_unlisted, 'image')} of the cache {stay} (dvme cache prune removes what is gone)")
    show_left_out(plan)
    if plan.part:
        say(f"Of part {plan.part} alone:")
    headings = ("backbone", "dim", "reused", "to compute", "why", "adds", "images/s", "takes")
    table = Table(columns=headings, keys=1, numeric=0)
    for item in plan.backbones:
        costs = [size(item.n_bytes), f"{item.images_per_second:,.1f}", duration(item.seconds)]
        counts = (f"{count:,}" for count in (item.reused, item.n_computed))
        table.add_row(
            item.backbone, f"{item.dim}", *counts, _why(item), *(costs if item.n_computed else ["-"] * len(costs))
        )
    table.show(console())
    added = sum(item.n_bytes for item in plan.backbones)
    if plan.seconds:
        took = f"about {duration(plan.seconds)} once the backbones are loaded"
        shared = ", for each image is decoded once" if len(plan.backbones) > 1 else ""
        say(f"In all {took}{shared}, and {size(added)}; speeds were measured just now. Nothing was written.")
    else:
        say("Nothing is to be computed. Nothing was written.")


def show_left_out(found: ExtractReport | ExtractPlan) -> None:
    """Say loudly which images were not looked at, and why."""
    from dvme.data.samples import missing_line, unlisted_line

    for line in (unlisted_line(found.unlisted), missing_line(found.missing)):
        if line:
            say(line)
    if found.unread:
        example, reason = next(iter(found.unread.items()))
        say(f"{counted(len(found.unread), 'file')} could not be read and took no part, such as {example}: {reason}")


def _why(item: BackbonePlan) -> str:
    reasons = [f"{count:,} {why}" for why, count in item.computed.items()]
    if item.failed:
        reasons.append(f"{item.failed:,} failed before are left alone")
    return ", ".join(reasons) or "-"
