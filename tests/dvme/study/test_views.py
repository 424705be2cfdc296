"""Studies by views: an image stays one image, and what is said of it is what its views say together."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from own_head import Centroids
from PIL import Image, ImageFilter
from pixel_backbone import pixel_backbone

import dvme
from dvme.backbones.description.spec import Preprocess
from dvme.backbones.description.view import View
from dvme.backbones.model.augment import view_image
from dvme.errors import DataError, OptionError
from dvme.heads.saving import load_head
from dvme.runtime import Runtime, silent
from dvme.study.design.named import named_backbones
from dvme.study.design.snapshot import LACKS_VIEW, Snapshot
from dvme.study.design.views import Views, views_asked
from dvme.study.fitting import Assignment, fit_assignments
from dvme.study.methods import make_methods
from dvme.study.run import Run
from dvme_cache import EmbeddingCache, FingerprintMismatchError

N, K = 90, 3
N_TURNED = 180
FURTHER = tuple(View(number=n) for n in range(1, K))
USES = ("none", "train", "train,test")
DRAWN = {"sizes": ("12",), "n_folds": 4, "test_fraction": 0.4}
HEADS = ["linear", "knn", "concat"]
RUNTIME = Runtime(device="cpu")


@pytest.fixture(scope="module")
def features() -> dict[str, NDArray[Any]]:
    """Two backbones in three views, the second seen but once by `b`'s further views."""
    rng = np.random.default_rng(0)
    labels = np.arange(N) % 2
    found = {}
    for name, dim in (("a", 6), ("b", 4)):
        plain = rng.normal(size=(N, dim)) + labels[:, None] * np.eye(1, dim)
        for suffix in ("", "@view=1", "@view=2"):
            found[name + suffix] = (plain + bool(suffix) * rng.normal(size=plain.shape)).astype(np.float32)
    return found


@pytest.fixture(scope="module")
def columns() -> dict[str, list[str]]:
    return {"label": ["ill" if n % 2 else "well" for n in range(N)], "group": [f"{n // 2}" for n in range(N)]}


@pytest.fixture(scope="module")
def cache(
    tmp_path_factory: pytest.TempPathFactory,
    write_embeddings: Callable[..., Path],
    features: dict[str, NDArray[Any]],
    columns: dict[str, list[str]],
) -> Path:
    return write_embeddings(tmp_path_factory.mktemp("views") / "c.zarr", features, **columns)


@pytest.fixture(scope="module")
def runs(cache: Path) -> dict[str, Path]:
    """A run of each use, over the same subsets."""
    place = {use: cache.parent / use.replace(",", "-") for use in USES}
    for use, folder in place.items():
        dvme.probe(cache, heads=HEADS, n_folds=3, views=use, out=folder, runtime=RUNTIME)
    return place


def test_named_backbones__views_are_none(cache: Path) -> None:
    store = EmbeddingCache.open(cache)
    assert named_backbones(store, None) == ["a", "b"]
    assert named_backbones(store, ["a@view=1"]) == ["a@view=1"]


def test_study__plain_images_are_as_if_there_were_no_views(
    cache: Path, runs: dict[str, Path], tmp_path: Path, write_embeddings: Any, features: Any, columns: Any
) -> None:
    """Keys, run.json and saved heads too; and a line says that there are views."""
    bare = write_embeddings(tmp_path / "c.zarr", {name: features[name] for name in ("a", "b")}, **columns)
    report = dvme.probe(bare, heads=HEADS, n_folds=3, out=tmp_path / "bare", runtime=RUNTIME)
    one, other = (json.loads((folder / "run.json").read_text()) for folder in (tmp_path / "bare", runs["none"]))
    assert one | {"cache": ""} == other | {"cache": ""}
    heads = [folder / "heads" / "linear--a" / "head.json" for folder in (tmp_path / "bare", runs["none"])]
    assert heads[0].read_bytes() == heads[1].read_bytes()
    said = [line for line in json.loads((runs["none"] / "summary.json").read_text())["notices"] if "view" in line]
    assert len(said) == 1
    assert "views of a, b are in the cache and not used" in said[0]
    assert not any("view" in line for line in report.notices)


def test_study__the_fits_of_both_uses_are_the_same_and_what_is_said_is_the_mean_over_views(
    runs: dict[str, Path], features: dict[str, NDArray[Any]]
) -> None:
    plain, learned, averaged = (Run.load(runs[use]) for use in USES)
    assert plain.manifest.hash == learned.manifest.hash == averaged.manifest.hash
    order = [int.from_bytes(bytes(row[:8]), "big") - 1 for row in plain.manifest.images]
    for (head, backbones), folder in averaged.kept_heads().items():
        one, other = load_head(learned.kept_heads()[head, backbones]), load_head(folder)
        method = averaged.methods.index((head, backbones))
        for draw, (fold, same) in enumerate(zip(one.folds, other.folds, strict=True)):
            assert {key: value.tolist() for key, value in fold.head.arrays().items()} == {
                key: value.tolist() for key, value in same.head.arrays().items()
            }
            parts = averaged.manifest.test, averaged.manifest.validation(averaged.manifest.draws[draw], 0)
            by_view = [
                [
                    fold.head.predict_proba([features[name + suffix][np.array(order)[rows]] for name in backbones])
                    for suffix in ("", "@view=1", "@view=2")
                ]
                for rows in parts
            ]
            for run, expected in (
                (learned, [own[0] for own in by_view]),
                (averaged, [sum(own) / K for own in by_view]),
            ):
                job = run.finished[method, 0][draw]
                np.testing.assert_allclose(job.test, expected[0], atol=1e-6)
                np.testing.assert_allclose(job.validation, expected[1], atol=1e-6)
    keys = [{tuple(job[:3]): job[3] for job in run.described["jobs"]} for run in (plain, learned, averaged)]
    assert all(len({own[place] for own in keys}) == 3 for place in keys[0])


def test_fit_assignments__no_view_of_an_image_is_on_two_sides(cache: Path) -> None:
    """Whatever a head is shown of other images than its training images, it learns the same."""
    store = EmbeddingCache.open(cache)
    snapshot = Snapshot.take(store, ["a"], views=Views("train,test", FURTHER))
    shown: list[Any] = []

    class Watching(Centroids):
        @staticmethod
        def fit_together(jobs: Any, data: Any, runtime: Any, progress: Any) -> Any:
            shown.extend((data.every_view(job.train), job.validation, data) for job in jobs)
            return Centroids.fit_together(jobs, data, runtime, progress)

    train, validation, test = np.arange(40), np.arange(40, 60), np.arange(60, N)
    method = make_methods([Watching()], ["a"], with_controls=False)[0]
    given = [Assignment(method, train, validation, 0)], snapshot, snapshot.targets(), test
    list(fit_assignments(*given, runtime=RUNTIME, budget=2**30, progress=silent))
    ((learned, chosen, data),) = shown
    assert len(learned) == K * len(train)
    assert set(learned % N) == set(train)
    assert set(chosen) == set(validation)
    assert (data.labels[np.concatenate([test + view * N for view in range(K)])] == -1).all()
    for view, table in enumerate((snapshot.backbones["a"], *snapshot.views["a"])):
        np.testing.assert_array_equal(data.embeddings["a"][view * N : (view + 1) * N], table.read(snapshot.rows))


def test_subsets__sizes_and_patients_are_of_images(runs: dict[str, Path]) -> None:
    run = Run.load(runs["train,test"])
    ids = [row.tobytes() for row in run.manifest.images]
    assert len(set(ids)) == len(ids) == N
    patients = [(int.from_bytes(each[:8], "big") - 1) // 2 for each in ids]
    for draw in run.manifest.draws:
        sides = run.manifest.train(draw, 0), run.manifest.validation(draw, 0), run.manifest.test
        groups = [{patients[position] for position in side.tolist()} for side in sides]
        assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]


def test_run__is_not_gone_on_with_by_other_views(cache: Path, runs: dict[str, Path]) -> None:
    before = (runs["none"] / "run.json").read_bytes()
    with pytest.raises(OptionError, match="name another folder"):
        dvme.probe(cache, heads=["linear"], n_folds=3, views="train", out=runs["none"], runtime=RUNTIME)
    with pytest.raises(OptionError, match="name another folder"):
        dvme.probe(cache, heads=["linear"], n_folds=3, views="train,test", out=runs["train"], runtime=RUNTIME)
    assert (runs["none"] / "run.json").read_bytes() == before
    again = dvme.probe(cache, heads=HEADS, n_folds=3, views="train", out=runs["train"], runtime=RUNTIME)
    assert again.n_reused == again.n_jobs


def test_compare__says_that_one_run_has_views(runs: dict[str, Path]) -> None:
    report = dvme.compare(runs["train,test"], runs["none"])
    assert {pair.method for pair in report.pairs} >= {"a + linear", "concat of 2 backbones"}
    assert any("3 views of each image, averaged over" in line and "plain images" in line for line in report.notices)


def test_explain__by_the_plain_images(runs: dict[str, Path], cache: Path) -> None:
    head = runs["train"] / "heads" / "concat--a+b"
    assert dvme.explain(head, cache).images.endswith("seen plain")
    with pytest.raises(OptionError, match="views"):
        dvme.explain(head, cache, retrain=True)


def test_predict__of_a_cache_is_the_mean_over_views_where_the_head_was_chosen_so(
    runs: dict[str, Path], cache: Path, tmp_path: Path, write_embeddings: Any, features: Any
) -> None:
    found = {}
    for use in ("train", "train,test"):
        head = runs[use] / "heads" / "concat--a+b"
        dvme.predict(head, cache, out=tmp_path / f"{use}.csv")
        table = pd.read_csv(tmp_path / f"{use}.csv", dtype={"path": str})
        rows = [int(Path(path).stem) for path in table["path"]]
        found[use] = table["p(ill)"].to_numpy()[np.argsort(rows)]
        saved = load_head(head)
        ill = saved.classes.index("ill")
        suffixes = ("",) if use == "train" else ("", "@view=1", "@view=2")
        each = [
            fold.head.predict_proba([features[name + suffix] for name in ("a", "b")])[:, ill]
            for fold in saved.folds
            for suffix in suffixes
        ]
        np.testing.assert_allclose(found[use], np.mean(each, axis=0), atol=1e-7)
    assert np.abs(found["train"] - found["train,test"]).max() > 1e-3
    plain = write_embeddings(tmp_path / "p.zarr", {name: features[name] for name in ("a", "b")})
    dvme.predict(runs["train"] / "heads" / "concat--a+b", plain, out=tmp_path / "q.csv")
    with pytest.raises(Exception, match="view=1"):
        dvme.predict(runs["train,test"] / "heads" / "concat--a+b", plain, out=tmp_path / "r.csv")


def test_sites__are_asked_by_views_where_the_study_is(
    cache: Path, tmp_path: Path, write_embeddings: Any, features: Any, columns: Any
) -> None:
    """A site that holds the study's own embeddings, under other contents, scores as the whole study would."""
    rng = np.random.default_rng(5)
    there = {name: rows + np.float32(1e-3) for name, rows in features.items()}
    with EmbeddingCache.writing(tmp_path / "site.zarr") as store:
        rows = store.samples.add([rng.bytes(16) for _ in range(N)], [f"{n}.png" for n in range(N)])
        store.update_columns(rows, {"label": columns["label"]})
        for name, values in there.items():
            own = EmbeddingCache.open(cache).embeddings(name)
            table = store.ensure_embeddings(name, own.fingerprint, dim=own.dim, dtype=own.dtype, provenance={})
            for shard in table.pending_shards():
                table.commit(shard, values[shard], {})
    asked = {"heads": ["linear"], "backbones": "a", "n_folds": 3, "runtime": RUNTIME, "test": tmp_path / "site.zarr"}
    scores = {}
    for use in USES[1:]:
        report = dvme.probe(cache, views=use, save=tmp_path / use.replace(",", "-"), **asked)
        assert report.sites is not None
        scores[use] = report.sites.sites[0].drops[0].external.estimate
        saved = load_head(tmp_path / use.replace(",", "-") / "linear--a")
        suffixes = ("", "@view=1", "@view=2") if use == "train,test" else ("",)
        labels = np.array(columns["label"]) == "ill"
        aucs = []
        for fold in saved.folds:
            p = np.mean([fold.head.predict_proba([there[f"a{s}"]])[:, saved.classes.index("ill")] for s in suffixes], 0)
            aucs.append((p[labels][:, None] > p[~labels]).mean())
        assert scores[use] == pytest.approx(np.mean(aucs), abs=1e-6)
    bare = write_embeddings(tmp_path / "bare.zarr", {"a": features["a"] * 2}, **columns)
    with pytest.raises(DataError, match="a@view=1"):
        dvme.probe(cache, views="train,test", **(asked | {"test": bare}))


def test_snapshot__an_image_that_lacks_a_view_is_left_out_and_counted(
    tmp_path: Path, write_embeddings: Any, features: Any, columns: Any
) -> None:
    holed = features["a@view=2"].copy()
    holed[:7] = np.nan
    place = write_embeddings(tmp_path / "c.zarr", {**features, "a@view=2": holed}, **columns)
    store = EmbeddingCache.open(place)
    views, _ = views_asked("train", store, ["a", "b"])
    snapshot = Snapshot.take(store, ["a", "b"], views=views)
    assert snapshot.left_out == {LACKS_VIEW: 7}
    assert len(snapshot) == N - 7
    assert f"left out: 7 {LACKS_VIEW}" in snapshot.notices
    assert len(Snapshot.take(store, ["a", "b"])) == N


def test_snapshot__nobody_with_all_views_is_refused_with_the_command(
    tmp_path: Path, write_embeddings: Any, features: Any, columns: Any
) -> None:
    nothing = np.full_like(features["a@view=2"], np.nan)
    place = write_embeddings(tmp_path / "c.zarr", {**features, "a@view=2": nothing}, **columns)
    with pytest.raises(DataError, match=r"dvme extract IMAGES .*c\.zarr --backbones a,b --views 3"):
        dvme.probe(place, heads=["linear"], views="train")


@pytest.fixture(scope="module")
def with_another(tmp_path_factory: pytest.TempPathFactory, write_embeddings: Any, features: Any) -> Path:
    """A cache that has a third backbone, without views."""
    held = {name: features[name] for name in ("a", "a@view=1", "a@view=2")}
    place: Path = write_embeddings(tmp_path_factory.mktemp("another") / "c.zarr", {**held, "c": features["a"]})
    return place


@pytest.mark.parametrize(
    ("names", "asked", "said"),
    [
        (["a"], "trian", "choose one of none, train, train,test"),
        (["a"], "test", "choose one of"),
        (["a"], "none:rotate", "choose one of"),
        (["a"], "train:spin", "recipe 'spin'"),
        (["a@view=1"], "train", "name a, or leave out views"),
        (["a"], "train:rotate", "--backbones a --views 2:rotate"),
        (["c"], "train", "no views of c; run dvme extract IMAGES .* --backbones c --views 2"),
        (["a", "c"], "train", "no views of c; run dvme extract IMAGES .* --backbones c --views 3"),
    ],
)
def test_views_asked__refusals(names: list[str], asked: str, said: str, with_another: Path) -> None:
    with pytest.raises((OptionError, DataError), match=said):
        views_asked(asked, EmbeddingCache.open(with_another), names)


def test_views_asked__the_views_that_all_backbones_have_by_one_recipe(
    tmp_path: Path, write_embeddings: Any, features: Any
) -> None:
    more = {"a@view=1:crop": features["a"], "b@view=3": features["b"], "b@view=99": features["b"]}
    place = write_embeddings(tmp_path / "c.zarr", features | more)
    store = EmbeddingCache.open(place)
    with pytest.raises(OptionError, match=r"views by crop, flip\+rotate\+crop; choose one, as in views='train:crop'"):
        views_asked("train", store, ["a", "b"])
    views, lines = views_asked("train,test:crop+flip+rotate", store, ["a", "b"])
    assert views == Views("train,test", FURTHER)
    assert lines[0].startswith("heads learn from 3 views of each image, and predictions are means over them")
    assert "further views of b are not used" in lines[1]
    only, _ = views_asked("train:crop", store, ["a"])
    assert only is not None
    assert only.names_of("a") == ("a@view=1:crop",)
    assert views_asked("none", store, ["a", "b"])[0] is None


def test_study__heads_that_know_nothing_of_views_are_refused(cache: Path) -> None:
    with pytest.raises(OptionError, match="leave out views"):
        dvme.probe(cache, heads=[Centroids()], views="train")
    dvme_order = {"heads": ["linear@tune=kappa"], "n_folds": 3}
    with pytest.raises(OptionError, match="views='train' takes it"):
        dvme.probe(cache, views="train,test", **dvme_order)


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of two patterns, each mirrored, turned and cropped as views are, in noise; and seven views of them."""
    folder = tmp_path_factory.mktemp("turned")
    rng = np.random.default_rng(1)
    patterns = [
        Image.fromarray(rng.integers(0, 256, (40, 40), dtype=np.uint8)).filter(ImageFilter.GaussianBlur(1.6))
        for _ in range(2)
    ]
    whole = Preprocess(resize=36, crop=36, mean=(0.0,), std=(1.0,))
    for n in range(N_TURNED):
        seen = view_image(patterns[n % 2], whole, View(number=int(rng.integers(1, 3))), rng.bytes(16))[..., 0]
        noisy = np.clip(seen + rng.normal(0, 120, seen.shape), 0, 255).astype(np.uint8)
        path = folder / "images" / "ab"[n % 2] / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy).save(path)
    dvme.extract(
        folder / "images",
        folder / "c.zarr",
        backbones=pixel_backbone(folder, crop=18, resize=20),
        views=6,
        runtime=RUNTIME,
    )
    return folder


def test_views__help_where_images_differ_as_views_do(turned: Path) -> None:
    """Twelve labels, and the same pictures in many poses: the interval of the gain is above zero for both uses."""
    dvme.subsets(turned / "c.zarr", turned / "s.json", options=DRAWN)
    for use in USES:
        dvme.sweep(
            turned / "c.zarr",
            turned / use,
            subsets=turned / "s.json",
            heads=["linear"],
            views=use,
            runtime=RUNTIME,
        )
    for use in USES[1:]:
        (pair,) = dvme.compare(turned / use, turned / "none").pairs
        assert pair.comparison is not None
        assert pair.comparison.difference.low > 0.0


def test_predict__of_images_embeds_all_views(turned: Path, tmp_path: Path) -> None:
    dvme.probe(turned / "c.zarr", heads=["linear"], n_folds=3, views="train,test", save=tmp_path / "h", runtime=RUNTIME)
    head = tmp_path / "h" / "linear--pixels"
    own = pixel_backbone(turned, crop=18, resize=20)
    report = dvme.predict(head, turned / "images", out=tmp_path / "p.csv", backbones=own, runtime=RUNTIME)
    assert report.n_computed == N_TURNED
    dvme.predict(head, turned / "c.zarr", out=tmp_path / "q.csv")
    dvme.predict(head, turned / "images", out=tmp_path / "r.csv", cache=turned / "c.zarr", runtime=RUNTIME)
    tables = [pd.read_csv(tmp_path / f"{name}.csv").set_index("image").sort_index() for name in "pqr"]
    for table in tables[1:]:
        np.testing.assert_allclose(tables[0]["p(a)"], table["p(a)"], atol=1e-6)
    (turned / "pixels.py").write_text((turned / "pixels.py").read_text().replace("resize=20", "resize=19"))
    with pytest.raises(FingerprintMismatchError):
        dvme.predict(head, turned / "images", out=tmp_path / "s.csv", backbones=own, runtime=RUNTIME)
