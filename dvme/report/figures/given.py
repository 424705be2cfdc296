"""What a figure is given: an object, or its name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dvme.study.outcome import StudyReport
from dvme.study.published import PublishedCell, published_cells
from dvme.study.run import read_summary


def summary_of(results: StudyReport | str | Path) -> StudyReport:
    """What a study found, from itself or from the folder of its run.

    Raises:
        DataError: if the folder is no finished run.
    """
    return results if isinstance(results, StudyReport) else read_summary(results)


def cells_of(published: Sequence[PublishedCell] | str) -> Sequence[PublishedCell]:
    """Published numbers, from themselves or by the name of their table.

    Raises:
        UnknownNameError: if there is no such table.
    """
    return published_cells(published) if isinstance(published, str) else published
