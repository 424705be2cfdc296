"""`dvme doctor`: whether this installation and this machine are fit for dvme."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dvme.arguments import public
from dvme.health.extras import Extra, extras_here
from dvme.health.finding import Finding
from dvme.health.importing import tried
from dvme.health.machine import about_machine
from dvme.health.packages import about_packages
from dvme.requirements import requirements
from dvme.shown.result import Shown, some_lines
from dvme.shown.table import record_of
from dvme.text import counted

TRIED = ("numpy", "zarr", "pandas", "pyarrow", "scipy", "sklearn", "faiss", "torch", "torchvision", "timm")
"""Modules whose import tells something: they have parts that are compiled, and rest on each other's."""


@dataclass(frozen=True, repr=False)
class Health(Shown):
    """What was found; `to_frame()` has a row for each finding."""

    findings: list[Finding]
    """Python and packages first, then the machine."""
    extras: list[Extra]

    @property
    def wrong(self) -> list[Finding]:
        """What does not work as it is."""
        return [each for each in self.findings if each.is_wrong]

    @property
    def is_well(self) -> bool:
        """Whether nothing is wrong; an extra that is missing is not."""
        return not self.wrong

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`, with `is_well`."""
        return asdict(self) | {"is_well": self.is_well}

    def _lines(self) -> list[str]:
        absent = [each.name for each in self.extras if not each.is_here]
        verdict = "nothing is wrong" if self.is_well else f"{counted(len(self.wrong), 'thing')} wrong"
        lacks = [f"extras that are not here: {', '.join(absent)}"] if absent else []
        return [verdict, *some_lines([each.line for each in self.wrong]), *lacks]

    def _records(self) -> list[dict[str, Any]]:
        return [record_of(each) for each in self.findings]


@public
def doctor(cache: str | Path | None = None) -> Health:
    """Look at Python, packages, devices, memory, disk and folders; works where packages are broken or missing.

    Packages are imported in a process of its own, which takes seconds.

    Args:
        cache: where a cache is to lie, to know whether it may and whether there is room; or None.

    Example:
        >>> health = dvme.doctor()  # doctest: +SKIP
    """
    known, trials = requirements(), tried(TRIED)
    place = None if cache is None else os.fspath(cache)
    return Health([*about_packages(trials, known), *about_machine(trials, place)], extras_here(known))
