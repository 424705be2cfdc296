"""Real SIGKILLs of real adaptations: the same command again ends with the weights of one that nothing interrupts."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dvme.backbones.loading.registry import get_spec

Processes = Any
Campaign = Callable[[int, int], int]
EPOCHS, N_IMAGES = 6, 24
COMMAND = ("--backbone", "timm:test_resnet@size=32", "--method", "micle", "--random-weights", 0, "--device", "cpu")
SETTINGS = ("--epochs", EPOCHS, "--batch-size", 8, "--json")
KEPT = ("toml", "safetensors", "trained_on")

pytestmark = pytest.mark.machine


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    rng, rows = np.random.default_rng(0), ["image,split,group"]
    for number in range(N_IMAGES):
        pixels = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{'test' if number < 4 else 'train'},g{number // 2}")
    (tmp_path / "m.csv").write_text("\n".join(rows))
    return tmp_path / "m.csv"


def test_adapt__killed_at_random_ends_as_if_never_killed(
    processes: Processes, campaign: Campaign, manifest: Path, tmp_path: Path
) -> None:
    """Every other kill comes at a random time, the others before a random change of a file."""

    def start(folder: Path, **kill: Any) -> int:
        out = folder / "x.toml"
        return int(
            processes.start("dvme", "adapt", manifest, *COMMAND, "--out", out, *SETTINGS, **kill, watched=folder)
        )

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    reference = processes.wait(start(whole))
    expected = contents(whole)
    assert reference.report["n_epochs"] == EPOCHS
    rng, n_kills, moments, n_runs = random.Random(0), campaign(2, 20), Counter[str](), 0
    while moments.total() < n_kills:
        is_timed = bool(moments.total() % 2)
        kill = {} if is_timed else {"kill_before": rng.randint(1, reference.n_operations)}
        pid = start(killed, **kill)
        n_runs += 1
        if is_timed:
            time.sleep(rng.uniform(0.3, 1.0) * reference.seconds)
            processes.kill(pid)
        ended = processes.wait(pid)
        assert ended.is_killed or ended.exit_code == 0, ended.stderr
        if ended.is_killed:
            moments[moment(killed)] += 1
        if (killed / "x.toml").exists():
            get_spec(str(killed / "x.toml"))
            assert contents(killed) == expected, "a TOML that is there has its weights"
        if ended.exit_code == 0 or (moment(killed) == "after the result" and not (killed / "x.toml.training").exists()):
            check_whole(killed, expected)
            for path in killed.iterdir():
                path.unlink()
    last = processes.wait(start(killed))
    assert last.exit_code == 0, last.stderr
    check_whole(killed, expected)
    print(
        f"\nkill: {moments.total()} SIGKILLs in {n_runs} adaptations of {EPOCHS} epochs, all bit for bit as without; "
        f"{dict(sorted(moments.items()))}"
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {kind: (folder / f"x.{kind}").read_bytes() for kind in KEPT}


def check_whole(folder: Path, expected: dict[str, bytes]) -> None:
    assert contents(folder) == expected, "bit for bit"
    assert {path.name for path in folder.iterdir()} == {f"x.{kind}" for kind in (*KEPT, "json")}, "nothing is left over"


def moment(folder: Path) -> str:
    """What a kill found."""
    if (folder / "x.toml").exists():
        return "after the result"
    return "between epochs" if (folder / "x.toml.training" / "last.pt").exists() else "before the first epoch's end"
