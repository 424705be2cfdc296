"""A run that only reuses loads no model, and notices all the same what a load would have noticed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

import dvme
from dvme.backbones import get_spec
from dvme.backbones.weights.finding import find_weights
from dvme.extraction.models import Choice, KnownBackbone, load_known, recall_backbones
from dvme_cache import FingerprintMismatchError

NAME, LITE = "efficientnet-lite0", "efficientnet-lite0@size=32"
CPU = dvme.Runtime(device="cpu")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_recall_backbones__the_fingerprint_of_a_load(home: Path) -> None:
    choice = Choice(names=[LITE])
    (loaded,) = recall_backbones(choice, CPU)
    (known,) = recall_backbones(choice, CPU)
    assert not isinstance(loaded, KnownBackbone)
    assert isinstance(known, KnownBackbone)
    for dtype in ("float32", "float16"):
        assert known.fingerprint(dtype) == loaded.fingerprint(dtype)
    assert (known.dim, list(home.rglob("*.json"))[1:]) == (1280, [])
    (again,) = load_known([known])
    assert again.weights_hash == known.facts.weights


@pytest.mark.usefixtures("home")
def test_extract__other_weights_of_the_same_size_and_time_are_refused(class_folders: Path, tmp_path: Path) -> None:
    published = find_weights(get_spec(NAME))
    assert published is not None
    state = torch.load(published, weights_only=True)
    file, cache = tmp_path / "w.pth", tmp_path / "c.zarr"
    torch.save(state, file)
    before = file.stat()
    weights = {NAME: file}
    first = dvme.extract(class_folders, cache, backbones=[LITE], weights=weights)
    assert isinstance(recall_backbones(Choice(names=[LITE], weights=weights), CPU)[0], KnownBackbone)
    assert dvme.extract(class_folders, cache, backbones=[LITE], weights=weights).outcomes[0].reused == 36
    key = next(key for key, value in state.items() if value.ndim == 4)
    state[key] = state[key] + 1
    torch.save(state, file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    with pytest.raises(FingerprintMismatchError, match="weights: cached"):
        dvme.extract(class_folders, cache, backbones=[LITE], weights=weights)
    with pytest.raises(FingerprintMismatchError, match="weights: cached"):
        dvme.plan_extraction(class_folders, cache, backbones=[LITE], weights=weights)
    assert first.outcomes[0].computed == 36
