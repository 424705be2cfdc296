"""Exports: what is in them, what is left out, and what is not overwritten."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from memory import HELD

from dvme.cache import export
from dvme.upkeep.formats import read_bundle
from dvme_cache import EmbeddingCache, content_id

MakeCache = Callable[..., Path]
Refused = Callable[..., Any]
SUFFIXES = (".h5", ".hdf5", ".npz", ".parquet", ".csv")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_export__report(suffix: str, make_cache: MakeCache, tmp_path: Path) -> None:
    out = tmp_path / f"x{suffix}"
    report = export(make_cache(), out)
    assert (report.out, report.n_rows, report.n_pruned) == (str(out), 200, 0)
    assert report.format == {".h5": "hdf5", ".hdf5": "hdf5"}.get(suffix, suffix[1:])
    names = ["x.csv", "x.csv.json"] if suffix == ".csv" else [out.name]
    assert report.files == [str(tmp_path / name) for name in names]
    assert report.n_bytes == sum((tmp_path / name).stat().st_size for name in names)
    assert [(item.backbone, item.done, item.failed, item.pending) for item in report.backbones] == [
        ("dino", 191, 1, 8),
        ("timm:a/b", 191, 1, 8),
    ]


def test_export__features_are_the_cache_s(make_cache: MakeCache, tmp_path: Path) -> None:
    cache = make_cache()
    export(cache, tmp_path / "x.h5")
    embeddings = EmbeddingCache.open(cache).embeddings("dino")
    rows = np.flatnonzero(embeddings.states() == 1)
    with h5py.File(tmp_path / "x.h5") as file:
        features = file["embeddings/dino/features"][...]
    np.testing.assert_array_equal(features[rows], embeddings.read(rows))
    assert np.isnan(np.delete(features, rows, axis=0)).all()


def test_export__some_backbones_in_their_order(make_cache: MakeCache, tmp_path: Path, refused: Refused) -> None:
    cache = make_cache()
    report = export(cache, tmp_path / "x.npz", backbones=["timm:a/b", "dino"])
    assert [item.backbone for item in report.backbones] == ["timm:a/b", "dino"]
    report = export(cache, tmp_path / "x.npz", backbones=["dino"], force=True)
    assert [item.backbone for item in report.backbones] == ["dino"]
    with refused("has no nope embeddings (it has: dino, timm:a/b)"):
        export(cache, tmp_path / "y.npz", backbones=["nope"])
    with refused("a backbone is named twice in dino,dino"):
        export(cache, tmp_path / "y.npz", backbones=["dino", "dino"])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_export__pruned_images_are_left_out(suffix: str, make_cache: MakeCache, tmp_path: Path) -> None:
    cache = make_cache()
    with EmbeddingCache.writing(cache) as store:
        store.samples.prune(np.array([0, 70]))
    report = export(cache, tmp_path / f"x{suffix}")
    assert (report.n_rows, report.n_pruned) == (198, 2)
    bundle = read_bundle(tmp_path / f"x{suffix}")
    assert bundle.paths.tolist() == [f"{row}.png" for row in range(200) if row not in {0, 70}]
    assert content_id(b"image 70").hex() not in {row.tobytes().hex() for row in bundle.content_ids}
    assert b"(pruned)" not in (tmp_path / f"x{suffix}").read_bytes()


def test_export__refuses_what_is_there(make_cache: MakeCache, tmp_path: Path, refused: Refused) -> None:
    cache = make_cache(range(10))
    (tmp_path / "x.h5").write_text("precious")
    (tmp_path / "folder.npz").mkdir()
    with refused("x.h5 is there already; name another file, or pass force=True"):
        export(cache, tmp_path / "x.h5")
    (tmp_path / "y.csv.json").write_text("precious too")
    with refused("y.csv.json is there already; name another file, or pass force=True"):
        export(cache, tmp_path / "y.csv")
    with refused("folder.npz is a folder; name a file"):
        export(cache, tmp_path / "folder.npz", force=True)
    with refused("no is not a folder; make it first"):
        export(cache, tmp_path / "no" / "x.h5")
    assert export(cache, tmp_path / "x.h5", force=True).n_rows == 10
    assert read_bundle(tmp_path / "x.h5").header.n_rows == 10


@pytest.mark.parametrize("name", ["x.txt", "x", "x.npy", "x.h5.gz"])
def test_export__unknown_format_names_the_four(
    name: str, make_cache: MakeCache, tmp_path: Path, refused: Refused
) -> None:
    cache = make_cache(range(10))
    with refused(f"{name} has no suffix of an exchange format; use .h5 (HDF5), .npz, .parquet or .csv"):
        export(cache, tmp_path / name)


def test_export__nothing_to_export(tmp_path: Path, refused: Refused) -> None:
    with EmbeddingCache.writing(tmp_path / "c.zarr"):
        pass
    with refused("c.zarr holds no images; there is nothing to export"):
        export(tmp_path / "c.zarr", tmp_path / "x.h5")


def test_export__tells_its_progress(make_cache: MakeCache, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    export(
        make_cache(range(5000), backbones={"x": (1, "float32")}),
        tmp_path / "x.h5",
        progress=lambda *at: told.append(at),
    )
    assert told == [("x", 4096, 5000), ("x", 5000, 5000)]


MEASURE = (
    HELD
    + """
import os, sys
import dvme.cache, dvme.upkeep.restoring, dvme.upkeep.formats.hdf5, dvme.upkeep.formats.npz
from dvme_cache import EmbeddingCache, Fingerprint, content_id
import numpy as np

os.fsync = lambda _: None
folder, n_rows = sys.argv[1], 60_000
with EmbeddingCache.writing(f"{folder}/c.zarr") as cache:
    cache.samples.add([content_id(b"%d" % row) for row in range(n_rows)], [f"{row}.png" for row in range(n_rows)])
    made = cache.ensure_embeddings("x", Fingerprint({}), dim=256, dtype="float32", provenance={})
    for rows in made.pending_shards():
        made.commit(rows, np.random.default_rng(int(rows[0])).standard_normal((len(rows), 256), dtype=np.float32), {})
before = held()
for suffix in (".h5", ".npz"):
    dvme.cache.export(f"{folder}/c.zarr", f"{folder}/x{suffix}")
    dvme.cache.import_embeddings(f"{folder}/x{suffix}", f"{folder}/back{suffix}.zarr")
print((held() - before) // 2**20)
"""
)


@pytest.mark.machine
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux: ru_maxrss counts the parent's peak")
def test_export_and_import__need_less_memory_than_the_features(tmp_path: Path) -> None:
    """60,000 x 256 float32 are 61 MB; exporting and importing them adds less than that to the peak."""
    command = [sys.executable, "-c", MEASURE, str(tmp_path)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert 0 < int(output) < 45
