"""`dvme cache …` and `--plan` as typed: what they print, the exit code, and that refusals change nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from urllib.parse import quote

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from dvme_cli.app import app

LITE = "efficientnet-lite0@size=32"
"""Real weights, on pictures a fiftieth as large as published: how good the embeddings are is not what is tested."""
FOLDER = quote(LITE, safe="")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("original")
    for level, name in enumerate(("dark", "light")):
        (root / "images" / name).mkdir(parents=True)
        for index in range(6):
            Image.new("RGB", (32, 32), (90 * level + 5 * index, 40, 200 - 9 * index)).save(
                root / "images" / name / f"{index}.png"
            )
    assert run("extract", root / "images", root / "c.zarr", "--backbones", LITE).exit_code == 0
    return root


@pytest.fixture
def work(original: Path, tmp_path: Path) -> Path:
    """A folder of its own with `images` and `c.zarr`."""
    shutil.copytree(original, tmp_path / "work")
    return tmp_path / "work"


def shard(work: Path) -> Path:
    return work / "c.zarr" / "embeddings" / FOLDER / "features" / "c" / "0" / "0"


def test_verify_and_repair__a_flipped_bit_costs_one_embedding(work: Path) -> None:
    cache = work / "c.zarr"
    sound = run("cache", "verify", cache)
    assert (sound.exit_code, "Sound: what is there is as it was committed." in sound.stdout) == (0, True)
    assert "12 embeddings compared with their checksums" in sound.stdout
    flip(shard(work), 5 * 1280 * 4)
    damaged = run("cache", "verify", cache)
    assert damaged.exit_code == 1
    assert f"damaged: embeddings/{FOLDER}/features/c/0/0 is flipped: its checksum does not match (1 row)" in (
        damaged.stdout
    )
    assert f"run dvme cache repair {cache}" in damaged.stdout
    assert json.loads(run("cache", "verify", cache, "--json").stdout)["findings"][0]["n_rows"] == 1
    repaired = run("cache", "repair", cache)
    assert repaired.exit_code == 0
    assert f"{LITE}: 1 embedding is lost; dvme extract computes what is lost" in repaired.stdout
    assert "there was nothing to repair" in run("cache", "repair", cache).stdout
    again = run("extract", work / "images", cache, "--backbones", LITE, "--json")
    assert [json.loads(again.stdout)["outcomes"][0][key] for key in ("reused", "computed")] == [11, 1]


def test_repair__what_only_a_backup_can_mend_exits_1(work: Path) -> None:
    cache = work / "c.zarr"
    for place in ("samples/path/zarr.json", "copies/samples/path/zarr.json"):
        (cache / place).write_text("{")
    result = run("cache", "repair", cache)
    assert result.exit_code == 1
    assert "error:" in result.stderr or "Not mended; restore these files" in result.stdout


def test_verify__with_images(work: Path) -> None:
    result = run("cache", "verify", work / "c.zarr", "--images", "--sample", 4)
    assert result.exit_code == 0
    assert f"{LITE}: 4 images embedded again, largest relative difference" in result.stdout


def test_prune__lists_then_erases(work: Path) -> None:
    cache = work / "c.zarr"
    (work / "images" / "dark" / "2.png").unlink()
    before = contents(cache)
    listed = run("cache", "prune", cache, work / "images")
    assert (listed.exit_code, contents(cache) == before) == (0, True)
    assert "dark/2.png" in listed.stdout
    assert "Nothing was changed; --yes erases what is listed." in listed.stdout
    erased = run("cache", "prune", cache, work / "images", "--yes")
    assert f"1 image of {cache} was erased; 11 are left." in erased.stdout
    assert "11 images" in run("info", cache).stdout
    assert "1 pruned rows" in run("info", cache).stdout
    assert "there is nothing to prune" in run("cache", "prune", cache, work / "images").stdout


def test_plan__says_why_and_writes_nothing(work: Path) -> None:
    cache = work / "c.zarr"
    flip(shard(work), 3 * 1280 * 4 + 2)
    before = contents(cache)
    result = run("extract", work / "images", cache, "--backbones", LITE, "--plan")
    assert (result.exit_code, contents(cache) == before) == (0, True)
    assert "1 damaged on disk" in result.stdout
    assert "Nothing was written." in result.stdout
    plan = json.loads(run("extract", work / "images", cache, "--backbones", LITE, "--plan", "--json").stdout)
    assert (plan["backbones"][0]["reused"], plan["backbones"][0]["computed"]) == (11, {"damaged on disk": 1})


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["cache", "verify", "none.zarr"], ["there is no cache at none.zarr"]),
        (["cache", "repair", "none.zarr"], ["there is no cache at none.zarr"]),
        (["cache", "prune", "none.zarr", "images"], ["there is no cache at none.zarr"]),
        (["cache", "verify", "c.zarr", "--sample", "0"], ["a sample of 0 checks nothing"]),
        (["cache", "verify", "images"], ["images is a folder of images, not a cache"]),
        (["cache", "prune", "c.zarr", "none"], ["none does not exist"]),
        (["info", "s3://only-a-bucket"], ["is not the URL of a cache", "s3://bucket/name.zarr"]),
        (["info", "s3:/bucket/x.zarr"], ["is neither a path nor a URL", "two slashes"]),
        (["extract", "images", "c.zarr", "--backbones", LITE, "--shard-rows", "0"], ["0 rows per shard"]),
    ],
)
def test_bad_input__one_line_and_nothing_changed(
    work: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], parts: list[str]
) -> None:
    monkeypatch.chdir(work)
    before = contents(work)
    result = run(*arguments)
    assert result.exit_code == 1, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    assert all(part in lines[0] for part in parts), lines[0]
    assert contents(work) == before
