from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

import dvme
from dvme.backbones.description.spec import BackboneSpec
from dvme.backbones.loading import model
from dvme.data.findings import from_separated, parsed
from dvme.errors import DataError, OptionError
from dvme.extraction.passes import extract_all
from dvme.heads import Embedded, Job, fit_jobs
from dvme.heads.exact.linear import Linear
from dvme.heads.fusion.controls import Concat, MeanLogits
from dvme.heads.saved_head import SavedFold, SavedHead, subset_hash
from dvme.heads.saving import content_digest, load_head, save_head
from dvme.prediction import sources
from dvme.study.design.splits import make_plan
from dvme_cache import EmbeddingCache, Fingerprint, FingerprintMismatchError, MissingEmbeddingsError
from dvme_cache.samples import SampleTable

N = 60
LABELS = np.arange(N) % 3
CLASSES = ("0", "1", "2")
SMALL = ("efficientnet-lite0@size=64", "efficientnet-lite0@size=48")
"""Cheap, and of names that have something in them."""


def _content_ids(rows: NDArray[Any]) -> NDArray[np.uint8]:
    """Zeros at the end, where a careless comparison stops."""
    ids = np.zeros((len(rows), 16), dtype=np.uint8)
    ids[:, 0] = 1
    ids[:, 7] = rows
    return ids


def _features(name: str) -> NDArray[np.float32]:
    rng = np.random.default_rng(len(name))
    features = rng.normal(size=(3, 6))[LABELS] + rng.normal(size=(N, 6))
    return features.astype(np.float32)


def _cache(
    path: Path,
    failed: dict[str, list[int]] | None = None,
    pending: str | None = None,
    weights: str = "published",
    paths: list[str] | None = None,
) -> Path:
    """`a` and `bb` for all rows, but for those that failed; `pending` has none."""
    with EmbeddingCache.writing(path) as cache:
        ids = [row.tobytes() for row in _content_ids(np.arange(N))]
        cache.samples.add(ids, paths or [f"folder/{row}.png" for row in range(N)])
        for name in ("a", "bb"):
            fingerprint = Fingerprint({"dtype": "float32", "weights": weights if name == "bb" else "published"})
            table = cache.ensure_embeddings(name, fingerprint, dim=6, dtype="float32", provenance={})
            for shard in table.pending_shards() if name != pending else []:
                reasons = dict.fromkeys((failed or {}).get(name, []), f"torn in {name}")
                features = _features(name)[shard]
                features[list(reasons)] = np.nan
                table.commit(shard, features, reasons)
    return path


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """mean-logits of two folds: learned from rows 0 to 39, chosen on 40 to 47 and 44 to 51; 52 to 59 are new."""
    data = Embedded({name: _features(name) for name in ("a", "bb")}, LABELS, 3)
    rows = np.arange(N)
    jobs = [
        Job(MeanLogits(Linear((1e-2,))), ("bb", "a"), rows[first : first + 30], rows[stop : stop + 8])
        for first, stop in ((0, 40), (10, 44))
    ]
    ids = _content_ids(rows)
    folds = [
        SavedFold(fitted, ids[job.train], ids[job.validation], job.seed)
        for job, fitted in zip(jobs, fit_jobs(jobs, data), strict=True)
    ]
    fingerprints = (Fingerprint({"dtype": "float32", "weights": "published"}),) * 2
    saved = SavedHead(jobs[0].head, ("bb", "a"), (6, 6), fingerprints, CLASSES, subset_hash(ids[52:]), folds)
    return save_head(tmp_path_factory.mktemp("heads") / "mean-logits--bb+a", saved)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole cache; no test writes to it."""
    return _cache(tmp_path_factory.mktemp("cache") / "c.zarr")


def _expected(head: Path) -> NDArray[np.float64]:
    """(N, C) from the saved heads themselves."""
    blocks = [_features("bb"), _features("a")]
    one, other = (fold.head.predict_proba(blocks) for fold in load_head(head).folds)
    return (one + other) / 2


def _lines(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_to_frame__is_the_table_that_was_written(head: Path, cache: Path, tmp_path: Path, suffix: str) -> None:
    """Classes that are called by numbers stay texts."""
    report = dvme.predict(head, cache, out=tmp_path / f"p{suffix}")
    frame, expected = report.to_frame(), _expected(head)
    assert list(frame.columns) == ["image", "path", "class", "p(0)", "p(1)", "p(2)"]
    np.testing.assert_allclose(frame[["p(0)", "p(1)", "p(2)"]].to_numpy(), expected, rtol=0, atol=1e-12)
    assert frame["class"].tolist() == [CLASSES[c] for c in expected.argmax(axis=1)]
    assert repr(report).startswith("PredictReport: 60 images by mean-logits")


def test_predict__one_line_per_image_of_a_cache(head: Path, cache: Path, tmp_path: Path) -> None:
    report = dvme.predict(head, cache, out=tmp_path / "p.csv")
    expected = _expected(head)
    header, *lines = _lines(tmp_path / "p.csv")
    assert header == ["image", "path", "class", "p(0)", "p(1)", "p(2)"]
    assert [line[0] for line in lines] == [f"folder/{row}.png" for row in range(N)]
    assert [line[2] for line in lines] == [CLASSES[c] for c in expected.argmax(axis=1)]
    np.testing.assert_allclose(np.array([line[3:] for line in lines], dtype=float), expected, rtol=1e-12)
    counts = {name: int((expected.argmax(axis=1) == c).sum()) for c, name in enumerate(CLASSES)}
    assert (report.head, report.backbones) == ("mean-logits@strengths=0.01", ("bb", "a"))
    assert report.out == str(tmp_path / "p.csv")
    assert (report.n_rows, report.counts, report.left_out) == (N, counts, {})
    json.dumps(report.to_json(), allow_nan=False)


def test_predict__reads_the_paths_of_a_cache_once(
    head: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a row took two minutes for a thousand images."""
    read: list[int] = []
    paths = SampleTable.paths
    monkeypatch.setattr(SampleTable, "paths", property(lambda self: read.append(1) or paths.fget(self)))
    dvme.predict(head, cache, out=tmp_path / "p.csv")
    assert len(read) == 1


def test_predict__counts_what_the_head_knows(head: Path, tmp_path: Path) -> None:
    """Learned from 0 to 39 or chosen on 40 to 51; not the 8 others, nor those without a prediction."""
    cache = _cache(tmp_path / "c.zarr", failed={"a": [1, 2, 59]})
    assert dvme.predict(head, cache, out=tmp_path / "p.csv").n_known == 52 - 2


def test_predict__in_parts_as_at_once(head: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, int, int]] = []
    monkeypatch.setattr("dvme.prediction.predict.ROWS_AT_ONCE", 7)
    dvme.predict(head, cache, out=tmp_path / "p.parquet", progress=lambda *state: told.append(state))
    table = pd.read_parquet(tmp_path / "p.parquet")
    np.testing.assert_allclose(table[["p(0)", "p(1)", "p(2)"]], _expected(head), rtol=1e-12)
    assert told == [("predict", min(7 * part, N), N) for part in range(1, 10)]


def test_predict__csv_and_parquet_say_the_same(head: Path, cache: Path, tmp_path: Path) -> None:
    dvme.predict(head, cache, out=tmp_path / "p.csv")
    dvme.predict(head, cache, out=tmp_path / "p.parquet")
    text, binary = pd.read_csv(tmp_path / "p.csv", dtype={"class": str}), pd.read_parquet(tmp_path / "p.parquet")
    assert list(text.columns) == list(binary.columns)
    assert text["image"].tolist() == binary["image"].tolist()
    assert text["class"].tolist() == binary["class"].tolist()
    for name in ("p(0)", "p(1)", "p(2)"):
        assert text[name].tolist() == pytest.approx(binary[name].tolist(), rel=1e-12)


def test_predict__submission_is_stems_and_classes(head: Path, tmp_path: Path) -> None:
    cache = _cache(tmp_path / "c.zarr", paths=[f"test/deep/{row:03d}.v2.png" for row in range(N)])
    dvme.predict(head, cache, out=tmp_path / "s.csv", submission=["id_code", "diagnosis"])
    expected = _expected(head).argmax(axis=1)
    assert _lines(tmp_path / "s.csv") == [
        ["id_code", "diagnosis"],
        *([f"{r:03d}.v2", str(expected[r])] for r in range(N)),
    ]


def test_predict__submission_with_a_name_twice_is_refused(head: Path, tmp_path: Path) -> None:
    cache = _cache(tmp_path / "c.zarr", paths=["x/1.png", "y/1.jpg", *(f"{row}.png" for row in range(2, N))])
    with pytest.raises(DataError, match="two images have the same file name"):
        dvme.predict(head, cache, out=tmp_path / "s.csv", submission=["id", "label"])
    assert not (tmp_path / "s.csv").exists()


@pytest.mark.parametrize("submission", [["id"], ["id", "id"], ["a", "b", "c"]])
def test_predict__submission_of_two_columns_only(head: Path, tmp_path: Path, submission: list[str]) -> None:
    with pytest.raises(OptionError, match="a submission has two different columns"):
        dvme.predict(head, tmp_path / "c.zarr", out=tmp_path / "s.csv", submission=submission)


def test_predict__rows_that_one_backbone_lacks_are_named(head: Path, tmp_path: Path) -> None:
    cache = _cache(tmp_path / "c.zarr", failed={"a": [3, 50], "bb": [3, 7]})
    report = dvme.predict(head, cache, out=tmp_path / "p.csv")
    assert report.left_out == {
        "folder/3.png": "torn in bb",
        "folder/7.png": "torn in bb",
        "folder/50.png": "torn in a",
    }
    rows = [row for row in range(N) if row not in (3, 7, 50)]
    _, *lines = _lines(tmp_path / "p.csv")
    assert [line[0] for line in lines] == [f"folder/{row}.png" for row in rows]
    np.testing.assert_allclose(np.array([line[3:] for line in lines], dtype=float), _expected(head)[rows], rtol=1e-12)
    assert report.n_rows == sum(report.counts.values()) == 57


def test_predict__nothing_to_predict_is_refused(head: Path, tmp_path: Path) -> None:
    cache = _cache(tmp_path / "pending.zarr", pending="a")
    with pytest.raises(DataError, match=r"folder/0.png: has no a embedding yet\); run dvme extract first"):
        dvme.predict(head, cache, out=tmp_path / "p.csv")
    cache = _cache(tmp_path / "failed.zarr", failed={"a": list(range(N))})
    with pytest.raises(DataError, match=r"folder/0.png: torn in a\); there is nothing to predict"):
        dvme.predict(head, cache, out=tmp_path / "p.csv")
    assert not (tmp_path / "p.csv").exists()


def test_predict__images_that_were_pruned_are_not_asked_for(head: Path, tmp_path: Path) -> None:
    path = _cache(tmp_path / "c.zarr")
    with EmbeddingCache.writing(path) as cache:
        cache.prune(np.array([0, 1]))
    report = dvme.predict(head, path, out=tmp_path / "p.csv")
    assert (report.n_rows, report.left_out, report.n_known) == (N - 2, {}, 50)


def test_predict__embeddings_made_in_another_way_are_refused(head: Path, tmp_path: Path) -> None:
    cache = _cache(tmp_path / "c.zarr", weights="my own")
    with pytest.raises(FingerprintMismatchError) as caught:
        dvme.predict(head, cache, out=tmp_path / "p.csv")
    for part in (f"bb in {cache}", "weights is 'my own', the head's is 'published'", "extract bb as it was"):
        assert part in str(caught.value)
    assert "more differ" not in str(caught.value)
    assert not (tmp_path / "p.csv").exists()


def test_predict__a_backbone_that_the_cache_lacks(head: Path, tmp_path: Path) -> None:
    path = _cache(tmp_path / "c.zarr")
    with EmbeddingCache.writing(path) as cache:
        cache.remove_embeddings("a")
    with pytest.raises(MissingEmbeddingsError, match="has no a embeddings"):
        dvme.predict(head, path, out=tmp_path / "p.csv")


def test_predict__a_file_that_is_there_stays_without_force(head: Path, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("mine")
    with pytest.raises(OptionError, match=r"p\.csv is there already; name another file, or pass force=True"):
        dvme.predict(head, cache, out=tmp_path / "p.csv")
    assert (tmp_path / "p.csv").read_text() == "mine"
    dvme.predict(head, cache, out=tmp_path / "p.csv", force=True)
    assert len(_lines(tmp_path / "p.csv")) == N + 1


@pytest.mark.parametrize(
    ("out", "message"),
    [("p.json", "does not end in .csv or .parquet"), ("no/p.csv", "no is not a folder"), ("d.csv", "is a folder")],
)
def test_predict__places_that_cannot_be_written(
    head: Path, cache: Path, tmp_path: Path, out: str, message: str
) -> None:
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(OptionError, match=message):
        dvme.predict(head, cache, out=tmp_path / out, force=True)


def test_predict__a_cache_needs_no_other(head: Path, cache: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="is a cache itself"):
        dvme.predict(head, cache, out=tmp_path / "p.csv", cache=tmp_path / "other.zarr")
    with pytest.raises(DataError, match=r"none does not exist; name images, a manifest or a cache"):
        dvme.predict(head, tmp_path / "none", out=tmp_path / "p.csv")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def _loaded_once() -> Iterator[None]:
    """Every network is built once for all tests: that takes longer than the rest."""
    load = model.load_backbone
    known: dict[str, model.Backbone] = {}

    def once(spec: BackboneSpec, **options: Any) -> model.Backbone:
        if spec.name not in known:
            known[spec.name] = load(spec, **options)
        return known[spec.name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "load_backbone", once)
        yield


@pytest.fixture(scope="module")
def photographs(_loaded_once: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve small images of two classes, with a cache of them, and a head on two backbones stored in two types."""
    from PIL import Image

    root = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for level, name in enumerate(("dark", "light")):
        (root / "images" / name).mkdir(parents=True)
        for index in range(12):
            pixels = rng.integers(0, 60, size=(30, 40, 3)) + 60 * level
            Image.fromarray(pixels.astype(np.uint8)).save(root / "images" / name / f"{level}{index:02d}.png")
    for backbone, dtype in zip(SMALL, ("float32", "float16"), strict=True):
        dvme.extract(root / "images", root / "c.zarr", backbones=[backbone], dtype=dtype)
    store = EmbeddingCache.open(root / "c.zarr")
    labels = (store.column("label") == "light").astype(np.int64)
    data = Embedded({name: store.embeddings(name).read(np.arange(24)) for name in SMALL}, labels, 2)
    nothing = np.full(24, "", dtype=object)
    plan = make_plan(labels, nothing, nothing, classes=("dark", "light"), n_folds=2)
    jobs = [Job(Concat(Linear((1e-2,))), SMALL, fold.train, fold.validation) for fold in plan.folds]
    ids = store.samples.ids
    folds = [
        SavedFold(fitted, ids[job.train], ids[job.validation], job.seed)
        for job, fitted in zip(jobs, fit_jobs(jobs, data), strict=True)
    ]
    fingerprints = tuple(store.embeddings(name).fingerprint for name in SMALL)
    test_hash = subset_hash(ids[plan.test])
    saved = SavedHead(jobs[0].head, SMALL, data.dims(SMALL), fingerprints, ("dark", "light"), test_hash, folds)
    save_head(root / "head", saved)
    return root


def _by_id(path: Path) -> pd.DataFrame:
    return pd.read_csv(path).set_index("image").drop(columns="path").sort_index()


def test_predict__images_and_their_cache_give_the_same(photographs: Path, tmp_path: Path) -> None:
    from_cache = dvme.predict(photographs / "head", photographs / "c.zarr", out=tmp_path / "c.csv")
    from_images = dvme.predict(photographs / "head", photographs / "images", out=tmp_path / "i.csv")
    one, other = _by_id(tmp_path / "c.csv"), _by_id(tmp_path / "i.csv")
    assert (
        one.index.tolist()
        == other.index.tolist()
        == [f"{name}/{level}{index:02d}.png" for level, name in enumerate(("dark", "light")) for index in range(12)]
    )
    assert one["class"].tolist() == other["class"].tolist()
    np.testing.assert_allclose(one[["p(dark)", "p(light)"]], other[["p(dark)", "p(light)"]], atol=1e-4)
    assert from_cache.counts == from_images.counts == {"dark": 12, "light": 12}
    # 24 images, 4 or 5 of them the test set, which is all that the head does not know.
    known = {
        row.tobytes()
        for fold in load_head(photographs / "head").folds
        for row in (*fold.train_ids, *fold.validation_ids)
    }
    assert from_cache.n_known == from_images.n_known == len(known) < 24
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["c.csv", "i.csv"]


def test_predict__torn_images_copies_and_a_cache_that_is_kept(
    photographs: Path, tmp_path: Path, save_image: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "new"
    save_image(folder / "1.png", seed=5, level=0)
    save_image(folder / "2.png", seed=6, level=1)
    shutil.copy(folder / "2.png", folder / "copy of 2.png")
    (folder / "torn.png").write_bytes((folder / "1.png").read_bytes()[:80])
    report = dvme.predict(photographs / "head", folder, out=tmp_path / "p.csv", cache=tmp_path / "kept.zarr")
    assert list(report.left_out) == ["torn.png"]
    assert report.left_out["torn.png"]
    assert (report.n_rows, report.n_known, sum(report.counts.values())) == (3, 0, 3)
    first = _by_id(tmp_path / "p.csv")
    assert first.index.tolist() == ["1.png", "2.png", "copy of 2.png"]
    pd.testing.assert_series_equal(first.loc["2.png"], first.loc["copy of 2.png"], check_names=False)
    # Once more with one image more: only that one is computed, in both stored types.
    save_image(folder / "3.png", seed=7, level=1)
    computed: list[tuple[int, int]] = []

    def counted(*arguments: Any, **options: Any) -> Any:
        outcomes, outliers = extract_all(*arguments, **options)
        computed.extend((outcome.computed, outcome.reused) for outcome in outcomes)
        return outcomes, outliers

    monkeypatch.setattr("dvme.extraction.passes.extract_all", counted)
    again = dvme.predict(photographs / "head", folder, out=tmp_path / "p.csv", cache=tmp_path / "kept.zarr", force=True)
    assert computed == [(1, 0), (1, 0)]  # the others are not even looked at
    assert again.n_rows == 4
    pd.testing.assert_frame_equal(_by_id(tmp_path / "p.csv").drop("3.png"), first, rtol=1e-9)
    assert list(again.left_out) == ["torn.png"]


def test_predict__only_torn_images(photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(DataError, match=r"torn\.png: .*; there is nothing to predict"):
        dvme.predict(photographs / "head", tmp_path / "new", out=tmp_path / "p.csv")
    assert not (tmp_path / "p.csv").exists()


def test_predict__another_installation_is_refused_before_any_extraction(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head of someone whose weights are another: nothing is extracted, and no cache is begun."""
    shutil.copytree(photographs / "head", tmp_path / "head")
    described = json.loads((tmp_path / "head" / "head.json").read_text())
    field = described["backbones"][1]["fingerprint"]
    own = field["architecture"]
    field["architecture"], field["weights"] = "another net", "other weights"
    described["digest"] = content_digest(described)
    (tmp_path / "head" / "head.json").write_text(json.dumps(described))

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("extracted")

    monkeypatch.setattr("dvme.extraction.passes.extract_all", never)
    with pytest.raises(FingerprintMismatchError) as caught:
        dvme.predict(tmp_path / "head", photographs / "images", out=tmp_path / "p.csv", cache=tmp_path / "kept.zarr")
    for part in (f"{SMALL[1]} as it is installed here", f"architecture is {own!r}, the head's is 'another net'"):
        assert part in str(caught.value)
    assert "(and 1 more differ)" in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["head"]


def test_with_embeddings__ids_follow_the_order_that_was_asked_for(head: Path, tmp_path: Path) -> None:
    store = EmbeddingCache.open(_cache(tmp_path / "c.zarr", failed={"a": [5]}))
    part = sources.Part(store, ("bb", "a"), np.arange(4), np.array([9, 5, 2, 9]))
    asked = sources.Asked(["z", "y", "x", "w"], ["/z", "/y", "/x", "/w"], [part])
    (found,), left_out = sources.with_embeddings(asked, load_head(head))
    assert (found.rows.tolist(), found.positions.tolist(), left_out) == ([9, 2, 9], [0, 2, 3], {"y": "torn in a"})


def test_predict__what_cannot_be_listed_read_or_found_is_left_out_by_name(
    photographs: Path, tmp_path: Path, save_image: Callable[..., Path]
) -> None:
    folder = tmp_path / "new"
    save_image(folder / "a" / "1.png", seed=5)
    (folder / "a" / "2.png").symlink_to(tmp_path / "nowhere.png")
    (folder / "b").symlink_to(tmp_path / "share")
    (folder / "a" / "notes.txt").touch()
    report = dvme.predict(photographs / "head", folder, out=tmp_path / "p.csv")
    assert report.n_rows == 1
    assert list(report.left_out) == [str(folder / "b"), "a/2.png"]
    assert "No such file" in report.left_out["a/2.png"]
    assert report.remarks == ["1 file of other kinds (1 .txt) passed over"]
    (tmp_path / "m.csv").write_text("image\nnew/a/1.png\nnew/a/3.png\n")
    with pytest.raises(DataError, match=r"names 1 file that does not exist: .*; mend the paths .*skip_missing=True"):
        dvme.predict(photographs / "head", tmp_path / "m.csv", out=tmp_path / "q.csv")
    report = dvme.predict(photographs / "head", tmp_path / "m.csv", out=tmp_path / "q.csv", skip_missing=True)
    assert report.left_out == {"new/a/3.png": "no file is there"}
    assert report.n_rows == 1


def test_predict__several_findings(several: Path, tmp_path: Path) -> None:
    """Each has a probability and a decision of its own, and the column of them is read as findings again."""
    head = next((several / "run" / "heads").glob("linear*--good"))
    report = dvme.predict(head, several / "c.zarr", out=tmp_path / "p.csv")
    saved, store = load_head(head), EmbeddingCache.open(several / "c.zarr")
    expected = np.mean(
        [fold.head.predict_proba([store.embeddings("good").read(np.arange(240))]) for fold in saved.folds], axis=0
    )
    header, *lines = _lines(tmp_path / "p.csv")
    assert header == ["image", "path", "findings", "p(Edema)", "p(Effusion)", "p(Mass)"]
    np.testing.assert_allclose(np.array([line[3:] for line in lines], dtype=float), expected, rtol=1e-12)
    assert not np.allclose(expected.sum(axis=1), 1.0)
    names = np.array(["Edema", "Effusion", "Mass"])
    assert [line[2] for line in lines] == ["|".join(names[row > 0.5]) or "No Finding" for row in expected]
    assert report.counts == dict(zip(names.tolist(), (expected > 0.5).sum(axis=0).tolist(), strict=True))
    assert report.n_without_finding == int((expected <= 0.5).all(axis=1).sum()) > 0
    read = from_separated([line[2] for line in lines], "|")
    np.testing.assert_array_equal(parsed(read.texts, names.tolist()) == 1.0, expected > 0.5)
    with pytest.raises(OptionError, match=r"has one class for each image, and .* tells of 3 findings.*p\(FINDING\)"):
        dvme.predict(head, several / "c.zarr", out=tmp_path / "s.csv", submission=("id", "label"))
    assert not (tmp_path / "s.csv").exists()


def test_predict__a_head_that_tuned_its_cuts_predicts_by_them(
    tmp_path: Path, write_embeddings: Callable[..., Path], make_features: Callable[..., NDArray[Any]]
) -> None:
    labels = np.arange(90) % 3
    cache = write_embeddings(tmp_path / "c.zarr", {"a": make_features(labels, 0.4, 0)}, label=[str(c) for c in labels])
    dvme.probe(cache, heads=["linear@strengths=0.1@tune=kappa"], save=tmp_path / "heads")
    (head,) = (tmp_path / "heads").iterdir()
    dvme.predict(head, cache, out=tmp_path / "p.csv")
    _, *lines = _lines(tmp_path / "p.csv")
    cuts = np.mean([fold.head.chosen["cuts"] for fold in load_head(head).folds], axis=0)
    p = np.array([line[3:] for line in lines], dtype=float)
    taken = (p @ np.arange(3) > cuts[:, None]).sum(axis=0)
    assert [line[2] for line in lines] == [str(c) for c in taken]
    assert (taken != p.argmax(axis=1)).any()


@pytest.mark.parametrize("submission", [None, ("id", "label")])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_predict__the_bytes_are_those_of_a_table_written_at_once(
    head: Path, cache: Path, tmp_path: Path, suffix: str, submission: tuple[str, str] | None
) -> None:
    dvme.predict(head, cache, out=tmp_path / f"p{suffix}", submission=submission)
    saved, store = load_head(head), EmbeddingCache.open(cache)
    p = saved.predict_proba(store.read_aligned(("bb", "a"), np.arange(N)))
    names = [f"folder/{row}.png" for row in range(N)]
    classes = [CLASSES[c] for c in p.argmax(axis=1)]
    if submission is None:
        columns = {"image": names, "path": names, "class": classes, **{f"p({c})": p[:, int(c)] for c in CLASSES}}
    else:
        columns = {"id": [str(row) for row in range(N)], "label": classes}
    table = pd.DataFrame(columns)
    (table.to_csv if suffix == ".csv" else table.to_parquet)(tmp_path / f"whole{suffix}", index=False)
    assert (tmp_path / f"p{suffix}").read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_predict__lines_are_written_as_they_come(
    head: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """In order also where the images are in two caches; nothing is left of a table that was begun."""
    whole = tmp_path / f"whole{suffix}"
    dvme.predict(head, cache, out=whole)
    monkeypatch.setattr("dvme.prediction.predict.ROWS_AT_ONCE", 7)
    monkeypatch.setattr("dvme.prediction.tables.ROWS_OF_GROUP", 20)
    store, rows = EmbeddingCache.open(cache), np.arange(N)
    odd = [sources.Part(store, ("bb", "a"), own, own) for own in (rows[1::2], rows[::2])]
    monkeypatch.setattr("dvme.prediction.predict.with_embeddings", lambda *_: (odd, {}))
    report = dvme.predict(head, cache, out=tmp_path / f"p{suffix}")
    assert report.n_rows == N == sum(report.counts.values())
    read = pd.read_csv if suffix == ".csv" else pd.read_parquet
    pd.testing.assert_frame_equal(read(tmp_path / f"p{suffix}"), read(whole), rtol=1e-12)
    if suffix == ".parquet":
        assert pq.ParquetFile(tmp_path / "p.parquet").num_row_groups == 3

    def stop(_: str, done: int, __: int) -> None:
        if done > 30:
            raise KeyboardInterrupt

    before = sorted(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        dvme.predict(head, cache, out=tmp_path / f"q{suffix}", progress=stop)
    assert sorted(tmp_path.iterdir()) == before
