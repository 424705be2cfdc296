"""A program of its own: imports modules, one after the other, and says what became of each.

An import may end the process, as a library for another processor does. What was said until then is known, and the one
that was begun is the one that ended it. It imports nothing of dvme, nor anything else that may be broken.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from typing import Any


def main() -> None:
    """Read a list of modules from stdin, and write two lines of JSON for each: that it begins, and what came of it."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the modules print goes elsewhere
    for name in json.load(sys.stdin):
        out.write(json.dumps({"begins": name}) + "\n")
        out.flush()
        out.write(json.dumps({"module": name, **tried(name)}) + "\n")
        out.flush()


def tried(name: str) -> dict[str, Any]:
    """What an import says: its error, or facts about the machine that only the module knows."""
    try:
        module = importlib.import_module(name)
        facts = FACTS[name](module) if name in FACTS else {}  # a torn one is imported, and lacks what it should have
    except BaseException as error:  # noqa: BLE001 - whatever a broken package raises, SystemExit included
        return {"error": _said(error), "facts": {}}
    return {"error": "", "facts": facts}


def _of_torch(torch: Any) -> dict[str, Any]:
    """What it was built for, and which devices it can use."""
    has_cuda = torch.cuda.is_available()
    gpus = [_of_gpu(torch, index) for index in range(torch.cuda.device_count() if has_cuda else 0)]
    mps = getattr(torch.backends, "mps", None)
    return {
        "version": str(torch.__version__),
        "cuda": torch.version.cuda,
        "hip": getattr(torch.version, "hip", None),
        "gpus": gpus,
        "has_mps": bool(mps is not None and mps.is_available()),
        "n_threads": torch.get_num_threads(),
    }


def _of_gpu(torch: Any, index: int) -> dict[str, Any]:
    """Its name and its memory in bytes, or why it cannot be used, as one that another program has for itself."""
    try:
        name, (free, total) = torch.cuda.get_device_name(index), torch.cuda.mem_get_info(index)
    except Exception as error:  # noqa: BLE001 - whatever a driver raises
        return {"name": "", "free": 0, "total": 0, "error": _said(error)}
    return {"name": name, "free": free, "total": total, "error": ""}


def _of_faiss(faiss: Any) -> dict[str, Any]:
    """Whether it can use GPUs, and how many there are to it."""
    has_gpu = hasattr(faiss, "StandardGpuResources")
    return {"has_gpu": has_gpu, "n_gpus": faiss.get_num_gpus() if has_gpu else 0}


def _said(error: BaseException) -> str:
    """Its type and the first line of what it says."""
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


FACTS: dict[str, Callable[[Any], dict[str, Any]]] = {"torch": _of_torch, "faiss": _of_faiss}


if __name__ == "__main__":
    main()
