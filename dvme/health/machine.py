"""What the machine has to offer to this process, and where things lie on it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dvme.cores import available_cores
from dvme.health.finding import Finding
from dvme.health.importing import Trial
from dvme.requirements import command_of
from dvme.runtime import available_memory, download_folder, kept_folder
from dvme.text import bytes_text, counted

DRIVERS = (Path("/dev/nvidia0"), Path("/proc/driver/nvidia/version"))
"""Of which there is one where a GPU of NVIDIA's is."""
HOW_TO_INSTALL_TORCH = "https://pytorch.org/get-started/locally has the command for its CUDA"
STORES = ("s3", "gs", "az")
"""Of which a cache may be in one: schemes of its URL."""
LITTLE_MEMORY, LITTLE_ROOM = 10**9, 10**9
"""Bytes below which something is said."""


def has_nvidia() -> bool:
    """Whether a GPU of NVIDIA's is in this machine, whatever torch makes of it."""
    return any(map(Path.exists, DRIVERS))


def about_machine(trials: Mapping[str, Trial], cache: str | None) -> Iterator[Finding]:
    """Say it.

    Args:
        trials: what became of the imports.
        cache: where a cache is to lie, or None.
    """
    yield from _about_devices(trials.get("torch", Trial()))
    yield from _about_memory()
    yield _about_cores(trials.get("torch", Trial()))
    yield _about_room("this folder", Path())
    if cache is not None:
        yield _about_store(cache) if "://" in cache else about_place(Path(cache))
    for topic, folder in folders().items():
        is_there = os.path.isdir(folder)  # noqa: PTH112 - False where pathlib raises: nobody may look there
        yield Finding(topic, f"{folder}" if is_there else f"{folder} (made when it is needed)")


def folders() -> dict[str, Path]:
    """What is kept for all projects of a user, and where."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    hugging_face = os.environ.get("HF_HOME") or caches / "huggingface"
    hub = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or Path(hugging_face) / "hub"
    found = {
        "weights, by dvme and torch": download_folder(),
        "weights, of timm and hub names": Path(os.path.expanduser(hub)),  # noqa: PTH111 - as huggingface-hub has it
    }
    with suppress(RuntimeError):  # there is no home: nothing is kept
        found["maps and the like"] = kept_folder("maps").parent
    return found


def about_place(place: Path) -> Finding:
    """Whether a cache can be written there, which need not be there yet."""
    above = (place, *place.absolute().parents)
    nearest = next(each for each in above if os.path.exists(each))  # noqa: PTH110 - pathlib raises in closed folders
    if not os.path.isdir(nearest):  # noqa: PTH112
        return Finding("cache", f"{nearest} is a file", "name another place", is_wrong=True)
    if not os.access(nearest, os.W_OK | os.X_OK):
        said = f"{nearest} cannot be written to"
        return Finding("cache", said, "name another place, or ask who owns it", is_wrong=True)
    return _about_room("cache", nearest)


def _about_devices(torch: Trial) -> Iterator[Finding]:
    facts = torch.facts
    if not facts:
        return
    for index, gpu in enumerate(facts["gpus"]):
        yield _about_gpu(f"GPU cuda:{index}", gpu)
    built = f"CUDA {facts['cuda']}" if facts["cuda"] else f"ROCm {facts['hip']}" if facts["hip"] else ""
    said = f"torch is built for {built}" if built else "torch is built without CUDA"
    if facts["gpus"]:
        yield Finding("devices", said)
    elif facts["has_mps"]:
        yield Finding("devices", "the GPU of this Mac can be used: --device mps")
    elif has_nvidia():
        step = "its driver may be too old: nvidia-smi says its version" if built else HOW_TO_INSTALL_TORCH
        yield Finding("devices", f"{said}, and cannot use the NVIDIA GPU that is here", step)
    else:
        yield Finding("devices", f"the CPU alone; {said}, and finds no GPU that it can use")


def _about_gpu(topic: str, gpu: Mapping[str, Any]) -> Finding:
    if gpu["error"]:
        step = "another program may have it, nvidia-smi says which; name another device"
        return Finding(topic, f"cannot be used ({gpu['error']})", step, is_wrong=True)
    return Finding(topic, f"{gpu['name']}, {bytes_text(gpu['free'])} of {bytes_text(gpu['total'])} free")


def _about_memory() -> Iterator[Finding]:
    with suppress(AttributeError, ValueError, OSError):  # where the system does not say
        free = available_memory()
        step = "end other programs, or ask for more" if free < LITTLE_MEMORY else ""
        yield Finding("memory", f"{bytes_text(free)} free to this process", step)


def _about_cores(torch: Trial) -> Finding:
    usable, all_of_them = available_cores(), os.cpu_count() or 1
    said = f"{usable} of {counted(all_of_them, 'core')}"
    if usable < all_of_them:
        said += ", as affinity or control groups allow"
    if torch.facts:
        said += f"; torch computes with {counted(torch.facts['n_threads'], 'thread')}"
    asked = os.environ.get("OMP_NUM_THREADS")
    return Finding("cores", said + (f" (OMP_NUM_THREADS={asked})" if asked else ""))


def _about_room(topic: str, folder: Path) -> Finding:
    try:
        free, place = shutil.disk_usage(folder).free, folder.absolute()
    except OSError as error:  # a folder that was removed meanwhile, or a drive that is gone
        return Finding(topic, f"{folder} cannot be used ({error.strerror})", "go to another folder", is_wrong=True)
    step = "make room, or name another place" if free < LITTLE_ROOM else ""
    return Finding(topic, f"{bytes_text(free)} free at {place}", step, is_wrong=free == 0)


def _about_store(cache: str) -> Finding:
    """Of an object store, which is not asked."""
    if cache.partition("://")[0] not in STORES:
        known = ", ".join(f"{each}://bucket/name.zarr" for each in STORES)
        return Finding("cache", f"{cache} is not the URL of a cache", f"write {known}, or a local path", is_wrong=True)
    if find_spec("obstore") is None:
        return Finding("cache", f"{cache} is in an object store", command_of("remote"), is_wrong=True)
    return Finding("cache", f"{cache} is in an object store, which was not asked")
