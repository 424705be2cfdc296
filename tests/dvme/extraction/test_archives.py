"""Images in archives from extraction to predictions, as the same images in files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from archives import png, write_tar, write_zip

import dvme
from dvme.cache import prune, verify
from dvme.data import load_samples
from dvme.data.hashing import identify
from dvme.errors import DataError
from dvme.extraction.plan import plan_extraction
from dvme.maps.map_store import Kept
from dvme.report.html.thumbnails import thumbnails
from dvme_cache import EmbeddingCache

OWN = """
from torch import nn
from dvme.backbones import BackboneSpec, Preprocess

def net():
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())

net = BackboneSpec(name="small", method="ours", architecture="net", dim=None, pooling="model", checkpoint=None,
    preprocess=Preprocess(resize=8, crop=8), licence="MIT", paper="ours", source="built", build=net)
"""
IMAGES = {f"{('benign', 'malignant')[index % 2]}/{index:02d}.png": png(index) for index in range(24)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The same 24 images as files, in a zip archive and in two shards."""
    (tmp_path / "small.py").write_text(OWN)
    for name, data in IMAGES.items():
        path = tmp_path / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    write_zip(tmp_path / "images.zip", IMAGES)
    for part in range(2):
        own = {f"{Path(name).stem}.png": data for name, data in list(IMAGES.items())[part::2]}
        labels = {f"{Path(name).stem}.cls": name.split("/")[0].encode() for name in list(IMAGES)[part::2]}
        write_tar(tmp_path / "shards" / f"{part}.tar", dict(sorted((own | labels).items())))
    return tmp_path


def extract(root: Path, images: str, cache: str = "c.zarr") -> dvme.ExtractReport:
    return dvme.extract(root / images, root / cache, backbones=[f"{root}/small.py:net"], progress=dvme.silent)


def by_content(cache: Path) -> dict[bytes, tuple[str, list[float]]]:
    store = EmbeddingCache.open(cache)
    features = store.embeddings("small").read(np.arange(store.n_rows)).tolist()
    labels = store.column("label").tolist()
    return dict(zip(store.samples.content_ids, zip(labels, features, strict=True), strict=True))


@pytest.mark.parametrize("images", ["images.zip", "shards"])
def test_extract__archives_give_what_files_give(images: str, root: Path) -> None:
    extract(root, "files", "files.zarr")
    extract(root, images)
    assert by_content(root / "c.zarr") == by_content(root / "files.zarr")
    paths = sorted(EmbeddingCache.open(root / "c.zarr").column("path").tolist())
    assert paths == sorted(str(path) for path in load_samples(root / images).paths)


def test_extract__files_archives_and_moved_archives_are_the_same_rows(root: Path) -> None:
    assert extract(root, "files").outcomes[0].computed == 24
    for source in ("images.zip", "shards", "shards/0.tar"):
        report = extract(root, source)
        assert (report.n_new, report.outcomes[0].computed) == (0, 0)
    (root / "elsewhere").mkdir()
    (root / "images.zip").rename(root / "elsewhere" / "other.zip")
    plan = plan_extraction(root / "elsewhere/other.zip", root / "c.zarr", backbones=[f"{root}/small.py:net"])
    assert (plan.n_new, plan.backbones[0].reused, plan.backbones[0].computed) == (0, 24, {})
    report = extract(root, "elsewhere/other.zip")
    assert (report.n_moved, report.outcomes[0].computed) == (24, 0)
    paths = EmbeddingCache.open(root / "c.zarr").column("path").tolist()
    assert all(path.startswith(str(root / "elsewhere" / "other.zip")) for path in paths)


def test_extract__one_image_in_two_shards_is_one_row(root: Path) -> None:
    write_tar(root / "shards" / "2.tar", {"copy.png": IMAGES["benign/00.png"], "copy.cls": b"benign"})
    report = extract(root, "shards")
    assert (report.n_rows, report.n_files, report.contradictory) == (24, 25, [])
    write_tar(root / "shards" / "2.tar", {"copy.png": IMAGES["benign/00.png"], "copy.cls": b"malignant"})
    assert extract(root, "shards").contradictory == ["0.tar/00.png", "2.tar/copy.png"]


def test_extract__damaged_members_have_no_row_and_are_named(root: Path) -> None:
    write_zip(root / "images.zip", IMAGES, 0)
    content = bytearray((root / "images.zip").read_bytes())
    content[content.index(IMAGES["malignant/01.png"]) + 60] ^= 1
    (root / "images.zip").write_bytes(content)
    report = extract(root, "images.zip")
    assert report.n_rows == 23
    assert list(report.unread) == ["malignant/01.png"]
    assert "damaged in images.zip (its CRC-32 is another)" in report.unread["malignant/01.png"]


def test_extract__an_archive_that_changes_after_it_was_listed(root: Path) -> None:
    samples = load_samples(root / "shards")
    write_tar(root / "shards" / "0.tar", {"00.png": png(99), "00.cls": b"benign"})
    found = identify(samples, 2, lambda *_: None)
    assert len(found.unread) == 11
    assert set(found.unread.values()) == {"cannot be read: not in 0.tar; run again once it can"}


def test_prune__keeps_what_a_shard_that_ends_early_may_hold(root: Path) -> None:
    extract(root, "shards")
    whole = (root / "shards" / "1.tar").read_bytes()
    (root / "shards" / "1.tar").write_bytes(whole[: len(whole) // 2])
    assert extract(root, "shards").n_unlisted == 0
    with pytest.raises(DataError, match=r"1\.tar \(it ends early or is damaged.*nothing was pruned"):
        prune(root / "c.zarr", root / "shards")
    (root / "shards" / "1.tar").unlink()
    report = prune(root / "c.zarr", root / "shards", confirmed=True)
    assert (report.n_kept, len(report.removed)) == (12, 12)
    assert verify(root / "c.zarr").is_sound


def test_thumbnails__of_members_and_none_of_a_member_that_is_another_by_now(root: Path) -> None:
    extract(root, "images.zip")
    store = EmbeddingCache.open(root / "c.zarr")
    paths, ids = store.column("path").tolist(), store.samples.ids
    whole = thumbnails(paths, ids, kept=Kept(root / "kept"))
    assert whole is not None
    assert len(whole.missing) == 0
    write_zip(root / "images.zip", IMAGES | {"benign/00.png": png(50)})
    shown = thumbnails(paths, ids, kept=Kept(root / "other"))
    assert shown is not None
    assert [paths[i] for i in shown.missing.tolist()] == [str(root / "images.zip" / "benign" / "00.png")]
    (root / "images.zip").unlink()
    assert thumbnails(paths, ids, kept=Kept(root / "kept")) is None


def test_predict__images_in_an_archive(root: Path) -> None:
    extract(root, "files")
    dvme.probe(root / "c.zarr", heads=["linear"], save=root / "heads", progress=dvme.silent)
    (head,) = (root / "heads").iterdir()
    backbones = [f"{root}/small.py:net"]
    tables = {}
    for source in ("files", "images.zip", "shards"):
        dvme.predict(head, root / source, out=root / "p.csv", backbones=backbones, force=True, progress=dvme.silent)
        tables[source] = pd.read_csv(root / "p.csv")
    pd.testing.assert_frame_equal(tables["files"].drop(columns="path"), tables["images.zip"].drop(columns="path"))
    assert sorted(tables["shards"]["image"]) == sorted(load_samples(root / "shards").ids)
    assert sorted(tables["shards"]["p(benign)"]) == sorted(tables["files"]["p(benign)"])
