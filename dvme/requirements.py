"""What this installation of dvme asks for, by its own metadata, and which command brings what is missing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec

WRITTEN = re.compile(
    r"(?P<name>[A-Za-z0-9][\w.-]*)\s*(?:\[(?P<extras>[^\]]*)\])?\s*\(?(?:(?:>=|==|~=)\s*(?P<least>[\w.!+]+))?[^;]*"
    r"(?:;.*extra\s*==\s*['\"](?P<extra>[\w.-]+)['\"])?"
)
CALLED = {
    "PIL": "pillow",
    "faiss": "faiss-cpu",
    "gdcm": "python-gdcm",
    "sklearn": "scikit-learn",
    "umap": "umap-learn",
}
"""Modules that are not called as what brings them is, but for `-` and `_` and capitals."""
OWN, DEVELOPERS = "dvme", "dev"
INTERCHANGEABLE = frozenset({"faiss-cpu", "faiss-gpu"})
"""Any one of them does."""


@dataclass(frozen=True)
class Requirement:
    """One distribution."""

    name: str
    """In small letters, with `-`."""
    least: str
    """The oldest version that does; "": any."""
    extra: str
    """That brings it; "" of what every installation has."""

    @property
    def found(self) -> str:
        """The version that is here; "" where it is missing."""
        names = sorted(INTERCHANGEABLE) if self.name in INTERCHANGEABLE else [self.name]
        return next((own for name in names if (own := version_of(name))), "")

    @property
    def is_met(self) -> bool:
        """Whether it is here, and not too old."""
        return bool(self.found) and numbers(self.found) >= numbers(self.least)

    @property
    def command(self) -> str:
        """That brings it."""
        return command_of(self.extra)


@cache
def requirements() -> tuple[Requirement, ...]:
    """All of them, as the metadata have them, without what only developers need; () where dvme is not installed.

    An extra of others, such as `dvme[dicom]`, is not followed.
    """
    try:
        written = requires(OWN) or []
    except PackageNotFoundError:
        return ()
    found = []
    for text in written:
        parts = WRITTEN.match(text)
        if parts is None or parts["extra"] == DEVELOPERS or normal(parts["name"]) == OWN:
            continue
        found.append(Requirement(normal(parts["name"]), parts["least"] or "", parts["extra"] or ""))
    return tuple(found)


def command_of(extra: str) -> str:
    """`pip install 'dvme[dicom]'`; without an extra what brings all that every installation has."""
    return f"pip install '{OWN}[{extra}]'" if extra else f"pip install {OWN}"


def lacking(error: ModuleNotFoundError) -> str:
    """One line on a module that is not here, with the command that brings it; "" of one that dvme does not ask for."""
    module = (error.name or "").partition(".")[0]
    name = CALLED.get(module, normal(module))
    asked = next((each for each in requirements() if each.name == name), None)
    if not module or asked is None or find_spec(module) is not None:
        return ""
    return f"{name} is not installed; {asked.command} brings it"


def version_of(distribution: str) -> str:
    """Of an installed distribution; "" where it is missing."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def numbers(version: str) -> tuple[int, ...]:
    """`2.13.0+cpu` as (2, 13): what can be compared, without noughts at the end and whatever follows."""
    found = re.match(r"\d*(?:\.\d+)*", version)
    parts = [int(part) for part in (found[0] if found else "").split(".") if part]
    while parts and not parts[-1]:
        parts.pop()
    return tuple(parts)


def normal(name: str) -> str:
    """A distribution's name in its one spelling."""
    return re.sub(r"[-_.]+", "-", name).lower()
