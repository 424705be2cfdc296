"""Studies of images that may have several findings, from a cache to the table."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    cohen_kappa_score,
    confusion_matrix,
    mean_absolute_error,
    roc_auc_score,
)

import dvme
from dvme.errors import DataError, OptionError
from dvme.study.design.options import SubsetOptions
from dvme.study.loaded import Study
from dvme.study.outcome import StudyReport
from dvme_cache import EmbeddingCache, Fingerprint

N, NAMES = 240, ("Edema", "Effusion", "Mass", "Rare")
RNG = np.random.default_rng(0)
TRUTH = (RNG.random((N, 4)) < [0.4, 0.3, 0.2, 0.0]).astype(float)
TRUTH[7, 3] = 1.0
"""One image has the rare finding."""
PATIENTS = np.arange(N) // 2


def _texts(truth: NDArray[Any]) -> list[str]:
    """As a cache has them: uncertain where the truth is -1, unknown where it is nan."""
    said = {1.0: "{0}|", -1.0: "{0}=?|"}
    return [
        ""
        if np.isnan(row).all()
        else "|"
        + "".join(
            f"{name}=|" if np.isnan(value) else said.get(value, "").format(name)
            for name, value in zip(NAMES, row, strict=True)
        )
        for row in truth
    ]


def _features(signal: float, seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return (signal * np.abs(np.nan_to_num(TRUTH)) @ rng.normal(size=(4, 10)) + rng.normal(size=(N, 10))).astype("f4")


def _cache(path: Path, truth: NDArray[Any] = TRUTH, splits: Sequence[str] = (), groups: Sequence[Any] = ()) -> Path:
    with EmbeddingCache.writing(path) as cache:
        ids = [bytes([i % 256, i // 256]) * 8 for i in range(1, N + 1)]
        rows = cache.samples.add(ids, [f"{i}.png" for i in range(N)])
        columns = {"label": _texts(truth), "split": list(splits), "group": [f"p{each}" for each in groups]}
        cache.update_columns(rows, {name: own for name, own in columns.items() if own})
        for seed, (name, signal) in enumerate((("a", 0.9), ("b", 0.4))):
            values = _features(signal, seed)
            table = cache.ensure_embeddings(
                name, Fingerprint({"weights": name}), dim=10, dtype="float32", provenance={}
            )
            for shard in table.pending_shards():
                table.commit(shard, values[shard], {})
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two sizes, on patients, by two heads."""
    folder = tmp_path_factory.mktemp("findings")
    options = SubsetOptions(sizes=("40", "full"), n_folds=3)
    dvme.sweep(
        _cache(folder / "c.zarr", groups=PATIENTS),
        heads=["linear", "knn"],
        options=options,
        out=folder / "run",
    )
    return folder / "run"


@pytest.fixture(scope="module")
def study(run: Path) -> Study:
    return Study.load(run)


def test_study__scores_are_those_of_scikit_learn(run: Path, study: Study) -> None:
    kept = pd.read_parquet(run / "predictions.parquet")
    truth = TRUTH[[int(path.split(".")[0]) for path in kept["path"]]]
    for (head, backbone, size), own in kept.groupby(["head", "backbones", "size"], observed=True):
        cell = next(c for c in study.summary.cells if (c.head, c.backbones, c.size) == (head, (backbone,), size))
        aucs, precisions, exact = [], [], []
        for _, fold in own.groupby("fold"):
            true = truth[fold.index]
            asked = fold[[f"p({name})" for name in NAMES]].to_numpy().astype(float)
            aucs.append(np.mean([roc_auc_score(true[:, c], asked[:, c]) for c in range(3)]))
            precisions.append(np.mean([average_precision_score(true[:, c], asked[:, c]) for c in range(3)]))
            exact.append(((asked[:, :3] > 0.5) == (true[:, :3] == 1.0)).all(axis=1).mean())
        assert cell.test["auc"].folds == pytest.approx(aucs, abs=1e-6)
        assert cell.test["average_precision"].folds == pytest.approx(precisions, abs=1e-6)
        assert cell.test["subset_accuracy"].folds == pytest.approx(exact)
        assert cell.interval.low < cell.test["auc"].mean < cell.interval.high


def test_study__says_which_findings_its_means_leave_out(study: Study) -> None:
    said = next(line for line in study.summary.notices if "test groups" in line)
    assert "3 of 4 findings" in said
    assert "without Rare" in said


def test_study__summary_survives_a_way_through_json(study: Study) -> None:
    again = StudyReport.from_json(study.summary.to_json())
    assert again.to_json() == study.summary.to_json()
    assert again.task.is_multilabel


def test_study__patients_stay_on_one_side(study: Study) -> None:
    manifest = study.run.manifest
    number = PATIENTS[[int.from_bytes(bytes(row[:2]), "little") - 1 for row in manifest.images]]
    test = set(number[manifest.test])
    assert not test & set(np.delete(number, manifest.test))
    for draw in manifest.draws:
        assert not set(number[manifest.train(draw, 1)]) & set(number[manifest.validation(draw, 1)])


def test_study__resumed_and_probed_it_has_the_same_numbers(run: Path, study: Study, tmp_path: Path) -> None:
    again = dvme.sweep(run.parent / "c.zarr", heads=["linear", "knn"], subsets=run / "subsets.json", out=run)
    assert again.n_reused == again.n_jobs
    assert [cell.test for cell in again.cells] == [cell.test for cell in study.summary.cells]
    probed = dvme.probe(run.parent / "c.zarr", heads=["linear", "knn"], n_folds=3)
    by_method = {cell.method: cell.test for cell in probed.rows}
    assert by_method == {cell.method: cell.test for cell in study.summary.rows}


@pytest.mark.parametrize("head", ["linear", "knn", "dvme@max-epochs=3", "mlp@max-epochs=3"])
def test_study__nobody_learns_from_what_is_hidden_or_masked(head: str, tmp_path: Path) -> None:
    """Cells of the test images, and masked ones, may have any value: no probability changes."""
    splits, masked = np.where(np.arange(N) % 4 == 0, "test", "train"), TRUTH.copy()
    masked[1::12, 0] = np.nan
    kept = []
    for name, changes in (("one", False), ("two", True)):
        truth = masked.copy()
        if changes:
            truth[splits == "test", :3] = 1.0 - truth[splits == "test", :3]
        out = tmp_path / name
        dvme.probe(_cache(tmp_path / f"{name}.zarr", truth, splits.tolist()), heads=[head], controls=False, out=out)
        kept.append(pd.read_parquet(out / "predictions.parquet").filter(like="p(").to_numpy())
    np.testing.assert_array_equal(*kept)


def test_study__users_splits_are_kept(tmp_path: Path) -> None:
    splits = np.array(["train", "train", "val", "test"])[np.arange(N) % 4]
    report = dvme.probe(_cache(tmp_path / "c.zarr", splits=splits.tolist()), heads=["linear"], out=tmp_path / "run")
    manifest = Study.load(tmp_path / "run").run.manifest
    number = np.array([int.from_bytes(bytes(row[:2]), "little") - 1 for row in manifest.images])
    assert set(number[manifest.test]) == set(np.flatnonzero(splits == "test"))
    for draw in manifest.draws:
        assert set(splits[number[manifest.validation(draw, 0)]]) == {"val"}
    assert report.rows[0].test["auc"].mean > 0.6


def test_study__uncertain_cells_teach_by_the_policy_and_are_never_judged(tmp_path: Path) -> None:
    unsure = TRUTH.copy()
    unsure[::5, 1] = -1.0
    cache = _cache(tmp_path / "c.zarr", unsure)
    found = {
        policy: dvme.probe(cache, heads=["linear"], backbones=["a"], uncertain=policy)
        for policy in ("ignore", "zeros", "ones", "soft=0.7")
    }
    folds = {policy: tuple(report.rows[0].test["auc"].folds) for policy, report in found.items()}
    assert len(set(folds.values())) == 4
    for report in found.values():
        assert report.reliability is not None
        effusion = next(each for each in report.reliability.leading.findings if each.finding == "Effusion")
        assert effusion.n_known < 48
    assert "48 uncertain cells: they teach 0.7 (uncertain: soft=0.7)" in found["soft=0.7"].notices
    assert "48 uncertain cells: they teach nothing (uncertain: ignore)" in found["ignore"].notices


@pytest.mark.parametrize(
    ("truth", "said"),
    [
        (np.zeros((N, 4)), "no image is known to have any finding"),
        (
            np.where(np.arange(N)[:, None] == 3, TRUTH, np.nan),
            "1 image, too few for 5 folds and a part for testing, which need 6",
        ),
    ],
)
def test_study__nothing_to_learn_is_one_line(truth: NDArray[Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said) as raised:
        dvme.probe(_cache(tmp_path / "c.zarr", truth), heads=["linear"])
    assert "\n" not in str(raised.value)


def test_study__a_metric_of_one_class_is_refused(tmp_path: Path) -> None:
    cache = _cache(tmp_path / "c.zarr")
    with pytest.raises(OptionError, match=r"several findings is judged by auc, not by kappa; leave out metric"):
        dvme.sweep(cache, heads=["linear"], metric="kappa", out=tmp_path / "run")
    with pytest.raises(OptionError, match=r"'average_precision' stands beside the AUC of several findings"):
        dvme.sweep(cache, heads=["linear"], metric="average_precision", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_study__a_policy_of_findings_is_refused_for_one_class_each(small_study: Path) -> None:
    with pytest.raises(OptionError, match=r"one class each, and none of them is uncertain; leave out uncertain"):
        dvme.probe(small_study / "c.zarr", heads=["linear"], uncertain="zeros")
    with pytest.raises(OptionError, match=r"leave out blank"):
        dvme.probe(small_study / "c.zarr", heads=["linear"], blank="zeros")


GRADES = ("none", "mild", "severe", "worst")


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory, write_embeddings: Callable[..., Path]) -> Path:
    """A run of classes in order that one direction tells, with and without cuts tuned for kappa."""
    folder, rng = tmp_path_factory.mktemp("graded"), np.random.default_rng(1)
    labels = rng.choice(4, 240, p=[0.5, 0.2, 0.1, 0.2])
    features = (0.4 * labels[:, None] * rng.normal(size=8) + rng.normal(size=(240, 8))).astype(np.float32)
    write_embeddings(folder / "c.zarr", {"a": features}, label=[GRADES[label] for label in labels])
    dvme.cache.label(folder / "c.zarr", class_order=GRADES)
    heads = [f"linear@strengths=0.01{more}" for more in ("", "@link=cumulative", "@tune=kappa")]
    options = SubsetOptions(sizes=("full",), n_folds=3)
    dvme.sweep(folder / "c.zarr", folder / "run", heads=heads, metric="kappa", options=options)
    return folder


def test_sweep__cuts_decide_the_class_and_nothing_else(graded: Path) -> None:
    study = Study.load(graded / "run")
    truth = study.run.manifest.targets.values[study.run.manifest.test]
    plain, tuned = (study.run.finished[method, 0] for method in (0, 2))
    for before, job in zip(plain, tuned, strict=True):
        np.testing.assert_array_equal(before.log_test, job.log_test)
        assert job.cuts is not None
        taken = (job.test @ np.arange(4) > np.array(job.cuts)[:, None]).sum(axis=0)
        expected = {
            "auc": before.scores["test"]["auc"],
            "accuracy": accuracy_score(truth, taken),
            "balanced_accuracy": balanced_accuracy_score(truth, taken),
            "kappa": cohen_kappa_score(truth, taken, weights="quadratic", labels=range(4)),
            "mae": mean_absolute_error(truth, taken),
        }
        assert job.scores["test"] == pytest.approx(expected)
    cells = {cell.head: cell for cell in study.summary.cells}
    cell = cells["linear@strengths=0.01@tune=kappa"]
    assert cell.interval.estimate == pytest.approx(np.mean([job.scores["test"]["kappa"] for job in tuned]))
    assert cell.test["kappa"].folds != cells["linear@strengths=0.01"].test["kappa"].folds


def test_sweep__the_error_in_grades_has_an_interval_of_its_own(graded: Path) -> None:
    """Of the mean over heads: the t interval of images within their classes, from its formula."""
    study = Study.load(graded / "run")
    truth = study.run.manifest.targets.values[study.run.manifest.test]
    (cell,) = (each for each in study.summary.cells if each.head == "linear@strengths=0.01@link=cumulative")
    jobs = study.run.finished[1, 0]
    off = np.mean([np.abs(job.test.argmax(axis=1) - truth) for job in jobs], axis=0)
    variance = sum(((truth == c).mean() ** 2) * off[truth == c].var(ddof=1) / (truth == c).sum() for c in range(4))
    assert cell.error_in_grades is not None
    low, high = cell.error_in_grades.low, cell.error_in_grades.high
    assert cell.error_in_grades.estimate == pytest.approx(off.mean()) == cell.test["mae"].mean
    assert (low + high) / 2 == pytest.approx(off.mean())
    assert 1.9 < (high - low) / 2 / np.sqrt(variance) < 5.0  # between the normal quantile and that of few images


def test_sweep__decisions_of_tuned_heads_in_the_diagnosis(graded: Path) -> None:
    study = Study.load(graded / "run")
    shown = {each.head: each for each in study.diagnoses}
    method = study.lead
    head = study.run.methods[method][0]
    taken = study.taken_for(method)[study.run.manifest.test]
    truth = study.run.manifest.targets.values[study.run.manifest.test]
    assert shown[head].confusion.counts == tuple(map(tuple, confusion_matrix(truth, taken, labels=range(4)).tolist()))
    assert shown[head].n_mistakes == (taken != truth).sum()


def test_sweep__is_not_judged_by_an_error(graded: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="mae cannot judge a study"):
        dvme.sweep(graded / "c.zarr", tmp_path / "run", heads=["linear"], metric="mae")


def test_sweep__a_head_that_needs_an_order_is_refused_without(graded: Path, tmp_path: Path) -> None:
    shutil.copytree(graded / "c.zarr", tmp_path / "c.zarr")
    dvme.cache.label(tmp_path / "c.zarr", class_order=[])
    with pytest.raises(OptionError, match="needs an order of the classes"):
        dvme.sweep(tmp_path / "c.zarr", tmp_path / "run", heads=["linear@link=cumulative"])
    assert not (tmp_path / "run").exists()


def test_study__a_test_set_that_judges_nothing_is_refused_before_anything_is_kept(tmp_path: Path) -> None:
    truth = np.column_stack([np.ones(N), TRUTH[:, 3]])
    truth = np.column_stack([truth, np.ones((N, 2))])
    with pytest.raises(DataError, match="none of 4 findings can be judged"):
        dvme.probe(_cache(tmp_path / "c.zarr", truth), heads=["linear"], out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_compare__two_policies_are_of_the_same_images(tmp_path: Path) -> None:
    unsure = TRUTH.copy()
    unsure[::5, 1] = -1.0
    cache = _cache(tmp_path / "c.zarr", unsure)
    for policy in ("ignore", "ones"):
        dvme.probe(cache, heads=["linear"], backbones=["a"], uncertain=policy, out=tmp_path / policy)
    report = dvme.compare(tmp_path / "ignore", tmp_path / "ones")
    assert len(report.pairs) == 1
    assert not np.isnan(report.pairs[0].comparison.p)
