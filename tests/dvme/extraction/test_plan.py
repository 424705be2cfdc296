"""The plan says what the run then does, and writes nothing."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import torch

import dvme
from dvme.data import Samples
from dvme.extraction.trial import TRIAL_BATCHES, Trial
from dvme_cache import EmbeddingCache, FingerprintMismatchError

LITE = "efficientnet-lite0@size=32"
"""Real weights, on pictures a fiftieth as large as published: how good the embeddings are is not what is tested."""
FOLDER = quote(LITE, safe="")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_plan__of_a_cache_that_is_not_there(class_folders: Path, tmp_path: Path) -> None:
    plan = dvme.plan_extraction(class_folders, tmp_path / "c.zarr", backbones=[LITE], dtype="float16")
    (item,) = plan.backbones
    assert (plan.exists, plan.n_files, plan.n_rows, plan.n_new, plan.n_unlisted) == (False, 36, 36, 36, 0)
    assert (item.reused, item.computed, item.n_computed) == (0, {"new to the cache": 36}, 36)
    assert item.n_bytes == 36 * (1280 * 2 + 5)
    assert item.images_per_second > 0
    assert item.seconds == pytest.approx(36 / item.images_per_second)
    assert not list(tmp_path.glob("*.zarr*")) + list(tmp_path.glob(".*"))


def test_plan__tries_images_of_a_folder_that_has_more(class_folders: Path, tmp_path: Path) -> None:
    """A batch of five that warms up, and two more pass the first convolution; the load is checked with fewer images."""
    seen = list[int]()

    def count(module: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        if isinstance(module, torch.nn.Conv2d) and module.in_channels == 3:
            seen.append(len(given[0]))

    hook = torch.nn.modules.module.register_module_forward_pre_hook(count)
    try:
        runtime = dvme.Runtime(device="cpu", batch_size=5)
        dvme.plan_extraction(class_folders, tmp_path / "c.zarr", backbones=[LITE], runtime=runtime)
    finally:
        hook.remove()
    assert seen.count(5) == 1 + TRIAL_BATCHES


def test_seconds__backbones_of_one_pass_share_the_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding 0.05 s; forwards 0.05 and 0.15 s: alone 0.1 and 0.2 s, together 0.25 s for an image."""
    monkeypatch.setattr(Trial, "_speed", lambda *_: 1 / 0.25)
    trial = Trial(Samples([], [], [], [], []), {}, dvme.Runtime())
    assert trial.seconds([]) == 0
    assert trial.seconds([(100, 10.0)]) == pytest.approx(10.0)
    assert trial.seconds([(100, 10.0), (100, 5.0)]) == pytest.approx(100 * 0.25)
    assert trial.seconds([(100, 10.0), (40, 5.0)]) == pytest.approx(40 * 0.25 + 60 * 0.1)


def test_plan__every_reason_and_then_the_run(class_folders: Path, tmp_path: Path) -> None:
    cache = tmp_path / "c.zarr"
    (class_folders / "dark" / "00.png").write_bytes(b"no image")
    dvme.extract(class_folders, cache, backbones=[LITE])
    shard = cache / "embeddings" / FOLDER / "features" / "c" / "0" / "0"
    data = bytearray(shard.read_bytes())
    for row in (3, 20):
        data[row * 1280 * 4 + 99] ^= 1
    shard.write_bytes(data)
    (class_folders / "dark" / "01.png").unlink()
    (class_folders / "dark" / "02.png").rename(class_folders / "grey" / "moved.png")
    (class_folders / "grey" / "new.png").write_bytes((class_folders / "grey" / "00.png").read_bytes() + b" ")
    before = contents(cache)
    plan = dvme.plan_extraction(class_folders, cache, backbones=[LITE, "efficientnet-lite0@size=48"])
    assert contents(cache) == before
    lite, other = plan.backbones
    assert (plan.n_rows, plan.n_new, plan.n_unlisted) == (36, 1, 1)
    assert lite.computed == {"new to the cache": 1, "damaged on disk": 2}
    assert (lite.reused, lite.failed) == (32, 1)
    assert other.computed == {"new to the cache": 1, "not extracted yet": 35}
    outcome = dvme.extract(class_folders, cache, backbones=[LITE]).outcomes[0]
    assert (outcome.reused, outcome.computed, outcome.failed) == (lite.reused, lite.n_computed, lite.failed)
    again = dvme.plan_extraction(class_folders, cache, backbones=[LITE]).backbones[0]
    assert (again.n_computed, again.seconds, again.n_bytes) == (0, 0.0, 0)
    assert np.isnan(again.images_per_second)
    retried = dvme.plan_extraction(class_folders, cache, backbones=[LITE], retry_failed=True).backbones[0]
    assert (retried.computed, retried.failed) == ({"failed before": 1}, 0)


def test_plan__refuses_what_the_run_would_refuse(class_folders: Path, tmp_path: Path) -> None:
    cache = tmp_path / "c.zarr"
    dvme.extract(class_folders, cache, backbones=[LITE])
    with pytest.raises(FingerprintMismatchError, match="dtype: cached 'float32', asked 'float16'"):
        dvme.plan_extraction(class_folders, cache, backbones=[LITE], dtype="float16")
    plan = dvme.plan_extraction(class_folders, cache, backbones=[LITE], dtype="float16", replace=True)
    assert plan.backbones[0].computed == {"replaced": 36}
    assert EmbeddingCache.open(cache).embeddings(LITE).dtype == "float32"
