"""How many of a list's jobs are fitted, told while they are."""

from __future__ import annotations

from collections.abc import Collection

from dvme.runtime import Progress

STAGE = "fit"
STREAM = "stream"
"""The first word of a stage whose steps are passes over the rows of one job."""


class JobCount:
    """Counts the jobs that are handed over, and those of a group in training that are through before the group is.

    What is told never falls and has one total, however the jobs are put together.
    """

    def __init__(self, progress: Progress, total: int, parts: Collection[int]) -> None:
        """`parts`: positions of what is fitted as a part of jobs, not as a job."""
        self.progress, self.total, self.parts = progress, total, set(parts)
        self.n_given = self.n_told = self.n_given_before = 0
        self.is_one_to_one = True
        self.progress(STAGE, 0, total)

    def begin_kind(self, positions: Collection[int]) -> None:
        """What is at these positions is fitted next, by one kind of head."""
        self.is_one_to_one = self.parts.isdisjoint(positions)
        self.n_given_before = self.n_given

    def give(self) -> None:
        """One more job is handed over."""
        self.n_given += 1
        self._tell(self.n_given)

    def ended(self, stage: str, n_ended: int, n_jobs: int) -> None:
        """Told by a head: so many jobs of its kind are through, whether or not they are handed over.

        A stage whose steps are not jobs is told as it is.
        """
        if stage.startswith(STREAM):
            self.progress(stage, n_ended, n_jobs)
            return
        self._tell(self.n_given_before + n_ended if self.is_one_to_one else self.n_given)

    def _tell(self, done: int) -> None:
        self.n_told = max(self.n_told, min(done, self.total))
        self.progress(STAGE, self.n_told, self.total)
