"""A finished run as far as a paper tells of it: how it was asked, who took part, and what it found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from dvme.study.design.manifest import SubsetManifest
from dvme.study.methods import full_name_of
from dvme.study.outcome import StudyReport
from dvme.study.run import read_summary
from dvme.study.run_file import SUBSETS, read_described


@dataclass(frozen=True)
class Material:
    """No job is read, nor the cache."""

    described: Mapping[str, Any]
    """run.json."""
    manifest: SubsetManifest
    summary: StudyReport

    @classmethod
    def of(cls, run: str | Path) -> Self:
        """Read it.

        Raises:
            DataError: if the run is not one, is not finished, or is of another dvme.
            OptionError: if it is something else of the user's.
        """
        described = read_described(run)
        return cls(described, SubsetManifest.load(Path(run) / SUBSETS), read_summary(run))

    @property
    def metric(self) -> str:
        """What the study is judged by."""
        return str(self.described["metric"])

    @property
    def policy(self) -> Mapping[str, Any]:
        """How the subsets were drawn."""
        return self.manifest.policy

    @property
    def heads(self) -> dict[str, tuple[Mapping[str, Any], list[tuple[str, ...]]]]:
        """The heads by their names with settings: how each is described, and the backbones of each of its methods."""
        found: dict[str, tuple[Mapping[str, Any], list[tuple[str, ...]]]] = {}
        for each in self.described["methods"]:
            name = full_name_of(each, self.metric, self.policy.get("oversample"))
            found.setdefault(name, (each, []))[1].append(tuple(each["backbones"]))
        return found

    @property
    def is_grouped(self) -> bool:
        """Whether any image that takes part has a group; an older dvme tells it of the test images alone."""
        return any(self.described.get(name) is not None for name in ("n_groups", "test_groups"))

    @property
    def n_test_groups(self) -> int | None:
        """None where no test image has a group."""
        groups = self.described.get("test_groups")
        return None if groups is None else len(set(groups))

    @property
    def n_comparisons(self) -> int:
        """That p values and intervals of the table are corrected for."""
        return max(1, (len(self.summary.methods) - 1) * len(self.summary.columns))

    @property
    def has_tests(self) -> bool:
        """Whether any two methods could be compared."""
        return any(not math.isnan(cell.p_adjusted) for cell in self.summary.cells)

    @property
    def has_intervals(self) -> bool:
        """Whether the test images allow an interval of any score."""
        return any(not math.isnan(cell.interval.low) for cell in self.summary.cells)
