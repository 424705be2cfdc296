"""How many cores there are, by affinity and by the files that control groups have."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dvme.cores import available_cores, quotas


def groups(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "own", "expected"),
    [
        ({}, "0::/", []),
        ({"cpu.max": "max 100000\n"}, "0::/", []),
        ({"cpu.max": "150000 100000\n"}, "0::/", [1.5]),
        ({"job/cpu.max": "400000 100000\n", "job/step/cpu.max": "max 100000\n"}, "0::/job/step", [4.0]),
        ({"job/cpu.max": "400000 100000\n", "job/step/cpu.max": "50000 100000\n"}, "0::/job/step", [0.5, 4.0]),
        ({"cpu.max": "200000 100000\n"}, "0::/a/path/of/the/host", [2.0]),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, "4:cpu,cpuacct:/", []),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, "4:cpu,cpuacct:/", [3.0]),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, "4:memory:/", []),
        ({"cpu.max": "nonsense\n"}, "0::/", []),
        ({"cpu.max": "1 0\n"}, "0::/", []),
    ],
)
def test_quotas__of_both_kinds_of_control_groups(
    files: dict[str, str], own: str, expected: list[float], tmp_path: Path
) -> None:
    said = tmp_path / "cgroup"
    said.write_text(own + "\n")
    assert sorted(quotas(groups(tmp_path / "root", files), said)) == expected


def test_quotas__where_the_system_has_no_control_groups(tmp_path: Path) -> None:
    assert quotas(tmp_path / "none", tmp_path / "neither") == []


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity")
def test_available_cores__those_of_the_affinity() -> None:
    """A process that is bound to one core has one, whatever the machine has."""
    code = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); import dvme.cores as c; print({})"
    command = [sys.executable, "-c", code.format("c.available_cores()")]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "1\n"
    assert 1 <= available_cores() <= (os.cpu_count() or 1)
