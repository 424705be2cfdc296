"""What this installation of dvme asks for, by its own metadata, and which command brings what is missing."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from importlib.util import find_spec
from pathlib import Path

OWN, DEVELOPERS = "dvme", "dev"
CALLED = {
    "PIL": "pillow",
    "faiss": "faiss-cpu",
    "gdcm": "python-gdcm",
    "sklearn": "scikit-learn",
    "umap": "umap-learn",
}
"""Modules that are not called as what brings them is, but for `-` and `_` and capitals."""
ON_GPUS = ("faiss-gpu", "faiss-gpu-cu12", "faiss-gpu-cu11")
STAND_INS = {"faiss-cpu": ("faiss-cpu", "faiss", *ON_GPUS), "faiss-gpu": ON_GPUS}
"""Any one of them does."""
COMMANDS = {"gpu": "pip uninstall -y faiss-cpu faiss-gpu && pip install faiss-gpu"}
"""Of an extra that `pip install 'dvme[EXTRA]'` alone does not bring whole."""


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
    def written(self) -> str:
        """`torch>=2.4`."""
        return f"{self.name}>={self.least}" if self.least else self.name

    @property
    def found(self) -> str:
        """The version that is here; "" where it is missing."""
        names = STAND_INS.get(self.name, (self.name,))
        return next((own for name in names if (own := version_of(name))), "")

    @property
    def is_met(self) -> bool:
        """Whether it is here, and not too old."""
        return bool(self.found) and numbers(self.found) >= numbers(self.least)

    @property
    def command(self) -> str:
        """That brings it."""
        return command_of(self.extra)


def requirements() -> list[Requirement]:
    """All of them as the metadata have them, but for what only developers need; [] where dvme is not installed."""
    try:
        written = requires(OWN) or []
    except PackageNotFoundError:
        return []
    found = map(_requirement, written)
    return [each for each in found if each.extra != DEVELOPERS and each.name != OWN]


def extras() -> list[str]:
    """The extras that there are, but for what only developers need; [] where dvme is not installed."""
    try:
        found = metadata(OWN).get_all("Provides-Extra") or []
    except PackageNotFoundError:
        return []
    return [name for name in found if name != DEVELOPERS]


def of_extra(extra: str, known: Sequence[Requirement]) -> list[Requirement]:
    """What an extra brings; that of further ones is in it, for who builds a wheel writes it out.

    Args:
        extra: its name; "" for what every installation has.
        known: all requirements.
    """
    return [each for each in known if each.extra == extra]


def command_of(extra: str) -> str:
    """`pip install 'dvme[dicom]'`; without an extra what brings all that every installation has."""
    return COMMANDS.get(extra) or (f"pip install '{OWN}[{extra}]'" if extra else f"pip install {OWN}")


def own_command() -> str:
    """That installs dvme itself, where its files are found and nothing else: from the clone that they lie in."""
    clone = Path(__file__).resolve().parents[1]
    return f"pip install {shlex.quote(f'{clone}')}" if (clone / "pyproject.toml").is_file() else command_of("")


def lacking(error: ModuleNotFoundError) -> str:
    """One line on a module that is not here, with the command that brings it; "" of one that dvme does not ask for."""
    module = (error.name or "").partition(".")[0]
    name = CALLED.get(module, normal(module))
    known = requirements()
    bringing = [each.extra for each in known if each.name == name]
    if not module or not bringing or find_spec(module) is not None:
        return ""
    smallest = min(bringing, key=lambda extra: (bool(extra), len(of_extra(extra, known)), extra))
    return f"{name} is not installed; {command_of(smallest)} brings it"


def version_of(distribution: str) -> str:
    """Of an installed distribution; "" where it is missing."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def numbers(text: str) -> tuple[int, ...]:
    """`2.13.0+cpu` as (2, 13): what can be compared, without noughts at the end and whatever follows."""
    found = re.match(r"\d*(?:\.\d+)*", text)
    parts = [int(part) for part in (found[0] if found else "").split(".") if part]
    while parts and not parts[-1]:
        parts.pop()
    return tuple(parts)


def normal(name: str) -> str:
    """A distribution's name in its one spelling."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _requirement(text: str) -> Requirement:
    """One as the metadata write it: `torch>=2.4`, `pydicom>=3; extra == 'dicom'`."""
    written, _, marker = text.partition(";")
    name = re.match(r"[\w.-]+", written)
    assert name is not None
    least = re.search(r"(?:>=|==|~=)\s*([\w.!+]+)", written)
    extra = re.search(r"extra\s*==\s*['\"]([\w.-]+)['\"]", marker)
    return Requirement(
        name=normal(name[0]),
        least=least[1] if least else "",
        extra=extra[1] if extra else "",
    )
