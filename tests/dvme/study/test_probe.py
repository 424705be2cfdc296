from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from light import RIVALS, light, named
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, cohen_kappa_score, roc_auc_score

import dvme
from dvme.errors import DataError, OptionError, UnknownNameError
from dvme.heads import Embedded, Job, fit_jobs, full_name
from dvme.heads.exact.linear import Linear
from dvme.heads.fusion.controls import Concat
from dvme.heads.saved_head import SavedHead, subset_hash
from dvme.heads.saving import save_head
from dvme.metrics.classification import macro_auc
from dvme.stats.crossed import crossed
from dvme.stats.intervals import Comparison, jackknife_covariance
from dvme.study import fitting, kept_heads
from dvme.study.design.splits import make_plan
from dvme.study.methods import method_name
from dvme.study.outcome import StudyReport
from dvme.text import NO_GROUPS
from dvme_cache import EmbeddingCache, Fingerprint, MissingEmbeddingsError
from dvme_cache.embeddings import Embeddings

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
    assert report.rows[0].interval.low < report.rows[0].test["auc"].mean < report.rows[0].interval.high


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
    assert [row.method for row in plain.rows] == [row.method for row in leaky.rows]
    for one, other in zip(plain.rows, leaky.rows, strict=True):
        assert one.chosen == other.chosen
        assert one.validation == other.validation
    assert leaky.rows[0].backbones == ("good",)


def test_probe__verdict_tells_a_real_gap_from_noise(tmp_path: Path, labels: NDArray[Any]) -> None:
    names = [str(label) for label in labels]
    strong, weak = _features(labels, 2.0, 0), _features(labels, 0.1, 1)
    report = dvme.probe(_cache(tmp_path / "gap.zarr", {"strong": strong, "weak": weak}, label=names), heads=["linear"])
    assert report.verdict.startswith("strong + linear is better than every other backbone")
    twin = strong + 1e-3 * _features(labels, 0.0, 3)
    report = dvme.probe(_cache(tmp_path / "tie.zarr", {"one": strong, "two": twin}, label=names), heads=["linear"])
    first, second = (row.method for row in report.rows)
    assert report.verdict.startswith(f"{first} leads, but {second} cannot be told apart from it")


def test_probe__pure_noise_is_at_chance(tmp_path: Path) -> None:
    labels = np.arange(600) % 2
    report = dvme.probe(
        _cache(tmp_path / "noise.zarr", {"noise": _features(labels, 0.0, 5)}, label=[str(label) for label in labels])
    )
    for row in report.rows:
        assert row.interval.low < 0.5 < row.interval.high


def test_probe__every_backbone_is_judged_on_the_same_rows(tmp_path: Path, labels: NDArray[Any]) -> None:
    whole, torn = _features(labels, 1.0, 0), _features(labels, 1.0, 1)
    torn[[3, 7]] = np.nan
    names = [str(label) for label in labels]
    names[11] = ""
    report = dvme.probe(_cache(tmp_path / "c.zarr", {"whole": whole, "torn": torn}, label=names))
    assert report.n_left_out == {"without an embedding": 2, "without a label": 1}
    assert sum(report.task.counts) == N - 3


def test_probe__the_users_validation_part_is_the_one_of_every_draw(tmp_path: Path, labels: NDArray[Any]) -> None:
    splits = ["train"] * 90 + ["val"] * 30 + ["test"] * 30
    path = _cache(tmp_path / "c.zarr", {"a": _features(labels, 1.0, 0)}, label=[str(c) for c in labels], split=splits)
    report = dvme.probe(path, heads=["knn"])
    assert report.rows[0].test["auc"].folds == [report.rows[0].test["auc"].folds[0]] * 5  # knn has nothing random
    assert np.isnan(report.rows[0].test["auc"].std)  # of heads that are the same
    assert report.verdict == "a + knn leads on validation, on the only backbone that was tried."
    assert "your split: train 90, val 30, test 30" in report.plan


def test_probe__too_few_test_groups_give_no_interval_and_no_verdict(tmp_path: Path, labels: NDArray[Any]) -> None:
    splits = ["train"] * 120 + ["test"] * 30
    groups = [f"p{row}" if row < 120 else f"q{row % 3}" for row in range(N)]
    features = {"strong": _features(labels, 2.0, 0), "weak": _features(labels, 0.2, 1)}
    path = _cache(tmp_path / "c.zarr", features, label=[str(c) for c in labels], split=splits, group=groups)
    report = dvme.probe(path, heads=["linear"])
    assert np.isnan(report.rows[0].interval.low)
    assert report.verdict == f"{report.rows[0].method} leads on validation."
    assert [row.mark for row in report.rows] == ["*", "?"]
    few = ", ".join(f"'{c}' has 1 test group" for c in range(3))
    assert f"no interval and no verdict: {few}, and it takes 3 of every class" in report.notices


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
    assert any("3 pairs of near-duplicates between test and training images" in notice for notice in notices)


def test_probe__the_verdict_is_about_backbones(tmp_path: Path, labels: NDArray[Any]) -> None:
    features = {"strong": _features(labels, 3.0, 0), "weak": _features(labels, 0.1, 1)}
    report = dvme.probe(
        _cache(tmp_path / "c.zarr", features, label=[str(c) for c in labels]), backbones=["strong", "weak", "strong"]
    )
    assert len(report.rows) == 4
    assert report.verdict.startswith("strong")
    assert report.verdict.endswith(" is better than every other backbone.")


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


ATTENTION_TABLE = [
    *((named("linear"), name) for name in "ab"),
    *((head, "a+b") for head in light("dvme", "dvme-noattn", "mlp", "concat", "mean-logits")),
]


def _small(path: Path, n: int = 60, signal: float = 1.0, **columns: list[str]) -> Path:
    labels = np.arange(n) % 3
    features = {"a": _features(labels, signal, 0), "b": _features(labels, signal / 2, 1, dim=8)}
    return _cache(path, features, **{"label": [str(label) for label in labels], **columns})


def _table(report: StudyReport) -> list[tuple[str, str]]:
    return sorted((row.head, "+".join(row.backbones)) for row in report.rows)


def test_probe__a_fusion_brings_every_single_backbone_and_every_control(tmp_path: Path) -> None:
    report = dvme.probe(_small(tmp_path / "c.zarr"), heads=light("dvme", *RIVALS), n_folds=2)
    assert _table(report) == sorted(ATTENTION_TABLE)
    validation = [row.validation for row in report.rows]
    assert validation == sorted(validation, reverse=True)
    assert [gain.role for gain in report.gains] == ["single backbone", "control"]
    controls = light("dvme-noattn", "mlp", "concat", "mean-logits")
    pools = [{f"{name} + {named('linear')}" for name in "ab"}, {f"{control} of 2 backbones" for control in controls}]
    for gain, pool in zip(report.gains, pools, strict=True):
        assert gain.fusion == f"{named('dvme')} of 2 backbones"
        assert {gain.rival, gain.leader} <= {rival.method for rival in gain.rivals} <= pool
    assert report.saved == []


def test_probe__without_controls_there_is_what_was_named(tmp_path: Path) -> None:
    path = _small(tmp_path / "c.zarr")
    report = dvme.probe(path, heads=light("dvme-tokens"), controls=False, n_folds=2)
    assert _table(report) == [(named("dvme-tokens"), "a+b")]
    assert report.gains == []
    # Nor do controls come where no attention is asked for.
    assert _table(dvme.probe(path, heads=light("concat"), n_folds=2)) == [(named("concat"), "a+b")]


def test_probe__what_is_named_and_a_control_comes_once(tmp_path: Path) -> None:
    report = dvme.probe(_small(tmp_path / "c.zarr"), heads=light("mlp", "dvme-tokens", *RIVALS, "mlp"), n_folds=2)
    expected = [row if row[0] != named("dvme") else (named("dvme-tokens"), "a+b") for row in ATTENTION_TABLE]
    assert _table(report) == sorted(expected)


def test_probe__one_backbone_under_a_fusion_is_noticed_and_works(tmp_path: Path) -> None:
    report = dvme.probe(_small(tmp_path / "c.zarr"), heads=light("concat", "linear"), backbones=["b"], n_folds=2)
    assert any(line.startswith(f"{named('concat')}: one backbone is nothing to fuse") for line in report.notices)
    assert _table(report) == [(head, "b") for head in light("concat", "linear")]
    both = dvme.probe(_small(tmp_path / "d.zarr"), heads=light("concat", "linear"), n_folds=2)
    assert not any("nothing to fuse" in notice for notice in both.notices)


def test_probe__fusions_match_peers_on_the_rows_that_all_backbones_have(tmp_path: Path) -> None:
    labels = np.arange(80) % 2
    features = {"a": _features(labels, 0.7, 0), "b": _features(labels, 0.7, 1, dim=8)}
    features["a"][[3, 60]] = np.nan
    features["b"][[3, 7]] = np.nan
    names = [str(label) for label in labels]
    names[20] = ""
    path = _cache(tmp_path / "c.zarr", features, label=names)
    heads = Linear((0.1, 1.0)), Concat(Linear((0.1, 1.0)))
    report = dvme.probe(path, heads=heads, n_folds=2)
    assert report.n_left_out == {"without an embedding": 3, "without a label": 1}
    assert sum(report.task.counts) == 76
    rows = np.setdiff1d(np.arange(80), [3, 60, 7, 20])
    nothing = np.full(76, "", dtype=object)
    plan = make_plan(labels[rows], nothing, nothing, classes=("0", "1"), n_folds=2)
    data = Embedded({name: values[rows] for name, values in features.items()}, labels[rows], 2)
    for row in report.rows:
        head = heads[len(row.backbones) - 1]
        fitted = fit_jobs([Job(head, row.backbones, fold.train, fold.validation) for fold in plan.folds], data)
        for side, found in (("test", row.test["auc"].folds), ("validation", None)):
            tested = [plan.test if side == "test" else fold.validation for fold in plan.folds]
            aucs = [
                roc_auc_score(data.labels[some], one.predict_proba(data.blocks(row.backbones, some))[:, 1])
                for some, one in zip(tested, fitted, strict=True)
            ]
            assert (found or row.validation) == pytest.approx(aucs if found else np.mean(aucs))


def test_probe__nothing_of_a_fusion_is_chosen_on_the_test_set(tmp_path: Path) -> None:
    """Spoil the test rows of every backbone: hyper-parameters, epochs and ranking stay as they are."""
    labels = np.arange(60) % 3
    nothing = np.full(60, "", dtype=object)
    test = make_plan(labels, nothing, nothing, classes=("0", "1", "2"), n_folds=2).test
    plain = {"a": _features(labels, 0.6, 0), "b": _features(labels, 0.4, 1)}
    leaky = {name: values.copy() for name, values in plain.items()}
    for values in leaky.values():
        values[test] = _features(labels, 20.0, 2)[test]
    heads = light("dvme", "dvme-tokens", "mlp", "dvme-noattn", "concat", "mean-logits")
    one, other = (
        dvme.probe(
            _cache(tmp_path / f"{number}.zarr", features, label=[str(label) for label in labels]),
            heads=heads,
            controls=False,
            n_folds=2,
        )
        for number, features in enumerate((plain, leaky))
    )
    assert [row.method for row in one.rows] == [row.method for row in other.rows]
    for before, after in zip(one.rows, other.rows, strict=True):
        assert before.chosen == after.chosen
        assert before.validation == after.validation
    assert any(before.test != after.test for before, after in zip(one.rows, other.rows, strict=True))


def _auc_without(labels: NDArray[Any], probabilities: NDArray[Any]) -> NDArray[Any]:
    """(n,) AUC without each of the test rows."""
    kept = [np.delete(np.arange(len(labels)), row) for row in range(len(labels))]
    return np.array([macro_auc(labels[rows], probabilities[rows]) for rows in kept])


def test_probe__marks_and_intervals_again_from_the_saved_heads(tmp_path: Path) -> None:
    """By leaving out image after image: of two classes that is DeLong's covariance."""
    labels = np.minimum(np.arange(90) % 3, 1)
    path = _small(tmp_path / "c.zarr", n=90, signal=0.5, label=[str(c) for c in labels])
    report = dvme.probe(path, heads=light("dvme-tokens", *RIVALS), n_folds=2, save=tmp_path / "heads")
    store, nothing = EmbeddingCache.open(path), np.full(90, "", dtype=object)
    test = make_plan(labels, nothing, nothing, classes=("0", "1"), n_folds=2).test
    truth = labels[test]
    folds, without = {}, {}
    for folder in report.saved:
        saved = dvme.load_head(folder)
        predictions = [fold.head.predict_proba(store.read_aligned(saved.backbones, test)) for fold in saved.folds]
        name = method_name(full_name(saved.head), saved.backbones)
        folds[name] = np.array([roc_auc_score(truth, p[:, 1]) for p in predictions])
        without[name] = np.stack([_auc_without(truth, p) for p in predictions], axis=1)

    def compared(one: str, other: str, level: float) -> Comparison:
        gaps = without[one] - without[other]
        classes = [gaps[truth == c].mean(axis=1) for c in (0, 1)]
        own = np.array([(len(each) - 1) * each.var() for each in classes])  # of the mean, by each class's images
        n = np.array([len(each) for each in classes])
        df = min(each.sum() ** 2 / sum(each**2 / (n - 1)) for each in (own, 1 / n))  # if images are alike: as 1 / n
        covariance = jackknife_covariance(gaps, truth)
        return crossed(folds[one] - folds[other], covariance, 0.0, test_df=df, level=level)  # two folds share no row

    leader, *others = [row.method for row in report.rows]
    adjusted = {name: min(1, len(others) * compared(name, leader, 0.95).p) for name in others}
    for row in report.rows[1:]:
        sign = "+" if folds[row.method].mean() > folds[leader].mean() else ""
        assert row.mark == (sign if adjusted[row.method] < 0.05 else "=")
    assert report.rows[0].mark == "*"
    assert len({row.mark for row in report.rows}) > 1
    pairs = [(gain.fusion, rival) for gain in report.gains for rival in gain.rivals]
    assert len(pairs) > len(report.gains) == 2
    for fusion, rival in pairs:
        expected = compared(fusion, rival.method, 1 - 0.05 / len(others))
        assert rival.p_adjusted == pytest.approx(min(1, len(others) * expected.p))
        ends = rival.comparison.difference.low, rival.comparison.difference.high
        assert ends == pytest.approx((max(expected.difference.low, -1.0), min(expected.difference.high, 1.0)))


def test_probe__saved_heads_give_the_numbers_of_the_table_again(tmp_path: Path) -> None:
    path = _small(tmp_path / "c.zarr")
    report = dvme.probe(path, heads=light("dvme", "knn", *RIVALS), n_folds=2, save=tmp_path / "heads")
    store, labels = EmbeddingCache.open(path), np.arange(60) % 3
    nothing = np.full(60, "", dtype=object)
    plan = make_plan(labels, nothing, nothing, classes=("0", "1", "2"), n_folds=2)
    table = [*ATTENTION_TABLE, ("knn", "a"), ("knn", "b")]
    names = {f"{head.replace(':', '%3A')}--{backbone}" for head, backbone in table}
    assert {entry.name for entry in (tmp_path / "heads").iterdir()} == names
    assert {Path(folder).name for folder in report.saved} == names
    rows = {(row.head, row.backbones): row for row in report.rows}
    for folder in report.saved:
        saved = dvme.load_head(folder)
        row = rows[full_name(saved.head), saved.backbones]
        assert saved.classes == ("0", "1", "2")
        assert saved.dims == tuple({"a": 12, "b": 8}[name] for name in row.backbones)
        assert saved.fingerprints == tuple(store.embeddings(name).fingerprint for name in saved.backbones)
        assert saved.test_hash == subset_hash(store.samples.ids[plan.test])
        tested = store.read_aligned(saved.backbones, plan.test)
        for number, (fold, planned) in enumerate(zip(saved.folds, plan.folds, strict=True)):
            for ids, rows_of in ((fold.train_ids, planned.train), (fold.validation_ids, planned.validation)):
                assert sorted(map(bytes, ids)) == sorted(map(bytes, store.samples.ids[rows_of]))
            auc = roc_auc_score(labels[plan.test], fold.head.predict_proba(tested), multi_class="ovr")
            assert auc == pytest.approx(row.test["auc"].folds[number])
            assert fold.metrics == {metric: score.folds[number] for metric, score in row.test.items()}


def test_probe__odd_backbone_names_make_folders_side_by_side(tmp_path: Path) -> None:
    labels = np.arange(60) % 3
    names = ["hf-hub:org/name", "dino@pool=class-token@size=448", "hf-hub:org", "a+b"]
    features = {name: _features(labels, 1.0, seed) for seed, name in enumerate(names)}
    path = _cache(tmp_path / "c.zarr", features, label=[str(label) for label in labels])
    report = dvme.probe(path, heads=light("linear", "concat"), n_folds=2, save=tmp_path / "heads")
    folders = sorted((tmp_path / "heads").iterdir())
    assert sorted(report.saved) == [str(folder) for folder in folders]
    assert len(folders) == 5
    loaded = {dvme.load_head(folder).backbones for folder in folders}
    assert loaded == {tuple(sorted(names)), *((name,) for name in names)}


def test_probe__little_memory_changes_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Embeddings are then read for one set of backbones after the other."""
    path = _small(tmp_path / "c.zarr")
    heads = light("linear", "concat", "dvme-tokens")
    roomy = dvme.probe(path, heads=heads, controls=False, n_folds=2)
    monkeypatch.setattr(fitting, "EMBEDDINGS_SHARE", 1000)
    tight = dvme.probe(path, heads=heads, controls=False, n_folds=2, runtime=dvme.Runtime(memory=500_000))
    assert _table(roomy) == _table(tight)
    expected = {row.method: row for row in roomy.rows}
    for row in tight.rows:
        assert row.validation == pytest.approx(expected[row.method].validation, abs=1e-3)
        assert row.test["auc"].folds == pytest.approx(expected[row.method].test["auc"].folds, abs=1e-3)


def test_probe__a_folder_in_the_way_is_refused_before_any_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("fitted")

    monkeypatch.setattr(fitting, "fit_each", never)
    (tmp_path / "heads").mkdir()
    (tmp_path / "heads" / "mine").write_text("mine")
    with pytest.raises(OptionError, match="heads is there already; name another folder with"):
        dvme.probe(_small(tmp_path / "c.zarr"), save=tmp_path / "heads", out=tmp_path / "run")
    assert [entry.name for entry in (tmp_path / "heads").iterdir()] == ["mine"]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_probe__all_heads_are_saved_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    saved: list[Path] = []

    def failing(folder: Path, head: SavedHead, **options: Any) -> Path:
        if saved:
            raise error
        saved.append(folder)
        return save_head(folder, head, **options)

    path = _small(tmp_path / "c.zarr")
    before = sorted(entry.name for entry in tmp_path.iterdir())
    monkeypatch.setattr(kept_heads, "save_head", failing)
    with pytest.raises(type(error)):
        dvme.probe(path, heads=["knn"], n_folds=2, save=tmp_path / "new" / "heads")
    assert saved
    assert sorted(entry.name for entry in tmp_path.iterdir()) == before


@pytest.mark.parametrize("is_test", [True, False])
def test_probe__features_that_are_not_finite_are_one_line_and_save_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_test: bool
) -> None:
    """A cache refuses them; should one let them through, no head learns from them, and no score is of them."""
    nothing = np.full(60, "", dtype=object)
    plan = make_plan(np.arange(60) % 3, nothing, nothing, classes=("0", "1", "2"), n_folds=2)
    row = plan.test[0] if is_test else plan.folds[0].train[0]
    path, read = _small(tmp_path / "c.zarr"), Embeddings.read

    def spoiled(self: Embeddings, rows: NDArray[Any]) -> NDArray[Any]:
        features = read(self, rows)
        features[row] = np.inf if self.name == "b" else features[row]
        return features

    monkeypatch.setattr(Embeddings, "read", spoiled)
    with pytest.raises(DataError, match=r"1 of 60 rows of b are not finite; dvme cache verify says which"):
        dvme.probe(path, heads=["concat"], n_folds=2, save=tmp_path / "heads")
    assert not (tmp_path / "heads").exists()
    assert not list(tmp_path.glob(".heads*"))


@pytest.mark.parametrize("heads", [["dvme"], ["concat"]])
def test_probe__a_class_that_training_lacks_is_refused_by_name(tmp_path: Path, heads: list[str]) -> None:
    labels = ["0", "1", "2"] * 20
    splits = ["test" if label == "2" or row >= 45 else "train" for row, label in enumerate(labels)]
    path = _small(tmp_path / "c.zarr", split=splits)
    with pytest.raises(DataError, match="the train part has no image of class '2'"):
        dvme.probe(path, heads=heads, n_folds=2, save=tmp_path / "heads")
    assert not (tmp_path / "heads").exists()


def test_probe__fewer_training_rows_than_classes_are_refused(tmp_path: Path) -> None:
    splits = ["train"] * 2 + ["test"] * 58
    path = _small(tmp_path / "c.zarr", split=splits)
    with pytest.raises(DataError, match="the train part has no image of class '2'"):
        dvme.probe(path, heads=["concat"], n_folds=2)


def test_info__counts_rows_and_columns(tmp_path: Path, labels: NDArray[Any]) -> None:
    features = _features(labels, 1.0, 0)
    features[4] = np.nan
    summary = dvme.info(_cache(tmp_path / "c.zarr", {"a": features}, label=[str(c) for c in labels]))
    assert (summary.n_rows, summary.columns, summary.task.kind) == (N, {"label": N}, "multiclass")
    assert (summary.backbones[0].done, summary.backbones[0].failed, summary.backbones[0].pending) == (N - 1, 1, 0)
    assert summary.backbones[0].n_bytes > features.nbytes


def test_probe__kappa_by_the_users_order(tmp_path: Path, labels: NDArray[Any]) -> None:
    names = [("none", "mild", "severe")[label] for label in labels]
    features = {"a": _features(labels, 0.6, 0)}
    assumed = dvme.probe(_cache(tmp_path / "a.zarr", features, label=names), heads=[Linear((1.0,))])
    assert (assumed.task.classes, assumed.task.is_ordered) == (("mild", "none", "severe"), False)
    dvme.cache.label(tmp_path / "a.zarr", class_order=["none", "mild", "severe"])
    told = dvme.probe(tmp_path / "a.zarr", heads=[Linear((1.0,))], save=tmp_path / "heads")
    numbered = _cache(tmp_path / "b.zarr", features, label=[str(label) for label in labels])
    expected = dvme.probe(numbered, heads=[Linear((1.0,))])
    assert (told.task.classes, told.task.is_ordered) == (("none", "mild", "severe"), True)
    assert told.rows[0].test["kappa"].folds == expected.rows[0].test["kappa"].folds
    assert dvme.load_head(told.saved[0]).classes == told.task.classes


def test_probe__says_that_no_image_has_a_group(tmp_path: Path, labels: NDArray[Any]) -> None:
    features, names = {"a": _features(labels, 0.6, 0)}, [str(label) for label in labels]
    alone = dvme.probe(_cache(tmp_path / "a.zarr", features, label=names), heads=[Linear((1.0,))])
    assert [line for line in alone.notices if "patient" in line] == [NO_GROUPS]
    one = _cache(tmp_path / "b.zarr", features, label=names, group=["p", "p", *[""] * (N - 2)])
    assert not [line for line in dvme.probe(one, heads=[Linear((1.0,))]).notices if "patient" in line]


def test_probe__a_backbone_that_tells_nothing_apart_is_named(tmp_path: Path, labels: NDArray[Any]) -> None:
    names, dead = [str(label) for label in labels], np.full((N, 4), 0.25, dtype=np.float32)
    both = _cache(tmp_path / "a.zarr", {"dead": dead, "live": _features(labels, 0.6, 0)}, label=names)
    notices = dvme.probe(both, heads=[Linear((1.0,))]).notices
    assert notices[1].startswith(f"all {N} embeddings of dead are identical: it tells nothing apart; dvme cache verify")
    assert not any("live" in line or "same picture" in line for line in notices)
    with pytest.raises(
        DataError, match=f"all {N} embeddings of dead are identical: nothing to learn; dvme cache verify"
    ):
        dvme.probe(both, heads=[Linear((1.0,))], backbones=["dead"])
    few = dead.copy()
    few[:3] = _features(labels[:3], 0.6, 0, dim=4)
    with pytest.raises(DataError, match=r"class '0' has 50 images, but embeddings that are identical .* leaves 2: too"):
        dvme.probe(_cache(tmp_path / "b.zarr", {"few": few}, label=names), heads=[Linear((1.0,))])
