"""Backbones that a study trained: kept with their heads, at work on images, and known for what they were trained on."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray

import dvme
from dvme.errors import DataError, OptionError
from dvme.heads.saved_head import SavedHead, keys_of
from dvme.heads.saving import load_head
from dvme.runtime import Runtime, silent
from dvme.study.design.manifest import SubsetManifest
from dvme.study.kept_heads import mark, marks_of
from dvme.study.ledger import Ledger
from dvme.upkeep.info import info
from dvme_cache import EmbeddingCache, MissingEmbeddingsError

TINY = """
name = "tiny"
architecture = "test_resnet"
pooling = "average"
[preprocess]
resize = 36
crop = 32
[checkpoint]
filename = "tiny.pth"
"""
TUNED = "finetune-scratch-head@learning-rates=0.0003@max-epochs=1@warmup-epochs=0@batch-size=4"
"""Its start is worth nothing, so that an epoch is better."""
RUNTIME = Runtime(device="cpu")
GIVEN: dict[str, Any] = {"runtime": RUNTIME, "progress": silent}


def probe(cache: Path, run: Path | None, **options: Any) -> Any:
    given = {"heads": [TUNED], "n_folds": 2, "test_fraction": 0.34, "out": run} | GIVEN | options
    return dvme.probe(cache, **given)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, save_image: Callable[..., Path]) -> Path:
    """A folder of 24 images, their cache, and a run that kept two backbones; to be read, or copied."""
    root = tmp_path_factory.mktemp("tuned")
    for level, name in enumerate(("dark", "grey", "light")):
        for index in range(8):
            save_image(root / "images" / name / f"{index:02}.png", seed=100 * level + index, level=level)
    (root / "tiny.toml").write_text(TINY)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(timm.create_model("test_resnet", num_classes=0).state_dict(), root / "tiny.pth")
    dvme.extract(root / "images", root / "c.zarr", backbones=[str(root / "tiny.toml")], **GIVEN)
    probe(root / "c.zarr", root / "run")
    return root


@pytest.fixture(scope="module")
def head(study: Path) -> Path:
    (folder,) = (study / "run" / "heads").iterdir()
    return folder


@pytest.fixture
def copied(study: Path, tmp_path: Path) -> Path:
    """The run, to be changed."""
    shutil.copytree(study / "run", tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(scope="module")
def saved(head: Path) -> SavedHead:
    return load_head(head)


def log_test(study: Path, head: SavedHead) -> Iterator[NDArray[np.float32]]:
    """What the study itself said of its test images, by fold."""
    ledger = Ledger(study / "run" / "jobs")
    by_mark = {}
    for file in (study / "run" / "jobs").glob("*.npz"):
        job = ledger.read(file.stem)
        assert job is not None
        by_mark[mark(file.stem, job)] = job
    for fold in head.folds:
        yield by_mark[fold.job].log_test


def test_predict__says_what_the_study_said_of_its_test_images(study: Path, head: Path, tmp_path: Path) -> None:
    saved = load_head(head)
    report = dvme.predict(head, study / "images", out=tmp_path / "p.csv", cache=study / "c.zarr", **GIVEN)
    manifest = SubsetManifest.load(study / "run" / "subsets.json")
    store = EmbeddingCache.open(study / "c.zarr")
    path_of = dict(zip(keys_of(store.samples.ids).tolist(), store.column("path").tolist(), strict=True))
    with (tmp_path / "p.csv").open() as file:
        found = {row["path"]: [float(row[f"p({name})"]) for name in saved.classes] for row in csv.DictReader(file)}
    test = keys_of(manifest.images[manifest.test]).tolist()
    expected = np.mean([np.exp(each.astype(np.float64)) for each in log_test(study, saved)], axis=0)
    np.testing.assert_allclose([found[path_of[key]] for key in test], expected, atol=1e-4)
    assert len({fold.backbone.spec.name for fold in saved.folds if fold.backbone}) == 2
    assert (report.n_rows, report.n_known) == (24, len(np.unique(keys_of(saved.fitted_ids))))
    again = dvme.predict(head, study / "images", out=tmp_path / "q.csv", cache=study / "c.zarr", **GIVEN)
    assert again.n_computed == 0, "embeddings of the folds' backbones are kept beside the cache"


def test_extract__by_a_fold_and_what_a_study_makes_of_it(study: Path, head: Path, tmp_path: Path) -> None:
    """Another cache, so that the backbone is all that it shares with the study."""
    saved, cache = load_head(head), tmp_path / "own.zarr"
    number = next(number for number, fold in enumerate(saved.folds) if fold.head.chosen["epoch"] > 0)
    fold, backbone = saved.folds[number], saved.own_backbones[number]
    dvme.extract(study / "images", cache, backbones=[str(head / f"fold-{number + 1}.toml")], **GIVEN)
    table = EmbeddingCache.open(cache).embeddings(backbone.spec.name)
    assert table.fingerprint == backbone.fingerprint
    assert table.fingerprint != EmbeddingCache.open(study / "c.zarr").embeddings("tiny").fingerprint
    manifest = SubsetManifest.load(study / "run" / "subsets.json")
    ids = EmbeddingCache.open(cache).samples.ids
    row_of = {key: row for row, key in enumerate(keys_of(ids).tolist())}
    rows = np.array([row_of[key] for key in keys_of(manifest.images[manifest.test]).tolist()])
    logs = fold.head.log_proba([table.read(rows)])
    np.testing.assert_allclose(np.exp(logs), np.exp(list(log_test(study, saved))[number]), atol=1e-4)
    linear = ["linear@strengths=0.01:0.1"]
    same = dvme.sweep(cache, tmp_path / "same", subsets=study / "run" / "subsets.json", heads=linear, **GIVEN)
    assert not [line for line in same.notices if "test" in line and "trained" in line], "they are new to it"
    assert any("learned the labels of" in line for line in same.notices)
    with pytest.raises(DataError, match=rf"{backbone.spec.name} was trained or chosen on \d of \d test images; leave"):
        probe(cache, None, heads=linear, seed=5)
    (summary,) = info(cache).backbones
    n_known = len(fold.train_ids) + len(fold.validation_ids)
    assert summary.provenance["trained_on"] == {
        "n_images": n_known,
        "n_with_labels": n_known,
        "is_transductive": False,
    }


def test_extract__a_backbone_whose_list_of_images_was_left_behind(study: Path, head: Path, tmp_path: Path) -> None:
    for name in ("fold-1.toml", "fold-1.safetensors"):
        shutil.copy(head / name, tmp_path / name)
    with pytest.raises(DataError, match=r"cannot be read: .*fold-1\.ids .*; copy it to where"):
        dvme.extract(study / "images", tmp_path / "c.zarr", backbones=[str(tmp_path / "fold-1.toml")], **GIVEN)
    assert not (tmp_path / "c.zarr").exists()


def test_probe__goes_on_with_what_it_kept(study: Path, copied: Path) -> None:
    again = probe(study / "c.zarr", copied)
    assert again.n_reused == again.n_jobs == 2
    assert any(line.endswith(" 3 MB of weights") for line in again.asides)
    assert not [line for line in again.notices if "not kept" in line]


def test_marks_of__a_backbone_that_is_gone_or_cut_short_is_none(copied: Path) -> None:
    """So that a study fits it again."""
    (folder,) = (copied / "heads").iterdir()
    weights = folder / "fold-2.safetensors"
    assert len(marks_of(folder)) == 2
    for change in (lambda: weights.write_bytes(weights.read_bytes()[:-1]), weights.unlink):
        change()
        with pytest.raises(DataError, match=r"fold-2\.\* is missing or cut short"):
            load_head(folder)
        assert marks_of(folder) == ()


def test_probe__a_kill_between_two_backbones_costs_no_other(study: Path, tmp_path: Path) -> None:
    """The first is on disk by itself, before its job counts; it joins the second, and nothing is there twice."""
    run, aside = tmp_path / "run", tmp_path / "aside"

    def interrupt(stage: str, n_done: int, total: int) -> None:
        del total
        if (stage, n_done) == ("probe", 2):  # the second is fitted, and not handed on
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        probe(study / "c.zarr", run, progress=interrupt)
    (alone,) = (path for path in (run / "jobs").iterdir() if path.is_dir())
    names = ["fold-1.ids", "fold-1.safetensors", "fold-1.toml", "head.json", "weights.safetensors"]
    assert sorted(path.name for path in alone.iterdir()) == names
    report = probe(study / "c.zarr", run, save=aside)
    assert (report.n_reused, report.n_jobs) == (1, 2)
    assert not [path for path in (run / "jobs").iterdir() if path.is_dir()]
    (folder,) = (run / "heads").iterdir()
    inputs = load_head(next((study / "run" / "heads").iterdir())).inputs
    assert load_head(folder).inputs == load_head(report.saved[0]).inputs == inputs


def test_load_head__another_format_than_before(head: Path) -> None:
    described = json.loads((head / "head.json").read_text())
    assert described["format"] == 5
    assert [fold["backbone"]["name"] for fold in described["folds"]] == list(load_head(head).inputs)


def test_refusals(study: Path, head: Path, tmp_path: Path) -> None:
    with pytest.raises(
        OptionError, match="each of its folds has a backbone of its own; explain a head on the frozen backbone"
    ):
        dvme.explain(head, study / "c.zarr")
    with pytest.raises(MissingEmbeddingsError, match="which were trained with the head; predict the images themselves"):
        dvme.predict(head, study / "c.zarr", out=tmp_path / "p.csv", **GIVEN)
    with pytest.raises(OptionError, match="were trained with it and lie beside it; leave out backbones"):
        dvme.predict(head, study / "images", out=tmp_path / "p.csv", backbones=["mine.toml"], **GIVEN)
    assert not (tmp_path / "p.csv").exists()
