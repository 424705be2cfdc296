"""The same rows in other packages: what they read is what the cache has."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import dvme
from dvme.errors import DataError, EnvironmentMismatchError
from dvme_cache import EmbeddingCache

FAILED, PRUNED, UNLABELLED = 3, 7, 11
IMAGES = [image for image in range(20) if image not in {FAILED, PRUNED}]


def test_to_datasets__features_labels_and_columns(cache: Path, tmp_path: Path) -> None:
    found = dvme.open(cache).to_datasets(["a", "b"])
    store = EmbeddingCache.open(cache)
    found.save_to_disk(tmp_path / "saved")
    import datasets

    found = datasets.load_from_disk(tmp_path / "saved")
    assert found.column_names == ["image", "path", "label", "split", "group", "age", "a", "b"]
    assert found.features["label"].names == ["high", "low", "middle"]
    assert found["image"][:] == [f"{image}.png" for image in IMAGES]
    labels = [None if code is None else found.features["label"].int2str(code) for code in found["label"][:]]
    assert labels == [label or None for label in store.column("label")[IMAGES]]
    assert labels[IMAGES.index(UNLABELLED)] is None
    arrays = found.with_format("numpy")[:]
    for name in ("a", "b"):
        np.testing.assert_array_equal(arrays[name], store.embeddings(name).read(np.array(IMAGES)).astype(np.float32))


def test_to_datasets__parts_of_a_cache_agree_on_the_classes(cache: Path) -> None:
    """Though this one has no image of one of them."""
    whole = dvme.open(cache)
    part = whole.at(whole.labels == "middle").to_datasets("a")
    assert part.features["label"].names == ["high", "low", "middle"]
    assert {*part["label"][:]} == {2}


def test_to_anndata__one_backbone_is_x_and_several_are_obsm(cache: Path, tmp_path: Path) -> None:
    anndata = pytest.importorskip("anndata")
    store = EmbeddingCache.open(cache)
    one = dvme.open(cache).to_anndata("a")
    one.write_h5ad(tmp_path / "x.h5ad")
    back = anndata.read_h5ad(tmp_path / "x.h5ad")
    np.testing.assert_array_equal(back.X, store.embeddings("a").read(np.array(IMAGES)))
    assert back.obs_names.tolist() == [f"{image}.png" for image in IMAGES]
    assert back.obs["label"].astype(str).tolist() == store.column("label")[IMAGES].tolist()
    several = dvme.open(cache).to_anndata(["a", "b"])
    assert {name: own.shape for name, own in several.obsm.items()} == {"a": (18, 4), "b": (18, 3)}


def test_handing_over__a_name_that_would_stand_twice(cache: Path) -> None:
    """The later of two would take the place of the earlier one, in silence."""
    with EmbeddingCache.writing(cache) as store:
        store.tables.replace({"a": np.array([""] * store.n_rows, dtype=object)})
    with pytest.raises(DataError, match="two columns would be called 'a'; choose other backbones"):
        dvme.open(cache).to_datasets(["a", "b"])
    assert dvme.open(cache).to_datasets("b").column_names[-1] == "b"


@pytest.mark.parametrize(("package", "method"), [("anndata", "to_anndata"), ("datasets", "to_datasets")])
def test_needed__a_package_that_is_not_installed(
    cache: Path, monkeypatch: pytest.MonkeyPatch, package: str, method: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EnvironmentMismatchError, match=f"^this needs the package {package}: pip install {package}$"):
        getattr(dvme.open(cache), method)("a")
