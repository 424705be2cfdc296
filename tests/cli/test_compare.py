"""`dvme compare` as typed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import assert_refused, run, strict
from numpy.typing import NDArray

N = 150
LABELS = np.arange(N) % 5
NAMES = [str(label) for label in LABELS]


@pytest.fixture(scope="module")
def root(
    tmp_path_factory: pytest.TempPathFactory,
    write_embeddings: Callable[..., Path],
    make_features: Callable[..., NDArray[Any]],
) -> Path:
    """Runs `one` and `other` over the same subsets, and `apart` over other ones."""
    root = tmp_path_factory.mktemp("compared")
    for name, signal in (("one", 0.9), ("other", 0.1)):
        features = {"swav": make_features(LABELS, signal, 0), "mine": make_features(LABELS, signal, 1)}
        write_embeddings(root / f"{name}.zarr", features, label=NAMES)
    options = ("--head", "linear", "--metric", "kappa")
    subsets = ("--sizes", "50,full", "--folds", 3)
    for typed in (
        ("one", *options, *subsets),
        ("other", *options, "--subsets", root / "one" / "subsets.json"),
        ("apart", *options, *subsets, "--seed", 1),
    ):
        cache = root / f"{typed[0] if typed[0] != 'apart' else 'one'}.zarr"
        result = run("sweep", cache, "--out", root / typed[0], *typed[1:])
        assert result.exit_code == 0, result.output
    return root


def test_compare__two_runs(root: Path) -> None:
    result = run("compare", root / "one", root / "other")
    assert result.exit_code == 0, result.output
    assert "difference, 95% CI" in result.stdout
    lines = [line for line in result.stdout.splitlines() if "swav + linear" in line]
    assert len(lines) == 2
    assert all(line.count("±") == 2 for line in lines)
    assert f"first: {root / 'one'}\nsecond: {root / 'other'}\n" in result.stdout
    assert "…" not in result.stdout
    assert "Test quadratic kappa, mean ± std over draws. Difference: the first minus the second." in result.stdout
    assert "p: crossed, times the number of pairs; intervals are widened for them (Bonferroni)." in result.stdout


def test_compare__published_numbers_beside_ones_own(root: Path) -> None:
    result = run("compare", root / "one", "--with", "truong2021:aptos", "--as", "dino=mine")
    assert result.exit_code == 0, result.output
    lines = [line.strip() for line in result.stdout.splitlines()]
    swav = next(i for i, line in enumerate(lines) if line.startswith("swav, linear"))
    assert "0.633 ± 0.020" in lines[swav]
    assert lines[swav + 1].startswith("swav + linear")
    dino = next(i for i, line in enumerate(lines) if line.startswith("dino, linear"))
    assert lines[dino + 1].startswith("mine + linear")
    assert "0.808 ± 0.076 ?" in result.stdout
    assert "?: as published, and most likely a misprint: 0.0177 at 50 and 0.1914 at 200" in result.stdout
    assert "p: Welch's t from means and std, times the number of pairs" in result.stdout
    assert "another test set (1,928 images)" in result.stdout
    assert "…" not in result.stdout


def test_compare__columns_are_the_published_sizes(root: Path) -> None:
    """Ten of them stand in tables of four at most, and every number under its own."""
    said = run("compare", root / "one", "--with", "truong2021:patchcam", "--metric", "auc").stdout
    headers = [line for line in said.splitlines() if "published, and below it yours" in line]
    assert len(headers) == 3
    assert "50000" not in said
    assert "full (F)" in headers[-1]
    assert "0.849 ± 0.001" in said  # dino, linear, full


def test_compare__json(root: Path) -> None:
    found = [
        strict(run("compare", root / "one", *more, "--json").stdout)
        for more in ((root / "other",), ("--with", "truong2021:aptos"))
    ]
    assert [len(each["pairs"]) for each in found] == [4, 60]
    assert [each["is_published"] for each in found] == [False, True]
    assert found[1]["pairs"][0]["comparison"] is None
    assert found[0]["pairs"][0]["comparison"]["difference"]["estimate"] > 0


def test_compare__what_cannot_be_compared(root: Path, tmp_path: Path) -> None:
    one = root / "one"
    cases: list[tuple[tuple[object, ...], str]] = [
        ((one,), "name a second run to compare with, or a published table: --with truong2021:aptos"),
        ((one, root / "other", "--with", "truong2021:aptos"), "name a second run to compare with"),
        ((one, root / "apart"), "are over different subsets"),
        ((one, tmp_path), "is not a run; dvme sweep CACHE --out"),
        ((tmp_path / "none", one), "is not a run"),
        ((one, "--with", "truong2021:mnist"), "'truong2021:mnist' is not a published table; choose from truong2021:"),
        ((one, "--with", "truong2021:aptos", "--metric", "auc"), "was published as kappa; pass --metric kappa"),
        ((one, root / "other", "--metric", "f1"), "metric 'f1' is not known"),
    ]
    for typed, message in cases:
        assert_refused(run("compare", *typed), message)


def test_compare__help_and_wrong_usage(root: Path) -> None:
    result = run("compare", "--help")
    assert result.exit_code == 0
    assert "Lay two runs side by side" in result.stdout
    assert run("compare").exit_code == 2
    assert run("compare", root / "one", "--with", "truong2021:aptos", "--as", "swav").exit_code == 2
