from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from light import RIVALS, light, named
from memory import HELD
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, balanced_accuracy_score, cohen_kappa_score, roc_auc_score

import dvme
from dvme.data.targets import Targets
from dvme.errors import DataError, OptionError, UnknownNameError
from dvme.heads import HEADS as ALL_HEADS
from dvme.heads import Embedded, FittedHead, Head, Job, fit_jobs
from dvme.heads.exact import minimise, newton
from dvme.heads.exact.linear import Linear
from dvme.runtime import Progress, Runtime
from dvme.study import fitting, ledger
from dvme.study.design.options import SubsetOptions
from dvme.study.methods import make_methods
from dvme.study.outcome import StudyReport
from dvme.study.run import Run
from dvme.text import NO_GROUPS

Write = Callable[..., Path]
Make = Callable[..., NDArray[Any]]
Features = dict[str, NDArray[Any]]
HEADS = ("linear", "knn", "concat", "mean-logits")


def _numbers(report: StudyReport) -> list[Any]:
    """All that a sweep found, but for how long it took and where it stands."""
    found = report.to_json()
    for cell in found["cells"]:
        del cell["seconds"]
    return [found[name] for name in ("cells", "gains", "columns", "metric", "subsets")]


def _assert_same(one: StudyReport, other: StudyReport, tolerance: float = 0.0) -> None:
    """Equal numbers, nan among them."""

    def compare(mine: Any, theirs: Any) -> None:
        if isinstance(mine, dict):
            assert mine.keys() == theirs.keys()
            for name in mine:
                compare(mine[name], theirs[name])
        elif isinstance(mine, list | tuple):
            assert len(mine) == len(theirs)
            for a, b in zip(mine, theirs, strict=True):
                compare(a, b)
        elif isinstance(mine, float):
            assert mine == pytest.approx(theirs, abs=tolerance, rel=0, nan_ok=True)
        else:
            assert mine == theirs

    compare(_numbers(one), _numbers(other))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, cache: Path, options: SubsetOptions) -> StudyReport:
    """A run that nothing stopped."""
    return dvme.sweep(cache, tmp_path_factory.mktemp("whole") / "run", heads=light(*HEADS), options=options)


def test_sweep__numbers_are_those_of_every_job_fitted_alone(
    tmp_path: Path, cache: Path, features: Features, labels: NDArray[Any], options: SubsetOptions
) -> None:
    heads = (*HEADS, "dvme-noattn")
    report = dvme.sweep(cache, tmp_path / "run", heads=light(*heads), options=options)
    run = Run.load(tmp_path / "run")
    manifest = run.manifest
    data, truth = Embedded(features, labels, 3), labels[manifest.test]
    methods = make_methods(light(*heads), ["a", "b"], with_controls=False)
    assert [(method.name, method.backbones) for method in methods] == list(run.methods) == report.methods
    assert report.n_jobs == len(methods) * 3 * 3
    for m, method in enumerate(methods):
        for size in range(3):
            predictions = []
            for position, draw in enumerate(manifest.draws):
                seed = int(np.random.SeedSequence([0, draw.repeat, draw.fold]).generate_state(1)[0])
                rows = manifest.train(draw, size), manifest.validation(draw, size)
                (alone,) = fit_jobs([Job(method.head, method.backbones, *rows, seed)], data)
                found = run.finished[m, size][position]
                for part, own in ((manifest.test, found.test), (rows[1], found.validation)):
                    expected = alone.predict_proba(data.blocks(method.backbones, part))
                    np.testing.assert_allclose(own, expected, atol=1e-4)
                predictions.append(found.test.astype(np.float64))
                assert found.n_parameters == sum(array.size for array in alone.arrays().values())
            cell = report.row(method.name, method.backbones)[size]
            guesses = [p.argmax(axis=1) for p in predictions]
            expected_scores = {
                "auc": [roc_auc_score(truth, p / p.sum(1, keepdims=True), multi_class="ovr") for p in predictions],
                "accuracy": [accuracy_score(truth, guess) for guess in guesses],
                "balanced_accuracy": [balanced_accuracy_score(truth, guess) for guess in guesses],
                "kappa": [cohen_kappa_score(truth, g, labels=[0, 1, 2], weights="quadratic") for g in guesses],
            }
            for metric, values in expected_scores.items():
                assert cell.test[metric].folds == pytest.approx(values, abs=1e-6)
                assert cell.test[metric].mean == pytest.approx(np.mean(values), abs=1e-6)
                assert cell.test[metric].std == pytest.approx(np.std(values, ddof=1), abs=1e-6)
            chosen_on = []
            for draw, found in zip(manifest.draws, run.finished[m, size], strict=True):
                rows = found.validation.astype(np.float64)
                picked = labels[manifest.validation(draw, size)]
                chosen_on.append(roc_auc_score(picked, rows / rows.sum(1, keepdims=True), multi_class="ovr"))
            assert cell.validation == pytest.approx(np.mean(chosen_on), abs=1e-6)
            assert cell.interval.low < cell.test["auc"].mean < cell.interval.high


def test_sweep__controls_come_with_attention(tmp_path: Path, cache: Path) -> None:
    options = SubsetOptions(sizes=("12",), n_folds=2)
    report = dvme.sweep(cache, tmp_path / "run", heads=light("dvme", *RIVALS), options=options)
    both = ("a", "b")
    fusions = light("dvme", "dvme-noattn", "mlp", "concat", "mean-logits")
    expected = [(named("linear"), ("a",)), (named("linear"), ("b",)), *((head, both) for head in fusions)]
    assert sorted(report.methods) == sorted(expected)
    assert {gain.role for gain in report.gains} == {"single backbone", "control"}
    alone = dvme.sweep(cache, tmp_path / "alone", heads=light("dvme"), options=options, controls=False)
    assert (alone.methods, alone.gains) == ([(named("dvme"), both)], [])


def test_sweep__finished_jobs_are_not_fitted_again(
    tmp_path: Path, cache: Path, whole: StudyReport, options: SubsetOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[int] = []
    fit_each = fitting.fit_each

    def counted(jobs: Sequence[Job], *args: Any, **kwargs: Any) -> Iterator[Any]:
        fitted.append(len(jobs))
        return fit_each(jobs, *args, **kwargs)

    monkeypatch.setattr(fitting, "fit_each", counted)
    first = dvme.sweep(cache, tmp_path / "run", heads=light("linear"), options=options)
    assert (sum(fitted), first.n_jobs, first.n_reused) == (18, 18, 0)
    second = dvme.sweep(cache, tmp_path / "run", heads=light(*HEADS), options=options)
    assert (sum(fitted[1:]), second.n_jobs, second.n_reused) == (54 - 18, 54, 18)
    _assert_same(second, whole, tolerance=1e-6)
    third = dvme.sweep(cache, tmp_path / "run", heads=light(*HEADS), subsets=tmp_path / "run" / "subsets.json")
    assert (len(fitted), third.n_reused) == (2, 54)
    _assert_same(third, second)


def test_sweep__torn_and_lost_jobs_are_fitted_again(
    tmp_path: Path, cache: Path, whole: StudyReport, options: SubsetOptions
) -> None:
    dvme.sweep(cache, tmp_path / "run", heads=light(*HEADS), options=options)
    jobs = sorted((tmp_path / "run" / "jobs").iterdir())
    jobs[0].unlink()
    jobs[1].write_bytes(jobs[1].read_bytes()[:-10])
    jobs[2].write_bytes(b"")
    flipped = bytearray(jobs[3].read_bytes())
    flipped[200] ^= 255
    jobs[3].write_bytes(flipped)
    with pytest.raises(DataError, match="lacks a finished job; run the same dvme sweep again"):
        Run.load(tmp_path / "run")
    again = dvme.sweep(cache, tmp_path / "run", heads=light(*HEADS), options=options)
    assert again.n_reused == 54 - 4
    _assert_same(again, whole, tolerance=1e-6)


KILLED = light("linear", "knn", "concat", "mean-logits", "dvme-noattn")


def test_sweep__killed_midway_goes_on_from_there(tmp_path: Path, write_embeddings: Write, make_features: Make) -> None:
    """SIGKILL while jobs are being written; then the same command, and the numbers of a run that nothing stopped."""
    labels = np.arange(240) % 2
    features = {"a": make_features(labels, 0.6, 0, dim=16), "b": make_features(labels, 0.4, 1, dim=16)}
    cache = write_embeddings(tmp_path / "c.zarr", features, label=[str(label) for label in labels])
    options = ["--sizes", "12,50,full", "--folds", "4", "--head", ",".join(KILLED), "--device", "cpu"]
    dvme_itself = [sys.executable, "-c", "from dvme_cli.main import main; main()"]
    command = [*dvme_itself, "sweep", str(cache), "--out", str(tmp_path / "run"), *options]
    jobs = tmp_path / "run" / "jobs"
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until and process.poll() is None:
            if jobs.is_dir() and sum(entry.suffix == ".npz" for entry in jobs.iterdir()) >= 20:
                break
            time.sleep(0.002)
    finally:
        process.send_signal(signal.SIGKILL)
    said = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL, said
    left = {entry.name: entry.stat().st_mtime_ns for entry in jobs.glob("*.npz")}
    n_jobs = (2 * 2 + 3) * 3 * 4
    assert 20 <= len(left) < n_jobs
    with pytest.raises(DataError, match="is not finished; run the same dvme sweep again, it goes on from there"):
        Run.load(tmp_path / "run")
    chosen = SubsetOptions(sizes=("12", "50", "full"), n_folds=4)
    resumed = dvme.sweep(cache, tmp_path / "run", heads=KILLED, options=chosen, runtime=Runtime(device="cpu"))
    assert (resumed.n_jobs, resumed.n_reused) == (n_jobs, len(left))
    for name, written in left.items():
        assert (jobs / name).stat().st_mtime_ns == written
    uninterrupted = dvme.sweep(cache, tmp_path / "other", heads=KILLED, options=chosen)
    assert uninterrupted.n_reused == 0
    runs = [Run.load(each.run) for each in (resumed, uninterrupted)]
    for place, jobs in runs[0].finished.items():
        for one, other in zip(jobs, runs[1].finished[place], strict=True):
            np.testing.assert_allclose(one.test, other.test, atol=1e-6)
            assert one.chosen == other.chosen
    _assert_same(resumed, uninterrupted, tolerance=1e-5)


def test_sweep__killed_before_the_first_job(tmp_path: Path, cache: Path, options: SubsetOptions) -> None:
    """Whatever was written by then does not keep the same call from going on."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".run.json.partial").write_text("{")
    dvme.sweep(cache, folder, heads=["knn"], options=options)
    (folder / "subsets.json").unlink()
    again = dvme.sweep(cache, folder, heads=["knn"], options=options)
    assert again.n_reused == again.n_jobs
    assert Run.load(folder).manifest.hash == again.subsets


def test_sweep__folders_that_hold_something_else(
    tmp_path: Path, cache: Path, options: SubsetOptions, whole: StudyReport
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(OptionError, match="mine is there already and is not a run; name another folder with out"):
        dvme.sweep(cache, tmp_path / "mine", heads=["knn"], options=options)
    assert [entry.name for entry in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    with pytest.raises(
        OptionError, match=r"notes.txt is there already and is a file, not a run; name another folder with out"
    ):
        dvme.sweep(cache, tmp_path / "mine" / "notes.txt", heads=["knn"], options=options)
    before = Run.load(whole.run).manifest.hash
    with pytest.raises(OptionError, match=f"is a run over other subsets \\({before[:8]}, now .*pass subsets="):
        dvme.sweep(cache, whole.run, heads=light(*HEADS), options=replace(options, seed=1))
    assert Run.load(whole.run).manifest.hash == before


def test_sweep__another_lab_gets_the_same_numbers_from_the_same_file(
    tmp_path: Path, write_embeddings: Write, whole: StudyReport, features: Features, names: list[str]
) -> None:
    """Its images stand in another order under other paths, and it has some more."""
    rng = np.random.default_rng(0)
    more = {name: np.concatenate([values, rng.normal(size=(9, values.shape[1]))]) for name, values in features.items()}
    more = {name: values.astype(np.float32) for name, values in more.items()}
    elsewhere = write_embeddings(
        tmp_path / "elsewhere.zarr",
        more,
        order=rng.permutation(len(names) + 9).tolist(),
        label=[*names, *["2"] * 9],
        path=[f"scans/{image:05d}.dcm" for image in range(len(names) + 9)],
    )
    subsets = Path(whole.run) / "subsets.json"
    report = dvme.sweep(elsewhere, tmp_path / "run", heads=light(*HEADS), subsets=subsets)
    assert report.subsets == whole.subsets
    _assert_same(report, whole)
    # Each job under the same key, so that one lab's folder serves the other.
    keys = [sorted(entry.name for entry in (Path(each.run) / "jobs").iterdir()) for each in (report, whole)]
    assert keys[0] == keys[1]


def _one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_sweep__images_that_are_missing_or_have_other_labels(
    tmp_path: Path, write_embeddings: Write, whole: StudyReport, features: Features, names: list[str]
) -> None:
    subsets = Path(whole.run) / "subsets.json"

    def refused(cache: Path) -> str:
        with pytest.raises(DataError) as error:
            dvme.sweep(cache, tmp_path / "run", heads=["knn"], subsets=subsets)
        assert not (tmp_path / "run").exists()
        return _one_line(error)

    fewer = write_embeddings(
        tmp_path / "fewer.zarr", {name: values[:-2] for name, values in features.items()}, label=names[:-2]
    )
    assert "2 of the 150 images of" in refused(fewer)
    unlabelled = write_embeddings(tmp_path / "unlabelled.zarr", features, label=["", *names[1:]])
    assert "1 of the 150 images" in refused(unlabelled)
    assert "extract them first, or draw subsets of this cache" in refused(unlabelled)
    otherwise = write_embeddings(tmp_path / "otherwise.zarr", features, label=["2", "2", *names[2:]])
    message = refused(otherwise)
    assert "2 images of" in message
    assert "have another label in" in message
    assert "(0.png, 1.png); label the cache as the study did, or draw new subsets" in message
    groups = [f"p{row // 30}" for row in range(150)]
    grouped = write_embeddings(tmp_path / "grouped.zarr", features, label=names, group=groups)
    assert "groups are in both test and train: a leak" in refused(grouped)


@pytest.mark.parametrize("parts", [("train", "test"), ("train", "val", "test")])
def test_sweep__the_users_split(
    tmp_path: Path, write_embeddings: Write, features: Features, names: list[str], parts: tuple[str, ...]
) -> None:
    sizes = {("train", "test"): (110, 40), ("train", "val", "test"): (80, 30, 40)}[parts]
    splits = [part for part, n in zip(parts, sizes, strict=True) for _ in range(n)]
    cache = write_embeddings(tmp_path / "c.zarr", features, label=names, split=splits)
    options = SubsetOptions(sizes=("12", "full"), n_folds=3)
    report = dvme.sweep(cache, tmp_path / "run", heads=light("linear", "mean-logits"), options=options)
    manifest = Run.load(tmp_path / "run").manifest
    assert {splits[row] for row in manifest.test} == {"test"}
    assert len(manifest.draws) == 3
    if "val" in parts:
        assert report.columns[1].n_train == 80
        for draw in manifest.draws:
            assert {splits[row] for row in draw.train} == {"train"}
            assert {splits[row] for row in draw.validation} == {"val"}
        # At the full size the draws have the same rows, and these heads nothing random.
        cell = report.row(named("linear"), ("a",))[1]
        assert cell.test["auc"].folds == pytest.approx([cell.test["auc"].mean] * 3, abs=1e-6)
        assert any("your val part is the one validation set" in notice for notice in report.notices)
    else:
        assert report.columns[1].n_train == pytest.approx(110 * 2 / 3)


def test_sweep__patients_are_resampled_whole(
    tmp_path: Path, write_embeddings: Write, features: Features, names: list[str]
) -> None:
    groups = [f"p{row // 3}" for row in range(150)]
    cache = write_embeddings(tmp_path / "c.zarr", features, label=names, group=groups)
    report = dvme.sweep(cache, tmp_path / "run", heads=["knn"], options=SubsetOptions(sizes=("full",), n_folds=3))
    run = Run.load(tmp_path / "run")
    n_groups = len({groups[row] for row in run.manifest.test})
    assert any(f"95% CI: over {n_groups} test groups" in notice for notice in report.notices)
    own = [groups[row] for row in run.manifest.test]
    same = np.equal.outer(run.test_groups, run.test_groups)
    assert (same == np.equal.outer(own, own)).all()
    assert "p1" not in (tmp_path / "run" / "run.json").read_text()  # no patient's name leaves the cache


def test_sweep__near_duplicates_are_told_and_dropped(
    tmp_path: Path, write_embeddings: Write, features: Features, names: list[str]
) -> None:
    splits = ["train"] * 110 + ["test"] * 40
    planted = {**features, "a": features["a"].copy()}
    planted["a"][:3] = 1.001 * planted["a"][110:113] + 1e-4
    cache = write_embeddings(tmp_path / "c.zarr", planted, label=names, split=splits)
    options = SubsetOptions(sizes=("12", "full"), n_folds=3)
    told = dvme.sweep(cache, tmp_path / "told", heads=["knn"], options=options)
    assert any("3 pairs of near-duplicates between test and training images" in notice for notice in told.notices)
    lines = (tmp_path / "told" / "duplicates.csv").read_text().splitlines()
    assert lines[0] == "side,one,other,backbone,cosine"
    assert [line.rpartition(",")[0] for line in lines[1:]] == [f"test,{110 + i}.png,{i}.png,a" for i in range(3)]
    # The same from the file, by another cache's own embeddings.
    file = dvme.sweep(cache, tmp_path / "file", heads=["knn"], subsets=tmp_path / "told" / "subsets.json")
    assert sum("3 pairs of near-duplicates" in notice for notice in file.notices) == 1
    dropped = dvme.sweep(cache, tmp_path / "gone", heads=["knn"], options=replace(options, drop_duplicates=True))
    manifest = Run.load(tmp_path / "gone").manifest
    assert manifest.test.tolist() == list(range(110, 150))
    assert all(not {0, 1, 2} & {*draw.train.tolist(), *draw.validation.tolist()} for draw in manifest.draws)
    assert any("left out of training" in notice for notice in dropped.notices)


def test_sweep__sizes_that_coincide_once_duplicates_are_gone(
    tmp_path: Path, write_embeddings: Write, features: Features, names: list[str]
) -> None:
    """`70` of 73 training images becomes all that are left, as does `full`."""
    splits = ["train"] * 110 + ["test"] * 40
    planted = {**features, "a": features["a"].copy()}
    planted["a"][:12] = 1.001 * planted["a"][110:122] + 1e-4
    cache = write_embeddings(tmp_path / "c.zarr", planted, label=names, split=splits)
    options = SubsetOptions(sizes=("12", "70", "full"), n_folds=3, drop_duplicates=True)
    report = dvme.sweep(cache, tmp_path / "run", heads=light("linear", "mean-logits"), options=options)
    assert report.columns[1].n_train == report.columns[2].n_train < 70
    assert all(gain.saved is not None for gain in report.gains)


class _Choices(dict[str, Any]):
    """All that a sweep chose or predicted, by name."""


def _choices(report: StudyReport) -> _Choices:
    run = Run.load(report.run)
    found = _Choices()
    for (method, size), jobs in run.finished.items():
        for draw, job in enumerate(jobs):
            place = f"{run.names[method]} at {run.manifest.sizes[size]}, draw {draw}"
            found[f"{place}: chosen"] = dict(job.chosen)
            found[f"{place}: predicted"] = [job.test.tolist(), job.validation.tolist()]
    for cell in report.cells:
        found[f"{cell.method} at {cell.size}: validation"] = cell.validation
    found["leaders"] = [(gain.fusion, gain.leader, gain.role, gain.size) for gain in report.gains]
    found["references"] = [(cell.method, cell.size) for cell in report.cells if cell.mark == "*"]
    return found


def changed_by_test_labels(
    folder: Path, write_embeddings: Write, features: Features, labels: NDArray[Any], heads: Sequence[str | Head]
) -> list[str]:
    """What a sweep chose or predicted otherwise, once the labels of the test images are permuted: nothing may."""
    n_classes = int(labels.max()) + 1
    first = write_embeddings(folder / "true.zarr", features, label=[str(label) for label in labels])
    options = SubsetOptions(sizes=("12", "full"), n_folds=2)
    manifest = dvme.subsets(first, folder / "true.json", options=options).manifest
    permuted = labels.copy()
    permuted[manifest.test] = (labels[manifest.test] + np.arange(len(manifest.test))) % n_classes
    assert (permuted != labels).sum() > 0.5 * len(manifest.test)
    second = write_embeddings(folder / "permuted.zarr", features, label=[str(label) for label in permuted])
    replace(manifest, targets=replace(manifest.targets, values=permuted)).save(folder / "permuted.json")
    found = [
        _choices(dvme.sweep(cache, folder / name, heads=heads, subsets=folder / f"{name}.json", controls=False))
        for cache, name in ((first, "true"), (second, "permuted"))
    ]
    assert found[0].keys() == found[1].keys()
    return [name for name in found[0] if found[0][name] != found[1][name]]


def test_sweep__nothing_is_chosen_on_the_test_set(
    tmp_path: Path, write_embeddings: Write, features: Features, labels: NDArray[Any]
) -> None:
    heads = light("linear", "knn", "concat", "mean-logits", "dvme", "dvme-noattn")
    assert changed_by_test_labels(tmp_path, write_embeddings, features, labels, heads) == []


@dataclass(frozen=True)
class _Peeking(Linear):
    """A leak: its strength is the best on all rows that it was neither to learn from nor to choose on."""

    strengths: tuple[float, ...] = (1e-6, 1e-4, 1e-2, 1e-1, 1.0, 10.0)
    name: str = "peeking"

    @staticmethod
    def fit_together(
        jobs: Sequence[Job], data: Embedded, runtime: Runtime, progress: Progress
    ) -> Iterator[tuple[int, FittedHead]]:
        everyone = np.arange(len(data.labels))
        others = [np.setdiff1d(everyone, np.concatenate([job.train, job.validation])) for job in jobs]
        tested = np.array([row for row in others[-1] if (data.labels[row] >= 0).all()], dtype=np.int64)
        peeking = [
            replace(job, validation=np.intersect1d(rows, tested)) for job, rows in zip(jobs, others, strict=True)
        ]
        return Linear.fit_together(peeking, data, runtime, progress)


def test_sweep__a_planted_leak_is_found(
    tmp_path: Path,
    write_embeddings: Write,
    features: Features,
    labels: NDArray[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Labels are shown to a head that looks: the check above says so. Hidden from the same head, it finds nothing."""
    heads = [_Peeking(), *light("linear", "mean-logits")]
    (tmp_path / "hidden").mkdir()
    assert changed_by_test_labels(tmp_path / "hidden", write_embeddings, features, labels, heads) == []

    monkeypatch.setattr(Targets, "hidden", lambda self, _: self)
    (tmp_path / "shown").mkdir()
    changed = changed_by_test_labels(tmp_path / "shown", write_embeddings, features, labels, heads)
    assert any("+ peeking at" in name and name.endswith(": chosen") for name in changed)
    assert any("+ peeking at" in name and name.endswith(": predicted") for name in changed)
    assert not any("+ linear at" in name for name in changed)


def test_sweep__every_head_is_shown_no_test_label(
    tmp_path: Path, cache: Path, labels: NDArray[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[set[str], NDArray[Any]]] = []
    fit_each = fitting.fit_each

    def spy(jobs: Sequence[Job], data: Embedded, **kwargs: Any) -> Iterator[Any]:
        shown.append(({job.head.name for job in jobs}, data.labels.copy()))
        return fit_each(jobs, data, **kwargs)

    monkeypatch.setattr(fitting, "fit_each", spy)
    options = SubsetOptions(sizes=("12",), n_folds=2)
    dvme.sweep(cache, tmp_path / "run", heads=light(*ALL_HEADS), options=options)
    manifest = Run.load(tmp_path / "run").manifest
    assert set().union(*(heads for heads, _ in shown)) == set(ALL_HEADS)
    for _, seen in shown:
        assert set(seen[manifest.test].tolist()) == {-1}
        rest = np.setdiff1d(np.arange(len(labels)), manifest.test)
        assert (seen[rest] == labels[rest]).all()
        assert (manifest.targets.values == labels).all()


MEASURE = (
    HELD
    + """
import sys
import dvme
import dvme.study.sweep, dvme.heads.exact.linear, dvme.heads.neighbours.knn
import dvme.heads.fusion.controls, dvme.heads.fusion.network_head
import sklearn.model_selection, scipy.sparse.csgraph, pandas, pyarrow.parquet, faiss, torch
from dvme.study.design.options import SubsetOptions

def sweep(cache, out, **runtime):
    options = SubsetOptions(sizes=("50", "200"), n_folds=3)
    dvme.sweep(cache, out, heads=("linear", "knn", "concat", "mean-logits"), options=options,
               runtime=dvme.Runtime(device="cpu", **runtime))

small, large, folder, memory = sys.argv[1:]
sweep(small, folder + "/warm")  # what is loaded on the first use is no use of the data
before = held("VmRSS")
sweep(large, folder + "/run", memory=int(memory))
print(held() - before)
"""
)


@pytest.mark.machine
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_sweep__stays_within_the_memory_it_is_given(
    tmp_path: Path, write_embeddings: Write, make_features: Make
) -> None:
    """Embeddings of 60 MB, of which three copies are allowed for, in a quarter of a GiB."""
    labels = np.arange(2400) % 2
    large = {name: make_features(labels, 0.1, seed, dim=3072) for seed, name in enumerate("ab")}
    assert sum(values.nbytes for values in large.values()) == pytest.approx(59e6, rel=0.01)
    small = {name: values[:400, :16] for name, values in large.items()}
    caches = [
        write_embeddings(tmp_path / f"{name}.zarr", values, label=[str(label) for label in labels[: len(values["a"])]])
        for name, values in (("small", small), ("large", large))
    ]
    del large
    budget = 2**28
    command = [sys.executable, "-c", MEASURE, *map(str, caches), str(tmp_path), str(budget)]
    # glibc keeps what was freed for later, more of it or less by chance: 211 to 256 MiB where 206 are held.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**17)}
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert result.returncode == 0, result.stderr
    grown = int(result.stdout.splitlines()[-1])
    assert 60e6 < grown <= budget, f"{grown / 2**20:.0f} MiB"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"metric": "f1"},
            OptionError,
            "metric 'f1' is not known; choose from auc, accuracy, balanced_accuracy, kappa",
        ),
        ({"heads": ["forest"]}, UnknownNameError, "unknown head 'forest'; choose from linear"),
        ({"heads": []}, OptionError, "no head is named"),
        ({"backbones": ["dino"]}, ValueError, "has no dino embeddings"),
        ({"subsets": "none.json", "options": None}, DataError, "none.json does not exist; dvme subsets CACHE --out"),
        ({"subsets": "none.json"}, OptionError, "a subset file is a whole study: leave out sizes, n_folds"),
    ],
)
def test_sweep__what_cannot_be_swept(
    tmp_path: Path,
    cache: Path,
    options: SubsetOptions,
    arguments: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    given = {"heads": ["knn"], "options": options, **arguments}
    with pytest.raises(Exception, match=message) as raised:
        dvme.sweep(cache, tmp_path / "run", **given)
    assert isinstance(raised.value, error) or error is ValueError
    assert not (tmp_path / "run").exists()


def test_sweep__tells_every_stage(tmp_path: Path, cache: Path, options: SubsetOptions) -> None:
    told: list[tuple[str, int, int]] = []
    report = dvme.sweep(
        cache, tmp_path / "run", heads=["knn"], options=options, progress=lambda *each: told.append(each)
    )
    assert ("sweep", 18, 18) in told
    assert ("score", 6, 6) in told
    assert set(report.seconds) == {"subsets", "fit", "statistics", "write"}
    assert report.task.counts == (50, 50, 50)
    assert report.plan.startswith("held out 30 of 150 for testing, 3 folds of the other 120")


def test_package__commands_can_be_called_whatever_was_imported() -> None:
    """A package of the same name would take the function's place as soon as it is imported."""
    script = (
        "import dvme.study.design.options, dvme.study.ledger, dvme.study.published\n"
        "for name in ('subsets', 'sweep', 'compare'): assert callable(getattr(dvme, name)), name"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr


def test_sweep__jobs_of_other_versions_are_named(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = SubsetOptions(sizes=("12",), n_folds=2)
    older = {**ledger.versions(), "torch": "1.0"}
    with monkeypatch.context() as patched:
        patched.setattr(fitting, "versions", lambda: older)
        dvme.sweep(cache, tmp_path / "run", heads=light("linear"), options=options)
    report = dvme.sweep(cache, tmp_path / "run", heads=light("linear", "knn"), options=options)
    (line,) = (each for each in report.notices if "torch 1.0" in each)
    now = ledger.versions()["torch"]
    assert line.startswith(f"4 jobs of 8 were fitted before by torch 1.0 (now {now}); dvme sweep into another ")
    fresh = dvme.sweep(cache, tmp_path / "other", heads=light("linear", "knn"), options=options)
    assert not any("fitted before by" in each for each in fresh.notices)


def test_sweep__fits_that_did_not_converge_are_counted(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(minimise, "MAX_ITERATIONS", 1)
    monkeypatch.setattr(newton, "MAX_STEPS", 0)
    options = SubsetOptions(sizes=("12",), n_folds=2)
    report = dvme.sweep(cache, tmp_path / "run", heads=["linear", "mean-logits"], options=options)
    (line,) = (each for each in report.notices if "converge" in each)
    assert "4 of linear, 2 of mean-logits" in line


def test_sweep__knn_chooses_by_its_metric(tmp_path: Path, cache: Path) -> None:
    options = SubsetOptions(sizes=("12",), n_folds=2)
    for metric, head, expected in (
        ("auc", "knn", "study"),
        ("balanced_accuracy", "knn", "balanced_accuracy"),
        ("balanced_accuracy", "knn@choose-by=accuracy", "accuracy"),
    ):
        out = tmp_path / f"{metric} {head}"
        dvme.sweep(cache, out, heads=[head], metric=metric, options=options)
        (settings,) = {each["settings"]["choose_by"] for each in Run.load(out).described["methods"]}
        assert settings == expected


@dataclass(frozen=True)
class _Broken(Linear):
    """Says nan of some images."""

    name: str = "broken"

    @staticmethod
    def fit_together(
        jobs: Sequence[Job], data: Embedded, runtime: Runtime, progress: Progress
    ) -> Iterator[tuple[int, FittedHead]]:
        for position, head in Linear.fit_together(jobs, data, runtime, progress):
            yield position, replace(head, intercepts=np.full(3, np.nan))  # type: ignore[type-var]


def test_studies_refuse_what_is_no_probability(tmp_path: Path, cache: Path) -> None:
    said = "a \\+ broken gives no probabilities for 30 of 30 images; rescale its embeddings, or leave it out"
    with pytest.raises(DataError, match=said):
        dvme.sweep(cache, tmp_path / "run", heads=[_Broken()], options=SubsetOptions(sizes=("12",), n_folds=2))
    assert not list((tmp_path / "run" / "jobs").glob("*"))
    with pytest.raises(DataError, match=said.replace("for 30 of 30", "for \\d+ of \\d+")):
        dvme.probe(cache, heads=[_Broken()], n_folds=2)


class _Looking(_Broken):
    """Notes which labels its head may see."""

    seen: ClassVar[list[NDArray[Any]]] = []

    @staticmethod
    def fit_together(
        jobs: Sequence[Job], data: Embedded, runtime: Runtime, progress: Progress
    ) -> Iterator[tuple[int, FittedHead]]:
        _Looking.seen.append(data.labels)
        yield from Linear.fit_together(jobs, data, runtime, progress)


def test_studies_hide_the_test_labels(tmp_path: Path, cache: Path) -> None:
    """Of 150 images 30 are tested; no head gets to know their classes."""
    _Looking.seen.clear()
    dvme.probe(cache, heads=[_Looking()], n_folds=2)
    dvme.sweep(cache, tmp_path / "run", heads=[_Looking()], options=SubsetOptions(sizes=("12",), n_folds=2))
    assert [(int((labels == -1).sum()), int((labels >= 0).sum())) for labels in _Looking.seen] == [(30, 120)] * 2


GRADES = ("none", "mild", "severe")


def test_sweep__kappa_needs_an_order(
    tmp_path: Path, write_embeddings: Write, features: dict[str, NDArray[Any]], labels: NDArray[Any]
) -> None:
    graded = write_embeddings(tmp_path / "c.zarr", features, label=[GRADES[label] for label in labels])
    options, one = SubsetOptions(sizes=("full",), n_folds=3), {"heads": [Linear((1.0,))], "backbones": ["a"]}
    with pytest.raises(OptionError, match=f"and mild, none, severe have none .* label {graded} --class-order"):
        dvme.sweep(graded, tmp_path / "kappa", options=options, metric="kappa", **one)
    assert not (tmp_path / "kappa").exists()
    assumed = dvme.sweep(graded, tmp_path / "auc", options=options, **one)
    assert assumed.to_json()["task"]["kappa"] == "quadratic kappa (order assumed: mild < none < severe)"
    with pytest.raises(OptionError, match="depends on the order of the classes"):
        dvme.compare(tmp_path / "auc", tmp_path / "auc", metric="kappa")
    beside = dvme.compare(tmp_path / "auc", published="truong2021:aptos").notices
    assert any("mild, none, severe have none that is given" in line for line in beside)
    dvme.cache.label(graded, class_order=GRADES)
    told = dvme.sweep(graded, tmp_path / "kappa", options=options, metric="kappa", **one)
    assert (told.task.classes, told.task.is_ordered) == (GRADES, True)
    numbered = write_embeddings(tmp_path / "n.zarr", features, label=[str(label) for label in labels])
    expected = dvme.sweep(numbered, tmp_path / "numbers", options=options, metric="kappa", **one)
    assert told.cells[0].test["kappa"] == expected.cells[0].test["kappa"]


def test_sweep__an_order_that_changes_is_never_mixed(
    tmp_path: Path, write_embeddings: Write, features: dict[str, NDArray[Any]], labels: NDArray[Any]
) -> None:
    graded = write_embeddings(tmp_path / "c.zarr", features, label=[GRADES[label] for label in labels])
    options, one = SubsetOptions(sizes=("full",), n_folds=3), {"heads": [Linear((1.0,))], "backbones": ["a"]}
    run, subsets = tmp_path / "run", tmp_path / "run" / "subsets.json"
    before = dvme.sweep(graded, run, options=options, **one)
    dvme.cache.label(graded, class_order=before.task.classes)
    same = dvme.sweep(graded, run, options=options, **one)  # only now it is known to be one
    assert (same.n_reused, same.task.is_order_given) == (same.n_jobs, True)
    assert Run.load(run).manifest.targets.is_order_given
    dvme.cache.label(graded, class_order=GRADES)
    with pytest.raises(OptionError, match=r"a run over other subsets .* the order of the classes have changed"):
        dvme.sweep(graded, run, options=options, **one)
    with_own = dvme.sweep(graded, run, subsets=subsets, **one)
    assert (with_own.n_reused, with_own.task.classes) == (with_own.n_jobs, before.task.classes)
    assert any(
        "in the order mild < none < severe, " in line and "none < mild < severe" in line for line in with_own.notices
    )
    dvme.cache.label(graded, class_order=())
    assumed = dvme.sweep(graded, tmp_path / "other", options=options, **one)
    assert not assumed.task.is_ordered
    dvme.cache.label(graded, class_order=GRADES)
    with pytest.raises(OptionError, match=r"depends on the order of the classes: .*this run goes by the former"):
        dvme.sweep(graded, tmp_path / "new", subsets=tmp_path / "other" / "subsets.json", metric="kappa", **one)


def test_sweep__says_once_that_no_image_has_a_group(
    tmp_path: Path, write_embeddings: Write, features: dict[str, NDArray[Any]], names: list[str]
) -> None:
    options = SubsetOptions(sizes=("full",), n_folds=3)
    cache = write_embeddings(tmp_path / "c.zarr", features, label=names)
    drawn = dvme.subsets(cache, tmp_path / "s.json", options=options)
    assert (drawn.notices.count(NO_GROUPS), drawn.manifest.notices.count(NO_GROUPS)) == (1, 0)
    swept = dvme.sweep(cache, tmp_path / "run", subsets=tmp_path / "s.json", heads=[Linear((1.0,))])
    assert swept.notices.count(NO_GROUPS) == 1
    grouped = write_embeddings(tmp_path / "g.zarr", features, label=names, group=[f"p{n}" for n in range(len(names))])
    assert NO_GROUPS not in dvme.subsets(grouped, tmp_path / "g.json", options=options).notices


def test_sweep__a_backbone_that_tells_nothing_apart_is_named_once(
    tmp_path: Path, write_embeddings: Write, features: dict[str, NDArray[Any]], names: list[str]
) -> None:
    both = {"a": features["a"], "dead": np.ones((len(names), 3), dtype=np.float32)}
    cache = write_embeddings(tmp_path / "c.zarr", both, label=names)
    options = SubsetOptions(sizes=("full",), n_folds=3)
    dvme.subsets(cache, tmp_path / "s.json", options=options)
    for given in ({"options": options}, {"subsets": tmp_path / "s.json"}):
        run = dvme.sweep(cache, tmp_path / next(iter(given)), heads=[Linear((1.0,))], **given)
        assert [line.partition(":")[0] for line in run.notices if "dead" in line] == [
            f"all {len(names)} embeddings of dead are identical"
        ]
