"""What is said of the fits of a study: that some stopped early, streamed, are approximate, or of other versions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dvme.errors import parameter
from dvme.heads.neighbours.recall import search_notices
from dvme.notices import Aside
from dvme.study.ledger import FinishedJob, versions
from dvme.text import counted

Fits = Iterable[tuple[str, Mapping[str, Any]]]
"""The name of each fit's head and what it chose."""


def fit_notices(jobs: Sequence[tuple[str, FinishedJob]], command: str) -> list[str]:
    """Lines on finished jobs.

    Args:
        jobs: each with the name of its head.
        command: that fits them anew.
    """
    fits = [(head, job.chosen) for head, job in jobs]
    said = [*convergence_notice(fits), *streaming_notice(fits), *search_notices(fits)]
    return said + _of_other_versions([job for _, job in jobs], command)


def convergence_notice(fits: Fits) -> list[str]:
    """A line where fits did not converge."""
    stopped = Counter(head for head, chosen in fits if not chosen.get("is_converged", True))
    if not stopped:
        return []
    which = ", ".join(f"{n:,} of {head}" for head, n in stopped.items())
    return [f"fits that did not converge: {which}; their scores may lie a little low"]


def streaming_notice(fits: Fits) -> list[str]:
    """A line where rows were read in blocks."""
    took = [(head, chosen) for head, chosen in fits if "streamed" in chosen]
    if not took:
        return []
    which = ", ".join(f"{n:,} of {head}" for head, n in Counter(head for head, _ in took).items())
    passes = [chosen["streamed"] for _, chosen in took]
    n_bytes, most = sum(own["n_passes"] * own["n_bytes"] for own in passes), max(own["n_passes"] for own in passes)
    optimum = ", to the same optimum" if all(chosen.get("is_converged", True) for _, chosen in took) else ""
    return [
        Aside(
            f"fits that memory does not hold: {which}; their rows were read up to {most} times, "
            f"{n_bytes / 1e9:,.2g} GB in all{optimum}; more ",
            parameter("memory"),
            " is faster",
        )
    ]


def _of_other_versions(jobs: Sequence[FinishedJob], command: str) -> list[str]:
    here = versions()
    differing: Counter[str] = Counter()
    for job in jobs:
        names = [name for name, number in job.versions.items() if here.get(name) != number]
        made_by = ", ".join(f"{name} {job.versions[name]} (now {here.get(name, 'absent')})" for name in names)
        differing.update([made_by] if made_by else [])
    return [
        Aside(
            f"{counted(n, 'job')} of {len(jobs):,} {'was' if n == 1 else 'were'} fitted before by "
            f"{made_by}; {command} into another folder to fit all anew"
        )
        for made_by, n in differing.items()
    ]
