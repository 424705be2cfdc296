from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, cohen_kappa_score, roc_auc_score

import dvme
from dvme.errors import DataError, UnknownNameError
from dvme.evaluation.splits import make_plan
from dvme.heads import Embedded, Job, fit_jobs
from dvme.heads.linear import Linear
from dvme_cache import EmbeddingCache, Fingerprint, MissingEmbeddingsError

N = 150


def _cache(path: Path, features: dict[str, NDArray[Any]], **columns: list[str]) -> Path:
    """A cache with given features, without any image."""
    n_rows = len(next(iter(features.values())))
    with EmbeddingCache.writing(path) as cache:
        rows = cache.samples.add(
            [bytes([i % 256, i // 256]) * 8 for i in range(1, n_rows + 1)], [f"{i}.png" for i in range(n_rows)]
        )
        cache.update_columns(rows, columns)
        for name, values in features.items():
            embeddings = cache.ensure_embeddings(
                name, Fingerprint({"weights": name}), dim=values.shape[1], dtype="float32", provenance={}
            )
            for shard in embeddings.pending_shards():
                failed = {int(row): "torn" for row in shard if np.isnan(values[row, 0])}
                embeddings.commit(shard, values[shard], failed)
    return path


def _features(labels: NDArray[Any], signal: float, seed: int, dim: int = 12) -> NDArray[Any]:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(labels.max() + 1, dim))
    return (signal * centres[labels] + rng.normal(size=(len(labels), dim))).astype(np.float32)


@pytest.fixture
def labels() -> NDArray[Any]:
    return np.arange(N) % 3


def test_probe__numbers_match_peers_on_the_same_split(tmp_path: Path, labels: NDArray[Any]) -> None:
    features = _features(labels, 0.6, 0)
    names = [str(label) for label in labels]
    report = dvme.probe(_cache(tmp_path / "c.zarr", {"a": features}, label=names), heads=["linear"])
    nothing = np.full(N, "", dtype=object)
    plan = make_plan(labels, nothing, nothing, classes=("0", "1", "2"))
    jobs = [Job(Linear(), ("a",), fold.train, fold.validation) for fold in plan.folds]
    fitted = fit_jobs(jobs, Embedded({"a": features}, labels, 3))
    predictions = [head.predict_proba([features[plan.test]]) for head in fitted]
    truth = labels[plan.test]
    expected = {
        "auc": [roc_auc_score(truth, p, multi_class="ovr") for p in predictions],
        "accuracy": [accuracy_score(truth, p.argmax(1)) for p in predictions],
        "kappa": [cohen_kappa_score(truth, p.argmax(1), labels=[0, 1, 2], weights="quadratic") for p in predictions],
    }
    for metric, values in expected.items():
        assert report.rows[0].test[metric].folds == pytest.approx(values)
        assert report.rows[0].test[metric].mean == pytest.approx(np.mean(values))
        assert report.rows[0].test[metric].std == pytest.approx(np.std(values, ddof=1))
    assert report.rows[0].auc_interval.low < report.rows[0].test["auc"].mean < report.rows[0].auc_interval.high


def test_probe__nothing_is_chosen_on_the_test_set(tmp_path: Path, labels: NDArray[Any]) -> None:
    """Spoiling the test rows' features must change no ranking and no hyper-parameter, only test scores."""
    nothing = np.full(N, "", dtype=object)
    test = make_plan(labels, nothing, nothing, classes=("0", "1", "2")).test
    names = [str(label) for label in labels]
    good, bad = _features(labels, 0.9, 0), _features(labels, 0.3, 1)
    planted = bad.copy()
    planted[test] = _features(labels, 50.0, 2)[test]  # a backbone that knows the test set by heart
    plain = dvme.probe(_cache(tmp_path / "a.zarr", {"good": good, "bad": bad}, label=names))
    leaky = dvme.probe(_cache(tmp_path / "b.zarr", {"good": good, "bad": planted}, label=names))
    assert [(row.backbone, row.head) for row in plain.rows] == [(row.backbone, row.head) for row in leaky.rows]
    for one, other in zip(plain.rows, leaky.rows, strict=True):
        assert one.chosen == other.chosen
        assert one.validation_auc == other.validation_auc
    assert leaky.rows[0].backbone == "good"


def test_probe__verdict_tells_a_real_gap_from_noise(tmp_path: Path, labels: NDArray[Any]) -> None:
    names = [str(label) for label in labels]
    strong, weak = _features(labels, 2.0, 0), _features(labels, 0.1, 1)
    report = dvme.probe(_cache(tmp_path / "gap.zarr", {"strong": strong, "weak": weak}, label=names), heads=["linear"])
    assert report.verdict is not None
    assert report.verdict.best == "strong + linear"
    assert "beats" in report.verdict.sentence
    twin = strong + 1e-3 * _features(labels, 0.0, 3)
    report = dvme.probe(_cache(tmp_path / "tie.zarr", {"one": strong, "two": twin}, label=names), heads=["linear"])
    assert report.verdict is not None
    assert "do not tell them apart" in report.verdict.sentence


def test_probe__pure_noise_is_at_chance(tmp_path: Path) -> None:
    labels = np.arange(600) % 2
    report = dvme.probe(
        _cache(tmp_path / "noise.zarr", {"noise": _features(labels, 0.0, 5)}, label=[str(label) for label in labels])
    )
    for row in report.rows:
        assert row.auc_interval.low < 0.5 < row.auc_interval.high


def test_probe__every_backbone_is_judged_on_the_same_rows(tmp_path: Path, labels: NDArray[Any]) -> None:
    whole, torn = _features(labels, 1.0, 0), _features(labels, 1.0, 1)
    torn[[3, 7]] = np.nan
    names = [str(label) for label in labels]
    names[11] = ""
    report = dvme.probe(_cache(tmp_path / "c.zarr", {"whole": whole, "torn": torn}, label=names))
    assert report.n_left_out == {"without an embedding": 2, "without a label": 1}
    assert sum(report.task.counts) == N - 3


def test_probe__user_split_and_single_fold(tmp_path: Path, labels: NDArray[Any]) -> None:
    splits = ["train"] * 90 + ["val"] * 30 + ["test"] * 30
    path = _cache(tmp_path / "c.zarr", {"a": _features(labels, 1.0, 0)}, label=[str(c) for c in labels], split=splits)
    report = dvme.probe(path, heads=["knn"])
    assert len(report.rows[0].test["auc"].folds) == 1
    assert np.isnan(report.rows[0].test["auc"].std)
    assert report.verdict is None
    assert "your split: train 90, val 30, test 30" in report.plan


def test_probe__too_few_test_groups_give_no_interval_and_no_verdict(tmp_path: Path, labels: NDArray[Any]) -> None:
    splits = ["train"] * 120 + ["test"] * 30
    groups = [f"p{row}" if row < 120 else f"q{row % 3}" for row in range(N)]
    features = {"strong": _features(labels, 2.0, 0), "weak": _features(labels, 0.2, 1)}
    path = _cache(tmp_path / "c.zarr", features, label=[str(c) for c in labels], split=splits, group=groups)
    report = dvme.probe(path, heads=["linear"])
    assert np.isnan(report.rows[0].auc_interval.low)
    assert report.verdict is None
    assert any("3 test groups are too few" in notice for notice in report.notices)


def test_probe__copies_in_other_bytes_do_not_leak(tmp_path: Path) -> None:
    """Two files of every picture, labels at random: whoever leaks beats chance, whoever does not cannot."""
    rng = np.random.default_rng(0)
    labels = np.repeat(rng.integers(0, 2, 150), 2)
    features = np.repeat(rng.normal(size=(150, 20)), 2, axis=0).astype(np.float32)
    report = dvme.probe(_cache(tmp_path / "c.zarr", {"noise": features}, label=[str(c) for c in labels]))
    assert any("150 images show the same picture as another file (kept on one side)" in text for text in report.notices)
    for row in report.rows:
        assert row.test["auc"].mean < 0.65


def test_probe__copies_across_the_users_own_split_are_called_a_leak(tmp_path: Path, labels: NDArray[Any]) -> None:
    features = _features(labels, 1.0, 0)
    features[120:123] = features[:3]
    splits = ["train"] * 120 + ["test"] * 30
    path = _cache(tmp_path / "c.zarr", {"a": features}, label=[str(c) for c in labels], split=splits)
    notices = dvme.probe(path, heads=["knn"]).notices
    assert any("3 test images have a copy in your training rows: a leak" in notice for notice in notices)


def test_probe__the_verdict_is_about_backbones(tmp_path: Path, labels: NDArray[Any]) -> None:
    features = {"strong": _features(labels, 3.0, 0), "weak": _features(labels, 0.1, 1)}
    report = dvme.probe(
        _cache(tmp_path / "c.zarr", features, label=[str(c) for c in labels]), backbones=["strong", "weak", "strong"]
    )
    assert len(report.rows) == 4
    assert report.verdict is not None
    assert (report.verdict.best[:6], report.verdict.runner_up[:4]) == ("strong", "weak")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["x"] * N, "all 150 labelled images are 'x'"),
        ([""] * N, "no labelled row"),
        (["x"] * (N - 3) + ["y"] * 3, "class 'y' has 3 images"),
    ],
)
def test_probe__tasks_that_cannot_be_learned(
    tmp_path: Path, labels: NDArray[Any], names: list[str], message: str
) -> None:
    path = _cache(tmp_path / "c.zarr", {"a": _features(labels, 1.0, 0)}, label=names)
    with pytest.raises(DataError, match=message):
        dvme.probe(path)


def test_probe__unknown_names(tmp_path: Path, labels: NDArray[Any]) -> None:
    path = _cache(tmp_path / "c.zarr", {"a": _features(labels, 1.0, 0)}, label=[str(c) for c in labels])
    with pytest.raises(UnknownNameError, match="choose from linear, linear-adam, knn"):
        dvme.probe(path, heads=["forest"])
    with pytest.raises(MissingEmbeddingsError, match="has no b embeddings"):
        dvme.probe(path, backbones=["b"])


def test_info__counts_rows_and_columns(tmp_path: Path, labels: NDArray[Any]) -> None:
    features = _features(labels, 1.0, 0)
    features[4] = np.nan
    summary = dvme.info(_cache(tmp_path / "c.zarr", {"a": features}, label=[str(c) for c in labels]))
    assert (summary.n_rows, summary.columns, summary.task.kind) == (N, {"label": N}, "multiclass")
    assert (summary.backbones[0].done, summary.backbones[0].failed, summary.backbones[0].pending) == (N - 1, 1, 0)
    assert summary.backbones[0].n_bytes > features.nbytes


@pytest.mark.parametrize("method", ["tsne", "umap", "pca"])
def test_viz__writes_one_self_contained_file(tmp_path: Path, labels: NDArray[Any], method: str) -> None:
    names = [f"<b>{c}</b>" for c in labels]
    path = _cache(tmp_path / "c.zarr", {"a": _features(labels, 2.0, 0), "b": _features(labels, 0.0, 1)}, label=names)
    out = tmp_path / "new folder" / "maps.html"
    report = dvme.viz(path, out=out, method=method)
    page = out.read_text(encoding="utf-8")
    assert report.n_points == N
    assert report.maps["a"]["neighbour_agreement"] > 0.9 > report.maps["b"]["neighbour_agreement"]
    assert "Plotly.newPlot" in page
    assert 'src="http' not in page
    assert "<b>0</b> (50)" not in page  # labels are data, not markup
    assert not list(out.parent.glob("*.partial"))


def test_viz__same_seed_same_map(tmp_path: Path, labels: NDArray[Any]) -> None:
    from dvme.maps import embedding_map

    features, names = _features(labels, 1.0, 0), np.array(["x"] * N, dtype=object)
    one, other = (embedding_map("a", features, names, method="tsne", seed=3).positions for _ in range(2))
    np.testing.assert_array_equal(one, other)
