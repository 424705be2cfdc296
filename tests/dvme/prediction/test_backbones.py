"""A head on backbones of one's own, asked about images: they are named as for `dvme extract`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image
from typer.testing import CliRunner

import dvme
from dvme.errors import OptionError, UnknownNameError
from dvme.heads.exact.linear import Linear
from dvme.heads.fitting.jobs import Embedded, Job, fit_jobs
from dvme.heads.fusion.controls import Concat
from dvme.heads.saved_head import SavedFold, SavedHead, subset_hash
from dvme.heads.saving import save_head
from dvme.prediction import sources
from dvme_cache import EmbeddingCache, Fingerprint, FingerprintMismatchError
from dvme_cli.app import app

OWN = """
from torch import nn
from dvme.backbones import BackboneSpec, Preprocess

def net():
    return nn.Sequential(nn.AdaptiveAvgPool2d(SIDE), nn.Flatten())

one = BackboneSpec(name="NAME", method="ours", architecture="net", dim=None, pooling="model", checkpoint=None,
    preprocess=Preprocess(resize=8, crop=8), licence="MIT", paper="ours", source="built", build=net)
"""
N = 12


def _own(path: Path, name: str = "one", side: int = 2) -> str:
    path.write_text(OWN.replace("NAME", name).replace("SIDE", str(side)))
    return f"{path}:one"


def _head(folder: Path, store: EmbeddingCache, names: tuple[str, ...]) -> Path:
    """A head on all images, its names those of the cache but for what comes after a colon."""
    rows = np.arange(N)
    labels = (store.column("label") == "light").astype(np.int64)
    data = Embedded({name: store.embeddings(name).read(rows) for name in names}, labels, 2)
    job = Job(Concat(Linear((1e-2,))), names, rows, rows[:0])
    (fitted,) = fit_jobs([job], data)
    folds = [SavedFold(fitted, store.samples.ids, store.samples.ids[:0], 0)]
    fingerprints = tuple(store.embeddings(name).fingerprint for name in names)
    saved = SavedHead(job.head, names, data.dims(names), fingerprints, ("dark", "light"), subset_hash(rows[:0]), folds)
    return save_head(folder, saved)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, a cache of them by a Python file's backbone (as published and varied) and by a bare checkpoint."""
    root = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(0)
    for level, label in enumerate(("dark", "light")):
        (root / "images" / label).mkdir(parents=True)
        for index in range(N // 2):
            pixels = rng.integers(0, 90, size=(12, 12, 3)) + 120 * level
            Image.fromarray(pixels.astype(np.uint8)).save(root / "images" / label / f"{level}{index}.png")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(timm.create_model("test_resnet", num_classes=3).state_dict(), root / "plain.pth")
    own = _own(root / "own.py")
    dvme.extract(
        root / "images",
        root / "c.zarr",
        backbones=[own, f"{own}@size=6", "ours@size=32"],
        architectures={"ours": "test_resnet"},
        weights={"ours": root / "plain.pth"},
    )
    store = EmbeddingCache.open(root / "c.zarr")
    assert store.backbones == ["one", "one@size=6", "ours@size=32"]
    _head(root / "python", store, ("one@size=6", "one"))
    _head(root / "both", store, ("ours@size=32", "one"))
    return root


def _predicted(study: Path, head: str, out: Path, **options: Any) -> pd.DataFrame:
    dvme.predict(study / head, study / "images", out=out, **options)
    return pd.read_csv(out).set_index("image").sort_index()


def _expected(study: Path, head: str, out: Path) -> pd.DataFrame:
    dvme.predict(study / head, study / "c.zarr", out=out)
    return pd.read_csv(out).set_index("image").sort_index()


def test_predict__backbones_of_a_file_with_the_variations_of_the_head(study: Path, tmp_path: Path) -> None:
    found = _predicted(study, "python", tmp_path / "p.csv", backbones=[f"{study}/own.py:one"])
    pd.testing.assert_frame_equal(found, _expected(study, "python", tmp_path / "q.csv"), atol=1e-6)


def test_predict__a_bare_checkpoint_beside_a_file(study: Path, tmp_path: Path) -> None:
    arguments = {"architectures": {"ours": "test_resnet"}, "weights": {"ours": study / "plain.pth"}}
    found = _predicted(study, "both", tmp_path / "p.csv", backbones=[f"{study}/own.py:one"], **arguments)
    pd.testing.assert_frame_equal(found, _expected(study, "both", tmp_path / "q.csv"), atol=1e-5)
    named = _predicted(study, "both", tmp_path / "r.csv", backbones=[f"{study}/own.py:one", "ours"], **arguments)
    pd.testing.assert_frame_equal(named, found)


def test_predict__as_typed(study: Path, tmp_path: Path) -> None:
    arguments = ["--backbones", f"{study}/own.py:one", "--arch", "ours=test_resnet"]
    arguments += ["--weights", f"ours={study}/plain.pth", "--out", str(tmp_path / "p.csv"), "--json"]
    result = CliRunner().invoke(app, ["predict", str(study / "both"), str(study / "images"), *arguments])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["n_rows"] == N


def test_predict__the_same_backbone_by_another_name(study: Path, tmp_path: Path) -> None:
    """What it computes is what the head was fitted on, and its embeddings lie under the name that it has here."""
    _head(tmp_path / "head", EmbeddingCache.open(study / "c.zarr"), ("ours@size=32",))
    dvme.predict(
        tmp_path / "head",
        study / "images",
        out=tmp_path / "p.csv",
        cache=tmp_path / "kept.zarr",
        backbones=["theirs@size=32"],
        architectures={"theirs": "test_resnet"},
        weights={"theirs": study / "plain.pth"},
    )
    assert EmbeddingCache.open(tmp_path / "kept.predicted.zarr").backbones == ["theirs@size=32"]
    dvme.predict(tmp_path / "head", study / "c.zarr", out=tmp_path / "q.csv")
    found, expected = (pd.read_csv(tmp_path / name).set_index("image").sort_index() for name in ("p.csv", "q.csv"))
    pd.testing.assert_frame_equal(found.drop(columns="path"), expected.drop(columns="path"), atol=1e-5)


def test_predict__what_is_not_known_says_how_to_go_on(study: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError) as caught:
        dvme.predict(study / "both", study / "images", out=tmp_path / "p.csv", cache=tmp_path / "kept.zarr")
    said = str(caught.value)
    for part in (
        "the head's backbone 'ours@size=32' is not known by name",
        "backbones=['FILE.py:NAME'] or architectures={'ours': 'ARCHITECTURE'} weights={'ours': 'FILE'}",
        "or extract these images into a cache with dvme extract IMAGES NEW.zarr",
        "dvme cache import FILE NEW.zarr --backbone ours@size=32",
        "then pass the cache",
    ):
        assert part in said
    assert "\n" not in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["mine", "elsewhere.toml", "x.py:net", "embeddings of 2024@size=big"])
def test_predict__imported_embeddings_may_be_called_anything(study: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / "imported.zarr"
    with EmbeddingCache.writing(path) as cache:
        rows = cache.samples.add([bytes([1, row]) * 8 for row in range(N)], [f"{row}.png" for row in range(N)])
        cache.update_columns(rows, {"label": ["dark", "light"] * (N // 2)})
        table = cache.ensure_embeddings(name, Fingerprint({"imported": "x"}), dim=3, dtype="float32", provenance={})
        for shard in table.pending_shards():
            table.commit(shard, np.random.default_rng(0).normal(size=(len(shard), 3)).astype(np.float32), {})
    _head(tmp_path / "head", EmbeddingCache.open(path), (name,))
    with pytest.raises(UnknownNameError, match="is not known by name, so images cannot be extracted for it"):
        dvme.predict(tmp_path / "head", study / "images", out=tmp_path / "p.csv")
    assert dvme.predict(tmp_path / "head", path, out=tmp_path / "p.csv").n_rows == N


def test_predict__what_is_none_of_the_head(study: Path, tmp_path: Path) -> None:
    own = f"{study}/own.py:one"
    other = _own(tmp_path / "other.py", name="other", side=3)
    head, images, out = study / "python", study / "images", tmp_path / "p.csv"
    with pytest.raises(OptionError, match=r"backbones names .*other\.py:one, but the head needs one@"):
        dvme.predict(head, images, out=out, backbones=[own, other])
    with pytest.raises(OptionError, match="weights names dino; the head's are one@size=6, one"):
        dvme.predict(head, images, out=out, backbones=[own], weights={"dino": "x.pth"})
    with pytest.raises(OptionError, match="architectures names ours; the head's are one@size=6, one"):
        dvme.predict(head, images, out=out, backbones=[own], architectures={"ours": "test_resnet"})
    for options in ({"backbones": [own]}, {"weights": {"one": "x"}}, {"architectures": {"one": "test_resnet"}}):
        with pytest.raises(
            OptionError, match=r"c\.zarr is a cache; backbones, architectures and weights are for images"
        ):
            dvme.predict(head, study / "c.zarr", out=out, **options)  # type: ignore[arg-type]
    assert not out.exists()


def test_predict__a_file_that_computes_something_else(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "identify", lambda *_: pytest.fail("extracted"))
    with pytest.raises(FingerprintMismatchError, match="as it is installed here is not what the head was fitted on"):
        dvme.predict(
            study / "python",
            study / "images",
            out=tmp_path / "p.csv",
            backbones=[_own(tmp_path / "own.py", side=3)],
            cache=tmp_path / "kept.zarr",
        )
    assert [entry.name for entry in tmp_path.iterdir() if entry.suffix != ".py"] in ([], ["__pycache__"])
