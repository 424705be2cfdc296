"""`dvme adapt` as it is typed: lines, JSON, one line for what is wrong."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import run

NETWORK = ("--backbone", "timm:test_vit@size=32", "--random-weights", "1", "--device", "cpu", "--epochs", "1")


@pytest.fixture
def manifest(tmp_path: Path, save_image: Callable[..., Path]) -> Path:
    with (tmp_path / "m.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "patient", "part"))
        for number in range(12):
            save_image(tmp_path / f"{number}.png", seed=number)
            writer.writerow((f"{number}.png", f"p{number // 2}", "test" if number == 0 else "train"))
    return tmp_path / "m.csv"


def test_adapt__says_what_it_did(manifest: Path, tmp_path: Path) -> None:
    columns = ("--image-col", "file", "--group-col", "patient", "--split-col", "part")
    out = tmp_path / "x.toml"
    done = run("adapt", manifest, *NETWORK, "--method", "gmml", "--out", out, *columns)
    assert done.exit_code == 0, done.stderr
    assert "10 images of 5 groups to train on; left out: 1 test image and 1 other image of their groups" in done.stderr
    assert "epoch 1 of 1: loss" in done.stderr
    first, last = done.stdout.splitlines()
    assert first.startswith(f"{out}: test_vit-size-32-random-gmml-")
    assert ", 1 epoch of gmml in 1 step, " in first
    assert last == f"dvme extract IMAGES CACHE --backbones timm:test_vit@size=32,{out} puts both into one study"
    again = run("adapt", manifest, *NETWORK, "--method", "gmml", "--out", out, *columns, "--force", "--json")
    report = json.loads(again.stdout)
    assert (report["n_images"], report["n_left_out"], report["n_epochs"]) == (10, 2, 1)
    assert report["looks"][0]["loss"] is None


def test_adapt__names_options_where_something_is_wrong(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.toml"
    given = ("adapt", manifest, *NETWORK, "--out", out, "--image-col", "file")
    undeclared = run(*given, "--method", "simclr")
    assert undeclared.exit_code == 1
    assert undeclared.stderr.splitlines()[-1].endswith(
        "name the column with --split-col that says train, val and test, or pass --without-test if no study will test "
        "on any of these, --transductive if one may"
    )
    single = run(*given, "--method", "micle", "--without-test")
    assert (
        "micle pairs two images of a group, and no image has a group; name the column of patients with --group-col, or"
        in (single.stderr)
    )
    assert "pass --method simclr" in single.stderr
    assert single.stderr.count("\n") == 1, "before anything is loaded or read"
    assert run(*given, "--method", "dino").stderr.count("\n") == 1
    assert run("adapt", manifest).exit_code == 2
    assert not out.exists()
