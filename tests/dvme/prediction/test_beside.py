"""Predicting leaves a study's cache as it is, and what was computed for it is used again."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from once import digest
from PIL import Image
from typer.testing import CliRunner

import dvme
from dvme.backbones.loading import model
from dvme.cache import prune
from dvme.errors import DataError
from dvme.extraction.beside import place_beside
from dvme.extraction.plan import plan_extraction
from dvme_cache import CacheLockedError, EmbeddingCache, Fingerprint, FingerprintMismatchError
from dvme_cli.app import app

OWN = """
from torch import nn
from dvme.backbones import BackboneSpec, Preprocess

def net():
    return nn.Sequential(nn.AdaptiveAvgPool2d(SIDE), nn.Flatten())

net = BackboneSpec(name="NAME", method="ours", architecture="net", dim=None, pooling="model", checkpoint=None,
    preprocess=Preprocess(resize=8, crop=8), licence="MIT", paper="ours", source="built", build=net)
"""


def _backbone(folder: Path, name: str, side: int) -> str:
    (folder / f"{name}.py").write_text(OWN.replace("NAME", name).replace("SIDE", str(side)))
    return f"{folder}/{name}.py:net"


def _images(folder: Path, n: int, seed: int) -> list[Path]:
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    paths = [folder / f"{index:02d}.png" for index in range(n)]
    for index, path in enumerate(paths):
        Image.fromarray(rng.integers(0, 90, size=(12, 12, 3), dtype=np.uint8) + 120 * (index % 2)).save(path)
    return paths


def _manifest(path: Path, images: list[Path], **columns: list[str]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", *columns])
        writer.writerows(zip(images, *columns.values(), strict=True))
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of 30 images with labels and groups, a head on its two backbones, and 8 new images."""
    root = tmp_path_factory.mktemp("made")
    own = [_backbone(root, "one", 2), _backbone(root, "two", 3)]
    old = _images(root / "old", 30, seed=0)
    told = {"label": ["dark", "light"] * 15, "group": [f"g{index // 2}" for index in range(30)]}
    manifest = _manifest(root / "study.csv", old, **told)
    dvme.extract(manifest, root / "study.zarr", backbones=own, class_order=["dark", "light"])
    dvme.probe(root / "study.zarr", heads=["concat@strengths=0.01"], save=root / "heads")
    new = _images(root / "new", 8, seed=1)
    # What a careless tool would learn from: wrong labels, all for training, and the groups of the study.
    told = {"label": ["light", "dark"] * 4, "split": ["train"] * 8, "group": ["g0"] * 8}
    _manifest(root / "new.csv", [path.relative_to(root) for path in new], **told)
    # A copy of an image of the study, under another path and with another label.
    shutil.copy(old[0], root / "new" / "copy.png")
    told = {name: [values[0]] for name, values in told.items()}
    _manifest(root / "copy.csv", [root / "new" / "copy.png"], **told)
    return root


@pytest.fixture(scope="module")
def made_and_asked(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, and the 8 new images predicted."""
    root = Path(shutil.copytree(made, tmp_path_factory.mktemp("asked") / "made"))
    _predict(root)
    return root


@pytest.fixture
def study(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "made"))


@pytest.fixture
def predicted(made_and_asked: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made_and_asked, tmp_path / "made"))


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which backbones are loaded meanwhile."""
    names: list[str] = []
    load = model.load_backbone

    def told(spec: Any, **options: Any) -> Any:
        names.append(spec.name)
        return load(spec, **options)

    monkeypatch.setattr(model, "load_backbone", told)
    return names


def _head(study: Path) -> Path:
    return study / "heads" / "concat@strengths=0.01--one+two"


def _predict(study: Path, images: str = "new.csv", **options: Any) -> tuple[Any, pd.DataFrame]:
    options.setdefault("backbones", [f"{study}/one.py:net", f"{study}/two.py:net"])
    out = options.pop("out", study / "p.csv")
    report = dvme.predict(_head(study), study / images, out=out, cache=study / "study.zarr", force=True, **options)
    return report, pd.read_csv(out)


def test_predict__leaves_the_study_as_it_is_to_the_last_byte(study: Path) -> None:
    before = digest(study / "study.zarr")
    asked = ["probe", str(study / "study.zarr"), "--head", "linear@strengths=0.01"]
    printed = CliRunner().invoke(app, asked).stdout
    report, table = _predict(study)
    assert (report.n_rows, report.n_known, report.n_computed) == (8, 0, 8)
    assert table["image"].tolist() == [f"new/{index:02d}.png" for index in range(8)]
    assert table["path"].tolist() == [f"{study}/new/{index:02d}.png" for index in range(8)]
    assert digest(study / "study.zarr") == before
    assert CliRunner().invoke(app, asked).stdout == printed
    kept = EmbeddingCache.open(report.kept_in or "")
    assert kept.location == f"{study}/study.predicted.zarr"
    assert {name: set(values) for name, values in kept.columns().items() if name != "path"} == {
        "label": {""},
        "split": {""},
        "group": {""},
    }
    assert kept.class_order == ()


def test_predict__an_image_of_the_study_is_one_of_the_study(study: Path, loads: list[str]) -> None:
    """Its embeddings are there, under whatever path and label it is asked about."""
    before = digest(study / "study.zarr")
    report, table = _predict(study, "copy.csv", backbones=())
    assert (report.n_rows, report.n_known, report.n_computed, report.kept_in, loads) == (1, 1, 0, None, [])
    dvme.predict(_head(study), study / "study.zarr", out=study / "all.csv")
    expected = pd.read_csv(study / "all.csv").iloc[[0]]
    pd.testing.assert_frame_equal(table.iloc[:, 2:], expected.iloc[:, 2:])
    assert digest(study / "study.zarr") == before
    assert not (study / "study.predicted.zarr").exists()


def test_predict__computes_once_and_loads_no_backbone_for_what_is_there(predicted: Path, loads: list[str]) -> None:
    first, kept = pd.read_csv(predicted / "p.csv"), digest(predicted / "study.predicted.zarr")
    report, again = _predict(predicted, backbones=())
    assert (report.n_computed, report.kept_in, loads) == (0, None, [])
    pd.testing.assert_frame_equal(again.drop(columns="path"), first.drop(columns="path"))
    assert digest(predicted / "study.predicted.zarr") == kept


def test_predict__computes_what_the_study_lacks_alone(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of the study with one of two embeddings: that one is taken, the other computed."""
    with EmbeddingCache.writing(study / "study.zarr") as store:
        two = store.embeddings("two").read(np.arange(30))
        store.remove_embeddings("two")
    computed = []
    from dvme.extraction import passes

    run = passes.extract_all

    def told(*arguments: Any) -> Any:
        outcomes, outliers = run(*arguments)
        computed.extend((each.backbone, each.computed, each.reused) for each in outcomes)
        return outcomes, outliers

    monkeypatch.setattr(passes, "extract_all", told)
    report, _ = _predict(study, "study.csv")
    assert computed == [("one", 0, 30), ("two", 30, 0)]
    kept = EmbeddingCache.open(report.kept_in or "")
    study_one = EmbeddingCache.open(study / "study.zarr").embeddings("one").read(np.arange(30))
    assert np.array_equal(kept.embeddings("one").read(np.arange(30)), study_one)
    np.testing.assert_allclose(kept.embeddings("two").read(np.arange(30)), two, atol=1e-6)


def test_extract__takes_over_what_was_computed_to_predict(predicted: Path, loads: list[str]) -> None:
    """From then on the image is of the study, with the labels of that manifest."""
    own = [f"{predicted}/one.py:net", f"{predicted}/two.py:net"]
    manifest = _manifest(predicted / "more.csv", [*(predicted / "new").glob("0?.png")], label=["light"] * 8)
    plan = plan_extraction(manifest, predicted / "study.zarr", backbones=own)
    assert [(each.reused, each.computed) for each in plan.backbones] == [(8, {}), (8, {})]
    report = dvme.extract(manifest, predicted / "study.zarr", backbones=own)
    assert [(each.computed, each.reused) for each in report.outcomes] == [(0, 8), (0, 8)]
    store, kept = EmbeddingCache.open(predicted / "study.zarr"), EmbeddingCache.open(predicted / "study.predicted.zarr")
    assert store.n_rows == 38
    assert store.column("label")[30:].tolist() == ["light"] * 8
    place = {content: row for row, content in enumerate(kept.samples.content_ids)}
    for name in ("one", "two"):
        theirs = kept.embeddings(name).read(np.array([place[content] for content in store.samples.content_ids[30:]]))
        assert np.array_equal(store.embeddings(name).read(np.arange(30, 38)), theirs)


def test_extract__replacing_takes_nothing_over(predicted: Path) -> None:
    own = [f"{predicted}/one.py:net"]
    plan = plan_extraction(predicted / "new.csv", predicted / "study.zarr", backbones=own, replace=True)
    assert plan.backbones[0].computed == {"new to the cache": 8}
    report = dvme.extract(predicted / "new.csv", predicted / "study.zarr", backbones=own, replace=True)
    assert report.outcomes[0].computed == 8


def test_prune__erases_what_was_predicted_of_the_same_images(predicted: Path) -> None:
    dvme.extract(predicted / "new.csv", predicted / "study.zarr", backbones=[f"{predicted}/one.py:net"])
    kept = EmbeddingCache.open(predicted / "study.predicted.zarr")
    assert not kept.samples.is_pruned.any()
    report = prune(predicted / "study.zarr", predicted / "study.csv", confirmed=True)
    assert len(report.removed) == 8
    assert EmbeddingCache.open(predicted / "study.predicted.zarr").samples.is_pruned.all()


def test_prune__leaves_what_was_only_predicted(predicted: Path) -> None:
    before = digest(predicted / "study.predicted.zarr")
    (predicted / "half.csv").write_text("".join((predicted / "study.csv").read_text().splitlines(keepends=True)[:16]))
    assert len(prune(predicted / "study.zarr", predicted / "half.csv", confirmed=True).removed) == 15
    assert digest(predicted / "study.predicted.zarr") == before


def test_predict__what_is_kept_of_another_model_is_not_mixed(predicted: Path) -> None:
    with EmbeddingCache.writing(predicted / "study.predicted.zarr") as store:
        store.remove_embeddings("one")
        other = Fingerprint({"weights": "others"})
        store.ensure_embeddings("one", other, dim=12, dtype="float32", provenance={})
    with pytest.raises(FingerprintMismatchError, match=r"keeps one embeddings of another .*; pass another cache, or"):
        _predict(predicted)


def test_predict__says_where_embeddings_are_kept(study: Path) -> None:
    cache = str(study / "study.zarr")
    own = f"{study}/one.py:net,{study}/two.py:net"
    asked = ["predict", str(_head(study)), str(study / "new.csv"), "--out", str(study / "p.csv"), "--cache", cache]
    result = CliRunner().invoke(app, [*asked, "--backbones", own])
    assert f"embeddings of 8 images are kept in {study}/study.predicted.zarr; {cache} and its study stay" in (
        result.stdout
    )
    shown = CliRunner().invoke(app, ["info", cache]).stdout
    assert "30 images; binary" in shown
    assert f"8 images that were only predicted: {study}/study.predicted.zarr" in shown


@pytest.mark.parametrize(
    ("cache", "place"),
    [
        ("my.zarr", "my.predicted.zarr"),
        ("my.zarr/", "my.predicted.zarr"),
        ("folder.zarr/my", "folder.zarr/my.predicted.zarr"),
        ("s3://bucket/my.zarr", "s3://bucket/my.predicted.zarr"),
        ("my.predicted.zarr", "my.predicted.zarr"),
    ],
)
def test_place_beside(cache: str, place: str) -> None:
    assert place_beside(cache) == place


def test_predict__labels_and_splits_that_no_study_could_take_refuse_nothing(study: Path) -> None:
    new = sorted((study / "new").glob("0*.png"))[:2]
    _manifest(study / "odd.csv", new, label=["1", "1.0"], split=["holdout", "0"], group=["7", "7.0"])
    shutil.copy(study / "new" / "05.png", study / "new" / "a.png")
    (study / "new" / "deep").mkdir()
    shutil.move(study / "new" / "a.png", study / "new" / "deep" / "a.png")
    assert _predict(study, "odd.csv")[0].n_rows == 2
    assert _predict(study, "new")[0].n_rows == 10, "images in folders beside images outside of any"
    assert _predict(study, "odd.csv")[0].remarks == [
        "columns used of odd.csv: image; not used: label, split, group",
    ]


def test_extract__a_cache_beside_that_is_damaged_or_none_costs_nothing_but_time(predicted: Path) -> None:
    study, place = predicted / "study.zarr", predicted / "study.predicted.zarr"
    own = [f"{predicted}/one.py:net", f"{predicted}/two.py:net"]
    for file in place.rglob("features/c/**/*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[::-1])
    images = _manifest(predicted / "all.csv", sorted((predicted / "new").glob("0*.png")), label=["dark"] * 8)
    done = dvme.extract(images, study, backbones=own)
    assert [item.computed for item in done.outcomes] == [8, 8]
    shutil.rmtree(place)
    place.mkdir()
    (place / "notes.txt").touch()
    assert [item.reused for item in dvme.extract(images, study, backbones=own).outcomes] == [8, 8]


def test_prune__what_cannot_be_erased_beside_is_not_erased_here_either(predicted: Path) -> None:
    study, place = predicted / "study.zarr", predicted / "study.predicted.zarr"
    images = sorted((predicted / "new").glob("0*.png"))
    own = [f"{predicted}/one.py:net", f"{predicted}/two.py:net"]
    dvme.extract(_manifest(predicted / "all.csv", images, label=["dark"] * 8), study, backbones=own)
    (predicted / "keep").mkdir()
    shutil.copy(predicted / "old" / "00.png", predicted / "keep")
    with EmbeddingCache.writing(place), pytest.raises(CacheLockedError):
        prune(study, predicted / "keep", confirmed=True)
    assert len(prune(study, predicted / "keep", confirmed=True).removed) == 37
    assert EmbeddingCache.open(place).samples.is_pruned.all()


@pytest.mark.parametrize("typed", [".", "link.zarr", "made/../study.zarr/"])
def test_place_beside__one_cache_has_one(tmp_path: Path, typed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "study.zarr").mkdir()
    (tmp_path / "made").mkdir()
    (tmp_path / "link.zarr").symlink_to("study.zarr")
    monkeypatch.chdir(tmp_path / "study.zarr" if typed == "." else tmp_path)
    assert Path(place_beside(typed)).resolve() == tmp_path / "study.predicted.zarr"


def test_predict__a_folder_that_cannot_be_written_keeps_nothing_and_says_so(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = os.access
    monkeypatch.setattr(os, "access", lambda place, mode: Path(place) != study and access(place, mode))
    (study.parent / "elsewhere").mkdir()
    report, table = _predict(study, out=study.parent / "elsewhere" / "p.csv")
    assert (report.kept_in, len(table)) == (None, 8)
    assert (
        report.remarks[-1]
        == f"{place_beside(study / 'study.zarr')} cannot be written, so that no embedding of new images is kept"
    )
    assert not Path(place_beside(study / "study.zarr")).exists()


def test_max_pixels__tries_again_what_was_too_large(study: Path) -> None:
    small, large = dvme.Runtime(max_pixels=100), dvme.Runtime(max_pixels=200)
    assert (
        len(
            dvme.extract(study / "new.csv", study / "n.zarr", backbones=[f"{study}/one.py:net"], runtime=small)
            .outcomes[0]
            .reasons
        )
        == 8
    )
    assert (
        dvme.extract(study / "new.csv", study / "n.zarr", backbones=[f"{study}/one.py:net"], runtime=large)
        .outcomes[0]
        .computed
        == 8
    )
    with pytest.raises(DataError, match=r"has 144 pixels, more than 100; dvme extract --max-pixels 144"):
        _predict(study, runtime=small)
    assert _predict(study, runtime=large)[0].n_rows == 8
