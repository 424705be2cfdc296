"""A segmentation as typed: classes one by one, with the numbers of --json, in 80 columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import assert_refused, run, strict
from scenes import discs, scene_of

from dvme_cache import EmbeddingCache

N, SIZE, GRID = 24, 16, 4
TOKENS = "tokens@dense=last"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of which tokens tell the shares; the second is rare."""
    folder, rng = tmp_path_factory.mktemp("table"), np.random.default_rng(0)
    labels = discs(N, SIZE, 2)
    labels[::2][labels[::2] == 2] = 0
    blocks = labels.reshape(N, GRID, SIZE // GRID, GRID, SIZE // GRID)
    told = np.stack([(blocks == label).mean(axis=(2, 4)) for label in (0, 1, 2)], axis=3)
    told = told + 0.1 * rng.normal(size=told.shape)
    other = rng.normal(size=told.shape)
    maps = {TOKENS: [told], "other@dense=last": [other]}
    scene = scene_of(folder, maps, labels, ("epithelium", "[red]stroma"))
    with EmbeddingCache.writing(folder / "c.zarr") as store:
        store.tables.replace({"mask": np.asarray(scene.masks.cells, dtype=object)})
    return folder / "c.zarr"


ASKED = ("--head", "segment-linear", "--folds", 2, "--test-fraction", 0.5)


@pytest.fixture(scope="module")
def found(cache: Path) -> Any:
    return strict(run("probe", cache, *ASKED, "--boundary", 1.5, "--out", cache.parent / "run", "--json").stdout)


def test_probe__prints_the_classes_of_the_leading_method(
    cache: Path, found: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dvme_cli.console.WIDTH_WITHOUT_TERMINAL", 80)
    result = run("probe", cache, *ASKED, "--boundary", 1.5, "--out", cache.parent / "run")
    assert result.exit_code == 0, result.output
    said = " ".join(result.stdout.split())
    leading = f"{TOKENS} + segment-linear"
    assert set(found["classes"]) == {leading, "other@dense=last + segment-linear"}
    assert found["boundary"] == 1.5
    for each in found["classes"][leading]:
        own, dice = each["outlines"], each["dice"]
        assert f"{each['name']} " in said
        assert f"{dice['estimate']:.3f} ({dice['low']:.3f}-{dice['high']:.3f})" in said
        far, near = own["hausdorff95"], own["boundary_dice"]
        missed = f"{own['n_missed']:.1f}".removesuffix(".0")
        assert f"{far['estimate']:.1f} ({far['low']:.1f}-{far['high']:.1f}; {missed})" in said
        assert f"{near['estimate']:.3f} ({near['low']:.3f}-{near['high']:.3f})" in said
        if own["n_empty"]:
            assert f"{own['n_empty']:.1f}".removesuffix(".0") + f" of {each['name']}" in said
    assert f"{leading}, which leads on validation, class by class: means over 2 heads" in said
    assert "All pixels: Dice over the pixels of all test images together" in said
    assert "within 1.5 pixels of the other one" in said
    rows = [line for line in result.stdout.splitlines() if line.strip().startswith(("epithelium ", "[red]stroma "))]
    assert len(rows) == 2
    assert max(map(len, rows)) <= 80
    assert "Left out, for 80 columns are too few: IoU (95% CI), all pixels" in said


def test_sweep__prints_them_without_outlines_where_nobody_asks(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dvme_cli.console.WIDTH_WITHOUT_TERMINAL", 80)
    result = run("sweep", cache, "--out", tmp_path / "run", *ASKED, "--sizes", "full")
    assert result.exit_code == 0, result.output
    said = " ".join(result.stdout.split())
    assert "class images Dice (95% CI) IoU (95% CI) all pixels ceiling" in said
    assert "HD95" not in said
    assert "Left out" not in said


def test_boundary__is_refused_in_a_line(cache: Path, tmp_path: Path) -> None:
    for value in ("0", "-2", "nan", "inf"):
        assert_refused(run("probe", cache, *ASKED, "--boundary", value), "--boundary", "is not possible", "pixels")
    assert_refused(run("probe", cache, "--head", "linear", "--boundary", 2), "only masks have outlines", "--boundary")


def test_methods__of_a_segmentation(cache: Path, found: Any) -> None:
    """Images by class, heads of tokens, and scores of outlines where they were asked for."""
    written = run("methods", cache.parent / "run", "--json")
    assert written.exit_code == 0, written.output
    report = strict(written.stdout)
    images, _, heads, evaluation, _ = report["paragraphs"].values()
    assert images.startswith(f"{N} images with segmentation masks of 2 classes took part; by class, images in which it")
    assert "epithelium (" in images
    assert "is a classifier of tokens by the share of each class in their cell" in heads
    assert "ranked by Dice on validation and judged by Dice on the test set" in evaluation
    assert "by boundary Dice within 1.5 pixels" in evaluation
