"""Masks by saved heads: of images and caches, by one draw and by several, beside what the study said of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from drawings import Drawings, discs
from numpy.typing import NDArray
from PIL import Image
from scenes import discs as labels_of
from scenes import scene_of
from small_networks import write_network

import dvme
from dvme.backbones.description.spec import BackboneSpec, Preprocess
from dvme.backbones.loading.fingerprints import fingerprint_of
from dvme.errors import DataError, OptionError
from dvme.files import file_digest
from dvme.heads.saved_head import SavedFold, SavedHead, subset_hash
from dvme.heads.saving import WEIGHTS, save_head
from dvme.prediction.mask_files import AREAS
from dvme.runtime import Runtime
from dvme.segmentation.saved import load_head
from dvme.segmentation.unet.fitting import UnetJob, fit_unets
from dvme.segmentation.unet.head import unet_head
from dvme.segmentation.unet.images import Images, squashed
from dvme.text import bytes_text
from dvme_cache import EmbeddingCache, content_id

CPU = Runtime(device="cpu", workers=1)
N, SIZES, NAME = 16, ((40, 56), (48, 48)), "cnn@dense=2"
TABLE = {"mask": "mask", "mask_classes": "0=background,1=round,2=other", "mask_void": "255"}


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """One thread, and many small files that need not be durable."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images and masks of two classes as a table, their cache but for the last two, and a study that kept its heads."""
    folder = tmp_path_factory.mktemp("made")
    drawn = discs(folder, N, sizes=SIZES, n_classes=2)
    write_network(folder, "cnn")
    table = pd.DataFrame({
        "image": [each.path.name for each in drawn.work],
        "mask": [f"{at}-mask.png" for at in range(N)],
    })  # fmt: skip
    table.to_csv(folder / "all.csv", index=False)
    table[:-2].to_csv(folder / "some.csv", index=False)
    columns = dvme.Columns(**TABLE)
    given: dict[str, Any] = {"runtime": CPU, "progress": dvme.silent}
    cache, backbones = folder / "c.zarr", [f"{folder}/cnn.toml@dense=2"]
    dvme.extract(folder / "some.csv", cache, backbones=backbones, columns=columns, **given)
    dvme.probe(cache, heads=["segment-linear"], n_folds=2, out=folder / "run", save=folder / "heads", **given)
    return folder


@pytest.fixture
def head(made: Path) -> Path:
    return made / "run" / "heads" / f"segment-linear--{NAME}"


def predicted(head: Path, images: Path, out: Path, **given: Any) -> Any:
    return dvme.predict(head, images, out=out, **{"runtime": CPU, "progress": dvme.silent} | given)


def areas(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / AREAS, keep_default_na=False, na_values=[""])


def pixels(path: Path) -> NDArray[np.uint8]:
    return np.asarray(Image.open(path))


def test_predict__masks_of_one_draw_are_those_that_the_study_scored(made: Path, head: Path, tmp_path: Path) -> None:
    """Dice by hand, from the PNG files of either side."""
    saved = load_head(head)
    kept = pd.read_parquet(made / "run" / "predictions.parquet")
    assert len(saved.folds) == 2
    for number, fold in enumerate(saved.folds):
        alone = save_head(tmp_path / f"head-{number}", replace(saved, folds=[fold]))
        predicted(alone, made / "c.zarr", tmp_path / f"masks-{number}")
        own = kept[kept["fold"] == sorted(kept["fold"].unique())[number]]
        assert len(own)
        for row in own.to_dict("records"):
            truth = pixels(made / row["image"].replace(".png", "-mask.png"))
            found = pixels(tmp_path / f"masks-{number}" / row["image"])
            assert found.shape == pixels(made / row["image"]).shape[:2]
            for value, name in enumerate(("round", "other"), start=1):
                counts = (found == value) & (truth == value), found == value, truth == value
                told = [row[f"{what}({name})"] for what in ("common", "predicted", "true")]
                assert [int(each.sum()) for each in counts] == told


def test_predict__areas_are_of_the_files_and_fill_the_images(made: Path, head: Path, tmp_path: Path) -> None:
    given: dict[str, Any] = {"cache": made / "c.zarr", "backbones": [f"{made}/cnn.toml"], **TABLE}
    report = predicted(head, made / "all.csv", tmp_path / "masks", **given)
    table = areas(tmp_path / "masks")
    assert table["image"].tolist() == [f"{at}.png" for at in range(N)]
    assert report.n_rows == N
    assert report.kept_in == f"{made / 'c.predicted.zarr'}"
    scores: dict[str, list[float]] = {"round": [], "other": []}
    fitted = {row.tobytes() for row in load_head(head).fitted_ids}
    for at, row in enumerate(table.to_dict("records")):
        found, truth = pixels(tmp_path / "masks" / row["mask"]), pixels(made / f"{at}-mask.png")
        assert found.shape == SIZES[at % 2] == (row["rows"], row["columns"])
        counts = np.bincount(found.ravel(), minlength=3)
        told = [row[f"pixels({name})"] for name in ("background", "round", "other")]
        assert counts.tolist() == told
        assert sum(told) == found.size
        assert row["share(round)"] == pytest.approx(counts[1] / found.size)
        for value, name in enumerate(scores, start=1):
            total = (found == value).sum() + (truth == value).sum()
            dice = 2 * ((found == value) & (truth == value)).sum() / total if total else 1.0
            assert row[f"dice({name})"] == pytest.approx(dice)
            if content_id((made / f"{at}.png").read_bytes()) not in fitted:
                scores[name].append(dice)
    assert report.n_scored == N - report.n_known == len(scores["round"])
    assert report.dice == {name: pytest.approx(np.mean(own)) for name, own in scores.items()}


def test_predict__several_draws_by_their_mean_probability(made: Path, head: Path, tmp_path: Path) -> None:
    """By scikit-learn's formula for the probabilities, and torch for the way back to pixels."""
    predicted(head, made / "c.zarr", tmp_path / "masks")
    saved = load_head(head)
    store = EmbeddingCache.open(made / "c.zarr")
    tokens = store.embeddings(NAME).read(np.arange(N - 2))
    for at in range(N - 2):
        means = []
        for fold in saved.folds:
            segmenter = fold.head
            (standard,), (n_rows, n_columns) = segmenter.standards, segmenter.shape
            own = (tokens[at].reshape(n_rows * n_columns, -1).astype(np.float64) - standard.mean) * standard.scale
            means.append(segmenter.head.predict_proba([own.astype(np.float32)]))
        grid = torch.tensor(np.mean(means, axis=0).T.reshape(1, -1, n_rows, n_columns))
        large = torch.nn.functional.interpolate(grid, SIZES[at % 2], mode="bilinear")[0].numpy()
        gap = np.diff(np.sort(large, axis=0)[-2:], axis=0)[0]
        found = pixels(tmp_path / "masks" / f"{at}.png")
        assert (found == large.argmax(axis=0))[gap > 1e-5].all()
        assert (gap > 1e-5).mean() > 0.99


def test_predict__what_fails_is_listed_and_force_replaces(made: Path, head: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    (images / "sub").mkdir(parents=True)
    for place, at in (("a.png", 0), ("sub/a.png", 1)):
        (images / place).write_bytes((made / f"{at}.png").read_bytes())
    (images / "b.png").write_text("no image")
    for force in (False, True):
        report = predicted(head, images, tmp_path / "masks", backbones=[f"{made}/cnn.toml"], force=force)
    assert (report.n_rows, report.n_scored, report.dice, list(report.left_out)) == (2, 0, {}, ["b.png"])
    table = areas(tmp_path / "masks")
    assert table["image"].tolist() == ["a.png", "b.png", "sub/a.png"]
    assert table["mask"].fillna("").tolist() == ["a.png", "", "sub/a.png"]
    assert "not an image" in table["reason"][1]
    assert table["path"][1] == f"{images / 'b.png'}"
    assert sorted(path.name for path in (tmp_path / "masks").rglob("*.png")) == ["a.png", "a.png"]


def test_predict__refuses_in_a_line_and_leaves_nothing(made: Path, head: Path, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_text("no image")
    for images, out, given, said in [
        ("c.zarr", "m.csv", {}, "name a folder"),
        ("c.zarr", "m", {"submission": ["a", "b"]}, "makes masks; leave out submission"),
        ("c.zarr", "m", {"frame": "each"}, "is a cache"),
        (
            "all.csv",
            "m",
            TABLE | {"mask_classes": "1=nodule,*=background"},
            "have the classes nodule, and the head has round, other",
        ),
        (tmp_path / "bad", "m", {"backbones": [f"{made}/cnn.toml"]}, "nothing to predict"),
    ]:
        with pytest.raises((DataError, OptionError), match=said) as caught:
            predicted(head, made / images, tmp_path / out, **given)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / out).exists()
    with pytest.raises(DataError, match="makes masks of images and gives them no class; dvme predict"):
        dvme.explain(head, made / "c.zarr")


def test_predict__says_what_dense_features_take_and_refuses_what_the_disk_cannot_hold(
    made: Path, head: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    (tmp_path / "images").mkdir()
    for at in (N - 2, N - 1):
        (tmp_path / "images" / f"{at}.png").write_bytes((made / f"{at}.png").read_bytes())
    given: dict[str, Any] = {"backbones": [f"{made}/cnn.toml"], "tell": said.append}
    each = 2 * EmbeddingCache.open(made / "c.zarr").embeddings(NAME).dim + 5
    takes, many = f"the dense features of 2 images take {bytes_text(2 * each)}", f"{bytes_text(2 * each)} in all"
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=2 * each - 1))
    with pytest.raises(OptionError, match=f"{takes}, and .* has room for .*; predict fewer images at a time") as told:
        predicted(head, tmp_path / "images", tmp_path / "masks", **given)
    assert "\n" not in str(told.value)
    assert not (tmp_path / "masks").exists()
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=2 * each))
    assert predicted(head, tmp_path / "images", tmp_path / "masks", **given).n_computed == 2
    assert len(said) == 2
    assert all(line.startswith(f"{NAME}: ") and line.endswith(many) for line in said)
    predicted(head, made / "some.csv", tmp_path / "known", cache=made / "c.zarr", **given | {"backbones": []})
    assert len(said) == 2, "nothing is lacking there"


def test_predict__structures_that_overlap_have_a_folder_each(tmp_path: Path) -> None:
    labels, rng = {"left lung": labels_of(12, 24), "heart": labels_of(12, 24, seed=1)}, np.random.default_rng(0)
    scene_of(tmp_path, {"x@dense=last": [rng.normal(size=(12, 4, 4, 3)) + labels["heart"][:, ::6, ::6, None]]}, labels)
    scene = scene_of(tmp_path / "again", {"x@dense=last": [rng.normal(size=(12, 4, 4, 3))]}, labels)
    with EmbeddingCache.writing(tmp_path / "c.zarr") as store:
        store.tables.replace({"mask": np.asarray(scene.masks.cells, dtype=object)})
    given: dict[str, Any] = {"runtime": CPU, "progress": dvme.silent}
    dvme.probe(tmp_path / "c.zarr", heads=["segment-linear"], n_folds=2, save=tmp_path / "heads", **given)
    report = predicted(tmp_path / "heads" / "segment-linear--x@dense=last", tmp_path / "c.zarr", tmp_path / "masks")
    table = areas(tmp_path / "masks")
    assert "pixels(background)" not in table
    assert table["mask"][0] == "left lung/0.png|heart/0.png"
    for name in labels:
        planes = [pixels(tmp_path / "masks" / name / f"{at}.png") for at in range(12)]
        assert set(np.unique(planes)) <= {0, 255}
        assert table[f"pixels({name})"].tolist() == [int((plane == 255).sum()) for plane in planes]
        assert report.counts[name] == sum(bool(plane.any()) for plane in planes)


TINY = BackboneSpec(
    name="tiny",
    method="random",
    architecture="test_resnet",
    dim=None,
    pooling="average",
    preprocess=Preprocess(resize=72, crop=64),
    checkpoint=None,
    source="random",
    licence="none",
    paper="",
)


def test_predict__unets_from_pixels_with_what_was_learned_to_the_bit(tmp_path: Path) -> None:
    drawn: Drawings = discs(tmp_path, 4, sizes=SIZES, n_classes=2)
    images, own = Images(drawn.work, {"tiny": TINY}, runtime=CPU), unet_head("unet@max-epochs=1@batch-size=2")
    rows = np.arange(3)
    jobs = [UnetJob(own, ("tiny",), rows[:2], rows[2:], seed) for seed in (1, 2)]
    fits = [fitted for _, fitted, _ in fit_unets(jobs, images, drawn.masks, runtime=CPU)]
    ids = np.array([list(each.digest) for each in drawn.work], dtype=np.uint8)
    folds = [SavedFold(each, ids[:2], ids[2:3], seed) for seed, each in enumerate(fits)]
    fingerprint = fingerprint_of(squashed(TINY), weights="", dim=256, dtype="float32")
    saved = SavedHead(own, ("tiny@dense=last",), (256,), (fingerprint,), fits[0].names, subset_hash(ids[3:]), folds)
    head = save_head(tmp_path / "both", saved)
    again = save_head(tmp_path / "again", load_head(head))
    assert file_digest(head / WEIGHTS) == file_digest(again / WEIGHTS)
    assert (head / "head.json").read_text() == (again / "head.json").read_text()
    other = fingerprint.with_fields({"preprocess.mean": [0.1, 0.2, 0.3]})
    save_head(tmp_path / "amiss", replace(saved, fingerprints=(other,)))
    with pytest.raises(DataError, match=r"whose images have preprocess\.mean \[0\.48.* have \[0\.1, 0\.2, 0\.3\]; "):
        load_head(tmp_path / "amiss")
    alone = save_head(tmp_path / "alone", replace(saved, folds=folds[:1]))
    folder = tmp_path / "images"
    folder.mkdir()
    for each in drawn.work:
        (folder / each.path.name).write_bytes(each.path.read_bytes())
    (folder / "bad.png").write_text("no image")
    report = predicted(alone, folder, tmp_path / "masks")
    assert (report.n_rows, list(report.left_out), report.n_known) == (4, ["bad.png"], 3)
    assert report.head == "unet@batch-size=2@max-epochs=1"
    for at in range(4):
        planes = fits[0].planes(images, at, SIZES[at % 2])
        found = pixels(tmp_path / "masks" / f"{at}.png")
        assert (found == (planes * np.array([1, 2])[:, None, None]).sum(axis=0)).mean() > 0.999
    predicted(head, folder, tmp_path / "masks-of-both")
    logits = [torch.tensor(fit.logits(images.pictures(fit.spec), np.arange(1))).double() for fit in fits]
    large = [torch.nn.functional.interpolate(each, SIZES[0], mode="bilinear").softmax(dim=1)[0] for each in logits]
    mean = ((large[0] + large[1]) / 2).numpy()
    assert (pixels(tmp_path / "masks-of-both" / "0.png") == mean.argmax(axis=0)).mean() > 0.999
    with pytest.raises(OptionError, match="unet has weights of its own; leave out backbones"):
        predicted(head, folder, tmp_path / "other", backbones=["tiny"])
