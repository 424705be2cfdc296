"""Verify compares with the images as well; repair says what it cost."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import torch

import dvme
from dvme.backbones.loading.kept import TOLERANCES
from dvme.errors import OptionError
from dvme_cache import CacheNotFoundError, EmbeddingCache, Fingerprint

LITE = "efficientnet-lite0@size=32"
"""Real weights, on pictures a fiftieth as large as published: how good the embeddings are is not what is tested."""
FOLDER = quote(LITE, safe="")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_verify__images_agree_within_the_tolerance(class_folders: Path, tmp_path: Path, dtype: str) -> None:
    cache = tmp_path / "c.zarr"
    dvme.extract(class_folders, cache, backbones=[LITE], dtype=dtype)
    other_batches = dvme.Runtime(batch_size=5)
    report = dvme.cache.verify(cache, images=True, sample=20, runtime=other_batches)
    (compared,) = report.comparisons
    assert report.is_sound
    assert (compared.n_compared, compared.n_different, compared.n_unavailable) == (20, 0, 0)
    assert compared.largest_difference < (1e-4 if dtype == "float32" else TOLERANCES["float32"])


def test_verify__embeddings_of_other_images_are_found_though_their_checksums_are_right(
    class_folders: Path, tmp_path: Path
) -> None:
    """What no checksum can see: numbers that were wrong when they were committed."""
    cache = tmp_path / "c.zarr"
    dvme.extract(class_folders, cache, backbones=[LITE])
    with EmbeddingCache.writing(cache) as store:
        table = store.embeddings(LITE)
        features = table.read(np.arange(36))
        features[[7, 8]] = features[[8, 7]]
        table.commit(np.arange(36), features, {})
    report = dvme.cache.verify(cache, images=True, sample=36)
    assert report.findings == []
    assert not report.is_sound
    assert (report.comparisons[0].n_different, report.comparisons[0].different) == (2, ["dark/07.png", "dark/08.png"])


def test_verify__images_that_are_gone_and_backbones_that_cannot_be_loaded(class_folders: Path, tmp_path: Path) -> None:
    cache = tmp_path / "c.zarr"
    dvme.extract(class_folders, cache, backbones=[LITE])
    with EmbeddingCache.writing(cache) as store:
        made = store.ensure_embeddings("mine", Fingerprint({"a": 1}), dim=2, dtype="float32", provenance={})
        made.commit(np.arange(36), np.ones((36, 2), np.float32), {})
    (class_folders / "dark" / "00.png").unlink()
    (class_folders / "dark" / "01.png").write_bytes(b"something else")
    report = dvme.cache.verify(cache, images=True, sample=36)
    lite, mine = report.comparisons
    assert report.is_sound
    assert (lite.n_compared, lite.n_unavailable) == (34, 2)
    assert "unknown backbone 'mine'" in mine.skipped
    assert (mine.n_compared, mine.is_equal) == (0, True)


def test_verify__refuses(class_folders: Path, tmp_path: Path) -> None:
    with pytest.raises(CacheNotFoundError):
        dvme.cache.verify(tmp_path / "none.zarr")
    with pytest.raises(OptionError, match="a sample of 0 checks nothing"):
        dvme.cache.verify(tmp_path / "none.zarr", sample=0)
    with pytest.raises(CacheNotFoundError):
        dvme.cache.repair(tmp_path / "none.zarr")
    assert not (tmp_path / "none.zarr").exists()


def test_repair__then_extract_computes_just_what_was_lost(class_folders: Path, tmp_path: Path) -> None:
    cache = tmp_path / "c.zarr"
    dvme.extract(class_folders, cache, backbones=[LITE])
    whole = EmbeddingCache.open(cache).embeddings(LITE).read(np.arange(36))
    shard = cache / "embeddings" / FOLDER / "features" / "c" / "0" / "0"
    data = bytearray(shard.read_bytes())
    data[9 * 1280 * 4] ^= 4
    shard.write_bytes(data)
    (cache / "samples" / "zarr.json").write_text("{}")
    report = dvme.cache.verify(cache)
    assert not report.is_sound
    assert sorted(finding.key for finding in report.findings) == [
        f"embeddings/{FOLDER}/features/c/0/0",
        "samples/zarr.json",
    ]
    assert {finding.n_rows for finding in report.findings} == {0, 1}
    repaired = dvme.cache.repair(cache)
    assert (len(repaired.mended), repaired.left, repaired.n_rows_lost) == (2, [], {LITE: 1})
    assert dvme.cache.verify(cache).is_sound
    assert dvme.extract(class_folders, cache, backbones=[LITE]).outcomes[0].computed == 1
    np.testing.assert_allclose(EmbeddingCache.open(cache).embeddings(LITE).read(np.arange(36)), whole, atol=1e-4)
    assert dvme.cache.repair(cache).mended == []
