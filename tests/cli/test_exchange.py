"""`dvme cache label`, `export` and `import` as typed: results, exit codes, one line for what is wrong."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import run as invoke
from typer.testing import CliRunner, Result

from dvme_cache import EmbeddingCache, Fingerprint, content_id
from dvme_cli.cache import app


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def assert_refused(result: Result, *parts: str) -> None:
    assert result.exit_code == 1, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    assert not result.stdout.strip()
    for part in parts:
        assert part in lines[0]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten images with embeddings, of which one failed."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    for module in ("samples", "tables"):
        monkeypatch.setattr(f"dvme_cache.{module}.ROWS_PER_SAMPLE_CHUNK", 4096)
    names = [f"{row}.png" for row in range(10)]
    with EmbeddingCache.writing(tmp_path / "c.zarr") as store:
        rows = store.samples.add([content_id(name.encode()) for name in names], names)
        store.update_columns(rows, {"label": ["a", "b"] * 5, "path": [f"/data/{name}" for name in names]})
        made = store.ensure_embeddings("dino", Fingerprint({"w": 1}), dim=2, dtype="float32", provenance={})
        made.commit(rows, np.arange(20, dtype=np.float32).reshape(10, 2), {4: "torn"})
    return tmp_path / "c.zarr"


@pytest.mark.parametrize("suffix", [".h5", ".npz", ".parquet", ".csv"])
def test_export_and_import__say_what_they_did(suffix: str, cache: Path, tmp_path: Path) -> None:
    result = run("export", cache, tmp_path / f"x{suffix}")
    assert result.exit_code == 0, result.output
    written = f"x{suffix} and {tmp_path / 'x.csv.json'}" if suffix == ".csv" else f"x{suffix}"
    assert f"{written}: 10 images" in result.stdout
    assert "dino: 10 of 10 images" in result.stderr
    result = run("import", tmp_path / f"x{suffix}", tmp_path / "back.zarr", "--note", "who=me", "--note", "why=a=b")
    assert result.exit_code == 0, result.output
    assert "(an export of dvme): 10 images (10 new to " in result.stdout
    notes = EmbeddingCache.open(tmp_path / "back.zarr").embeddings("dino").provenance["imported"]["notes"]
    assert notes == {"who": "me", "why": "a=b"}


def test_export_and_import__json_is_alone_on_stdout(cache: Path, tmp_path: Path) -> None:
    report = json.loads(run("export", cache, tmp_path / "x.npz", "--backbones", "dino", "--json").stdout)
    assert (report["format"], report["n_rows"], report["backbones"][0]["failed"]) == ("npz", 10, 1)
    report = json.loads(run("import", tmp_path / "x.npz", tmp_path / "back.zarr", "--json").stdout)
    assert report["backbones"] == [
        {"backbone": "dino", "dim": 2, "dtype": "float32", "imported": 9, "reused": 0, "failed": 1, "pending": 0}
    ]


def test_import__made_elsewhere(cache: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", f=np.ones((2, 3)), g=np.ones((2, 1)), names=np.array(["3.png", "1.png"]))
    options = ("--backbone", "mine", "--features", "f", "--ids", "names", "--dtype", "float16")
    result = run("import", tmp_path / "x.npz", cache, *options)
    assert result.exit_code == 0, result.output
    assert "(made elsewhere): 2 images (0 new to " in result.stdout
    assert "the features are float64 in the file and stored as float16" in result.stdout
    assert_refused(
        run("import", tmp_path / "x.npz", cache, "--backbone", "mine"), "has 2 arrays of floats", "--features"
    )
    np.savez(tmp_path / "x.npz", f=np.zeros((2, 3)), names=np.array(["3.png", "1.png"]))
    assert_refused(run("import", tmp_path / "x.npz", cache, "--backbone", "mine"), "made differently", "--replace")
    assert run("import", tmp_path / "x.npz", cache, "--backbone", "mine", "--replace").exit_code == 0
    result = run("import", tmp_path / "x.npz", tmp_path / "new.zarr", "--backbone", "mine")
    assert "known by name only" in result.stdout


def test_import__npy_with_a_table_and_images(tmp_path: Path, write_manifest: Callable[..., Path]) -> None:
    (tmp_path / "images").mkdir()
    for row in range(2):
        (tmp_path / "images" / f"{row}.png").write_bytes(b"%d" % row)
    np.save(tmp_path / "x.npy", np.eye(2))
    table = write_manifest([["0.png", "a"], ["1.png", "b"]], ["image", "label"])
    options = ("--backbone", "mine", "--table", table, "--images", tmp_path / "images")
    result = run("import", tmp_path / "x.npy", tmp_path / "new.zarr", *options)
    assert result.exit_code == 0, result.output
    store = EmbeddingCache.open(tmp_path / "new.zarr")
    assert store.samples.content_ids == [content_id(b"0"), content_id(b"1")]
    assert store.column("label").tolist() == ["a", "b"]


def test_import__broken_files_leave_the_cache_alone(cache: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()}
    np.savez(tmp_path / "x.npz", f=np.full((2, 3), np.nan), names=np.array(["3.png", "1.png"]))
    assert_refused(run("import", tmp_path / "x.npz", cache, "--backbone", "mine"), "2 rows of features that are NaN")
    np.savez(tmp_path / "x.npz", f=np.ones((2, 3)), names=np.array(["3.png", "x.png"]))
    assert_refused(run("import", tmp_path / "x.npz", cache, "--backbone", "mine"), "does not hold: x.png")
    assert_refused(run("import", tmp_path / "x.npz", cache), "is not an export of dvme", "--backbone")
    (tmp_path / "x.npz").write_bytes((tmp_path / "x.npz").read_bytes()[:100])
    assert_refused(run("import", tmp_path / "x.npz", cache, "--backbone", "mine"), "cannot read", "truncated")
    assert_refused(run("import", tmp_path / "none.npz", cache), "none.npz is not a file")
    assert {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()} == before


def test_export__is_refused(cache: Path, tmp_path: Path) -> None:
    assert_refused(run("export", cache, tmp_path / "x.txt"), ".h5 (HDF5), .npz, .parquet or .csv")
    assert_refused(run("export", tmp_path / "no.zarr", tmp_path / "x.h5"), "there is no cache at")
    assert run("export", cache, tmp_path / "x.h5").exit_code == 0
    assert_refused(run("export", cache, tmp_path / "x.h5"), "is there already; name another file, or pass --force")
    assert run("export", cache, tmp_path / "x.h5", "--force").exit_code == 0


def test_label__table_and_json(cache: Path, write_manifest: Callable[..., Path]) -> None:
    manifest = write_manifest(
        [["1.png", "x", "Test", "p", "n"], ["/data/2.png", "", "", "", ""]],
        ["file", "grade", "part", "patient", "site"],
    )
    columns = ("--image-col", "file", "--label-col", "grade", "--split-col", "part", "--group-col", "patient")
    result = run("label", cache, manifest, *columns, "--keep-col", "site")
    assert result.exit_code == 0, result.output
    assert "2 images named; changed: label of 2, split of 1, group of 1, site of 1" in result.stdout
    assert "8 images are not in the manifest and keep what they have" in result.stdout
    assert "multiclass, 3 classes: a (4), b (4), x (1); 1 unlabelled" in result.stdout
    report = json.loads(run("label", cache, manifest, *columns, "--keep-col", "site", "--json").stdout)
    assert report["n_changed"] == {"label": 0, "split": 0, "group": 0, "site": 0}
    assert "changed: nothing" in run("label", cache, manifest, *columns).stdout


def test_keep_col__stays_through_extract_export_import_verify_and_info(
    class_folders: Path, write_manifest: Callable[..., Path], tmp_path: Path
) -> None:
    files = sorted(class_folders.rglob("*.png"))[::4]
    rows = [[path, "x", "FM"[place % 2], place] for place, path in enumerate(files)]
    manifest, cache = write_manifest(rows, ["image", "label", "sex", "age"]), tmp_path / "k.zarr"
    backbone = ("--backbones", "random@size=32", "--device", "cpu")
    result = invoke("extract", manifest, cache, *backbone, "--keep-col", "sex,age")
    assert result.exit_code == 0, result.output
    assert "columns used of manifest.csv: image, label, sex, age" in result.output
    again = invoke("extract", class_folders, cache, *backbone)  # a folder has no such columns
    assert again.exit_code == 0, again.output
    assert run("export", cache, tmp_path / "k.h5").exit_code == 0
    assert run("import", tmp_path / "k.h5", tmp_path / "back.zarr").exit_code == 0
    for place in (cache, tmp_path / "back.zarr"):
        store = EmbeddingCache.open(place)
        found = dict(zip(store.column("path").tolist(), store.column("sex").tolist(), strict=True))
        assert {str(path): found[str(path)] for path, *_ in rows} == {str(path): sex for path, _, sex, _ in rows}
        assert f"sex ({len(rows)}), age ({len(rows)})" in invoke("info", place).stdout
        assert run("verify", place).exit_code == 0
    assert_refused(invoke("extract", manifest, cache, *backbone, "--keep-col", "race"), "choose one with --keep-col")


def test_label__is_refused(cache: Path, write_manifest: Callable[..., Path]) -> None:
    manifest = write_manifest([["11.png", "x"]], ["image", "label"])
    assert_refused(run("label", cache, manifest), "names 1 image that", "does not hold: 11.png")
    assert_refused(run("label", cache, manifest, "--keep-col", "path"), "--keep-col path is not possible")


def test_commands__wrong_usage_is_exit_2(cache: Path, tmp_path: Path) -> None:
    assert run("export", cache).exit_code == 2
    assert run("label", cache).exit_code == 2
    assert run("import", tmp_path / "x.npz", cache, "--note", "oops").exit_code == 2


def test_label__changes_are_said_by_finding(cache: Path, write_manifest: Callable[..., Path]) -> None:
    rows = [[f"{row}.png", "1", "-1"] for row in range(10)]
    both = write_manifest(rows, ["image", "Edema", "Mass"])
    result = run("label", cache, both, "--label-col", "Edema,Mass")
    assert "10 images named; changed: label of 10 (Edema of 10, Mass of 10)\n" in result.stdout
    one = write_manifest([["0.png", "1"], ["1.png", "-1"]], ["image", "Mass"])
    result = run("label", cache, one, "--label-col", "Mass")
    assert result.exit_code == 0, result.output
    assert "2 images named; changed: label of 1 (Mass of 1)\n" in result.stdout
    assert "multi-label, 2 findings: Edema (10), Mass (1)" in result.stdout
    assert EmbeddingCache.open(cache).column("label").tolist()[:2] == ["|Edema|Mass|", "|Edema|Mass=?|"]
    assert_refused(
        invoke("cache", "label", str(cache), "--class-order", "Mass"),
        "--class-order (Mass) lacks 'Edema'; name all findings of the cache",
    )
