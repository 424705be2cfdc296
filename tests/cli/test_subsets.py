"""`dvme subsets` as typed. Bad input is one readable line, exit 1, and no file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import assert_refused, run
from numpy.typing import NDArray

from dvme.study.design.manifest import SubsetManifest

N = 120
LABELS = np.arange(N) % 2
ARGUMENTS = ("--sizes", "10,30%,full", "--folds", 3)


@pytest.fixture(scope="module")
def cache(
    tmp_path_factory: pytest.TempPathFactory,
    write_embeddings: Callable[..., Path],
    make_features: Callable[..., NDArray[Any]],
) -> Path:
    """The user's split; the first two training images are all but two test images."""
    features = {name: make_features(LABELS, 1.0, seed) for seed, name in enumerate(("swav", "dino"))}
    features["dino"][:2] = features["dino"][90:92] * 1.001
    splits = ["train"] * 90 + ["test"] * 30
    path = tmp_path_factory.mktemp("study") / "c.zarr"
    return write_embeddings(path, features, label=[str(label) for label in LABELS], split=splits)


def test_subsets__as_typed(cache: Path, tmp_path: Path) -> None:
    result = run("subsets", cache, "--out", tmp_path / "s.json", *ARGUMENTS)
    assert result.exit_code == 0, result.output
    manifest = SubsetManifest.load(tmp_path / "s.json")
    assert "your split: test 30, 3 stratified folds of train 90; balanced" in result.stdout
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["10", "10", "5"] in rows
    assert ["30%", "18", "9"] in rows
    assert ["full", "60", "30"] in rows
    assert "2 pairs of near-duplicates between test and training images: 90.png and 0.png" in result.stdout
    assert f"wrote {tmp_path / 's.json'}: 3 draws of 3 sizes, hash {manifest.hash}" in result.stdout


def test_subsets__json(cache: Path, tmp_path: Path) -> None:
    result = run("subsets", cache, "--out", tmp_path / "s.json", *ARGUMENTS, "--json")
    report = json.loads(result.stdout)
    assert (report["n_test"], report["n_draws"], report["path"]) == (30, 3, str(tmp_path / "s.json"))
    assert report["hash"] == SubsetManifest.load(tmp_path / "s.json").hash
    assert {(each["one"], each["other"], each["backbone"]) for each in report["duplicates"]} == {
        ("90.png", "0.png", "dino"),
        ("91.png", "1.png", "dino"),
    }


def test_subsets__every_option_counts(cache: Path, tmp_path: Path) -> None:
    found = set()
    options: list[tuple[object, ...]] = [
        (),
        ("--sizes", "10,full"),
        ("--folds", 4),
        ("--repeats", 2),
        ("--balance", "natural"),
        ("--validation", "full"),
        ("--oversample",),
        ("--no-oversample",),
        ("--seed", 1),
        ("--drop-duplicates",),
        ("--test-fraction", 0.3),
    ]
    for number, more in enumerate(options):
        result = run("subsets", cache, "--out", tmp_path / f"{number}.json", *ARGUMENTS, *more)
        assert result.exit_code == 0, result.output
        found.add(SubsetManifest.load(tmp_path / f"{number}.json").hash)
    assert len(found) == len(options)
    assert SubsetManifest.load(tmp_path / "6.json").policy["oversample"] is True
    assert SubsetManifest.load(tmp_path / "7.json").policy["oversample"] is False
    assert SubsetManifest.load(tmp_path / "0.json").policy["oversample"] is None


def test_subsets__published_sizes_and_uneven_classes(
    tmp_path: Path, write_embeddings: Callable[..., Path], make_features: Callable[..., NDArray[Any]]
) -> None:
    labels = np.repeat([0, 1], [170, 20])
    cache = write_embeddings(
        tmp_path / "c.zarr", {"a": make_features(labels, 1.0, 0)}, label=[str(label) for label in labels]
    )
    result = run("subsets", cache, "--out", tmp_path / "s.json", "--sizes", "50,azizi2021", "--folds", 4)
    assert result.exit_code == 0, result.output
    assert "not all classes have enough images for a balanced subset of" in result.stdout
    assert SubsetManifest.load(tmp_path / "s.json").sizes[-1] == "full"
    result = run("subsets", cache, "--out", tmp_path / "t.json", "--sizes", "truong2021:nih-cxr")
    assert_refused(result, "size 200 is more than the", "training images of a fold; leave it out")


def test_subsets__several_labels(
    tmp_path: Path, write_embeddings: Callable[..., Path], make_features: Callable[..., NDArray[Any]]
) -> None:
    labels = [("|effusion|", "|effusion|mass|", "|")[i % 3] for i in range(N)]
    cache = write_embeddings(tmp_path / "c.zarr", {"a": make_features(LABELS, 1.0, 0)}, label=labels)
    result = run("subsets", cache, "--out", tmp_path / "s.json", *ARGUMENTS)
    assert result.exit_code == 0, result.output
    assert "stratified by 2 findings" in result.stdout
    result = run("sweep", cache, "--out", tmp_path / "run", "--head", "knn", "--subsets", tmp_path / "s.json")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--sizes", "ten"), "size 'ten' is not a number of images, a part such as 10%, full"),
        (("--sizes", "500"), "size 500 is more than the 72 training images of a fold; leave it out"),
        (("--folds", 1), "1 folds are not possible; pass --folds 2 or more"),
        (("--folds", 60), "too few for 60 folds"),
        (("--repeats", 0), "0 repeats are not possible; pass --repeats 1 or more"),
        (("--balance", "even"), "balance 'even' is not known; choose from balanced, stratified, natural"),
        (("--validation", "none"), "validation 'none' is not known; choose matched or full"),
        (("--test-fraction", 0.9), "test fraction 0.9 is not possible"),
        (("--uncertain", "half"), "uncertain 'half' is not known; choose from ignore, zeros, ones and soft=0.7"),
        (("--blank", "ones"), "blank 'ones' is not known; choose ignore or zeros"),
        (("--backbones", "clip"), "has no clip embeddings"),
    ],
)
def test_subsets__what_cannot_be_drawn(
    cache: Path, tmp_path: Path, arguments: tuple[object, ...], message: str
) -> None:
    assert_refused(run("subsets", cache, "--out", tmp_path / "s.json", *arguments), message)
    assert list(tmp_path.iterdir()) == []


def test_subsets__places_that_cannot_be_written(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text("mine")
    arguments = ("subsets", cache, *ARGUMENTS, "--out")
    assert_refused(run(*arguments, tmp_path / "s.json"), "is there already; name another file, or pass --force")
    assert_refused(run(*arguments, tmp_path / "no" / "s.json"), "no is not a folder; make it first")
    assert (tmp_path / "s.json").read_text() == "mine"
    assert run(*arguments, tmp_path / "s.json", "--force").exit_code == 0
    assert_refused(run("subsets", tmp_path / "none.zarr", "--out", tmp_path / "t.json"), "there is no cache at")


def test_subsets__help_and_wrong_usage(cache: Path) -> None:
    result = run("subsets", "--help")
    assert result.exit_code == 0
    assert "Draw nested training subsets" in result.stdout
    assert run("subsets", cache).exit_code == 2
    assert run("subsets", cache, "--out", "s.json", "--seed", "-1").exit_code == 2
    assert run("subsets", cache, "--out", "s.json", "--sizes", "").exit_code == 2
