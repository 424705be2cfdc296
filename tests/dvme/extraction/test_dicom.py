"""Folders of DICOM files from extraction to prediction, and whatever asks for their images again."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from scans import write_patients, write_scan

import dvme
from dvme.data.dicom.fields import pseudonym
from dvme.errors import EnvironmentMismatchError
from dvme_cache import EmbeddingCache

RANDOM = ["random@size=32"]


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_patients(tmp_path_factory.mktemp("scans") / "images", 6)


def test_extract__a_folder_of_dicom_files(scans: Path, tmp_path: Path) -> None:
    columns = dvme.Columns(dicom="view,age,spacing")
    report = dvme.extract(scans, tmp_path / "c.zarr", backbones=RANDOM, columns=columns)
    assert (report.n_rows, report.n_grouped, report.n_groups) == (12, 12, 6)
    assert report.outcomes[0].computed == 12
    cache = EmbeddingCache.open(tmp_path / "c.zarr")
    for path, view, age, group in zip(*(cache.column(name) for name in ("path", "view", "age", "group")), strict=True):
        header = pydicom.dcmread(path)
        assert (view, age) == (header.ViewPosition, f"{int(header.PatientAge[:3])}")
        assert group == pseudonym(header.PatientID)
    assert set(cache.column("spacing")) == {""}
    assert "decoding.dicom" in cache.embeddings(cache.backbones[0]).fingerprint.fields
    # Nothing of a person lies anywhere in the cache, as text or compressed.
    assert not [
        value for name in cache.tables.columns for value in cache.column(name) if value.startswith(("H0", "Doe"))
    ]


def test_extract__moved_planned_and_extracted_again(scans: Path, tmp_path: Path) -> None:
    place = tmp_path / "c.zarr"
    moved = tmp_path / "moved"
    write_patients(moved, 6)
    dvme.extract(scans, place, backbones=RANDOM)
    plan = dvme.plan_extraction(moved, place, backbones=RANDOM)
    assert (plan.n_new, plan.backbones[0].reused, plan.backbones[0].n_computed) == (0, 12, 0)
    report = dvme.extract(moved, place, backbones=RANDOM)
    assert (report.n_moved, report.outcomes[0].computed) == (12, 0)
    assert dvme.cache.verify(place, images=True, sample=4).is_sound
    (moved / "benign" / "IM0000").unlink()
    assert len(dvme.cache.prune(place, moved).removed) == 1


def test_extract__each_frame(tmp_path: Path) -> None:
    write_scan(tmp_path / "us" / "a.dcm", "P1", seed=1, NumberOfFrames="5")
    write_scan(tmp_path / "us" / "b.dcm", "P2", seed=2, NumberOfFrames="2")
    place, columns = tmp_path / "c.zarr", dvme.Columns(frame="each")
    report = dvme.extract(tmp_path / "us", place, backbones=RANDOM, columns=columns)
    assert (report.n_rows, report.n_groups, report.outcomes[0].computed) == (7, 2, 7)
    cache = EmbeddingCache.open(place)
    features = cache.embeddings(cache.backbones[0]).read(np.arange(7))
    assert len(np.unique(features, axis=0)) == 7
    # A frame alone, in a file of its own with the same pixels, has the same embedding.
    whole = pydicom.dcmread(tmp_path / "us" / "a.dcm")
    whole.PixelData = whole.pixel_array[3].tobytes()
    del whole.NumberOfFrames
    whole.save_as(tmp_path / "one.dcm")
    dvme.extract(tmp_path / "one.dcm", tmp_path / "one.zarr", backbones=RANDOM)
    alone = EmbeddingCache.open(tmp_path / "one.zarr")
    row = cache.samples.paths.index("a.dcm/frame=3")
    np.testing.assert_allclose(alone.embeddings(alone.backbones[0]).read(np.arange(1))[0], features[row], rtol=1e-5)
    assert dvme.cache.verify(place, images=True, sample=7).is_sound
    # Frames stay as long as their file does.
    kept = dvme.cache.prune(place, tmp_path / "us")
    assert (kept.removed, kept.n_kept) == ([], 7)
    assert kept.remarks == []
    assert sorted(dvme.cache.prune(place, tmp_path / "us" / "a.dcm").removed) == ["b.dcm/frame=0", "b.dcm/frame=1"]


def test_predict__folders_files_and_frames(scans: Path, tmp_path: Path) -> None:
    place = tmp_path / "c.zarr"
    dvme.extract(scans, place, backbones=["random@size=32@range=12bit@voi=none"])
    dvme.probe(place, heads=["linear"], n_folds=2, test_fraction=0.34, save=tmp_path / "heads")
    (head,) = (tmp_path / "heads").iterdir()
    films = tmp_path / "films"
    write_scan(films / "IM9", "P9", seed=99, NumberOfFrames="3")
    write_scan(films / "x.dcm", "P8", seed=98)
    for images, frame, n_rows in ((scans, None, 12), (films / "x.dcm", None, 1), (films, None, 2), (films, "each", 4)):
        report = dvme.predict(head, images, out=tmp_path / "p.csv", frame=frame, force=True)
        assert (report.n_rows, dict(report.left_out)) == (n_rows, {})
    assert (tmp_path / "p.csv").read_text().splitlines()[1].startswith("IM9/frame=0,")


def test_label__a_manifest_of_dicom_files(scans: Path, write_manifest: Callable[..., Path], tmp_path: Path) -> None:
    dvme.extract(scans, tmp_path / "c.zarr", backbones=RANDOM)
    rows = [(path, "x" if index else "y", "one") for index, path in enumerate(sorted(scans.rglob("IM*")))]
    report = dvme.cache.label(tmp_path / "c.zarr", write_manifest(rows, ["image", "label", "group"]))
    assert report.n_changed == {"label": 12, "group": 12}


def test_extract__without_pydicom_the_cache_is_not_touched(
    scans: Path, write_manifest: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    manifest = write_manifest([(path,) for path in scans.rglob("IM*")], ["image"])
    for images in (scans, manifest):
        with pytest.raises(EnvironmentMismatchError, match=r"pip install 'dvme\[dicom\]'"):
            dvme.extract(images, tmp_path / "c.zarr", backbones=RANDOM)
        assert not (tmp_path / "c.zarr").exists()
