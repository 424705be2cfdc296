"""A Ray cluster of two workers, and who lives in it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from dvme.cluster import Cluster, cluster


@contextmanager
def a_cluster() -> Iterator[Cluster]:
    """A local cluster; what it starts finds the modules that tests share."""
    support = str(Path(__file__).parent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([support, os.environ.get("PYTHONPATH", "")]))
        patch.delenv("RAY_ADDRESS", raising=False)
        with cluster(n_cpus=2) as there:
            yield there


def kill_workers(at_most: int) -> list[int]:
    """Kill some that are at work, of this machine; returned are their ids."""
    killed: list[int] = []
    for entry in [each for each in Path("/proc").iterdir() if each.name.isdecimal()]:
        with suppress(OSError):
            if len(killed) < at_most and (entry / "cmdline").read_bytes().startswith(b"ray::_Worker.work"):
                os.kill(int(entry.name), signal.SIGKILL)
                killed.append(int(entry.name))
    return killed
