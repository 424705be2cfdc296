"""A process that finds nothing but some distributions and what they require, as in an environment of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def closure(requirements: Iterable[str]) -> set[str]:
    """Names of the distributions that an installer would bring, by what those say that are installed here."""
    found: set[tuple[str, frozenset[str]]] = set()
    todo = [Requirement(text) for text in requirements]
    while todo:
        wanted = todo.pop()
        key = canonicalize_name(wanted.name), frozenset(wanted.extras)
        if key not in found:
            found.add(key)
            asked = ("", *wanted.extras)
            needs = map(Requirement, metadata.requires(wanted.name) or ())
            todo += [each for each in needs if each.marker is None or any(map(each.marker.evaluate, _extras(asked)))]
    return {name for name, _ in found}


def modules_of(name: str) -> set[str]:
    """What a distribution has right below the folder of packages."""
    lines = (metadata.distribution(name).read_text("RECORD") or "").splitlines()
    return {line.partition(",")[0].partition("/")[0] for line in lines} - {"..", "__pycache__"}


def site_of(names: Iterable[str], folder: Path) -> Path:
    """The folder, with links to the packages of these distributions, and to nothing else."""
    folder.mkdir()
    for name in names:
        place = metadata.distribution(name).locate_file
        for module in modules_of(name):
            link = folder / module  # several may share one, as those of NVIDIA do
            if not module.endswith(".pth") and not link.exists():
                link.symlink_to(Path(str(place(module))).resolve())
    return folder


def run_alone(code: str, *paths: Path, cwd: Path, given: str = "") -> str:
    """What a script says on stdout in a process that imports from these folders and the standard library alone."""
    begin = f"import sys; sys.path[:0] = {[str(path) for path in paths]!r}\n"
    command = [sys.executable, "-I", "-S", "-B", "-c", begin + code]  # -B: nothing is written where others read
    done = subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True, input=given)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _extras(names: Iterable[str]) -> list[dict[str, str]]:
    return [{"extra": name} for name in names]
