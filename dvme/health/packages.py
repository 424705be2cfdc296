"""Whether the packages are here, are new enough, fit together and can be imported."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec

from dvme.environment import BROKEN_PAIR, check_single_cache, check_single_faiss
from dvme.errors import EnvironmentMismatchError
from dvme.health.finding import Finding
from dvme.health.importing import Trial
from dvme.requirements import CALLED, ON_GPUS, OWN, STAND_INS, Requirement, numbers, of_extra, own_command, version_of
from dvme.text import counted

CACHE = "dvme_cache"
PAIR = ("torch", "torchvision")
PAIR_OFFSET = 15
"""torch 2.x and torchvision 0.(x + 15) are made for each other."""
MEND_PAIR = "pip install --force-reinstall torch torchvision"
BUILD = re.compile(r"\+(cpu|cu\d+|rocm[\d.]+|xpu)\b")
"""What a wheel of torch or torchvision was built for, where its version says so."""
RESTS_ON: Mapping[str, tuple[str, ...]] = {
    "torch": (),
    "numpy": (),
    "torchvision": ("torch",),
    "timm": ("torch", "torchvision"),
}
"""Modules that cannot be imported without others: of anything else, numpy."""


def about_packages(trials: Mapping[str, Trial], known: Sequence[Requirement]) -> Iterator[Finding]:
    """Say it.

    Args:
        trials: what became of the imports.
        known: all requirements.
    """
    yield Finding("Python", f"{platform.python_version()} on {platform.system()}, {sys.executable}")
    yield _about_dvme()
    yield from _about_cache()
    needed = of_extra("", known)
    missing = [each for each in needed if not each.is_met]
    if needed:
        here = [f"{each.name} {each.found}" for each in needed if each.found and each.name not in STAND_INS]
        yield Finding("packages", ", ".join(here))
    for each in missing:
        said = f"{each.found} is here, and dvme needs {each.least} or newer" if each.found else "is not installed"
        step = _upgrade(each) if each.found else each.command
        yield Finding(each.name, said, step, is_wrong=True)
    pair = about_pair(*map(version_of, PAIR))
    yield from [] if pair is None else [pair]
    yield from _about_faiss(trials)
    gone = {each.name for each in missing if not each.found}
    yield from _about_imports(trials, gone, is_pair=pair is None or not pair.is_wrong)


def about_pair(torch: str, torchvision: str) -> Finding | None:
    """Whether two versions are a pair; None where one of the two is missing, which is told elsewhere."""
    if not torch or not torchvision:
        return None
    topic, both = " and ".join(PAIR), f"{torch} and {torchvision}"
    major, minor = (*numbers(torch), 0, 0)[:2]
    wanted = (0, minor + PAIR_OFFSET)
    if major == 2 and (*numbers(torchvision), 0, 0)[:2] != wanted:
        belongs = ".".join(map(str, wanted))
        said = f"{both} do not fit together, for torch 2.{minor} belongs to torchvision {belongs}"
        return Finding(topic, said, MEND_PAIR, is_wrong=True)
    built = [found[1] for found in map(BUILD.search, (torch, torchvision)) if found]
    if len(set(built)) > 1:
        said = f"{both} do not fit together, for one is built for {built[0]} and the other for {built[1]}"
        return Finding(topic, said, MEND_PAIR, is_wrong=True)
    return Finding(topic, f"{both}, a pair" if major == 2 else f"{both}; whether they are a pair is not known")


def _about_dvme() -> Finding:
    version = version_of(OWN)
    if version:
        return Finding(OWN, version)
    return Finding(OWN, "is not installed, only its files are found", own_command(), is_wrong=True)


def _about_cache() -> Iterator[Finding]:
    """The package of caches, which is in dvme, where another distribution took it along or overwrote it."""
    if find_spec(CACHE) is None:
        said = "is gone, as after pip uninstall dvme-cache"
        yield Finding(CACHE, said, "install dvme again with --force-reinstall --no-deps", is_wrong=True)
    try:
        check_single_cache()
    except EnvironmentMismatchError as error:
        yield Finding(CACHE, f"{error}", is_wrong=True)


def _upgrade(each: Requirement) -> str:
    """What brings a newer one; of a pair both, for one alone would leave it."""
    names = " ".join(PAIR) if each.name in PAIR else f"'{each.written}'"
    return f"pip install --upgrade {names}"


def _about_faiss(trials: Mapping[str, Trial]) -> Iterator[Finding]:
    """Which one it is; two of them overwrite each other. That there is none is told among the packages."""
    try:
        check_single_faiss()
    except EnvironmentMismatchError as error:
        yield Finding("FAISS", f"{error}", is_wrong=True)
        return
    name = next((each for each in ("faiss-cpu", *ON_GPUS, "faiss") if version_of(each)), "")
    if not name:
        return
    facts = trials.get("faiss", Trial()).facts
    where = "computes on the CPU"
    if facts.get("has_gpu"):
        where = f"sees {counted(facts['n_gpus'], 'GPU')}"
    yield Finding("FAISS", f"{name} {version_of(name)}, which {where}")


def _about_imports(trials: Mapping[str, Trial], gone: set[str], *, is_pair: bool) -> Iterator[Finding]:
    """What cannot be imported although it is here, and not because of another one that was told already."""
    broken = {name for name, trial in trials.items() if trial.error}
    for name in [each for each in trials if each in broken]:
        distribution = _distribution(name)
        if CALLED.get(name, name) in gone or broken & {*RESTS_ON.get(name, ("numpy",))}:
            continue
        error = trials[name].error
        is_of_pair = name in {*PAIR, "timm"} and (not is_pair or BROKEN_PAIR.search(error) is not None)
        step = MEND_PAIR if is_of_pair else f"pip install --force-reinstall {distribution}"
        yield Finding(name, f"cannot be imported ({error})", step, is_wrong=True)


def _distribution(module: str) -> str:
    """The one that brings a module here; of several that could, the one that is installed."""
    usual = CALLED.get(module, module)
    return next((each for each in STAND_INS.get(usual, ()) if version_of(each)), usual)
