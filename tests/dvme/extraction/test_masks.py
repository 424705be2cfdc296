"""Masks from a manifest to the cache: extracted, told anew, kept, counted, pruned, exported."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import assert_refused, run
from PIL import Image
from pixel_backbone import pixel_backbone

import dvme
from dvme.data.masks import Masks
from dvme.errors import DataError
from dvme_cache import EmbeddingCache

Extracted = Callable[..., Any]
N = 4
OPTIONS = {"mask": "mask", "mask_classes": "0=background,128=lung,255=heart"}


@pytest.fixture(autouse=True)
def skip_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the disk: many small caches are written here."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def manifest(tmp_path: Path, write_manifest: Callable[..., Path]) -> Callable[..., Path]:
    """Four pictures, masks of them beside, and a manifest that names both."""

    def write(cells: list[str] | None = None, name: str = "manifest.csv", column: str = "mask") -> Path:
        for at in range(N):
            Image.fromarray(np.full((8, 8, 3), 10 * at, dtype=np.uint8)).save(tmp_path / f"{at}.png")
            values = np.zeros((8, 8), dtype=np.uint8)
            values[:at] = 255
            values[6:] = 128
            Image.fromarray(values).save(tmp_path / f"m{at}.png")
        cells = [f"m{at}.png" for at in range(N)] if cells is None else cells
        rows = [[f"{at}.png", cell, "ab"[at % 2]] for at, cell in enumerate(cells)]
        return write_manifest(rows, ["image", column, "label"], name)

    return write


@pytest.fixture
def extracted(tmp_path: Path) -> Extracted:
    backbone = pixel_backbone(tmp_path)

    def extract(images: Path, progress: Any = dvme.silent, **columns: Any) -> Any:
        asked = dvme.Columns(**columns)
        return dvme.extract(images, tmp_path / "c.zarr", backbones=[backbone], columns=asked, progress=progress)

    return extract


def held(tmp_path: Path) -> Masks:
    return Masks.of(EmbeddingCache.open(tmp_path / "c.zarr").column("mask"))


def test_extract__keeps_masks_and_info_counts_them(tmp_path: Path, extracted: Extracted, manifest: Any) -> None:
    told: list[tuple[str, int, int]] = []
    report = extracted(manifest(["m0.png", "m1.png", "m2.png", ""]), lambda *each: told.append(each), **OPTIONS)
    assert told[:N] == [("masks", done + 1, N) for done in range(N)]
    assert any("128 = lung, 255 = heart" in line for line in report.remarks)
    masks = held(tmp_path)
    assert masks.names == ("lung", "heart")
    assert masks.read(2).sum(axis=(1, 2)).tolist() == [16, 16]
    found = dvme.info(tmp_path / "c.zarr")
    assert found.masks is not None
    assert (found.masks.n_images, found.masks.classes, found.masks.is_exclusive) == (3, {"lung": 3, "heart": 2}, True)
    assert found.columns["mask"] == 3
    shown = run("info", tmp_path / "c.zarr").stdout
    assert "masks of 3 images: lung in 3, heart in 2\n" in shown


def test_extract__without_masks_keeps_those_of_the_cache(tmp_path: Path, extracted: Extracted, manifest: Any) -> None:
    path = manifest()
    extracted(path, **OPTIONS)
    before = held(tmp_path).cells
    extracted(path)
    assert held(tmp_path).cells.tolist() == before.tolist()
    report = extracted(manifest(["", "m1.png", "m2.png", "m3.png"]), **OPTIONS)
    assert report.n_removed == {"mask": 1}
    assert np.isnan(held(tmp_path).presence[0]).all()


def test_extract__refuses_before_anything_is_written(tmp_path: Path, extracted: Extracted, manifest: Any) -> None:
    with pytest.raises(DataError, match=r"1\.png: there is no file gone\.png"):
        extracted(manifest(["m0.png", "gone.png", "", ""]), **OPTIONS)
    assert not (tmp_path / "c.zarr").exists()


def test_extract__copies_whose_masks_differ_take_part_in_nothing(
    tmp_path: Path, extracted: Extracted, manifest: Any, write_manifest: Callable[..., Path]
) -> None:
    manifest()
    (tmp_path / "copy.png").write_bytes((tmp_path / "1.png").read_bytes())
    (tmp_path / "same.png").write_bytes((tmp_path / "m1.png").read_bytes())
    for cell, contradictory in (("same.png", []), ("m2.png", ["1.png", "copy.png"])):
        rows = [["1.png", "m1.png", "a"], ["copy.png", cell, "a"], ["2.png", "m2.png", "b"]]
        report = extracted(write_manifest(rows, ["image", "mask", "label"]), **OPTIONS)
        assert report.contradictory == contradictory
        cache = EmbeddingCache.open(tmp_path / "c.zarr")
        assert [bool(cell) for cell in cache.column("mask")] == [not contradictory, True]
        assert cache.column("label").tolist() == ["" if contradictory else "a", "b"]


def test_extract__masks_of_other_classes_are_refused(
    tmp_path: Path, extracted: Extracted, manifest: Any, write_manifest: Callable[..., Path]
) -> None:
    manifest()
    names = ["image", "mask"]
    extracted(write_manifest([["1.png", "m1.png"], ["2.png", "m2.png"]], names), **OPTIONS)
    other = write_manifest([["2.png", "m2.png"], ["3.png", "m3.png"]], names, "other.csv")
    before = held(tmp_path).cells.tolist()
    with pytest.raises(DataError, match="same classes, and some have class 128, class 255, others lung, heart"):
        extracted(other, mask="mask")
    assert held(tmp_path).cells.tolist() == before
    extracted(write_manifest([[f"{at}.png", f"m{at}.png"] for at in (1, 2, 3)], names, "all.csv"), mask="mask")
    assert held(tmp_path).names == ("class 128", "class 255")


def test_label__tells_masks_anew_and_touches_no_embedding(tmp_path: Path, extracted: Extracted, manifest: Any) -> None:
    extracted(manifest(column="other"), label="label")
    embeddings = {path: path.read_bytes() for path in (tmp_path / "c.zarr" / "embeddings").rglob("*") if path.is_file()}
    told: list[tuple[str, int, int]] = []
    asked: Any = {"columns": OPTIONS, "progress": lambda *each: told.append(each)}
    report = dvme.cache.label(tmp_path / "c.zarr", manifest(), **asked)
    assert told[-1] == ("masks", N, N)
    assert report.n_changed["mask"] == N
    assert held(tmp_path).names == ("lung", "heart")
    Image.fromarray(np.full((8, 8), 128, dtype=np.uint8)).save(tmp_path / "m0.png")
    with pytest.raises(DataError, match="dvme cache label"):
        held(tmp_path).read(0)
    again = tmp_path / "manifest.csv"
    assert dvme.cache.label(tmp_path / "c.zarr", again, columns=dvme.Columns(**OPTIONS)).n_changed["mask"] == 1
    assert held(tmp_path).read(0)[0].all()
    assert {path: path.read_bytes() for path in embeddings} == embeddings


def test_label__without_the_images_goes_by_the_masks(tmp_path: Path, extracted: Extracted, manifest: Any) -> None:
    extracted(manifest())
    (tmp_path / "2.png").unlink()
    report = dvme.cache.label(tmp_path / "c.zarr", tmp_path / "manifest.csv", columns=dvme.Columns(mask="mask"))
    assert "1 image not there, and so not compared with the size of the mask" in report.remarks
    assert held(tmp_path).sizes.tolist() == [[8, 8]] * N


def test_label__of_copies_whose_masks_differ_is_refused(
    tmp_path: Path, extracted: Extracted, manifest: Any, write_manifest: Callable[..., Path]
) -> None:
    extracted(manifest())
    (tmp_path / "copy.png").write_bytes((tmp_path / "1.png").read_bytes())
    extracted(write_manifest([["1.png"], ["copy.png"]], ["image"], "copies.csv"))
    twice = write_manifest([["1.png", "m1.png"], ["copy.png", "m2.png"]], ["image", "mask"], "twice.csv")
    with pytest.raises(DataError, match="what they say differs"):
        dvme.cache.label(tmp_path / "c.zarr", twice, columns=dvme.Columns(**OPTIONS))


def test_masks__are_pruned_and_exported_with_their_rows(
    tmp_path: Path, extracted: Extracted, manifest: Any, write_manifest: Callable[..., Path]
) -> None:
    extracted(manifest(), **OPTIONS)
    stay = write_manifest([["0.png"], ["2.png"], ["3.png"]], ["image"], "stay.csv")
    dvme.cache.prune(tmp_path / "c.zarr", stay, confirmed=True)
    cells = EmbeddingCache.open(tmp_path / "c.zarr").column("mask").tolist()
    assert [bool(cell) for cell in cells] == [True, False, True, True]
    dvme.cache.export(tmp_path / "c.zarr", tmp_path / "out.parquet")
    dvme.cache.import_embeddings(tmp_path / "out.parquet", tmp_path / "d.zarr")
    back = EmbeddingCache.open(tmp_path / "d.zarr").column("mask").tolist()
    assert back == [cell for cell in cells if cell]


def test_command_line__takes_masks(tmp_path: Path, manifest: Any) -> None:
    backbone, path = pixel_backbone(tmp_path), manifest()
    said = ("--mask-col", "mask", "--mask-void", "255")
    done = run("extract", path, tmp_path / "c.zarr", "--backbones", backbone, *said, "--mask-classes", "128=lung")
    assert done.exit_code == 0, done.output
    assert held(tmp_path).names == ("lung",)
    done = run("cache", "label", tmp_path / "c.zarr", path, "--mask-col", "mask")
    assert done.exit_code == 0, done.output
    assert held(tmp_path).names == ("class 128", "class 255")
    for command in (
        ("extract", path, tmp_path / "d.zarr", "--backbones", backbone),
        ("cache", "label", tmp_path / "c.zarr", path),
    ):
        refused = run(*command, "--mask-col", "mask", "--mask-classes", "128=lung")
        assert_refused(
            refused, "3 masks with values that no class has", "name them with --mask-classes", "--mask-void 255"
        )
    assert_refused(
        run("extract", tmp_path, tmp_path / "d.zarr", "--backbones", backbone, *said[:2]), "--mask-col needs"
    )
