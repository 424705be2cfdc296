"""`dvme probe --out` as typed: a run that is gone on with, reported, predicted and explained with."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import assert_refused, run, strict
from light import named, spelled
from numpy.typing import NDArray
from once import digest

N = 90
LABELS = np.arange(N) % 2


@pytest.fixture(scope="module")
def study(
    tmp_path_factory: pytest.TempPathFactory,
    write_embeddings: Callable[..., Path],
    make_features: Callable[..., NDArray[Any]],
) -> Path:
    """`c.zarr`, and `run` that was made from it in two calls."""
    root = tmp_path_factory.mktemp("probed")
    features = {"swav": make_features(LABELS, 0.8, 0), "dino": make_features(LABELS, 0.8, 1)}
    write_embeddings(root / "c.zarr", features, label=[str(label) for label in LABELS])
    arguments = ("probe", root / "c.zarr", "--folds", 2, "--out", root / "run", "--json")
    first = run(*arguments, "--head", spelled("linear"))
    again = run(*arguments, "--head", spelled("linear", "concat"))
    found = [strict(each.stdout) for each in (first, again)]
    assert [(each["n_jobs"], each["n_reused"]) for each in found] == [(4, 0), (6, 4)]
    return root


def test_probe__another_study_does_not_go_on_with_a_run(study: Path, tmp_path: Path) -> None:
    before = digest(study / "run")
    arguments = ("probe", study / "c.zarr", "--out", study / "run", "--head", spelled("linear"), "--folds", 2)
    for other in (("--seed", 1), ("--test-fraction", 0.3)):
        refused = run(*arguments, *other, "--save", tmp_path / "heads")
        assert_refused(refused, "is a run over other subsets", "name another folder with --out")
    assert digest(study / "run") == before
    assert list(tmp_path.iterdir()) == []


def test_probe__its_run_has_a_report(study: Path, tmp_path: Path) -> None:
    shown = run("probe", study / "c.zarr", "--out", study / "run", "--head", spelled("linear", "concat"), "--folds", 2)
    assert f"kept in {study / 'run'}; dvme report {study / 'run'} --out report.html shows it" in shown.stdout
    result = run("report", study / "run", "--out", tmp_path / "r.html", "--method", "pca", "--json")
    assert result.exit_code == 0, result.output
    report = strict(result.stdout)
    assert report["answers"]["How many labels?"] == "One size shows no curve"
    page = (tmp_path / "r.html").read_text()
    assert "One size shows no curve" in page
    table = [line for line in shown.stdout.partition("Test scores")[0].splitlines() if "±" in line]
    assert len(table) == 3
    for line in table:
        assert line.split(" ± ")[0].split()[-1] in page  # its test AUC
    assert report["verdict"] in page
    assert "figure-learning-curve" not in page  # one size shows none
    for section in ("differences", "maps", "errors", "data", "provenance"):
        assert f'<section id="{section}"' in page


@pytest.mark.parametrize("name", [named("linear"), named("concat")])
def test_probe__heads_of_a_run_predict_and_explain(study: Path, tmp_path: Path, name: str) -> None:
    (head, *_) = sorted((study / "run" / "heads").glob(f"{name.partition('@')[0]}@*"))
    predicted = run("predict", head, study / "c.zarr", "--out", tmp_path / "p.csv")
    assert predicted.exit_code == 0, predicted.output
    assert len((tmp_path / "p.csv").read_text().splitlines()) == N + 1
    explained = run("explain", head, study / "c.zarr")
    assert explained.exit_code == 0, explained.output
    assert "(nothing left out)" in explained.stdout
    assert ("linear CKA" in explained.stdout) == (name == named("concat"))


def test_probe__a_run_that_is_not_finished_says_which_command_goes_on(study: Path, tmp_path: Path) -> None:
    shutil.copytree(study / "run", tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    refused = run("report", tmp_path / "run", "--out", tmp_path / "r.html")
    assert_refused(refused, "run is not finished; run the same dvme probe again, it goes on from there")
    assert not (tmp_path / "r.html").exists()


def test_probe__two_variants_of_a_head_and_settings_that_there_are_not(study: Path, tmp_path: Path) -> None:
    arguments = ("probe", study / "c.zarr", "--backbones", "swav", "--folds", 2)
    result = run(*arguments, "--head", "knn@k=5,knn@k=20", "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    lines = [line.split()[1] for line in result.stdout.splitlines() if line.startswith(" swav ")]
    assert sorted(lines) == ["knn@k=20", "knn@k=5"]
    assert len(list((tmp_path / "run" / "jobs").glob("*.npz"))) == 4
    refused = run(*arguments, "--head", "knn@neighbors=5", "--out", tmp_path / "other")
    assert_refused(refused, "knn has no setting 'neighbors'; choose from k, choose-by, standard-errors")
    assert_refused(run(*arguments, "--head", "knn@k=five"), "k=five is not possible; it must be whole numbers")
    assert not (tmp_path / "other").exists()
