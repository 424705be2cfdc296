"""What dense features take is said before any is computed, and refused where the disk cannot hold it."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_networks import write_network

import dvme
from dvme.errors import OptionError
from dvme.extraction.passes import Options
from dvme.extraction.room import contents_done
from dvme.text import bytes_text
from dvme_cache import EmbeddingCache, content_id

VIT, TYPED = "vit@dense=2+3", "vit.toml@dense=3+2"
RUNTIME = dvme.Runtime(device="cpu")


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A described network in the working directory; all on one thread."""
    torch.set_num_threads(1)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    (tmp_path / "own").mkdir()
    monkeypatch.chdir(tmp_path / "own")
    write_network(Path(), "vit")


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(999, "999 bytes"), (1_000, "1.0 kB"), (150_533, "151 kB"), (1_505_330_000, "1.5 GB"), (2.6e12, "2.6 TB")],
)
def test_bytes_text__by_hand(n_bytes: float, text: str) -> None:
    assert bytes_text(n_bytes) == text


def test_extract__says_how_much_it_is_going_to_be(class_folders: Path, tmp_path: Path) -> None:
    said: list[str] = []
    options: dict[str, Any] = {"backbones": [TYPED], "runtime": RUNTIME, "tell": said.append}
    plan = dvme.plan_extraction(class_folders, tmp_path / "c.zarr", dtype="float16", **options)
    line = f"{VIT}: 2 of 2 x 2 x 64, float16: 1.0 kB an image, 37 kB in all"
    assert said == [line]
    assert plan.backbones[0].n_bytes == 36 * (2 * 4 * 64 * 2 + 5)
    dvme.extract(class_folders, tmp_path / "c.zarr", dtype="float16", **options)
    assert said == [line, line]
    dvme.extract(class_folders, tmp_path / "c.zarr", dtype="float16", **options)
    assert said == [line, line], "nothing is left to be said of"


def test_extract__refuses_what_the_disk_cannot_hold(
    class_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, options = tmp_path / "c.zarr", dict[str, Any](backbones=[TYPED], runtime=RUNTIME)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10_000))
    for run, dtype, size, step in (
        (dvme.plan_extraction, "float32", "74 kB", "dtype='int8', fewer layers or a smaller size need less"),
        (dvme.extract, "int8", "19 kB", "fewer layers or a smaller size need less"),
    ):
        says = f"36 images take {size}, and {cache} has room for 10 kB; {step}, or name another place"
        with pytest.raises(OptionError, match=says):
            run(class_folders, cache, dtype=dtype, **options)
    assert not cache.exists()
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=20_000))
    assert dvme.extract(class_folders, cache, dtype="int8", **options).n_new == 36
    # Nothing is lacking, and what is replaced gives its room back.
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1_000))
    dvme.extract(class_folders, cache, dtype="int8", **options)
    dvme.extract(class_folders, cache, dtype="int8", replace=True, **options)


def test_contents_done__what_would_not_be_computed(class_folders: Path, tmp_path: Path) -> None:
    (class_folders / "dark" / "00.png").write_bytes(b"no image")
    dvme.extract(class_folders, tmp_path / "c.zarr", backbones=[TYPED], runtime=RUNTIME)
    store = EmbeddingCache.open(tmp_path / "c.zarr")
    digests = {content_id(path.read_bytes()) for path in class_folders.rglob("*.png")}
    assert contents_done(store, [VIT], Options()) == digests
    assert contents_done(store, [VIT], Options(retry_failed=True)) == digests - {content_id(b"no image")}
    assert contents_done(store, [VIT, "other"], Options()) == frozenset()
