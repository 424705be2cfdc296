"""Runs `dvme` commands and scripts in processes of their own, without their seconds of imports.

Everything heavy is imported once, here, and every command is a fork. No torch operation and no zarr call may
happen before the fork: OpenMP's threads and the thread of zarr's event loop do not live on in a child.

Requests are JSON lines on stdin, replies JSON lines on stdout:

    {"do": "start", "program": "dvme" | SCRIPT, "arguments": [...], "output": FOLDER, "kill_before": N | null,
     "watched": FOLDER}                        -> {"pid": PID}
    {"do": "look", "pid": PID}                 -> {"exit": CODE | null}, negative for the signal that ended it
    {"do": "run", "command": [...]}            -> {"exit": CODE, "stderr": TEXT}, such as mount in its namespace

A child writes `stdout`, `stderr` and `operations` (how often it was about to change a file below `watched`) into
its output folder. With `kill_before` it is ended by a SIGKILL just before its N-th such change.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import itertools
import json
import os
import runpy
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

IMPORTS = (
    *("torch", "timm", "torchvision", "pandas", "PIL.Image", "zarr", "dvme_cache.verification"),
    *(
        "dvme.backbones.loading.model",
        "dvme.backbones.model.bn_folding",
        "dvme.extraction.extract",
        "dvme_cli.main",
        "dvme_cli.extract",
    ),
    *("dvme.cache", "dvme.upkeep.info", "dvme.study.probe", "dvme.heads.neighbours.knn", "faiss", "pydantic.main"),
)
CHANGES = frozenset({"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.link"})
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class ChangeCounter:
    """An audit hook that sees each change of a file before it happens, and ends the process at one of them."""

    def __init__(self, watched: str, kill_before: int | None) -> None:
        self.count = 0
        self._watched = watched
        self._kill_before = kill_before
        self._counter = itertools.count(1)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        is_change = event in CHANGES or (event == "open" and arguments[2] & WRITING)
        if not is_change or not isinstance(arguments[0], str | os.PathLike):
            return
        place = os.fspath(arguments[0])
        if os.path.isabs(place) and not place.startswith(self._watched):  # noqa: PTH117 - called for every file
            return
        self.count = next(self._counter)
        if self.count == self._kill_before:
            os.kill(os.getpid(), signal.SIGKILL)


def serve() -> None:
    """Answer requests until stdin ends, then end what still runs."""
    for name in IMPORTS:
        importlib.import_module(name)
    gc.freeze()  # or a child's collection of garbage copies all of this
    _reply({"pid": os.getpid()})
    children: set[int] = set()
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "start":
            pid = _start(request)
            children.add(pid)
            _reply({"pid": pid})
        elif request["do"] == "look":
            ended, status = os.waitpid(request["pid"], os.WNOHANG)
            children -= {ended}
            _reply({"exit": os.waitstatus_to_exitcode(status) if ended else None})
        else:
            done = subprocess.run(request["command"], check=False, capture_output=True, text=True)
            _reply({"exit": done.returncode, "stderr": done.stderr})
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _reply(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


def _start(request: dict[str, Any]) -> int:
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        _become(request)
    return pid


def _become(request: dict[str, Any]) -> NoReturn:
    """Be the asked command for the rest of this process's life."""
    output = Path(request["output"])
    for descriptor, name, flags in ((0, os.devnull, os.O_RDONLY), (1, "stdout", WRITING), (2, "stderr", WRITING)):
        opened = os.open(output / name, flags & ~os.O_RDWR, 0o666)
        os.dup2(opened, descriptor)
        os.close(opened)
    changes = ChangeCounter(request["watched"], request["kill_before"])
    sys.addaudithook(changes)
    sys.argv = [request["program"], *request["arguments"]]
    code = 0
    try:
        if request["program"] == "dvme":
            sys.modules["dvme_cli.main"].main()
        else:
            runpy.run_path(request["program"], run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - what the program did not expect is reported, as the interpreter does
        traceback.print_exc()
        code = 70
    sys.stdout.flush()
    sys.stderr.flush()
    (output / "operations").write_text(str(changes.count))
    os._exit(code)


if __name__ == "__main__":
    serve()
