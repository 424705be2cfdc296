"""`dvme viz`: what is in the page, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from light import filed, light
from numpy.typing import NDArray
from pictures import EVIL, write_pictures
from scenes import discs, scene_of

import dvme
from dvme.errors import DataError, OptionError
from dvme.heads.saving import load_head
from dvme.maps import maps as mapping
from dvme.report import page_maps
from dvme_cache import EmbeddingCache

N = 60
LABELS = np.arange(N) % 3
Write = Callable[..., Path]
Make = Callable[..., NDArray[Any]]

PCA = dvme.PageOptions(methods=["pca"])


def _ids(cache: Path) -> NDArray[np.uint8]:
    return EmbeddingCache.open(cache).samples.ids


@pytest.fixture
def cache(tmp_path: Path, write_embeddings: Write, make_features: Make) -> Path:
    features = {"a": make_features(LABELS, 3.0, 0), "b": make_features(LABELS, 0.0, 1)}
    return write_embeddings(tmp_path / "c.zarr", features, label=[f"<b>{c}</b>" for c in LABELS])


@pytest.mark.parametrize("method", ["tsne", "pca", pytest.param("umap", marks=pytest.mark.umap)])
def test_viz__writes_one_self_contained_file(cache: Path, tmp_path: Path, method: str) -> None:
    (tmp_path / "a folder").mkdir()
    out = tmp_path / "a folder" / "maps.html"
    report = dvme.viz(cache, out=out, options=dvme.PageOptions(methods=[method]))
    page = out.read_text(encoding="utf-8")
    assert (report.n_points, report.n_left_out, report.n_without_thumbnail) == (N, 0, N)
    quality = report.maps[method]
    assert quality["a"].knn_accuracy > 0.9 > quality["b"].knn_accuracy
    assert quality["a"].silhouette > quality["b"].silhouette
    assert not re.search(r"(?:src|href)=.?https?:", page)
    assert "<b>0" not in page  # labels are data, not markup
    assert not list(out.parent.glob("*.partial"))


def test_viz__a_map_is_computed_once(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "kept"))
    dvme.viz(cache, out=tmp_path / "one.html")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(mapping, "project", refuse)
    monkeypatch.setattr(mapping, "measure", refuse)
    dvme.viz(cache, out=tmp_path / "two.html")
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()
    with pytest.raises(AssertionError, match="computed again"):
        dvme.viz(cache, out=tmp_path / "three.html", options=dvme.PageOptions(seed=1))


def test_viz__says_of_many_images_which_were_placed(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_maps, "make_maps", partial(mapping.make_maps, most=40))
    said = [
        "t-SNE: 40 of 60 images laid out, the others placed beside them",
        "numbers of maps are measured among 40 images drawn at random",
    ]
    report = dvme.viz(cache, out=tmp_path / "m.html", options=dvme.PageOptions(methods=["tsne", "pca"]))
    page = (tmp_path / "m.html").read_text()
    assert report.notices[:2] == said
    assert all(line in page for line in said)
    quality = report.to_json()["maps"]
    assert [quality[method]["a"]["n_laid_out"] for method in ("tsne", "pca")] == [40, None]
    report = dvme.viz(cache, out=tmp_path / "pca.html", options=PCA)
    assert report.notices[0] == said[1]
    assert said[0] not in (tmp_path / "pca.html").read_text()


def test_viz__of_few_images_nothing_is_said(cache: Path, tmp_path: Path) -> None:
    report = dvme.viz(cache, out=tmp_path / "m.html", options=PCA)
    assert not any("drawn" in line for line in report.notices)
    assert report.maps["pca"]["a"].n_measured is None


def test_viz__thumbnails_only_of_the_images_themselves(tmp_path: Path) -> None:
    cache = write_pictures(tmp_path, n_images=30)
    images = sorted((tmp_path / "images").rglob("*.png"))
    images[0].unlink()
    images[1].write_bytes(images[2].read_bytes())  # another image under the old name
    images[3].write_bytes(b"no image")
    report = dvme.viz(cache, out=tmp_path / "m.html", options=PCA)
    assert report.n_without_thumbnail == 3
    assert "3 images of 30 cannot be shown, the first is 000 <script>" in report.notices[0]
    assert '"missing":[0,1,3]' in (tmp_path / "m.html").read_text()
    report = dvme.viz(cache, out=tmp_path / "m.html", options=replace(PCA, thumbnails=False), force=True)
    assert report.n_without_thumbnail == 30
    assert "image/webp" not in (tmp_path / "m.html").read_text()


def test_viz__anonymous_names_nobody(tmp_path: Path) -> None:
    cache = write_pictures(tmp_path, n_images=30)
    dvme.viz(cache, out=tmp_path / "open.html", options=PCA)
    dvme.viz(cache, out=tmp_path / "closed.html", options=replace(PCA, anonymous=True))
    shown, hidden = ((tmp_path / name).read_text() for name in ("open.html", "closed.html"))
    for secret in ("0.png", "site ", "c.zarr", '"age"'):
        assert secret not in hidden
    assert "0.png" in shown
    assert "site " in shown
    assert str(tmp_path) not in shown  # what all paths have in common is left out
    groups = re.search(r'"name":"group","values":(\[.*?\])', hidden)
    assert groups is not None
    assert groups[1] == str([str(number) for number in range(1, 16)]).replace("'", '"').replace(" ", "")
    ids = re.search(r'"ids":(\[.*?\])', hidden)
    assert ids is not None
    names = json.loads(ids[1])
    assert all(re.fullmatch("[0-9a-f]{12}", name) for name in names)
    assert len(set(names)) == 30
    assert names == sorted(names)  # not in the order of the files
    bare = {hashlib.blake2b(row.tobytes(), digest_size=16).hexdigest()[:12] for row in _ids(cache)}
    assert not bare & set(names)  # nor to be found by who can guess what was hashed


def test_viz__anonymous_points_are_the_same_points(tmp_path: Path) -> None:
    """Shuffled: labels, positions and thumbnails move together."""
    cache = write_pictures(tmp_path, n_images=30, classes=("a", "b", "c"))
    pages = []
    for name, is_anonymous in (("open.html", False), ("closed.html", True)):
        dvme.viz(cache, out=tmp_path / name, options=replace(PCA, anonymous=is_anonymous))
        found = re.search(r'id="explorer-data">(.*?)</script>', (tmp_path / name).read_text())
        assert found is not None
        pages.append(json.loads(found[1]))
    both = []
    for page in pages:
        places = np.frombuffer(base64.b64decode(page["maps"][0]["places"]), "<f4").reshape(-1, 2)
        codes = np.frombuffer(base64.b64decode(page["columns"][0]["codes"]), "<u4")
        both.append(sorted(zip(places.tolist(), codes.tolist(), strict=True)))
    assert both[0] == both[1]
    assert pages[0]["thumbnails"]["sheets"] != pages[1]["thumbnails"]["sheets"]


def test_viz__the_layer_of_a_trained_head(
    tmp_path: Path, write_embeddings: Write, make_features: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = {"a": make_features(LABELS, 1.0, 0), "b": make_features(LABELS, 1.0, 1)}
    cache = write_embeddings(tmp_path / "c.zarr", features, label=[str(c) for c in LABELS])
    dvme.probe(cache, heads=light("dvme", "linear"), controls=False, n_folds=2, save=tmp_path / "heads")
    head = tmp_path / "heads" / filed("dvme", "a+b")
    report = dvme.viz(cache, out=tmp_path / "m.html", head=head, options=PCA)
    assert list(report.maps["pca"]) == ["a", "b", "dvme, first fold"]
    assert report.maps["pca"]["a"].n_asked == N - sum(
        len(ids) for ids in (load_head(head).folds[0].train_ids, load_head(head).folds[0].validation_ids)
    )
    page = (tmp_path / "m.html").read_text()
    assert '"name":"used by the head","values":["chosen on","new to the head","trained on"]' in page
    with pytest.raises(OptionError, match="head takes a dvme"):
        dvme.viz(cache, out=tmp_path / "n.html", head=tmp_path / "heads" / filed("linear", "a"))


@pytest.mark.parametrize(("n", "method"), [(5, "tsne"), (7, "tsne"), pytest.param(5, "umap", marks=pytest.mark.umap)])
def test_viz__fewer_points_than_the_method_asks_for(
    tmp_path: Path, write_embeddings: Write, n: int, method: str
) -> None:
    features = {"a": np.random.default_rng(0).normal(size=(n, 4)).astype(np.float32)}
    report = dvme.viz(
        write_embeddings(tmp_path / "c.zarr", features),
        out=tmp_path / "m.html",
        options=dvme.PageOptions(methods=[method]),
    )
    assert report.n_points == n  # and without any label
    assert np.isnan(report.maps[method]["a"].knn_accuracy)


def test_viz__bad_input_is_one_line(cache: Path, tmp_path: Path, write_embeddings: Write) -> None:
    few = write_embeddings(tmp_path / "few.zarr", {"a": np.eye(4, dtype=np.float32)})
    with pytest.raises(DataError, match="has 4 rows with all of these embeddings; a map needs 5"):
        dvme.viz(few, out=tmp_path / "m.html")
    equal = write_embeddings(tmp_path / "equal.zarr", {"a": np.ones((8, 4), dtype=np.float32)})
    with pytest.raises(DataError, match="equal"):
        dvme.viz(equal, out=tmp_path / "m.html")
    with pytest.raises(OptionError, match="unknown map 'isomap'; choose one of tsne, umap, pca"):
        dvme.viz(cache, out=tmp_path / "m.html", options=dvme.PageOptions(methods=["isomap"]))
    with pytest.raises(OptionError, match=r"does not end in \.html"):
        dvme.viz(cache, out=tmp_path / "m.png")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    with pytest.raises(OptionError, match="is a run; dvme report"):
        dvme.viz(tmp_path / "run", out=tmp_path / "m.html")
    (tmp_path / "d.html").mkdir()
    with pytest.raises(OptionError, match=r"d\.html is a folder; name a file"):
        dvme.viz(cache, out=tmp_path / "d.html")
    assert not (tmp_path / "m.html").exists()


def test_viz__left_out_rows_are_counted(tmp_path: Path, write_embeddings: Write, make_features: Make) -> None:
    features = make_features(LABELS, 1.0, 0)
    features[4] = np.nan
    cache = write_embeddings(tmp_path / "c.zarr", {"a": features}, label=[str(c) for c in LABELS])
    report = dvme.viz(cache, out=tmp_path / "m.html", options=PCA)
    assert (report.n_points, report.n_left_out) == (N - 1, 1)
    assert "1 without an embedding left out" in (tmp_path / "m.html").read_text()


def test_viz__script_in_every_name_stays_text(tmp_path: Path) -> None:
    cache = write_pictures(tmp_path, n_images=30)
    dvme.viz(cache, out=tmp_path / "m.html", options=PCA)
    page = (tmp_path / "m.html").read_text()
    assert EVIL not in page
    assert "<script>alert" not in page


def test_viz__dense_features_are_placed_by_their_mean_and_shown_as_colours(tmp_path: Path) -> None:
    """As embeddings that are these means."""
    rng, name = np.random.default_rng(0), "a@dense=last-2"
    maps = [rng.normal(size=(N, 4, 4, 3)), 5 * rng.normal(size=(N, 2, 2, 5))]
    scene_of(tmp_path, {name: maps}, discs(N, 8))
    pages = {}
    for shown in (True, False):
        out = tmp_path / f"{shown}.html"
        report = dvme.viz(tmp_path / "c.zarr", out=out, backbones=[name], options=replace(PCA, thumbnails=shown))
        pages[shown] = _explorer(out)
    means = np.concatenate([own.mean(axis=(1, 2)) for own in maps], axis=1)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    left, values, _ = np.linalg.svd(means - means.mean(axis=0), full_matrices=False)
    expected = left[:, :2] * values[:2]
    places = np.frombuffer(base64.b64decode(pages[True]["maps"][0]["places"]), "<f4").reshape(N, 2)
    for axis in range(2):
        assert abs(np.corrcoef(places[:, axis], expected[:, axis])[0, 1]) > 0.9999
    (tokens,) = pages[True]["tokens"]
    assert (tokens["name"], tokens["n"], tokens["edge"]) == (name, N, 4)
    assert pages[False]["tokens"] == []
    assert report.n_points == N


def _explorer(page: Path) -> dict[str, Any]:
    found = re.search(r'id="explorer-data">(.*?)</script>', page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data
