"""How long `dvme --help` takes, beside an interpreter that does nothing."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

DVME = Path(sys.executable).with_name("dvme")
PAIRS, LIMIT = 15, 15.0


def _seconds(*command: str) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


@pytest.mark.bench
def test_help__beside_a_bare_interpreter() -> None:
    pairs = [(_seconds(str(DVME), "--help"), _seconds(sys.executable, "-c", "pass")) for _ in range(PAIRS + 1)][1:]
    helped, bare = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(one / other for one, other in pairs)
    print(f"\ndvme --help {1e3 * helped:.0f} ms, a bare interpreter {1e3 * bare:.0f} ms: {ratio:.1f} times")
    assert ratio < LIMIT
