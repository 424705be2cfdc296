"""MICLe against SimCLR at equal steps, where the group alone tells images' class apart from what is their own."""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import dvme

SIDE, N_GLYPHS, RADIUS = 48, 8, 3.5
FAINT, PLAIN = 40.0, 120.0
"""How much brighter glyphs are: a view shows the class hardly, or to both methods."""
N_GROUPS = {"train": 150, "val": 40, "test": 110}
NETWORK, EPOCHS = f"timm:test_resnet@size={SIDE}", 15
SETTINGS = {"augment": "pathology", "epochs": EPOCHS, "batch_size": 64, "learning_rate": 2e-3, "temperature": 0.2}


def nuisance(rng: np.random.Generator) -> NDArray[Any]:
    """A tint and a coarse texture in colours, far stronger than what tells the class; both are an image's own."""
    coarse = rng.normal(size=(4, 4, 3)).astype(np.float32)
    planes = [
        Image.fromarray(coarse[..., channel]).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for channel in range(3)
    ]
    return 50.0 * rng.normal(size=3) + 30.0 * np.stack([np.asarray(plane) for plane in planes], axis=-1)


def glyphs(label: int, rng: np.random.Generator) -> NDArray[Any]:
    """(S, S, 1) discs, or rings of the same area, wherever they fall."""
    down, across = np.mgrid[:SIDE, :SIDE]
    found = np.zeros((SIDE, SIDE), dtype=bool)
    for centre in rng.uniform(0, SIDE, (N_GLYPHS, 2)):
        distance = np.hypot(down - centre[0], across - centre[1]) / RADIUS
        found |= (distance < 1.0) if label == 0 else ((distance > 0.6) & (distance < 1.17))
    return found[..., None].astype(np.float64)


def write_set(folder: Path, *, is_shared: bool) -> Path:
    """Groups of two images of a class; `is_shared`: of one scene, taken twice, so that the group tells nothing new."""
    folder.mkdir()
    rng, rows = np.random.default_rng(0), []
    for split, count in N_GROUPS.items():
        for number in range(count):
            label, brighter = number % 2, PLAIN if is_shared else FAINT
            scenes = [128.0 + nuisance(rng) + brighter * glyphs(label, rng) for _ in range(2)]
            for copy in range(2):
                pixels = scenes[0 if is_shared else copy] + rng.normal(size=(SIDE, SIDE, 3), scale=6.0)
                name = f"{split}-{number:03}-{copy}.png"
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name)
                rows.append((name, ("disc", "ring")[label], split, f"{split}-{number}"))
    with (folder / "m.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "label", "split", "group"), *rows])
    return folder / "m.csv"


@pytest.mark.bench
@pytest.mark.parametrize("is_shared", [False, True])
def test_adapt__micle_beats_simclr_where_only_the_group_tells_the_class(tmp_path: Path, is_shared: bool) -> None:
    """And ties where the images of a group are of one scene, as two views of an image are. From random weights."""
    started = time.perf_counter()
    manifest = write_set(tmp_path / "set", is_shared=is_shared)
    runtime = dvme.Runtime(device="cpu")
    made = [
        dvme.adapt(
            manifest, NETWORK, method, tmp_path / f"{method}.toml", random_weights=0, runtime=runtime, **SETTINGS
        )
        for method in ("simclr", "micle")
    ]
    simclr, micle = made
    assert simclr.n_steps == micle.n_steps == EPOCHS * 6
    cache = tmp_path / "c.zarr"
    dvme.extract(manifest, cache, backbones=[each.out for each in made], runtime=runtime)
    options = dvme.SubsetOptions(sizes=["40", "full"], n_folds=5)
    report = dvme.sweep(cache, tmp_path / "run", heads="linear", controls=False, options=options)
    cells = {(cell.backbones[0], cell.size): cell for cell in report.cells}
    for size in ("40", "full"):
        ours, theirs = (cells[each.backbone, size] for each in (micle, simclr))
        behind = theirs if ours.mark == "*" else ours
        assert behind.difference is not None
        kind = "one scene twice" if is_shared else "two scenes"
        print(
            f"\n{kind}, {size} labels: AUC of MICLe {ours.interval.estimate:.3f}, of "
            f"SimCLR {theirs.interval.estimate:.3f}; the one behind differs by {behind.difference.estimate:+.3f} "
            f"({behind.difference.low:+.3f} to {behind.difference.high:+.3f}), p {behind.p_adjusted:.2g}; "
            f"{simclr.n_steps} steps of each  [{time.perf_counter() - started:.0f} s]"
        )
        if is_shared:
            assert behind.mark == "="
        else:
            assert (ours.mark, theirs.mark) == ("*", "")
            assert behind.difference.high < 0.0
