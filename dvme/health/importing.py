"""Whether modules can be imported, tried in a process of its own, which a broken one may end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).with_name("trial.py")
SECONDS = 300.0
"""In which all modules are to be imported: a network drive may take minutes."""


@dataclass(frozen=True)
class Trial:
    """What became of one import."""

    error: str = ""
    """Its type and first line; "" where it went well."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What only the module can tell of the machine, see `trial.py`."""


def tried(modules: Sequence[str], seconds: float = SECONDS) -> dict[str, Trial]:
    """Import modules in another process, in their order; after one that ends it, the others in a further one.

    Args:
        modules: names; those that are not installed as well.
        seconds: for all of a process.
    """
    found: dict[str, Trial] = {}
    while left := [name for name in modules if name not in found]:
        lines, end = _said(left, seconds)
        begun = [line["begins"] for line in lines if "begins" in line]
        found |= {line["module"]: Trial(line["error"], line["facts"]) for line in lines if "module" in line}
        culprit = begun[-1] if begun else left[0]
        found.setdefault(culprit, Trial(end))
    return found


def _said(modules: Sequence[str], seconds: float) -> tuple[list[dict[str, Any]], str]:
    """The lines of a process, and how it ended."""
    command = [sys.executable, "-P", os.fspath(PROGRAM)]
    try:
        done = subprocess.run(  # noqa: S603 - this very Python, and a program beside this file
            command,
            input=json.dumps(list(modules)).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # what modules print there is in any encoding
            timeout=seconds,
            check=False,
        )
        output, end = done.stdout, _ending(done.returncode)
    except subprocess.TimeoutExpired as error:
        output = error.stdout or b""
        end = f"the import took more than {seconds:g} s"
    return [json.loads(line) for line in output.splitlines() if line.endswith(b"}")], end


def _ending(code: int) -> str:
    if code >= 0:
        return f"the import ended Python with status {code}"
    name = signal.Signals(-code).name if -code in {each.value for each in signal.Signals} else f"signal {-code}"
    return f"the import ended Python ({name})"
