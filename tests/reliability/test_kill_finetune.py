"""Real SIGKILLs of real studies that train a backbone: none costs more than the epoch that it came in."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

from dvme.training.checkpoints import Epochs

TINY = """
name = "tiny"
architecture = "test_resnet"
pooling = "average"
[preprocess]
resize = 36
crop = 32
[checkpoint]
filename = "tiny.pth"
"""
RATES, EPOCHS, FOLDS = ("0.0001", "0.001"), 3, 2
HEAD = f"finetune@learning-rates={':'.join(RATES)}@max-epochs={EPOCHS}@batch-size=4@average-epochs=0.5@stop-patience=9"
CHANGES_PER_EPOCH = 2  # a file that is made aside, and renamed
OVER = (len(RATES), 0)
"""The position of a job that is finished."""

Processes = Any
Campaign = Callable[[int, int], int]
Sweep = Callable[..., Any]
Where = tuple[int, int]

pytestmark = pytest.mark.machine


@dataclass
class Attack:
    """All kills."""

    whole_s: float
    n_kills: int = 0
    n_runs: int = 0
    moments: Counter[str] = field(default_factory=Counter)
    """What was there when the kills came."""


@pytest.fixture(scope="module")
def manifest(solar_cells: list[tuple[Path, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of two classes, and beside it the backbone."""
    path = tmp_path_factory.mktemp("finetune") / "manifest.csv"
    path.with_name("tiny.toml").write_text(TINY)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(timm.create_model("test_resnet", num_classes=0).state_dict(), path.with_name("tiny.pth"))
    by_label: dict[str, list[Path]] = {}
    for image, label in solar_cells:
        by_label.setdefault(label, []).append(image)
    some = [f"{image},{label}" for label in ("0.0", "1.0") for image in by_label[label][:10]]
    path.write_text("\n".join(["image,label", *some]))
    return path


@pytest.fixture
def sweep(processes: Processes, manifest: Path, tmp_path: Path) -> Sweep:
    cache = tmp_path / "c.zarr"
    extracted = processes.run("dvme", "extract", manifest, cache, "--backbones", manifest.with_name("tiny.toml"))
    assert extracted.exit_code == 0, extracted.stderr
    options = ["--head", HEAD, "--sizes", "full", "--folds", str(FOLDS), "--test-fraction", "0.4", "--json"]
    return partial(_sweep, processes, cache, options)


def test_sweep__killed_at_random_moments_ends_with_the_same_bits(
    sweep: Sweep, campaign: Campaign, tmp_path: Path
) -> None:
    """Every other kill comes at a random time of the run's life, the others before a random change of its states."""
    whole = sweep(tmp_path / "whole")
    assert whole.exit_code == 0, whole.stderr
    expected, rng, n_kills = _results(tmp_path / "whole"), random.Random(3), campaign(2, 20)
    assert len(expected) == FOLDS
    attack, n_trials = Attack(whole.seconds), 0
    while attack.n_kills < n_kills:
        run = tmp_path / f"killed-{n_trials}"
        _sweep_to_the_end(sweep, run, attack, n_kills, rng)
        found = _results(run)
        assert set(found) == set(expected)
        for key, arrays in expected.items():
            for name, values in arrays.items():
                np.testing.assert_array_equal(found[key][name], values, err_msg=f"{key} {name}")
        assert not (run / "training").exists()
        n_trials += 1
    print(
        f"\nkill: {attack.n_kills} SIGKILLs in {attack.n_runs} calls of {n_trials} studies that train a backbone; "
        f"every study ended with the bits of one in one go; states lost: 0, epochs lost by a kill: 1 at most; "
        f"moments: {dict(sorted(attack.moments.items()))}"
    )


def _sweep(processes: Processes, cache: Path, options: list[str], run: Path, kill: dict[str, Any] | None = None) -> Any:
    """`dvme sweep` in a process, killed after `after_s` seconds or before its n-th change of a state, or not."""
    kill = kill or {}
    command = ("dvme", "sweep", cache, "--out", run, *options)
    pid = processes.start(*command, kill_before=kill.get("change"), watched=run / "training")
    if "after_s" in kill:
        time.sleep(kill["after_s"])
        processes.kill(pid)
    return processes.wait(pid)


def _sweep_to_the_end(sweep: Sweep, run: Path, attack: Attack, n_kills: int, rng: random.Random) -> None:
    """Kill calls of one study until one comes through, or until there were kills enough."""
    before: dict[str, Where] = {}
    while True:
        n_left = sum(EPOCHS * len(RATES) for _ in range(FOLDS)) - sum(map(_epochs_of, before.values()))
        kill: dict[str, Any] = {}
        if attack.n_kills < n_kills:
            is_clocked = attack.n_kills % 2 == 0
            moment = {"after_s": rng.uniform(0, attack.whole_s)}
            kill = moment if is_clocked else {"change": rng.randint(1, CHANGES_PER_EPOCH * n_left + 2)}
        ended = sweep(run, kill)
        attack.n_runs += 1
        if ended.exit_code == 0:
            return
        assert ended.is_killed, ended.stderr
        attack.n_kills += 1
        after = _positions(run)
        assert all(after.get(key, (0, 0)) >= where for key, where in before.items()), "no epoch is lost that was kept"
        is_torn = any((run / "training").rglob(".last.pt.partial"))
        gained = sum(map(_epochs_of, after.values())) - sum(map(_epochs_of, before.values()))
        if "change" in kill:  # those before it were of whole epochs, but for one, of folders and of finished jobs
            assert gained >= (kill["change"] - 1) // CHANGES_PER_EPOCH - 1 - 3 * FOLDS
        attack.moments[f"{'in a write' if is_torn else 'between writes'}, {'an' if after else 'no'} epoch kept"] += 1
        before = after


def _epochs_of(where: Where) -> int:
    return where[0] * EPOCHS + where[1]


def _positions(run: Path) -> dict[str, Where]:
    """Of each job: the number of its learning rate, and its epochs that are kept."""
    found: dict[str, Where] = {}
    for folder in (run / "training").glob("*"):
        state = Epochs(folder).read()
        assert state is not None or not (folder / "last.pt").exists(), "no kill tears a state"
        if state is not None:
            found[folder.name] = state["rate"], state["epoch"]
    return found | {path.stem: OVER for path in (run / "jobs").glob("*.npz")}


def _results(run: Path) -> dict[str, dict[str, Any]]:
    """By job its predictions, and what was chosen; the seconds are aside."""
    found = {}
    for path in (run / "jobs").glob("*.npz"):
        with np.load(path) as arrays:
            found[path.stem] = {name: arrays[name] for name in ("log_test", "log_validation")}
            chosen = json.loads(arrays["record"].item())["chosen"]
            found[path.stem]["chosen"] = np.array(json.dumps(chosen, sort_keys=True))
    return found
