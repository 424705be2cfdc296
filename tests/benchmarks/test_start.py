"""`dvme --help` beside an interpreter that does nothing, and a small study beside the import of torch."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hospitals import write_site

DVME = Path(sys.executable).with_name("dvme")
PAIRS, LIMIT = 15, 15.0
PROBES, TARGET, LONGEST = 5, 3.0, 3.0
"""Of a probe: how often, its target in seconds, and how many imports of torch it may last."""


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


@pytest.mark.bench
def test_probe__two_hundred_rows_beside_the_import_of_torch(tmp_path: Path) -> None:
    labels = np.arange(200) % 2
    values = np.random.default_rng(0).normal(size=(200, 2048)) + 0.05 * labels[:, None]
    cache = write_site(tmp_path / "a.zarr", {"a": values.astype(np.float16)}, [f"class {label}" for label in labels])
    probe = (str(DVME), "probe", str(cache), "--head", "linear,knn")
    pairs = [(_seconds(*probe), _seconds(sys.executable, "-c", "import torch")) for _ in range(PROBES + 1)][1:]
    probed, imported = (statistics.median(side) for side in zip(*pairs, strict=True))
    short = "" if probed < TARGET else f" (over the target of {TARGET:g} s)"
    print(
        f"\nprobe of 200 rows x 2048 with linear and knn {probed:.1f} s{short}, of which the import of torch alone "
        f"takes {imported:.1f} s"
    )
    assert statistics.median(one / other for one, other in pairs) < LONGEST
