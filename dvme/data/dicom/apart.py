"""Frames decoded in processes of their own, one for each thread that asks at a time."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock, Timer
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.errors import ImageError

WORKER = Path(__file__).with_name("codec_worker.py")
SECONDS = 300
"""For one frame: a damaged one can keep a codec busy for ever."""
PIPE_SIZE = 1 << 20
"""Bytes, where the system lets one choose: pixels pass in fewer turns."""
HARMLESS = "extraneous bytes before marker"


def decoded_apart(frame: bytes, asked: dict[str, Any]) -> tuple[NDArray[Any], str]:
    """The pixels of a compressed frame, and their photometric interpretation.

    Args:
        frame: its bytes.
        asked: `transfer_syntax`, `plugin` and `options` of pydicom's `as_array`.

    Raises:
        ImageError: if it cannot be decoded, or brings the codec down.
    """
    worker = _WORKERS.taken()
    timer = Timer(SECONDS, worker.kill)
    timer.daemon = True
    timer.start()
    try:
        answer, pixels = _asked(worker, frame, asked)
    except (OSError, ValueError) as error:
        worker.kill()
        worker.wait()
        _close(worker)
        raise ImageError(f"is damaged so that it brings {asked['plugin']} down, which decodes such pixels") from error
    finally:
        timer.cancel()
    _WORKERS.put_back(worker)
    said = next((line for line in answer["said"].splitlines() if line.strip() and HARMLESS not in line), "")
    if "error" in answer or said:
        raise ImageError(" ".join((said or answer["error"]).split()))
    return np.frombuffer(pixels, dtype=answer["dtype"]).reshape(answer["shape"]), answer["photometric"]


def _asked(worker: subprocess.Popen[bytes], frame: bytes, asked: dict[str, Any]) -> tuple[dict[str, Any], bytearray]:
    """Raises OSError or ValueError where the process ends in between."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(json.dumps(asked | {"n_bytes": len(frame)}).encode() + b"\n")
    worker.stdin.write(frame)
    worker.stdin.flush()
    answer = json.loads(worker.stdout.readline())
    pixels = bytearray(answer["n_bytes"])
    if worker.stdout.readinto(pixels) != len(pixels):  # type: ignore[attr-defined]
        raise EOFError("the answer ends early")
    return answer, pixels


def _close(worker: subprocess.Popen[bytes]) -> None:
    for pipe in (worker.stdin, worker.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()


@dataclass
class _Workers:
    """Processes that wait for work."""

    idle: list[subprocess.Popen[bytes]] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)

    def taken(self) -> subprocess.Popen[bytes]:
        """One of them, or a new one."""
        with self.lock:
            while self.idle:
                worker = self.idle.pop()
                if worker.poll() is None:
                    return worker
                _close(worker)
        return subprocess.Popen(  # noqa: S603 - this Python, and a file of this package
            [sys.executable, "-P", str(WORKER)],  # -P: modules beside it are not taken for others of their names
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pipesize=PIPE_SIZE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path[1:]))},
        )

    def put_back(self, worker: subprocess.Popen[bytes]) -> None:
        """Keep one for the next frame."""
        with self.lock:
            self.idle.append(worker)

    def end(self) -> None:
        """Let all of them go, as nothing is decoded any more."""
        with self.lock:
            for worker in self.idle:
                _close(worker)
                worker.wait()
            self.idle.clear()


_WORKERS = _Workers()
atexit.register(_WORKERS.end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_WORKERS.idle.clear)  # they answer to the parent
