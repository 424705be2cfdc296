from __future__ import annotations

import json
import math
import platform
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from light import light, named
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

import dvme
from dvme.errors import DataError, OptionError
from dvme.json_values import as_json
from dvme.study.design.manifest import SubsetManifest
from dvme.study.design.options import SubsetOptions
from dvme.study.outcome import StudyReport
from dvme.study.run import Run, check_run, check_same_views, read_summary
from dvme_cache import EmbeddingCache

HEADS = ("linear", "knn", "mean-logits")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, cache: Path, options: SubsetOptions) -> StudyReport:
    found: StudyReport = dvme.sweep(
        cache, tmp_path_factory.mktemp("runs") / "run", heads=light(*HEADS), options=options
    )
    return found


@pytest.fixture
def folder(report: StudyReport, tmp_path: Path) -> Path:
    """A copy to spoil."""
    shutil.copytree(report.run, tmp_path / "run")
    return tmp_path / "run"


def test_run__holds_all_that_a_report_needs(report: StudyReport) -> None:
    folder = Path(report.run)
    tables = {"results.csv", "predictions.parquet", "duplicates.csv", "suspects.csv"}
    names = {"run.json", "subsets.json", "seen.npz", "jobs", "heads", "summary.json"} | tables
    assert {entry.name for entry in folder.iterdir()} == names
    described = json.loads((folder / "run.json").read_text())
    assert (described["format"], described["subsets"], described["metric"]) == (2, report.subsets, "auc")
    assert [each["name"] for each in described["backbones"]] == ["a", "b"]
    assert [each["dim"] for each in described["backbones"]] == [8, 10]
    tables = [EmbeddingCache.open(report.cache).embeddings(name) for name in ("a", "b")]
    assert [each["digest"] for each in described["backbones"]] == [table.fingerprint.digest for table in tables]
    assert [each["fingerprint"] for each in described["backbones"]] == [{"weights": "a"}, {"weights": "b"}]
    assert described["methods"][0] == {
        "head": "linear",
        "name": named("linear"),
        "backbones": ["a"],
        "settings": {"strengths": [1e-3, 1e-1], "name": "linear", "is_fusion": False},
    }
    summary = json.loads((folder / "summary.json").read_text())
    assert len(summary["cells"]) == len(report.cells)


def test_run__results_are_one_row_per_measurement(report: StudyReport) -> None:
    table = pd.read_csv(Path(report.run) / "results.csv")
    where = ["head", "backbones", "size", "n_train", "n_validation", "repeat", "fold"]
    assert list(table.columns) == [*where, "part", "metric", "value"]
    assert not table.duplicated(["head", "backbones", "size", "repeat", "fold", "part", "metric"]).any()
    tested = table[table["part"] == "test"]
    assert len(tested) == 5 * 3 * 3 * 5
    for cell in report.cells:
        own = tested[(tested["head"] == cell.head) & (tested["backbones"] == "+".join(cell.backbones))]
        own = own[(own["size"].astype(str) == cell.size) & (own["metric"] == "auc")]
        assert own["value"].tolist() == pytest.approx(cell.test["auc"].folds)
    fit = table[(table["part"] == "fit") & (table["head"] == "knn")]
    assert set(fit["metric"]) == {"seconds", "parameters", "k"}


def test_run__predictions_give_every_score_again(report: StudyReport) -> None:
    table = pd.read_parquet(Path(report.run) / "predictions.parquet")
    run = Run.load(report.run)
    assert len(table) == 5 * 3 * 3 * len(run.manifest.test)
    contents = [row.tobytes().hex() for row in run.manifest.images[run.manifest.test]]
    assert table["content"].tolist() == contents * 45
    store = EmbeddingCache.open(report.cache)
    named = dict(zip((content.hex() for content in store.samples.content_ids), store.samples.paths, strict=True))
    assert table["image"].tolist() == [named[content] for content in contents] * 45
    assert table["path"].tolist() == table["image"].tolist()  # of made-up embeddings nothing else is known
    parts = table.groupby(["head", "backbones", "size"], observed=True)
    for (head, backbones, size), own in parts:
        cell = next(each for each in report.row(head, tuple(backbones.split("+"))) if each.size == size)
        for fold, rows in own.groupby("fold"):
            probabilities = rows[["p(0)", "p(1)", "p(2)"]].to_numpy().astype(np.float64)
            truth = rows["label"].astype(int).to_numpy()
            aucs = [roc_auc_score(truth == c, probabilities[:, c]) for c in range(3)]
            assert cell.test["auc"].folds[fold - 1] == pytest.approx(np.mean(aucs), abs=1e-6)
            recall = balanced_accuracy_score(truth, probabilities.argmax(axis=1))
            assert cell.test["balanced_accuracy"].folds[fold - 1] == pytest.approx(recall)


def test_load__is_what_was_swept(report: StudyReport) -> None:
    run = Run.load(report.run)
    assert (run.metric, run.seed, run.manifest.hash) == ("auc", 0, report.subsets)
    assert list(run.methods) == report.methods
    assert run.names == [cell.method for cell in report.cells[:5]]
    assert {place: len(jobs) for place, jobs in run.finished.items()} == {(m, s): 3 for m in range(5) for s in range(3)}
    assert set(run.test_groups.tolist()) == {""}


def test_run__says_what_it_was_made_by(report: StudyReport, folder: Path) -> None:
    versions = Run.load(report.run).versions
    faiss = {name for name in versions if name.startswith("faiss-")}
    assert len(faiss) == 1
    assert versions == {"python": platform.python_version()} | {
        name: version(name) for name in ("dvme", "numpy", "torch", "scikit-learn", *faiss)
    }
    described = json.loads((folder / "run.json").read_text())
    del described["versions"]
    for each in described["backbones"]:
        del each["fingerprint"]
    (folder / "run.json").write_text(json.dumps(described))  # as an older dvme wrote it
    assert Run.load(folder).versions == {}


def test_read_summary__is_what_was_printed(report: StudyReport) -> None:
    found = read_summary(report.run)
    seconds = {name: value for name, value in report.seconds.items() if name != "write"}  # it was not over yet
    expected = replace(report, seconds=seconds)
    assert repr(asdict(found)) == repr(asdict(expected))  # exactly, and nan as nan
    assert found.to_json() == expected.to_json()
    assert found.methods == report.methods
    assert [gain.word for gain in found.gains] == [gain.word for gain in report.gains]
    assert {type(cell.interval.low) for cell in found.cells} == {float}
    assert any(math.isnan(cell.p_adjusted) for cell in found.cells)
    assert any(gain.saved is not None for gain in found.gains)


def test_from_json__infinities_come_back(report: StudyReport) -> None:
    gain = report.gains[0]
    assert gain.saved is not None
    some = replace(gain, comparison=replace(gain.comparison, df=math.inf, p=math.nan), effect=-math.inf)
    given = replace(report, gains=[some])
    text = as_json(given.to_json())
    found = StudyReport.from_json(json.loads(text))
    assert repr(asdict(found)) == repr(asdict(given))
    assert (found.gains[0].comparison.df, found.gains[0].effect) == (math.inf, -math.inf)


def _without(name: str, key: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        described: dict[str, Any] = json.loads((folder / name).read_text())
        del described[key]
        (folder / name).write_text(json.dumps(described))

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "is not a run; dvme sweep CACHE --out"),
        (lambda folder: (folder / "summary.json").unlink(), "is not finished; run the same dvme sweep again"),
        (_without("run.json", "jobs"), "is not finished; run the same dvme sweep again"),
        (lambda folder: (folder / "summary.json").write_text('{"run": '), r"summary.json cannot be read as a summary"),
        (lambda folder: (folder / "summary.json").write_bytes(b"\xff"), r"summary.json cannot be read as a summary"),
        (lambda folder: (folder / "summary.json").write_text("[]"), r"cannot be read as a summary \(\[\] is not Study"),
        (_without("summary.json", "cells"), r"\(it has no 'cells'\); run the same dvme sweep again"),
        (lambda folder: shutil.copy(folder / "run.json", folder / "summary.json"), r"\(it has no 'run'\)"),
    ],
)
def test_read_summary__what_is_none(folder: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(folder)
    with pytest.raises(DataError, match=message) as error:
        read_summary(folder)
    assert "\n" not in str(error.value)


def _change(name: str, **changes: object) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        described = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(described | changes))

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "run.json").unlink(), "is not a run; dvme sweep CACHE --out"),
        (lambda folder: (folder / "run.json").write_text("{"), "run.json cannot be read"),
        (lambda folder: (folder / "run.json").write_text("[]"), r"run.json cannot be read \(it is no JSON object\)"),
        (_change("run.json", format=3), "is of run format 3, this dvme reads 2; update dvme"),
        (
            _change("run.json", format=1),
            "is of run format 1, this dvme reads 2; sweep again with subsets='",
        ),
        (_change("run.json", jobs=[]), "is not finished; run the same dvme sweep again"),
        (lambda folder: next((folder / "jobs").iterdir()).unlink(), "lacks a finished job; run the same dvme sweep"),
        (lambda folder: (folder / "subsets.json").unlink(), "subsets.json does not exist"),
        (_change("subsets.json", test=[0]), "was changed since it was made"),
        (shutil.rmtree, "is not a run"),
    ],
)
def test_load__runs_that_cannot_be_read(folder: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(folder)
    with pytest.raises(DataError, match=message) as error:
        Run.load(folder)
    assert "\n" not in str(error.value)


def test_to_frame__its_table_is_gone(folder: Path) -> None:
    run = Run.load(folder)
    (folder / "results.csv").unlink()
    with pytest.raises(DataError, match=r"results.csv is gone; run the same dvme sweep again, it writes a new one"):
        run.to_frame()


def test_check_run__takes_what_is_new_empty_or_its_own(report: StudyReport, tmp_path: Path) -> None:
    manifest = SubsetManifest.load(Path(report.run) / "subsets.json")
    assert check_run(tmp_path / "new", manifest) == tmp_path / "new"
    assert not (tmp_path / "new").exists()
    assert check_run(tmp_path, manifest) == tmp_path
    assert check_run(report.run, manifest) == Path(report.run)


def test_check_run__refuses_other_runs_and_other_folders(report: StudyReport, folder: Path, cache: Path) -> None:
    manifest = SubsetManifest.load(folder / "subsets.json")
    other = dvme.subsets(cache, options=SubsetOptions(sizes=("12",), n_folds=2)).manifest
    with pytest.raises(OptionError, match=f"is a run over other subsets .*now {other.hash[:8]}.*name another folder"):
        check_run(folder, other)
    (folder / "run.json").unlink()
    with pytest.raises(OptionError, match="is there already and is not a run"):
        check_run(folder, manifest)
    with pytest.raises(OptionError, match="is a file"):
        check_run(folder / "subsets.json", manifest)


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (None, {"use": "train", "n": 3, "digests": {}}, "1 view of each image, and this run is by 3 views (train)"),
        (
            {"use": "train", "n": 3, "digests": {}},
            {"use": "train,test", "n": 3, "digests": {}},
            "3 views (train) of each image, and this run is by 3 views (train,test)",
        ),
        (
            {"use": "train", "n": 3, "digests": {"a": "1"}},
            {"use": "train", "n": 3, "digests": {"a": "2"}},
            "3 views (train) of each image, and this run is by 3 views (train), which were made otherwise",
        ),
    ],
)
def test_check_same_views__says_what_differs(
    before: dict[str, Any] | None, now: dict[str, Any] | None, said: str, folder: Path
) -> None:
    described = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    (folder / "run.json").write_text(json.dumps(described | ({} if before is None else {"views": before})))
    with pytest.raises(OptionError) as error:
        check_same_views(folder, now)
    assert f"is a run by {said}; name another folder with out" in str(error.value)
