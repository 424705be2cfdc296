"""Embeddings that were imported, of images known by name only: everything works, and names them."""

from __future__ import annotations

import csv
import html
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import dvme
from dvme.cache import import_embeddings
from dvme.data.names import named_images
from dvme.notices import asides
from dvme.study.design.duplicates import NearDuplicate, describe
from dvme.study.design.snapshot import NO_LABEL, Snapshot
from dvme.study.methods import make_methods, method_notices
from dvme.study.run import read_summary
from dvme.text import NO_GROUPS
from dvme_cache import EmbeddingCache

N = 90
LABELS = [("cat", "dog")[row % 2] for row in range(N)]
PLAIN = dvme.PageOptions(methods=["pca"])


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two imported backbones, a test image that is a training image once more, and some labels that are wrong."""
    root = tmp_path_factory.mktemp("imported")
    rng = np.random.default_rng(0)
    classes = np.arange(N) % 2
    for name in ("one", "two"):
        features = (rng.normal(size=(N, 8)) + 3 * classes[:, None]).astype(np.float32)
        features[1] = features[3] * np.float32(1.0001)
        ids = np.array([f"slide {row:02d}" for row in range(N)])
        np.savez(root / f"{name}.npz", features=features, ids=ids)
        import_embeddings(root / f"{name}.npz", root / "c.zarr", backbone=name)
    labels = [*LABELS[:80], *LABELS[:79:-1]]  # the last ten have each other's
    splits = ["test" if row % 3 == 1 else "train" for row in range(N)]
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [("image", "label", "split"), *zip([f"slide {row:02d}" for row in range(N)], labels, splits, strict=True)]
        )
    dvme.cache.label(root / "c.zarr", root / "labels.csv")
    options = dvme.SubsetOptions(sizes=["full"], n_folds=2)
    dvme.sweep(root / "c.zarr", root / "run", heads=["linear@strengths=0.01", "concat@strengths=0.01"], options=options)
    return root


@pytest.fixture(scope="module")
def page(study: Path) -> str:
    result = dvme.write_report(study / "run", out=study / "r.html", options=PLAIN)
    assert (result.n_points, result.n_without_thumbnail) == (N, N)
    return html.unescape((study / "r.html").read_text())


def test_report_and_viz__name_images_by_their_ids(study: Path, page: str, tmp_path: Path) -> None:
    assert "slide 07" in page
    for anonymous in (False, True):
        out, options = tmp_path / f"{anonymous}.html", dvme.PageOptions(methods=["pca"], anonymous=anonymous)
        shown = dvme.viz(study / "c.zarr", out=out, options=options)
        assert shown.notices == ["no thumbnails: the images of this cache are known by name only"]
        assert ("slide 07" in out.read_text()) is not anonymous


def test_files__name_images_by_their_ids(study: Path) -> None:
    named = [f"slide {row:02d}" for row in range(N)]
    table = pd.read_parquet(study / "run" / "predictions.parquet")
    assert set(table["image"]) == {name for row, name in enumerate(named) if row % 3 == 1}
    assert (table["path"] == table["image"]).all()
    suspects = pd.read_csv(study / "run" / "suspects.csv")
    assert set(suspects["image"]) <= set(named)
    assert len(suspects)
    assert (suspects["path"] == suspects["image"]).all()
    pair = pd.read_csv(study / "run" / "duplicates.csv")
    assert {"slide 01", "slide 03"} in [set(row) for row in pair[["one", "other"]].to_numpy()]


def test_explain_and_predict__of_names_alone(study: Path, tmp_path: Path) -> None:
    dvme.probe(study / "c.zarr", heads=["concat@strengths=0.01"], save=tmp_path / "heads")
    (head,) = (tmp_path / "heads").iterdir()
    assert dvme.explain(head, study / "c.zarr").n_images == 30
    dvme.predict(head, study / "c.zarr", out=tmp_path / "p.parquet")
    assert pd.read_parquet(tmp_path / "p.parquet")["image"].tolist() == [f"slide {row:02d}" for row in range(N)]


def test_names__the_path_now_else_as_first_seen(study: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(study / "c.zarr", tmp_path / "c.zarr")
    with EmbeddingCache.writing(tmp_path / "c.zarr") as writable:
        writable.update_columns(np.array([2]), {"path": ["/now/2.png"]})
    store, rows = EmbeddingCache.open(tmp_path / "c.zarr"), np.array([3, 2])
    images, paths = named_images(store.samples.paths, store.column("path"), rows)
    assert (images.tolist(), paths.tolist()) == (["slide 03", "slide 02"], ["slide 03", "/now/2.png"])


def test_report__the_box_has_what_changes_a_decision(page: str) -> None:
    box = page.partition('<div class="notices" role="note">')[2].partition("</div>")[0]
    below = page.partition('<section id="data"')[2]
    assert NO_GROUPS in box
    assert "near-duplicates between test and training images: slide 01" in box
    assert "settings that differ" not in box.lower()
    assert "Settings that differ from the defaults: linear@strengths=0.01" in below
    assert "No thumbnails: the images of this cache are known by name only" in below


def test_notices__that_change_no_decision_are_told_apart_by_who_says_them(study: Path) -> None:
    summary = read_summary(study / "run")
    said = method_notices(
        make_methods(["linear@strengths=0.01", "concat@strengths=0.01"], ["one", "two"], with_controls=False)
    )
    units = [line for line in summary.notices if line.startswith("95% CI: over ")]
    assert list(summary.asides) == [*said, *units]
    assert len(asides(describe([], [], ["random"]))) == 1
    taken = Snapshot.take(EmbeddingCache.open(study / "c.zarr"), ["one"])
    taken = replace(taken, left_out={NO_LABEL: 3, "without an embedding": 3})
    assert asides(taken.notices) == ("left out: 3 without a label",)
    pair = NearDuplicate(0, 1, "test", "one", 0.9999)
    assert (
        asides(describe([pair], ["x", "y"], [])),
        len(asides(describe([pair], ["x", "y"], [], are_dropped=True))),
    ) == (
        (),
        1,
    )
