"""One part of a study: what it needs, and what it says when it is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dvme.errors import OptionError, parameter
from dvme.study.grid import Grid
from dvme.study.outcome import PartDone, StudyReport
from dvme_cache.parts import Part


def check_part(part: Part | None, *, out: str | Path | None, save: str | Path | None) -> None:
    """Refuse a part that keeps nothing, and heads elsewhere, which are the whole study's.

    Raises:
        OptionError: naming what to add, or to leave out.
    """
    if part is not None and out is None:
        raise OptionError("a part keeps its jobs in a run's folder; pass " + parameter("out", "RUN"))
    if part is not None and save is not None:
        raise OptionError(
            "heads are saved once all parts are done; leave out "
            + parameter("save")
            + ", and pass it to the same command without "
            + parameter("part")
        )


def part_done(
    part: Part,
    grid: Grid,
    notices: Sequence[str],
    seconds: Mapping[str, float],
    run: str,
    cache: str,
    metric: str,
) -> StudyReport:
    """What one part did. Nothing is judged."""
    manifest, n_jobs = grid.manifest, len(grid.places_of(part))
    return StudyReport(
        run=run,
        cache=cache,
        subsets=manifest.hash,
        task=manifest.targets.task,
        plan=str(manifest.policy.get("plan", "")),
        metric=metric,
        columns=[],
        cells=[],
        gains=[],
        suspects=[],
        notices=list(notices),
        n_jobs=n_jobs,
        n_reused=n_jobs - grid.n_fitted,
        seconds=dict(seconds),
        n_left_out=dict(grid.snapshot.left_out),
        part=PartDone(f"{part}", grid.n_left()),
    )
